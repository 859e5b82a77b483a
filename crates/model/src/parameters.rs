//! Parameters: named arrays, apart from the model that reads them.
//!
//! A model is a view of its parameters, bound anew for each pass; the parameters themselves are plain values,
//! which the optimiser changes, checkpoints hold, and all workers share. With them go buffers, which are as much a part
//! of the model, but have no gradient: an encoder's running statistics.

use plastica_rules::Init;
use plastica_tensor::{Array, Backend, Element};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Uniform};

use crate::specification::{IN_PROJ_WEIGHT, ParameterSpec};
use crate::{AttentionInit, ModelConfig, ModelError, Result};

/// The parameters of a model, in a fixed order, under their published names, and its buffers.
#[derive(Debug, Clone)]
pub struct Parameters<B: Backend> {
    names: Vec<String>,
    arrays: Vec<Array<B>>,
    buffers: Vec<(String, Array<B>)>,
}

impl<B: Backend> Parameters<B> {
    /// Freshly drawn parameters. The same generator state gives the same values on every backend.
    ///
    /// # Errors
    /// When the configuration is not valid, or the device has no memory left.
    pub fn init(config: &ModelConfig, backend: &B, rng: &mut ChaCha8Rng) -> Result<Self> {
        config.validate()?;
        let mut draw = |spec: &ParameterSpec| -> Result<Array<B>> {
            let mut values: Vec<B::Elem> = match spec.init {
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
            if config.attention_init == AttentionInit::KeysAsQueries && spec.name.ends_with(IN_PROJ_WEIGHT) {
                let queries = values.len() / 3;
                values.copy_within(..queries, queries);
            }
            Ok(Array::from_vec(backend, values, spec.shape)?)
        };
        let mut parameters = Self { names: Vec::new(), arrays: Vec::new(), buffers: Vec::new() };
        for spec in config.parameters() {
            parameters.arrays.push(draw(&spec)?);
            parameters.names.push(spec.name);
        }
        for spec in config.buffers() {
            parameters.buffers.push((spec.name.clone(), draw(&spec)?));
        }
        Ok(parameters)
    }

    /// Named arrays as the parameters and buffers of a configured model.
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
        let mut take = |spec: ParameterSpec| -> Result<(String, Array<B>)> {
            let Some(array) = given.remove(&spec.name) else {
                return Err(ModelError::MissingParameter { name: spec.name, shape: spec.shape });
            };
            if array.shape() != spec.shape {
                let (found, expected) = (array.shape().to_vec(), spec.shape);
                return Err(ModelError::ParameterShape { name: spec.name, found, expected });
            }
            Ok((spec.name, array))
        };
        let trained = config.parameters().into_iter().map(&mut take).collect::<Result<Vec<_>>>()?;
        let buffers = config.buffers().into_iter().map(&mut take).collect::<Result<Vec<_>>>()?;
        let (names, arrays) = trained.into_iter().unzip();
        let parameters = Self { names, arrays, buffers };
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

    /// Names and values of the buffers, in order.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, &Array<B>)> {
        self.buffers.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// The buffer of this name.
    pub fn buffer(&self, name: &str) -> Option<&Array<B>> {
        self.buffers().find(|(n, _)| *n == name).map(|(_, array)| array)
    }

    /// The buffer of this name, to be changed.
    pub(crate) fn buffer_mut(&mut self, name: &str) -> Option<&mut Array<B>> {
        self.buffers.iter_mut().find(|(n, _)| n == name).map(|(_, array)| array)
    }

    /// Number of scalars in all parameters together.
    pub fn count(&self) -> usize {
        self.arrays.iter().map(|a| a.shape().len()).sum()
    }
}
