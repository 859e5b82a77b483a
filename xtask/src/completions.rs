//! `cargo xtask completions`: what a shell completes.

use clap::{Args, Command};
use clap_complete::{Shell, generate};
use serde_json::json;

use crate::failure::Outcome;
use crate::output::{say, tell_result};

/// The command that the scripts complete: shells know no completions for the words after `cargo xtask`.
const NAME: &str = "xtask";

#[derive(Args)]
#[command(after_help = "\
The script completes a command xtask, which a line in the shell's configuration makes:

  bash, zsh   xtask() { cargo xtask \"$@\"; }
  fish        function xtask; cargo xtask $argv; end
  powershell  function xtask { cargo xtask @args }
  elvish      fn xtask {|@a| cargo xtask $@a }

Examples:
  cargo xtask completions bash > ~/.local/share/bash-completion/completions/xtask
  cargo xtask completions zsh > ~/.zfunc/_xtask          with ~/.zfunc in fpath
  cargo xtask completions fish > ~/.config/fish/completions/xtask.fish
  cargo xtask completions powershell >> $PROFILE
  cargo xtask completions elvish >> ~/.config/elvish/rc.elv

With --json, the result: shell, script.")]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

/// Writes the script.
pub fn run(arguments: &Arguments, mut command: Command) -> Outcome {
    let mut script = Vec::new();
    generate(arguments.shell, &mut command, NAME, &mut script);
    let script = String::from_utf8(script)?;
    say(script.trim_end())?;
    tell_result("completions", json!({ "shell": arguments.shell.to_string(), "script": script }))
}
