//! A run's whole state as a file, from which it goes on as if it had never stopped.
//!
//! The file is a line that says what it is, a checksum of what follows (xxh3, 8 bytes, little-endian), and a safetensors
//! file: the parameters, buffers and the optimiser's moments in the backend's own precision; position, measurements and
//! generators as JSON in the metadata.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;

use plastica_model::Parameters;
use plastica_tensor::optim::{AdamW, Moments};
use plastica_tensor::{Array, Backend, Element, Shape};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::numbers::number;
use crate::record::replace_file;
use crate::trainer::Position;
use crate::{EvalError, RunConfig, Trainer};

const MAGIC: &[u8] = b"plastica snapshot 1\n";

/// Metadata key of everything but the arrays, as JSON.
const STATE_KEY: &str = "plastica.snapshot";

/// Everything that a run is in the middle of: [`Trainer::snapshot`] takes it, [`Trainer::restore`] puts it back.
#[derive(Debug, Clone)]
pub struct Snapshot<B: Backend> {
    /// Seconds that the run has taken so far; for whoever reads a clock, which the trainer does not.
    pub wall_seconds: f64,
    position: Position,
    generators: [Generator; 3],
    parameters: Parameters<B>,
    /// By the parameters' order.
    moments: Vec<Option<Moments<B>>>,
}

/// What of a snapshot is no array.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    fingerprint: String,
    #[serde(with = "number")]
    wall_seconds: f64,
    position: Position,
    /// Of training episodes, evaluation episodes and dropout.
    generators: [Generator; 3],
    /// The optimiser's steps, by the parameters' order; 0 where there was no gradient yet.
    steps: Vec<i32>,
}

/// A ChaCha generator's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Generator {
    seed: [u8; 32],
    stream: u64,
    /// Words of 32 bits drawn.
    word: u128,
}

impl Generator {
    fn of(rng: &ChaCha8Rng) -> Self {
        Self { seed: rng.get_seed(), stream: rng.get_stream(), word: rng.get_word_pos() }
    }

    fn rng(self) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::from_seed(self.seed);
        rng.set_stream(self.stream);
        rng.set_word_pos(self.word);
        rng
    }
}

impl<B: Backend> Trainer<B> {
    /// The run's state as it stands; `wall_seconds` is 0.
    pub fn snapshot(&self) -> Snapshot<B> {
        let generators = [&self.training_episodes, &self.evaluation_episodes, &self.dropout];
        Snapshot {
            wall_seconds: 0.0,
            position: self.position.clone(),
            generators: generators.map(Generator::of),
            parameters: self.parameters.clone(),
            moments: self.optimiser.moments().to_vec(),
        }
    }

    /// Goes on from a snapshot of the same configuration, whatever device it was taken on.
    ///
    /// # Errors
    /// When its moments fit no parameters.
    pub fn restore(&mut self, snapshot: Snapshot<B>) -> Result<(), EvalError> {
        self.optimiser = AdamW::with_moments(self.optimiser.settings(), snapshot.moments)?;
        self.parameters = snapshot.parameters;
        let before = std::mem::replace(&mut self.position, snapshot.position);
        let devices = &mut self.position.devices;
        if devices.last() != before.devices.last() {
            devices.extend(before.devices.last().cloned());
        }
        let [training_episodes, evaluation_episodes, dropout] = snapshot.generators.map(Generator::rng);
        self.training_episodes = training_episodes;
        self.evaluation_episodes = evaluation_episodes;
        self.dropout = dropout;
        Ok(())
    }
}

impl<B: Backend> Snapshot<B> {
    /// The devices that the run was on, in order.
    pub fn devices(&self) -> &[String] {
        &self.position.devices
    }

