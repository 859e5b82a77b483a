//! Whole-workspace tests of plastica: everything that takes more than one crate to say.

/// The README's snippets are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
