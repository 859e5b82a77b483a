//! Whole-workspace tests of plastica: everything that takes more than one crate to say.