    /// Writes the snapshot of a run of this configuration: to a temporary file beside it, then renamed.
    ///
    /// # Errors
    /// [`EvalError::Snapshot`] when it cannot be written; a snapshot already under this name is untouched.
    pub fn write(&self, path: &Path, config: &RunConfig) -> Result<(), EvalError> {
        let fail = |message: String| EvalError::Snapshot { path: path.to_owned(), message };
        let state = State {
            fingerprint: config.fingerprint()?,
            wall_seconds: self.wall_seconds,
            position: self.position.clone(),
            generators: self.generators,
            steps: self.moments.iter().map(|m| m.as_ref().map_or(0, |m| m.steps)).collect(),
        };
        let state = serde_json::to_string(&state).map_err(|e| fail(format!("it can't be made: {e}")))?;
        let mut tensors = Vec::new();
        for (name, array) in self.arrays() {
            tensors.push((name, array.shape().to_vec(), bytes(array)?));
        }
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(dtype::<B>(), shape.clone(), bytes)?)));
        let body = views
            .collect::<Result<Vec<_>, _>>()
            .and_then(|views| safetensors::serialize(views, Some([(STATE_KEY.to_owned(), state)].into())))
            .map_err(|e| fail(format!("it can't be made: {e}")))?;
        replace_file(path, |out| {
            out.write_all(MAGIC)?;
            out.write_all(&xxh3_64(&body).to_le_bytes())?;
            out.write_all(&body)
        })
        .map_err(|e| fail(format!("it can't be written: {e}")))
    }

    /// Reads the snapshot of a run of this configuration; `None` if there is no file.
    ///
    /// # Errors
    /// [`EvalError::Snapshot`] when the file cannot be read, is damaged, or is of another configuration, version or
    /// precision.
    pub fn read(path: &Path, config: &RunConfig, backend: &B) -> Result<Option<Self>, EvalError> {
        let fail = |message: String| EvalError::Snapshot { path: path.to_owned(), message };
        let bytes = match std::fs::read(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| fail(format!("it can't be read: {e}")))?,
        };
        let body = bytes.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk::<8>());
        let Some((checksum, body)) = body else {
            return Err(fail("it is no snapshot of this version, or cut short at its beginning".into()));
        };
        if xxh3_64(body) != u64::from_le_bytes(*checksum) {
            return Err(fail("it is damaged: its checksum is not that of its content".into()));
        }
        Self::parse(body, config, backend).map(Some).map_err(fail)
    }

    /// Takes the safetensors file apart.
    fn parse(body: &[u8], config: &RunConfig, backend: &B) -> Result<Self, String> {
        let (_, header) = SafeTensors::read_metadata(body).map_err(|e| e.to_string())?;
        let state = header.metadata().as_ref().and_then(|metadata| metadata.get(STATE_KEY));
        let state: State = serde_json::from_str(state.ok_or_else(|| format!("it has no '{STATE_KEY}'"))?)
            .map_err(|e| format!("its state can't be read: {e}"))?;
        if state.fingerprint != config.fingerprint().map_err(|e| e.to_string())? {
            return Err("it is of another configuration or version".into());
        }
        let file = SafeTensors::deserialize(body).map_err(|e| e.to_string())?;
        let mut arrays = HashMap::new();
        for (name, view) in file.tensors() {
            let array = read_array(backend, &view).map_err(|e| format!("'{name}': {e}"))?;
            arrays.insert(name, array);
        }
        let mut moments = Vec::new();
        for (i, &steps) in state.steps.iter().enumerate() {
            let mut take = |kind| {
                arrays.remove(&moment(kind, i)).ok_or_else(|| format!("it lacks moments of parameter {i}"))
            };
            moments.push(match steps {
                0 => None,
                _ => Some(Moments { first: take("first")?, second: take("second")?, steps }),
            });
        }
        let parameters = Parameters::from_named(&config.model, arrays).map_err(|e| e.to_string())?;
        let (position, generators, wall_seconds) = (state.position, state.generators, state.wall_seconds);
        Ok(Self { wall_seconds, position, generators, parameters, moments })
    }

    /// All arrays by the names that they have in the file.
    fn arrays(&self) -> impl Iterator<Item = (String, &Array<B>)> {
        let named = self.parameters.iter().chain(self.parameters.buffers());
        let moments = self.moments.iter().enumerate().filter_map(|(i, m)| m.as_ref().map(|m| (i, m)));
        let moments =
            moments.flat_map(|(i, m)| [(moment("first", i), &m.first), (moment("second", i), &m.second)]);
        named.map(|(name, array)| (name.to_owned(), array)).chain(moments)
    }
}

/// Name of a moment of parameter `i`; a parameter's own name has no colon.
fn moment(kind: &str, i: usize) -> String {
    format!("{kind}:{i}")
}

fn dtype<B: Backend>() -> Dtype {
    if size_of::<B::Elem>() == 4 { Dtype::F32 } else { Dtype::F64 }
}

/// The elements, without a loss.
fn bytes<B: Backend>(array: &Array<B>) -> Result<Vec<u8>, EvalError> {
    let values = array.to_vec()?.into_iter().map(Element::wide);
    Ok(match dtype::<B>() {
        Dtype::F32 => values.flat_map(|value| (value as f32).to_le_bytes()).collect(),
        _ => values.flat_map(f64::to_le_bytes).collect(),
    })
}

