//! Replaying recorded trajectories: a file holds a model's parameters, a batch, and what came of it, values and
//! gradients; a replay says how far ours is from it.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

use plastica_model::{ModelConfig, Parameters, PlasticTransformer, read_array};
use plastica_rules::{Credit, Rule};
use plastica_tensor::{Array, Backend, Element, GradMode, Tape, Tensor, grad};
use safetensors::{Dtype, SafeTensors};

use crate::EvalError;

/// Largest allowed ‖ours − recorded‖ / ‖recorded‖ of forward values and final fast weights.
pub const VALUE_TOLERANCE: f64 = 2e-4;
/// The same of gradients.
pub const GRADIENT_TOLERANCE: f64 = 2e-3;
/// A recorded tensor of a smaller norm is compared with this instead of its norm.
const NORM_FLOOR: f64 = 1e-7;

/// The largest errors of one replay, and where they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Parity {
    /// Of outputs, η, norms and loss.
    pub values: Deviation,
    /// Of the fast weights after the last step.
    pub fast_weights: Deviation,
    /// Of the loss's gradient by every parameter.
    pub gradients: Deviation,
}

/// A largest relative error and the tensor that has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviation {
    /// ‖ours − recorded‖ / ‖recorded‖
    pub error: f64,
    /// The tensor's name in the file.
    pub tensor: String,
}

impl Deviation {
    fn none() -> Self {
        Self { error: 0.0, tensor: "-".into() }
    }

    /// Takes in one more tensor; an error that is not a number is the largest.
    fn include(&mut self, error: f64, tensor: &str) {
        if error.is_nan() || error > self.error {
            *self = Self { error: if error.is_nan() { f64::INFINITY } else { error }, tensor: tensor.into() };
        }
    }
}

impl Parity {
    /// Whether every error is within its tolerance.
    pub fn holds(&self) -> bool {
        self.values.error <= VALUE_TOLERANCE
            && self.fast_weights.error <= VALUE_TOLERANCE
            && self.gradients.error <= GRADIENT_TOLERANCE
    }
}

/// A recorded trajectory in memory.
struct Recording<'a> {
    path: &'a Path,
    file: SafeTensors<'a>,
    metadata: HashMap<String, String>,
}

