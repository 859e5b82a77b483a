//! Parameters: named arrays, apart from the model that reads them.
//!
//! A model is a view of its parameters, bound anew for each pass; the parameters themselves are plain values,
//! which the optimiser changes, checkpoints hold, and all workers share.

use plastica_tensor::{Array, Backend, Element};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Uniform};

use crate::config::Init;
use crate::{ModelConfig, ModelError, Result};

/// The parameters of a model, in a fixed order, under their published names.
#[derive(Debug, Clone)]
pub struct Parameters<B: Backend> {
    names: Vec<String>,
    arrays: Vec<Array<B>>,
}

impl<B: Backend> Parameters<B> {
    /// Freshly drawn parameters. The same generator state gives the same values on every backend.
    ///
    /// # Errors
    /// When the configuration is not valid, or the device has no memory left.
    pub fn init(config: &ModelConfig, backend: &B, rng: &mut ChaCha8Rng) -> Result<Self> {
        config.validate()?;
        let mut parameters = Self { names: Vec::new(), arrays: Vec::new() };
        for spec in config.parameters() {
            let values: Vec<B::Elem> = match spec.init {
                Init::Constant(value) => vec![B::Elem::of(value); spec.shape.len()],
                Init::Uniform(bound) => {
                    let uniform =
                        Uniform::new(-bound as f32, bound as f32).map_err(|_| ModelError::Config {
                            field: "model_dim",
                            value: config.model_dim.to_string(),
                            rule: "it must leave initial weights a range".into(),
                        })?;
                    (0..spec.shape.len()).map(|_| B::Elem::of(f64::from(uniform.sample(rng)))).collect()
                }
            };
            parameters.arrays.push(Array::from_vec(backend, values, spec.shape)?);
            parameters.names.push(spec.name);
        }
        Ok(parameters)
    }

    /// Named arrays as the parameters of a configured model.
    ///
    /// # Errors
    /// [`ModelError::MissingParameter`], [`ModelError::SurplusParameter`] or [`ModelError::ParameterShape`] when
    /// they are not what the configuration asks for.
    pub fn from_named(
        config: &ModelConfig,
        named: impl IntoIterator<Item = (String, Array<B>)>,
    ) -> Result<Self> {
        config.validate()?;
        let mut given: std::collections::BTreeMap<String, Array<B>> = named.into_iter().collect();
        let mut parameters = Self { names: Vec::new(), arrays: Vec::new() };
        for spec in config.parameters() {
            let Some(array) = given.remove(&spec.name) else {
                return Err(ModelError::MissingParameter { name: spec.name, shape: spec.shape });
            };
            if array.shape() != spec.shape {
                let (found, expected) = (array.shape().to_vec(), spec.shape);
                return Err(ModelError::ParameterShape { name: spec.name, found, expected });
            }
            parameters.names.push(spec.name);
            parameters.arrays.push(array);
        }
        match given.into_keys().next() {
            Some(name) => Err(ModelError::SurplusParameter { name }),
            None => Ok(parameters),
        }
    }

    /// Names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Values, in the order of [`names`](Self::names).
    pub fn arrays(&self) -> &[Array<B>] {
        &self.arrays
    }

    /// Values for an optimiser to change, in the order of [`names`](Self::names).
    pub fn arrays_mut(&mut self) -> &mut [Array<B>] {
        &mut self.arrays
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array<B>)> {
        self.names.iter().map(String::as_str).zip(&self.arrays)
    }

    /// Number of scalars in all parameters together.
    pub fn count(&self) -> usize {
        self.arrays.iter().map(|a| a.shape().len()).sum()
    }
}
