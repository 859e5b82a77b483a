//! Running the program and reading what became of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Exit status of a command line or configuration that won't do.
pub const USAGE: i32 = 2;
/// Exit status of a failure.
pub const FAILURE: i32 = 1;

/// Settings of a model and a budget that take milliseconds.
pub const TINY: [&str; 7] = [
    "model.model_dim=8",
    "model.num_heads=2",
    "model.num_layers=1",
    "model.ffn_dim=8",
    "task.delay=2",
    "training.epochs=1",
    "training.dataset_size=2",
];

/// What a run of the program came to.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A folder that goes with the test, and the program run inside it.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Names in a folder, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        names(&self.path(folder))
    }

    /// The program with these arguments, to be run inside the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(arguments).current_dir(self.0.path()).env("RUST_BACKTRACE", "0");
        command
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments).output().unwrap())
    }

    /// Runs what has to succeed without a word on standard error but progress; gives standard output.
    #[track_caller]
    pub fn succeeds(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!((ended.status, errors(&ended).len()), (Some(0), 0), "{arguments:?}: {ended:?}");
        ended.stdout
    }

    /// Runs what has to be refused: with this status, and one error message, which has all these parts.
    #[track_caller]
    pub fn refuses(&self, arguments: &[&str], status: i32, parts: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!((ended.status, errors(&ended).len()), (Some(status), 1), "{arguments:?}: {ended:?}");
        for part in parts {
            assert!(ended.stderr.contains(part), "{arguments:?}: {part:?} is missing from\n{}", ended.stderr);
        }
        ended
    }
}

/// What the program said, which was not that it panicked.
#[track_caller]
pub fn ended(output: Output) -> Ended {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ended =
        Ended { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    ended
}

/// Names in a folder, sorted; without its lock, and without the times that runs took.
pub fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(name).collect();
    names.retain(|name| name != ".lock" && !name.ends_with(".timing.json"));
    names.sort();
    names
}

/// The error messages: progress is told on standard error too.
fn errors(ended: &Ended) -> Vec<&str> {
    ended.stderr.lines().filter(|line| line.starts_with("error:") || line.starts_with("failed:")).collect()
}

/// `train` with these settings.
pub fn train<'a>(task: &'a str, rule: &'a str, out: &'a str, settings: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["train", "--task", task, "--rule", rule, "--out", out];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    arguments
}

/// `train` of a tiny model on copying.
pub fn train_tiny<'a>(rule: &'a str, out: &'a str, settings: &[&'a str]) -> Vec<&'a str> {
    train("copying", rule, out, &[&TINY, settings].concat())
}
