//! Checkpoints: what is written is read again to the bit, by names that other tools know; whatever else is read is
//! refused in one sentence.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use plastica_model::{Checkpoint, ModelConfig, Parameters};
use plastica_rules::Rule;
use plastica_tensor::{Array, Cpu, Element};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::support::{perturbed, small};

type F32 = Cpu<f32>;

fn checkpoint(rule: Rule) -> Checkpoint<F32> {
    let metadata = [("plastica.run", "{}"), ("note", "ünïcode \"quoted\"\n"), ("empty", "")];
    Checkpoint {
        config: small(rule),
        parameters: perturbed(&small(rule), &F32::new(), 5),
        metadata: metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    }
}

/// The checkpoint as a file has it.
fn bytes(checkpoint: &Checkpoint<F32>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    checkpoint.write(&path).unwrap();
    std::fs::read(path).unwrap()
}

fn values(parameters: &Parameters<F32>) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let bits = |array: &Array<F32>| array.to_vec().unwrap().into_iter().map(f32::to_bits).collect();
    parameters.iter().map(|(name, array)| (name.to_owned(), array.shape().to_vec(), bits(array))).collect()
}

fn parse(bytes: &[u8]) -> Result<Checkpoint<F32>, String> {
    Checkpoint::parse(bytes, Path::new("a/model.safetensors"), &F32::new()).map_err(|e| e.to_string())
}

#[test]
fn reads_what_it_writes_to_the_bit() {
    for rule in Rule::ALL {
        let written = checkpoint(rule);
        let read = parse(&bytes(&written)).unwrap();
        assert_eq!(read.config, written.config);
        assert_eq!(read.metadata, written.metadata);
        assert_eq!(values(&read.parameters), values(&written.parameters));
    }
}

#[test]
fn the_extremes_of_f32_survive() {
    let mut written = checkpoint(Rule::Hebbian);
    let extremes = [f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), -0.0, f32::INFINITY, f32::NAN];
    let shape = written.parameters.arrays()[1].shape();
    written.parameters.arrays_mut()[1] = Array::from_vec(&F32::new(), extremes.into(), shape).unwrap();
    let read = parse(&bytes(&written)).unwrap();
    assert_eq!(values(&read.parameters), values(&written.parameters));
}

#[test]
fn one_checkpoint_has_one_file() {
    let first = bytes(&checkpoint(Rule::Gradient));
    for _ in 0..5 {
        assert_eq!(bytes(&checkpoint(Rule::Gradient)), first);
    }
}

#[test]
fn another_backend_reads_the_same_numbers() {
    let written = checkpoint(Rule::Gradient);
    let path = Path::new("model.safetensors");
    let read = Checkpoint::parse(&bytes(&written), path, &Cpu::<f64>::new()).unwrap();
    for ((name, ours), theirs) in read.parameters.iter().zip(written.parameters.arrays()) {
        let theirs: Vec<f64> = theirs.to_vec().unwrap().into_iter().map(Element::wide).collect();
        assert_eq!(ours.to_vec().unwrap(), theirs, "{name}");
    }
}

