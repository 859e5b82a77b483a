//! The command line from outside: what it writes, what it prints, and how it refuses.

mod bench;
mod checkpoints;
mod command_line;
mod configuration;
mod data;
mod determinism;
mod folders;
mod images;
mod recordings;
mod reproduce;
mod support;
mod train;