fn read_array<B: Backend>(backend: &B, view: &TensorView<'_>) -> Result<Array<B>, String> {
    if view.dtype() != dtype::<B>() {
        return Err(format!("its elements are {}, where {} are computed with", view.dtype(), B::Elem::NAME));
    }
    let values: Vec<B::Elem> = match view.dtype() {
        Dtype::F32 => view
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|&b| f64::from(f32::from_le_bytes(b)))
            .map(Element::of)
            .collect(),
        _ => view.data().as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).map(Element::of).collect(),
    };
    let shape = Shape::new(view.shape()).map_err(|e| e.to_string())?;
    Array::from_vec(backend, values, shape).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use plastica_rules::{Credit, Rule};
    use plastica_tensor::Cpu;
    use rand::Rng;

    use super::*;

    fn config() -> RunConfig {
        let mut config = RunConfig::published("regression", Rule::Gradient).unwrap();
        (config.model.model_dim, config.model.ffn_dim, config.model.num_layers) = (8, 8, 1);
        (config.training.dataset_size, config.training.credit) = (4, Credit::Detached);
        config
    }

    #[test]
    fn a_generator_goes_on_where_it_stood() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        rng.set_stream(3);
        for drawn in 0..200 {
            let mut again = Generator::of(&rng).rng();
            assert_eq!(again.clone().next_u64(), rng.clone().next_u64(), "{drawn}");
            // an odd number of words, so that a 64-bit draw starts at either half
            assert_eq!(again.next_u32(), rng.next_u32(), "{drawn}");
        }
    }

    /// A snapshot after two steps, as a file.
    fn written<B: Backend>(folder: &Path, backend: &B) -> (std::path::PathBuf, Vec<u8>) {
        let path = folder.join("run.snapshot");
        let mut trainer = Trainer::new(&config(), backend).unwrap();
        for _ in 0..2 {
            trainer.advance(&mut |_| ()).unwrap();
        }
        trainer.snapshot().write(&path, &config()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes)
    }

    #[test]
    fn a_run_that_moves_to_another_device_says_on_which_it_was() {
        let cpu = Cpu::<f32>::new();
        let mut trainer = Trainer::new(&config(), &cpu).unwrap();
        assert_eq!(trainer.devices(), ["cpu (f32)"]);
        trainer.restore(trainer.snapshot()).unwrap();
        assert_eq!(trainer.devices(), ["cpu (f32)"], "it stayed");
        let mut elsewhere = trainer.snapshot();
        elsewhere.position.devices = vec!["another".to_owned()];
        trainer.restore(elsewhere).unwrap();
        assert_eq!(trainer.devices(), ["another", "cpu (f32)"]);
        let mut unknown = trainer.snapshot();
        unknown.position.devices.clear();
        trainer.restore(unknown).unwrap();
        assert_eq!(trainer.devices(), ["cpu (f32)"], "snapshots of versions that did not say");
    }

    #[test]
    fn a_snapshot_read_and_written_again_is_the_same_file() {
        fn check<B: Backend>(backend: &B) {
            let folder = tempfile::tempdir().unwrap();
            let (path, bytes) = written(folder.path(), backend);
            let snapshot = Snapshot::read(&path, &config(), backend).unwrap().unwrap();
            let mut trainer = Trainer::new(&config(), backend).unwrap();
            trainer.restore(snapshot).unwrap();
            trainer.snapshot().write(&path, &config()).unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes);
        }
        check(&Cpu::<f32>::new());
        check(&Cpu::<f64>::new());
    }

    #[test]
    fn what_is_no_snapshot_of_the_run_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (path, whole) = written(folder.path(), &Cpu::<f32>::new());
        let check = |bytes: &[u8], config: &RunConfig, part: &str| {
            std::fs::write(&path, bytes).unwrap();
            let message = Snapshot::read(&path, config, &Cpu::<f32>::new()).unwrap_err().to_string();
            assert!(message.contains("run.snapshot: ") && message.contains(part), "{message}");
        };
        check(b"", &config(), "no snapshot");
        check(&whole[..MAGIC.len() + 5], &config(), "cut short");
        for length in [MAGIC.len() + 8, whole.len() / 2, whole.len() - 1] {
            check(&whole[..length], &config(), "damaged");
        }
        for place in [MAGIC.len(), MAGIC.len() + 100, whole.len() - 1] {
            let mut flipped = whole.clone();
            flipped[place] ^= 4;
            check(&flipped, &config(), "damaged");
        }
        let mut other = config();
        other.training.lr = 0.5;
        check(&whole, &other, "another configuration");
        let message = Snapshot::read(&path, &config(), &Cpu::<f64>::new()).unwrap_err().to_string();
        assert!(message.contains("elements are F32, where f64"), "{message}");
        std::fs::remove_file(&path).unwrap();
        assert!(Snapshot::read(&path, &config(), &Cpu::<f32>::new()).unwrap().is_none());
    }
}