/// What `safetensors.torch.load_file` will find.
#[test]
fn the_file_has_the_published_names_shapes_and_type() {
    let bytes = bytes(&checkpoint(Rule::Gradient));
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header % 8, 0, "numbers are aligned");
    let metadata = metadata.metadata().clone().unwrap();
    let config: ModelConfig = serde_json::from_str(&metadata["plastica.model"]).unwrap();
    assert_eq!(config, small(Rule::Gradient));
    assert_eq!(metadata["plastica.run"], "{}");

    let mut expected = BTreeMap::new();
    let mut add = |name: &str, shape: &[usize]| expected.insert(name.to_owned(), shape.to_vec());
    add("input_proj.weight", &[6, 3]);
    add("input_proj.bias", &[6]);
    for block in ["blocks.0", "blocks.1"] {
        for norm in ["ln1", "ln2"] {
            add(&format!("{block}.{norm}.weight"), &[6]);
            add(&format!("{block}.{norm}.bias"), &[6]);
        }
        add(&format!("{block}.self_attn.in_proj_weight"), &[18, 6]);
        add(&format!("{block}.self_attn.in_proj_bias"), &[18]);
        add(&format!("{block}.self_attn.out_proj.weight"), &[6, 6]);
        add(&format!("{block}.self_attn.out_proj.bias"), &[6]);
        for (layer, shape) in [("fc1", [10, 6]), ("fc2", [6, 10])] {
            add(&format!("{block}.feed_forward.{layer}.weight"), &shape);
            add(&format!("{block}.feed_forward.{layer}.bias"), &shape[..1]);
            add(&format!("{block}.feed_forward.{layer}.alpha"), &shape);
            add(&format!("{block}.feed_forward.{layer}.beta"), &shape[..1]);
        }
    }
    add("final_ln.weight", &[6]);
    add("final_ln.bias", &[6]);
    add("head.weight", &[6, 6]);
    add("head.bias", &[6]);
    add("internal_proj.weight", &[6, 6]);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let found: BTreeMap<_, _> =
        file.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect();
    assert_eq!(found, expected);
    assert!(file.iter().all(|(_, view)| view.dtype() == Dtype::F32));
}

