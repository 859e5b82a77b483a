//! The CUDA backend against the CPU in double precision: every operation's values and derivatives, and the same bits
//! from one run to the next. Each test is skipped where no device can be opened.

mod attention;
mod common;
mod conv_block;
mod device;
mod fast;
mod images;
mod layers;
mod operations;
mod optimisers;
