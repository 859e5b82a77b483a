//! What the numbers of a model are like, parameter by parameter.

use plastica_tensor::{Array, Backend, Element};
use serde::Serialize;

use crate::{Parameters, Result};

/// One parameter or buffer in a few numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParameterSummary {
    /// Its published name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Number of scalars.
    pub count: usize,
    /// Euclidean norm of the scalars, summed up in f64; not finite if one of them is not.
    pub norm: f64,
    /// Mean of the scalars' magnitudes, likewise.
    pub mean_abs: f64,
    /// Whether it is a buffer, which no gradient changes.
    pub buffer: bool,
}

impl ParameterSummary {
    fn of<B: Backend>(name: &str, array: &Array<B>, buffer: bool) -> Result<Self> {
        let values = array.to_vec()?;
        let (mut squares, mut magnitudes) = (0.0, 0.0);
        for value in values.iter().map(|value| value.wide()) {
            squares += value * value;
            magnitudes += value.abs();
        }
        Ok(Self {
            name: name.to_owned(),
            shape: array.shape().to_vec(),
            count: values.len(),
            norm: f64::sqrt(squares),
            mean_abs: magnitudes / values.len().max(1) as f64,
            buffer,
        })
    }
}

impl<B: Backend> Parameters<B> {
    /// Every parameter in a few numbers, then every buffer, in order.
    ///
    /// # Errors
    /// Device errors.
    pub fn summaries(&self) -> Result<Vec<ParameterSummary>> {
        let parameters = self.iter().map(|(name, array)| (name, array, false));
        let buffers = self.buffers().map(|(name, array)| (name, array, true));
        parameters
            .chain(buffers)
            .map(|(name, array, buffer)| ParameterSummary::of(name, array, buffer))
            .collect()
    }
}
