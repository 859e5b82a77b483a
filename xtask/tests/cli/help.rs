//! What `--help` teaches, and what a shell completes.

use std::process::Command;

use crate::support::{Folder, USAGE};

/// The subcommands that a help lists.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = listed.take_while(|line| !line.is_empty());
    // names are indented by two, what is said of them by more
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

/// Every command line of words that a help can be asked of, the whole program's first.
fn commands() -> Vec<Vec<String>> {
    let (folder, mut found, mut next) = (Folder::new(), vec![Vec::new()], 0);
    while next < found.len() {
        let path: Vec<String> = found[next].clone();
        let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        for name in subcommands(&folder.succeeds(&arguments)) {
            found.push([&path[..], &[name]].concat());
        }
        next += 1;
    }
    found
}

#[test]
fn every_help_has_examples_of_its_command() {
    let (folder, commands) = (Folder::new(), commands());
    assert!(commands.len() > 14, "{commands:?}");
    for path in commands {
        let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let help = folder.succeeds(&arguments);
        let Some((_, examples)) = help.split_once("\nExamples:\n") else {
            panic!("{path:?}: no examples in\n{help}")
        };
        let call = format!("cargo xtask {}", path.join(" "));
        assert!(
            examples.lines().any(|line| line.contains(call.trim_end())),
            "{call} is not among\n{examples}"
        );
        assert!(help.contains("--json"), "{path:?}");
        let longest = examples.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(110), "{path:?}: a line of {longest:?} characters");
    }
}

#[test]
fn the_help_says_what_the_exit_statuses_are() {
    let help = Folder::new().succeeds(&["--help"]);
    for part in
        ["Exit status: 0 when all went well", "1 for a failure", "2 for a command line or configuration"]
    {
        assert!(help.contains(part), "{part:?} is missing from\n{help}");
    }
}

#[test]
fn completions_name_every_command() {
    let folder = Folder::new();
    let commands = commands();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = folder.succeeds(&["completions", shell]);
        for name in commands.iter().flatten() {
            assert!(script.contains(name.as_str()), "{name} is missing from the script for {shell}");
        }
    }
    folder.refuses(&["completions", "cmd"], USAGE, &["'cmd'", "bash, elvish, fish, powershell, zsh"]);
}

#[cfg(unix)]
#[test]
fn bash_completes_commands_and_arguments() {
    let folder = Folder::new();
    folder.write("xtask.bash", folder.succeeds(&["completions", "bash"]));
    let completed = |words: &[&str]| -> Vec<String> {
        let last = words.len() - 1;
        let (quoted, word, before) = (words.join(" "), words[last], words[last - 1]);
        let script = format!(
            "source ./xtask.bash; COMP_WORDS=({quoted}); COMP_CWORD={last}; \
             _xtask xtask '{word}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let Ok(output) = Command::new("bash").args(["-c", &script]).current_dir(folder.path(".")).output()
        else {
            eprintln!("skipped: there is no bash here");
            return words[last..].iter().map(|&word| word.to_owned()).collect();
        };
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
        String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(completed(&["xtask", "inspect"]), ["inspect"]);
    assert_eq!(completed(&["xtask", "bench", "throughput"]), ["throughput"]);
    assert_eq!(completed(&["xtask", "trace", "--task"]), ["--task"]);
}