/// One tensor of a file, to be changed.
#[derive(Clone)]
struct Piece {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

/// A file of this metadata and these tensors, made by other hands.
fn foreign(metadata: Option<HashMap<String, String>>, pieces: &[Piece]) -> Vec<u8> {
    let views = pieces.iter().map(|Piece { name, dtype, shape, data }| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, metadata).unwrap()
}

/// A good checkpoint's metadata and tensors.
fn pieces() -> (HashMap<String, String>, Vec<Piece>) {
    let bytes = bytes(&checkpoint(Rule::Hebbian));
    let metadata = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap();
    let piece = |(name, view): (&str, TensorView<'_>)| {
        let (dtype, shape, data) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        Piece { name: name.to_owned(), dtype, shape, data }
    };
    (metadata, SafeTensors::deserialize(&bytes).unwrap().iter().map(piece).collect())
}

/// Reading must fail, in one line that names the file and has this in it.
#[track_caller]
fn refused(bytes: &[u8], part: &str) {
    let message = parse(bytes).map(|_| ()).unwrap_err();
    assert!(message.starts_with("checkpoint a/model.safetensors: "), "{message}");
    assert!(message.contains(part) && !message.contains('\n'), "{message}");
}

#[test]
fn a_file_by_other_hands_is_read() {
    let (metadata, tensors) = pieces();
    let read = parse(&foreign(Some(metadata), &tensors)).unwrap();
    assert_eq!(values(&read.parameters), values(&checkpoint(Rule::Hebbian).parameters));
}

#[test]
fn a_file_cut_short_anywhere() {
    let whole = bytes(&checkpoint(Rule::Gradient));
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let everywhere = (0..50).map(|i| i * (whole.len() - 1) / 49);
    for end in everywhere.chain([1, 7, 8, 9, header - 1, header, header + 1]) {
        refused(&whole[..end], "it is not a whole safetensors file");
    }
    let longer = [&whole[..], b"x"].concat();
    refused(&longer, "it is not a whole safetensors file");
}

#[test]
fn a_safetensors_file_of_somebody_else() {
    let (mut metadata, tensors) = pieces();
    let part =
        "it is a safetensors file without 'plastica.model' in its metadata: not a checkpoint of plastica";
    refused(&foreign(None, &tensors), part);
    metadata.remove("plastica.model");
    metadata.insert("format".into(), "pt".into());
    refused(&foreign(Some(metadata), &tensors), part);
}

#[test]
fn parameters_that_are_not_the_configured_ones() {
    let (metadata, tensors) = pieces();
    let check_all = |change: &dyn Fn(&mut Vec<Piece>), part: &str| {
        let mut tensors = tensors.clone();
        change(&mut tensors);
        refused(&foreign(Some(metadata.clone()), &tensors), part);
    };
    let missing = "parameter 'blocks.1.feed_forward.fc1.alpha' of shape [10, 6] is missing";
    check_all(&|all| all.retain(|t| t.name != "blocks.1.feed_forward.fc1.alpha"), missing);
    check_all(&|all| all.clear(), "parameter 'input_proj.weight' of shape [6, 3] is missing");
    let surplus = Piece {
        name: "internal_proj.weight".into(),
        dtype: Dtype::F32,
        shape: vec![6, 6],
        data: vec![0; 144],
    };
    let unknown = "parameter 'internal_proj.weight' belongs to no part of the configured model";
    check_all(&|all| all.push(surplus.clone()), unknown);

    let check = |name: &str, change: fn(&mut Piece), part: &str| {
        check_all(&|all| all.iter_mut().filter(|t| t.name == name).for_each(change), part);
    };
    check(
        "blocks.0.feed_forward.fc2.weight",
        |t| t.shape.reverse(),
        "parameter 'blocks.0.feed_forward.fc2.weight' has shape [10, 6], where the configuration asks for [6, 10]",
    );
    check(
        "head.bias",
        |t| t.shape = vec![1, 1, 1, 1, 1, 6],
        "'head.bias': a shape of 6 dimensions was asked for",
    );
    check(
        "head.bias",
        |t| (t.dtype, t.data) = (Dtype::F16, vec![0; 12]),
        "'head.bias': its elements are F16, where F32 is read",
    );
}

#[test]
fn a_configuration_that_contradicts_itself() {
    let (metadata, tensors) = pieces();
    let check = |from: &str, to: &str, part: &str| {
        let mut metadata = metadata.clone();
        let config = &metadata["plastica.model"];
        assert!(config.contains(from), "{config}");
        metadata.insert("plastica.model".into(), config.replace(from, to));
        refused(&foreign(Some(metadata), &tensors), part);
    };
    let heads = "model.num_heads = 4 won't do: it must divide model_dim = 6";
    check(r#""num_heads":2"#, r#""num_heads":4"#, heads);
    check(r#""num_heads":2"#, r#""num_heads":0"#, "model.num_heads = 0 won't do");
    check(
        r#""num_layers":2"#,
        r#""num_layers":3"#,
        "parameter 'blocks.2.ln1.weight' of shape [6] is missing",
    );
    check(r#""num_layers":2"#, r#""num_layers":1"#, "parameter 'blocks.1.");
    check(r#""num_layers":2"#, r#""num_layers":99999999"#, "model.num_layers = 99999999 won't do");
    check(r#""ffn_dim":10"#, r#""ffn_dim":1048576"#, "where the configuration asks for [1048576, 6]");
    check(r#""hebbian""#, r#""gradient""#, "parameter 'internal_proj.weight' of shape [6, 6] is missing");
    check(r#""hebbian""#, r#""stdp""#, "its configuration can't be read: unknown rule 'stdp'");
    check(r#""eta0":0.2"#, r#""eta0":0"#, "model.eta0 = 0 won't do");
    check(r#""eta0":0.2"#, r#""eta0":null"#, "its configuration can't be read: invalid type: null");
    check(r#""eta0""#, r#""eta""#, "its configuration can't be read: unknown field `eta`");
    check("{", "", "its configuration can't be read");
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let check = |change: fn(&mut Checkpoint<F32>), message: &str| {
        let mut checkpoint = checkpoint(Rule::Hebbian);
        change(&mut checkpoint);
        let error = checkpoint.write(&path).unwrap_err().to_string();
        assert_eq!(error, format!("checkpoint {}: {message}", path.display()));
        assert_eq!(names_in(folder.path()), [""; 0]);
    };
    check(|c| c.config.dropout = 1.0, "model.dropout = 1 won't do: it must lie in [0, 1)");
    check(|c| c.config.rule = Rule::Gradient, "parameter 'internal_proj.weight' of shape [6, 6] is missing");
}

#[test]
fn places_that_cannot_be_read_or_written() {
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name);
    std::fs::write(inside("file"), "plain").unwrap();
    std::fs::create_dir(inside("folder")).unwrap();
    std::fs::write(inside("folder/kept"), "").unwrap();

    let check = |path: PathBuf, error: String, part: &str| {
        assert!(error.starts_with(&format!("checkpoint {}: it can't be {part}", path.display())), "{error}");
    };
    for name in ["missing", "folder", "file/below"] {
        let error = Checkpoint::read(&inside(name), &F32::new()).unwrap_err();
        check(inside(name), error.to_string(), "read: ");
    }
    for name in ["missing/model.safetensors", "folder", "file/below"] {
        let error = checkpoint(Rule::None).write(&inside(name)).unwrap_err();
        check(inside(name), error.to_string(), "written: ");
    }
    assert_eq!(names_in(folder.path()), ["file", "folder"], "a failed write leaves nothing behind");
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_write_replaces_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, "something else").unwrap();
    let written = checkpoint(Rule::None);
    written.write(&path).unwrap();
    let read = Checkpoint::read(&path, &F32::new()).unwrap();
    assert_eq!(values(&read.parameters), values(&written.parameters));
    assert_eq!(names_in(folder.path()), ["model.safetensors"]);
}

#[cfg(unix)]
#[test]
fn a_checkpoint_is_as_readable_as_any_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (ours, plain) = (folder.path().join("model.safetensors"), folder.path().join("plain"));
    checkpoint(Rule::None).write(&ours).unwrap();
    std::fs::write(&plain, "").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}

proptest! {
    #[test]
    fn settings_survive_to_the_bit(eta0 in 1e-300..1.0f64, max_norm in 1e-300..1e300f64, init in -1e300..1e300f64) {
        let config = ModelConfig { eta0, max_norm, plasticity_init: init, ..small(Rule::None) };
        let parameters = perturbed(&small(Rule::None), &F32::new(), 5);
        let written = Checkpoint { config, parameters, metadata: HashMap::new() };
        prop_assert_eq!(parse(&bytes(&written)).unwrap().config, written.config);
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        refused(&bytes, "it is not a whole safetensors file");
    }

    /// Whatever became of a file, it is read or refused; and if it is read, its parameters are the configured ones.
    #[test]
    fn damage_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        in_header in any::<bool>(),
        removed in 0usize..3,
    ) {
        let mut damaged = bytes(&checkpoint(Rule::Gradient));
        let header = 8 + u64::from_le_bytes(damaged[..8].try_into().unwrap()) as usize;
        let len = if in_header { header } else { damaged.len() };
        for (at, byte) in &changes {
            damaged[at.index(len)] = *byte;
        }
        damaged.drain(header - removed..header);
        match parse(&damaged) {
            Ok(read) => {
                let named = read.parameters.iter().map(|(name, array)| (name.to_owned(), array.clone()));
                prop_assert!(Parameters::from_named(&read.config, named).is_ok());
            }
            Err(message) => prop_assert!(message.starts_with("checkpoint a/model.safetensors: "), "{}", message),
        }
    }
}

#[test]
fn a_header_of_absurd_sizes_is_refused() {
    let file = |header: &str| [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    let tensor = |shape: &str, offsets: &str| {
        file(&format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#))
    };
    let part = "it is not a whole safetensors file";
    refused(&u64::MAX.to_le_bytes(), part);
    refused(&[0; 8], part);
    refused(&tensor("[9223372036854775807, 9223372036854775807]", "[0, 4]"), part);
    refused(&tensor("[1]", "[0, 18446744073709551615]"), part);
    refused(&tensor("[1]", "[4, 0]"), part);
    refused(&tensor("[-1]", "[0, 4]"), part);
    // nine tensors of which eight are 2⁶¹ bytes long: their last end is the largest number there is
    let mut tensors = Vec::new();
    let (mut start, eighth) = (0, (1 << 61) - 8);
    for (i, len) in [eighth; 8].into_iter().chain([u64::MAX - 8 * eighth]).enumerate() {
        let offsets = format!("[{start}, {}]", start + len);
        tensors.push(format!(r#""{i}":{{"dtype":"U8","shape":[{len}],"data_offsets":{offsets}}}"#));
        start += len;
    }
    refused(&file(&format!("{{{}}}", tensors.join(","))), part);
    refused(&file("[]"), part);
    refused(&file(&"[".repeat(100_000)), part);
}