impl<'a> Recording<'a> {
    fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<Self, EvalError> {
        let bad =
            |e: safetensors::SafeTensorError| wrong(path, format!("it is not a whole safetensors file: {e}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(bad)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Self { path, file: SafeTensors::deserialize(bytes).map_err(bad)?, metadata })
    }

    fn setting<T: FromStr>(&self, key: &str) -> Result<T, EvalError> {
        let text =
            self.metadata.get(key).ok_or_else(|| wrong(self.path, format!("its metadata lacks '{key}'")))?;
        text.parse()
            .map_err(|_| wrong(self.path, format!("its metadata has {key} = '{text}', which can't be read")))
    }

    fn array<B: Backend>(&self, backend: &B, name: &str) -> Result<Array<B>, EvalError> {
        let view =
            self.file.tensor(name).map_err(|_| wrong(self.path, format!("it has no tensor '{name}'")))?;
        read_array(backend, &view).map_err(|e| wrong(self.path, format!("'{name}': {e}")))
    }

    fn classes(&self, name: &str) -> Result<Vec<u32>, EvalError> {
        let view =
            self.file.tensor(name).map_err(|_| wrong(self.path, format!("it has no tensor '{name}'")))?;
        let (words, rest) = view.data().as_chunks::<8>();
        if view.dtype() != Dtype::I64 || !rest.is_empty() {
            return Err(wrong(
                self.path,
                format!("'{name}' holds {:?}, where I64 classes are read", view.dtype()),
            ));
        }
        let class = |&word: &[u8; 8]| u32::try_from(i64::from_le_bytes(word));
        words
            .iter()
            .map(class)
            .collect::<Result<_, _>>()
            .map_err(|_| wrong(self.path, format!("'{name}' holds a class below 0")))
    }

    /// ‖ours − recorded‖ / ‖recorded‖; `ours` is `None` for zero.
    fn compare<B: Backend>(&self, name: &str, ours: Option<&Array<B>>) -> Result<f64, EvalError> {
        let view =
            self.file.tensor(name).map_err(|_| wrong(self.path, format!("it has no tensor '{name}'")))?;
        let recorded = read_array(&plastica_tensor::Cpu::<f64>::new(), &view);
        let recorded = recorded.map_err(|e| wrong(self.path, format!("'{name}': {e}")))?.to_vec()?;
        let ours: Vec<f64> = match ours {
            Some(ours) => ours.to_vec()?.into_iter().map(Element::wide).collect(),
            None => vec![0.0; recorded.len()],
        };
        if ours.len() != recorded.len() {
            let (found, expected) = (view.shape(), ours.len());
            return Err(wrong(
                self.path,
                format!("'{name}' has shape {found:?}, where {expected} values are computed"),
            ));
        }
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let difference = norm(&mut ours.iter().zip(&recorded).map(|(a, b)| a - b));
        Ok(difference / norm(&mut recorded.iter().copied()).max(NORM_FLOOR))
    }
}

fn wrong(path: &Path, message: impl Into<String>) -> EvalError {
    EvalError::Recording { path: path.to_owned(), message: message.into() }
}

/// Replays one recorded trajectory.
///
/// # Errors
/// [`EvalError::Recording`] when the file cannot be read or lacks something.
pub fn replay<B: Backend>(path: &Path, backend: &B) -> Result<Parity, EvalError> {
    let bytes = std::fs::read(path).map_err(|e| wrong(path, format!("it can't be read: {e}")))?;
    let recording = Recording::parse(path, &bytes)?;
    let config = ModelConfig {
        input_dim: recording.setting("input_dim")?,
        output_dim: recording.setting("output_dim")?,
        model_dim: recording.setting("model_dim")?,
        num_heads: recording.setting("num_heads")?,
        num_layers: recording.setting("num_layers")?,
        ffn_dim: recording.setting("ffn_dim")?,
        aux_dim: recording.setting("aux_dim")?,
        rule: recording.setting::<Rule>("rule")?,
        eta0: recording.setting("eta0")?,
        max_norm: recording.setting("max_norm")?,
        dropout: 0.0,
        ..ModelConfig::default()
    };
    let mut named = Vec::new();
    for name in recording.file.names() {
        if let Some(parameter) = name.strip_prefix("param.") {
            named.push((parameter.to_owned(), recording.array(backend, name)?));
        }
    }
    let parameters = Parameters::from_named(&config, named).map_err(|e| wrong(path, e.to_string()))?;
    let tape = Tape::new();
    let credit = recording.setting::<Credit>("credit")?;
    let (model, leaves) = PlasticTransformer::tracked(&config, &parameters, credit, &tape)?;
    let input = Tensor::from(recording.array(backend, "input")?);
    let [batch, steps, _] = input.shape()[..] else {
        return Err(wrong(
            path,
            format!("'input' has shape {}, where [B, T, input_dim] is read", input.shape()),
        ));
    };
    let mut state = plastica_model::SequenceModel::init_state(&model, batch);
    let result = model.forward(&input, &mut state)?;
    let loss = match recording.setting::<String>("loss")?.as_str() {
        "xent" => result.outputs.cross_entropy(&recording.classes("target")?)?.mean()?,
        "mse" => result.outputs.sub(&Tensor::from(recording.array(backend, "target")?))?.square()?.mean()?,
        other => {
            return Err(wrong(path, format!("its metadata has loss = '{other}', where xent or mse is read")));
        }
    };

    let mut values = Deviation::none();
    values.include(recording.compare("logits", Some(result.outputs.array()))?, "logits");
    values.include(recording.compare("loss", Some(loss.array()))?, "loss");
    let diagnostics = result.diagnostics.as_ref();
    values.include(recording.compare("eta", diagnostics.map(|d| d.eta.array()))?, "eta");
    let norms = diagnostics.map(|d| d.plastic_norm.array());
    values.include(recording.compare("plastic_norm", norms)?, "plastic_norm");

    let mut fast_weights = Deviation::none();
    for (k, fast) in state.fast_weights().iter().enumerate() {
        let (weight, bias) = fast.get()?.unzip();
        for (part, tensor) in [("weight", weight), ("bias", bias)] {
            let name = format!("final.{k}.{part}");
            fast_weights.include(recording.compare(&name, tensor.as_ref().map(Tensor::array))?, &name);
        }
    }

    let mut gradients = Deviation::none();
    let computed = grad(&loss, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain)?;
    for (name, gradient) in parameters.names().iter().zip(&computed) {
        let name = format!("grad.{name}");
        gradients.include(recording.compare(&name, gradient.as_ref().map(Tensor::array))?, &name);
    }
    debug_assert_eq!(result.outputs.shape()[1], steps);
    Ok(Parity { values, fast_weights, gradients })
}
