//! Tells the crate which compiler it was built with, for the report.

use std::process::Command;

fn main() {
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(compiler).arg("--version").output().ok();
    let version = version.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let version = if version.trim().is_empty() { "rustc, unknown version" } else { version.trim() };
    println!("cargo:rustc-env=PLASTICA_RUSTC={version}");
    println!("cargo:rerun-if-changed=build.rs");
}
