//! How much of the fast weights' history the outer gradient sees.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Result, RuleError};

/// How much of the fast-weight trajectory the outer gradient (the one that trains the slow weights, α, β, the
/// gate and the internal loss) runs through. Written `detached`, `full`, `truncated(8)`, `windowed(8)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Credit {
    /// None of it: fast weights are constants, and the task never trains α, β, the gate or the internal loss.
    /// What the code published with arXiv 2510.21908 does.
    #[default]
    Detached,
    /// All of it, second derivatives included for the gradient rule (arXiv 2302.03235).
    Full,
    /// All of it inside windows of this many steps; fast weights and biases are cut at a window's edge, and nothing else
    /// is: a model's attention still leads from any step to all that it sees.
    Truncated(NonZeroUsize),
    /// The same, and whatever else a model carries from step to step is cut there too, keys and values among it: those of
    /// earlier windows are read as constants. A window can then be taken back at its end and forgotten, so that the memory
    /// of training does not grow with the sequence but by the keys and values themselves (truncated back-propagation
    /// through time).
    Windowed(NonZeroUsize),
}

impl Credit {
    /// Whether fast weights that `step` updates (counted from 0) are to be cut from their history afterwards.
    pub fn cuts_after(self, step: usize) -> bool {
        match self {
            Credit::Detached | Credit::Full => false,
            Credit::Truncated(window) | Credit::Windowed(window) => (step + 1).is_multiple_of(window.get()),
        }
    }

    /// Steps of the windows that nothing of the outer gradient crosses, if there are any.
    pub fn window(self) -> Option<NonZeroUsize> {
        match self {
            Credit::Detached | Credit::Full | Credit::Truncated(_) => None,
            Credit::Windowed(window) => Some(window),
        }
    }
}

impl fmt::Display for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credit::Detached => f.pad("detached"),
            Credit::Full => f.pad("full"),
            Credit::Truncated(window) => f.pad(&format!("truncated({window})")),
            Credit::Windowed(window) => f.pad(&format!("windowed({window})")),
        }
    }
}

impl FromStr for Credit {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self> {
        let window = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?.parse().ok();
        let credit = match text {
            "detached" => Some(Credit::Detached),
            "full" => Some(Credit::Full),
            _ => window("truncated").map(Credit::Truncated).or(window("windowed").map(Credit::Windowed)),
        };
        credit.ok_or_else(|| RuleError::UnknownCredit { text: text.to_owned() })
    }
}

impl TryFrom<String> for Credit {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Credit> for String {
    fn from(credit: Credit) -> Self {
        credit.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["detached", "full", "truncated(1)", "truncated(16)", "windowed(1)", "windowed(16)"] {
            let credit: Credit = text.parse().unwrap();
            assert_eq!(credit.to_string(), text);
            let json = serde_json::to_string(&credit).unwrap();
            assert_eq!(serde_json::from_str::<Credit>(&json).unwrap(), credit);
        }
    }

    #[test]
    fn refuses_what_is_no_credit() {
        for text in [
            "",
            "Full",
            "truncated",
            "truncated(0)",
            "truncated(-1)",
            "truncated(2",
            "windowed(0)",
            "windowed2)",
        ] {
            let error = text.parse::<Credit>().unwrap_err().to_string();
            assert!(error.contains(&format!("'{text}'")) && error.contains("truncated(k)"), "{error}");
        }
    }

    #[test]
    fn truncation_cuts_at_the_edge_of_every_window() {
        for text in ["truncated(3)", "windowed(3)"] {
            let credit: Credit = text.parse().unwrap();
            let cuts: Vec<usize> = (0..9).filter(|&step| credit.cuts_after(step)).collect();
            assert_eq!(cuts, [2, 5, 8], "{text}");
        }
    }
}
