//! The model against trajectories and gradients that an independent implementation computed.

use std::path::Path;

use plastica_eval::{Parity, replay};
use plastica_tensor::{Backend, Cpu};

use crate::recording::{Recording, all};

fn check<B: Backend>(path: &Path, backend: &B) -> Parity {
    let parity = replay(path, backend).unwrap();
    assert!(parity.holds(), "{}: {parity:?}", path.display());
    parity
}

#[test]
fn every_recording_is_reproduced() {
    for path in all() {
        check(&path, &Cpu::<f32>::new());
    }
}

#[test]
fn in_f64_what_is_left_is_the_recordings_own_rounding() {
    for path in all() {
        let parity = check(&path, &Cpu::<f64>::new());
        for found in [parity.values, parity.fast_weights, parity.gradients] {
            // parameters and inputs are exact in f32; results were rounded to it, half of 2⁻²³ at most
            assert!(found.error < 1e-7, "{}: {found:?}", path.display());
        }
    }
}

#[test]
fn recordings_cover_every_rule_and_credit() {
    let of = |path: &std::path::PathBuf| {
        let recording = Recording::read(path);
        (recording.setting("rule"), recording.setting("credit"))
    };
    let covered: std::collections::BTreeSet<_> = all().iter().map(of).collect();
    for rule in ["hebbian", "gradient"] {
        for credit in ["detached", "full"] {
            assert!(covered.contains(&(rule.to_owned(), credit.to_owned())), "{rule} {credit}: {covered:?}");
        }
    }
    assert!(covered.iter().any(|(rule, _)| rule == "none"), "{covered:?}");
}

/// A replay that compared one tensor too few would notice nothing there.
#[test]
fn a_value_off_by_one_percent_is_noticed_in_every_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let changed = folder.path().join("changed.safetensors");
    for path in all() {
        let recording = Recording::read(&path);
        let given = |name: &str| name.starts_with("param.") || name == "input" || name == "target";
        let names: Vec<String> =
            recording.tensors().names().into_iter().filter(|n| !given(n)).map(str::to_owned).collect();
        for name in names {
            let values = recording.values(&name);
            let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            // tensors of zeros, as gradients that the credit leaves out, are compared on the scale of 1e-7
            let off = values[0] + (0.01 * norm.max(1e-7)) as f32;
            std::fs::write(&changed, recording.with(&name, 0, off)).unwrap();
            let parity = replay(&changed, &Cpu::<f32>::new()).unwrap();
            let worst = [&parity.values, &parity.fast_weights, &parity.gradients];
            let noticed = worst.into_iter().any(|found| found.tensor == name && found.error > 0.009);
            assert!(!parity.holds() && noticed, "{} {name}: {parity:?}", path.display());
        }
    }
}

#[test]
fn a_parameter_off_by_one_percent_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let changed = folder.path().join("changed.safetensors");
    for path in all() {
        let recording = Recording::read(&path);
        let name = "param.final_ln.weight";
        let values = recording.values(name);
        let (index, largest) =
            values.iter().copied().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
        std::fs::write(&changed, recording.with(name, index, 1.01 * largest)).unwrap();
        let parity = replay(&changed, &Cpu::<f32>::new()).unwrap();
        assert!(!parity.holds(), "{}: {parity:?}", path.display());
    }
}
