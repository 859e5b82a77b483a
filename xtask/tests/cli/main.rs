//! The command line from outside: what it writes, what it prints, and how it refuses.

mod bench;
mod checkpoints;
mod command_line;
mod configuration;
mod data;
mod determinism;
mod device;
mod effective;
mod folders;
mod help;
mod images;
mod json;
mod looking;
mod recordings;
mod reproduce;
mod support;
#[cfg(unix)]
mod survival;
mod train;
