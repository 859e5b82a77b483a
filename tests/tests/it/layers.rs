//! Arrows between crates go one way: tensor ← rules ← model ← eval, and tasks ← eval.

use std::collections::BTreeSet;
use std::path::Path;

/// The workspace's crates that `name` depends on, for its own code or for its tests.
fn dependencies(name: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../crates/{name}/Cargo.toml"));
    let manifest: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let tables =
        ["dependencies", "dev-dependencies"].map(|key| manifest.get(key).and_then(toml::Value::as_table));
    let names = tables.into_iter().flatten().flat_map(|table| table.keys());
    names.filter_map(|dependency| dependency.strip_prefix("plastica-")).map(str::to_owned).collect()
}

#[track_caller]
fn check(name: &str, below: &[&str]) {
    assert_eq!(dependencies(name), below.iter().map(|&s| s.to_owned()).collect(), "{name}");
}

#[test]
fn no_crate_knows_what_is_above_it() {
    check("tensor", &[]);
    check("tasks", &[]);
    check("rules", &["tensor"]);
    check("model", &["rules", "tensor"]);
    check("eval", &["model", "rules", "tasks", "tensor"]);
}
