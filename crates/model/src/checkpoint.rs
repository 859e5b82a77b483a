//! Checkpoints: safetensors files under the published parameter names, the configuration in the metadata.
//!
//! Values are stored as f32, so a file written by one backend is read by every other, and by PyTorch by name.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use plastica_tensor::{Array, Backend, Element, Shape};
use safetensors::tensor::{Metadata, TensorInfo, TensorView};
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use crate::{ModelConfig, ModelError, Parameters, Result};

/// Metadata key of the model's configuration, as JSON.
const CONFIG_KEY: &str = "plastica.model";

/// Largest file that will be read, in bytes: beyond any model of this kind.
const MAX_BYTES: u64 = 8 << 30;

/// A model's configuration and parameters, and whatever else the writer had to say.
#[derive(Debug, Clone)]
pub struct Checkpoint<B: Backend> {
    /// The model's configuration.
    pub config: ModelConfig,
    /// Its parameters and buffers.
    pub parameters: Parameters<B>,
    /// Further metadata by key, such as the task trained on.
    pub metadata: HashMap<String, String>,
}

fn error(path: &Path, message: impl Into<String>) -> ModelError {
    ModelError::Checkpoint { path: path.to_owned(), message: message.into() }
}

impl<B: Backend> Checkpoint<B> {
    /// Writes the checkpoint: to a temporary file beside it, then renamed, so that a file of this name is
    /// always whole. The same checkpoint gives the same bytes.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] when the file cannot be written, or when the parameters are not the
    /// configured model's, so that it could not be read again.
    pub fn write(&self, path: &Path) -> Result<()> {
        let arrays = || self.parameters.iter().chain(self.parameters.buffers());
        let named = arrays().map(|(name, array)| (name.to_owned(), array.clone()));
        Parameters::from_named(&self.config, named).map_err(|e| error(path, e.to_string()))?;
        let config = serde_json::to_string(&self.config)
            .map_err(|e| error(path, format!("the configuration can't be written: {e}")))?;
        let mut metadata: BTreeMap<_, _> =
            self.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        metadata.insert(CONFIG_KEY, &config);
        let mut header = Header { metadata, tensors: BTreeMap::new() };
        let mut data = Vec::with_capacity(4 * self.parameters.count());
        for (name, array) in arrays() {
            let start = data.len();
            for value in array.to_vec()? {
                data.extend((value.wide() as f32).to_le_bytes());
            }
            let (shape, data_offsets) = (array.shape().to_vec(), (start, data.len()));
            header.tensors.insert(name, TensorInfo { dtype: Dtype::F32, shape, data_offsets });
        }
        let mut header = serde_json::to_vec(&header)
            .map_err(|e| error(path, format!("the header can't be written: {e}")))?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let length = (header.len() as u64).to_le_bytes();
        replace(path, &[&length, &header, &data])
            .map_err(|e| error(path, format!("it can't be written: {e}")))
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] when the file cannot be read, is cut short, is none of ours, or holds other
    /// parameters than its configuration asks for.
    pub fn read(path: &Path, backend: &B) -> Result<Self> {
        let size = std::fs::metadata(path).map_err(|e| error(path, format!("it can't be read: {e}")))?.len();
        if size > MAX_BYTES {
            return Err(error(path, format!("it has {size} bytes; a checkpoint has at most {MAX_BYTES}")));
        }
        let bytes = std::fs::read(path).map_err(|e| error(path, format!("it can't be read: {e}")))?;
        Self::parse(&bytes, path, backend)
    }

    /// Reads a checkpoint from memory; `path` is for messages.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(bytes: &[u8], path: &Path, backend: &B) -> Result<Self> {
        let whole = "it is not a whole safetensors file, as `cargo xtask train` writes them";
        if reaches_beyond(bytes) {
            return Err(error(path, format!("{whole}: its tensors reach beyond its end")));
        }
        let (_, header) =
            SafeTensors::read_metadata(bytes).map_err(|e| error(path, format!("{whole}: {e}")))?;
        let file = SafeTensors::deserialize(bytes).map_err(|e| error(path, format!("{whole}: {e}")))?;
        let mut metadata = header.metadata().clone().unwrap_or_default();
        let Some(config) = metadata.remove(CONFIG_KEY) else {
            let message = format!(
                "it is a safetensors file without '{CONFIG_KEY}' in its metadata: not a checkpoint of plastica"
            );
            return Err(error(path, message));
        };
        let config: ModelConfig = serde_json::from_str(&config)
            .map_err(|e| error(path, format!("its configuration can't be read: {e}")))?;
        config.validate().map_err(|e| error(path, e.to_string()))?;
        let mut named = Vec::new();
        for (name, view) in file.tensors() {
            named.push((
                name.clone(),
                read_array(backend, &view).map_err(|e| error(path, format!("'{name}': {e}")))?,
            ));
        }
        let parameters = Parameters::from_named(&config, named).map_err(|e| error(path, e.to_string()))?;
        Ok(Self { config, parameters, metadata })
    }
}

/// A safetensors file's header. The safetensors crate would write the metadata in another order each time.
#[derive(Serialize)]
struct Header<'a> {
    #[serde(rename = "__metadata__")]
    metadata: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, TensorInfo>,
}

/// Whether a header that can be read puts a tensor's end beyond the file's. The safetensors crate finds that out
/// by a sum of ends that may overflow.
fn reaches_beyond(bytes: &[u8]) -> bool {
    let header = || {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        serde_json::from_slice::<Metadata>(rest.get(..length)?).ok()
    };
    header().is_some_and(|header| header.tensors().values().any(|tensor| tensor.data_offsets.1 > bytes.len()))
}

/// Puts a file of these parts in the place of `path`, whole or not at all.
fn replace(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".checkpoint-").suffix(".tmp");
    // the rename keeps the temporary file's mode, which would leave the checkpoint to its owner alone
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    for part in parts {
        file.write_all(part)?;
    }
    // otherwise a power cut after the rename could leave an empty file under the final name
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// The values of a stored f32 tensor.
///
/// # Errors
/// A message that says what is wrong with the tensor.
pub fn read_array<B: Backend>(backend: &B, view: &TensorView<'_>) -> Result<Array<B>, String> {
    if view.dtype() != Dtype::F32 {
        return Err(format!("its elements are {:?}, where F32 is read", view.dtype()));
    }
    let shape = Shape::new(view.shape()).map_err(|e| e.to_string())?;
    let (words, _) = view.data().as_chunks::<4>();
    let values = words.iter().map(|&word| B::Elem::of(f64::from(f32::from_le_bytes(word)))).collect();
    Array::from_vec(backend, values, shape).map_err(|e| e.to_string())
}
