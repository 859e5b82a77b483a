//! How much of the fast weights' history the outer gradient sees.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Result, RuleError};

/// How much of the fast-weight trajectory the outer gradient (the one that trains the slow weights, α, β, the
/// gate and the internal loss) runs through. Written `detached`, `full`, `truncated(8)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Credit {
    /// None of it: fast weights are constants, and the task never trains α, β, the gate or the internal loss.
    /// What the code published with arXiv 2510.21908 does.
    #[default]
    Detached,
    /// All of it, second derivatives included for the gradient rule (arXiv 2302.03235).
    Full,
    /// All of it inside windows of this many steps; fast weights and biases are cut at a window's edge.
    Truncated(NonZeroUsize),
}

impl Credit {
    /// Whether fast weights that `step` updates (counted from 0) are to be cut from their history afterwards.
    pub fn cuts_after(self, step: usize) -> bool {
        match self {
            Credit::Detached | Credit::Full => false,
            Credit::Truncated(window) => (step + 1).is_multiple_of(window.get()),
        }
    }
}

impl fmt::Display for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credit::Detached => f.pad("detached"),
            Credit::Full => f.pad("full"),
            Credit::Truncated(window) => f.pad(&format!("truncated({window})")),
        }
    }
}

impl FromStr for Credit {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self> {
        let window = || text.strip_prefix("truncated(")?.strip_suffix(')')?.parse().ok();
        match text {
            "detached" => Ok(Credit::Detached),
            "full" => Ok(Credit::Full),
            _ => window()
                .map(Credit::Truncated)
                .ok_or_else(|| RuleError::UnknownCredit { text: text.to_owned() }),
        }
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
        for text in ["detached", "full", "truncated(1)", "truncated(16)"] {
            let credit: Credit = text.parse().unwrap();
            assert_eq!(credit.to_string(), text);
            let json = serde_json::to_string(&credit).unwrap();
            assert_eq!(serde_json::from_str::<Credit>(&json).unwrap(), credit);
        }
    }

    #[test]
    fn refuses_what_is_no_credit() {
        for text in ["", "Full", "truncated", "truncated(0)", "truncated(-1)", "truncated(2"] {
            let error = text.parse::<Credit>().unwrap_err().to_string();
            assert!(error.contains(&format!("'{text}'")) && error.contains("truncated(k)"), "{error}");
        }
    }

    #[test]
    fn truncation_cuts_at_the_edge_of_every_window() {
        let credit: Credit = "truncated(3)".parse().unwrap();
        let cuts: Vec<usize> = (0..9).filter(|&step| credit.cuts_after(step)).collect();
        assert_eq!(cuts, [2, 5, 8]);
    }
}
