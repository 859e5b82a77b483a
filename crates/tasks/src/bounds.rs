//! The ranges that fields of every task share, and the checks that name what is outside.

use std::{fmt, ops::RangeInclusive};

use crate::TaskError;

/// The longest episode that a configuration may ask for, in steps.
pub const MAX_STEPS: usize = 1_000_000;

/// The most inputs a step that a configuration may ask for.
pub const MAX_WIDTH: usize = 1_000_000;

/// The largest magnitude of a scale or a reward: with widths up to [`MAX_WIDTH`] the squares of
/// the values drawn from it stay finite in f32.
pub const MAX_MAGNITUDE: f32 = 1e9;

/// Checks on the fields of the task of this name.
pub(crate) struct Bounds(pub &'static str);

impl Bounds {
    /// An integer field, or an expression over such fields.
    pub fn within(
        &self,
        field: &'static str,
        value: usize,
        range: RangeInclusive<usize>,
    ) -> Result<(), TaskError> {
        self.ensure(range.contains(&value), field, value, || format!("{} to {}", range.start(), range.end()))
    }

    /// A standard deviation: zero is allowed and switches the term off.
    pub fn scale(&self, field: &'static str, value: f32) -> Result<(), TaskError> {
        self.ensure((0.0..=MAX_MAGNITUDE).contains(&value), field, value, || {
            format!("a number from 0 to {MAX_MAGNITUDE:e}")
        })
    }

    /// Any condition; `expected` says what would have been right.
    pub fn ensure(
        &self,
        holds: bool,
        field: &'static str,
        value: impl fmt::Display,
        expected: impl FnOnce() -> String,
    ) -> Result<(), TaskError> {
        if holds {
            return Ok(());
        }
        Err(TaskError::InvalidField { task: self.0, field, value: value.to_string(), expected: expected() })
    }
}
