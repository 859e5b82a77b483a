//! The published figures: configurations, budgets and results of arXiv 2510.21908.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::TrainingConfig;

/// The figures of arXiv 2510.21908, from the result logs published with the paper: 3 seeds a task and rule,
/// each rule with seeds of its own.
///
/// Two facts of that protocol: CIFAR-FS was trained and tested on the same 100 classes, and the budgets are
/// tiny (100 copying sequences), so the rules are compared long before they converge.
pub fn published() -> &'static Published {
    static PUBLISHED: LazyLock<Published> = LazyLock::new(|| {
        serde_json::from_str(include_str!("../data/published.json")).expect("part of this crate's source")
    });
    &PUBLISHED
}

/// All published figures.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Where the figures come from.
    pub source: String,
    /// The optimiser of every run.
    pub optimizer: String,
    /// The tasks, in the paper's order: copying, cue-reward, regression, cifar-fs, omniglot.
    pub tasks: Vec<PublishedTask>,
}

/// One task: how its runs were configured and what they measured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedTask {
    /// The task's name, as in [`Published::task`].
    pub name: String,
    /// Configuration of every run of the task, whatever its rule.
    pub config: PublishedConfig,
    /// The rules: none, hebbian, gradient.
    pub rules: Vec<PublishedRule>,
}

/// Configuration of a task's runs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedConfig {
    /// The Transformer and its plasticity.
    pub model: PublishedModel,
    /// What an episode is.
    pub task: TaskParameters,
    /// Budget and optimiser. The seed is 0 here: the seeds that were run are [`PublishedRule::seeds`].
    pub training: TrainingConfig,
}

/// Sizes of the Transformer and constants of its plasticity.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedModel {
    /// Model width d.
    pub model_dim: usize,
    /// Attention heads H.
    pub num_heads: usize,
    /// Blocks L.
    pub num_layers: usize,
    /// Feed-forward width f.
    pub ffn_dim: usize,
    /// Width of Conv-4's embedding of an image; `None` for tasks without images.
    pub embedding_dim: Option<usize>,
    /// Probability of dropout in training.
    pub dropout: f64,
    /// Auxiliary outputs a.
    pub aux_dim: usize,
    /// Largest plasticity rate η0.
    pub eta0: f64,
    /// Norm to which a step's change is clipped.
    pub max_norm: f64,
}

/// What an episode of a task is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TaskParameters {
    /// Repeating tokens after a delay.
    Copying {
        /// Tokens to repeat, S.
        seq_length: usize,
        /// Blanks before the delimiter, D.
        delay: usize,
        /// Vocabulary V: the blank 0, tokens 1..V−2, the delimiter V−1.
        vocab_size: usize,
    },
    /// Remembering which cue earned which reward.
    CueReward {
        /// Cues of an episode, N.
        num_pairs: usize,
        /// Possible cues, C.
        cue_dim: usize,
        /// Ends of the rewards' uniform distribution.
        reward_range: (f64, f64),
    },
    /// Linear regression in context.
    Regression {
        /// Width of x.
        input_dim: usize,
        /// Shown pairs.
        k_support: usize,
        /// Queries.
        k_query: usize,
        /// Standard deviation of the weights w.
        weight_scale: f64,
        /// Standard deviation of the bias b.
        bias_scale: f64,
    },
    /// Few-shot classification of images.
    FewShot {
        /// Classes of an episode.
        ways: usize,
        /// Support images a class.
        shots: usize,
        /// Query images a class.
        queries: usize,
    },
}

/// What the runs of one task under one rule measured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedRule {
    /// The rule's name: none, hebbian or gradient.
    pub rule: String,
    /// Seeds of the runs; their number is the n of every metric.
    pub seeds: Vec<u64>,
    /// The metrics after the last epoch, by name. Copying's `recall_accuracy` counts the blanks of the
    /// sequence's second half, so that an empty answer scores 0.69.
    pub metrics: BTreeMap<String, PublishedMetric>,
}

/// One metric over a rule's seeds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedMetric {
    /// Mean over the seeds.
    pub mean: f64,
    /// Population standard deviation (divisor n) over the seeds.
    pub sd: f64,
    /// The value of each seed, in the order of [`PublishedRule::seeds`]; `None` where only mean and
    /// deviation were published.
    pub finals: Option<Vec<f64>>,
}

impl Published {
    /// The task of this name; `None` if nothing was published for it.
    pub fn task(&self, name: &str) -> Option<&PublishedTask> {
        self.tasks.iter().find(|task| task.name == name)
    }
}

impl PublishedTask {
    /// The rule of this name; `None` if nothing was published for it.
    pub fn rule(&self, name: &str) -> Option<&PublishedRule> {
        self.rules.iter().find(|rule| rule.rule == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Summary;

    fn every_rule() -> impl Iterator<Item = (&'static PublishedTask, &'static PublishedRule)> {
        published().tasks.iter().flat_map(|task| task.rules.iter().map(move |rule| (task, rule)))
    }

    #[test]
    fn every_task_and_rule_is_there() {
        let names: Vec<&str> = published().tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["copying", "cue-reward", "regression", "cifar-fs", "omniglot"]);
        for name in names {
            let task = published().task(name).unwrap();
            assert_eq!(task.name, name);
            for rule in ["none", "hebbian", "gradient"] {
                let found = task.rule(rule).unwrap();
                assert_eq!(found.rule, rule);
                let headline = match task.config.task {
                    TaskParameters::Copying { .. } => "recall_accuracy",
                    TaskParameters::CueReward { .. } | TaskParameters::Regression { .. } => "query_loss",
                    TaskParameters::FewShot { .. } => "accuracy",
                };
                let metrics: BTreeSet<&str> = found.metrics.keys().map(String::as_str).collect();
                let wanted =
                    BTreeSet::from([headline, "loss", "train_loss", "eta_mean", "plastic_norm_mean"]);
                assert_eq!(metrics, wanted, "{name} {rule}");
            }
            assert_eq!(task.rules.len(), 3);
        }
        assert_eq!(published().task("sorting"), None);
    }

    #[test]
    fn aggregates_are_those_of_the_seeds() {
        let mut checked = 0;
        for (task, rule) in every_rule() {
            for (name, metric) in &rule.metrics {
                let Some(finals) = &metric.finals else { continue };
                let s = Summary::of(finals).unwrap();
                let label = format!("{} {} {name}", task.name, rule.rule);
                assert_eq!(finals.len(), rule.seeds.len(), "{label}");
                assert!((s.mean - metric.mean).abs() <= 1e-14 * metric.mean.abs(), "{label}");
                assert!((s.population_sd - metric.sd).abs() <= 1e-13 * metric.sd, "{label}");
                checked += 1;
            }
        }
        assert_eq!(checked, 5 * 3 * 2);
    }

    #[test]
    fn every_run_has_its_own_seed() {
        let seeds: Vec<u64> = every_rule().flat_map(|(_, rule)| &rule.seeds).copied().collect();
        assert_eq!(seeds.len(), 45);
        assert_eq!(seeds.iter().collect::<BTreeSet<_>>().len(), 45);
    }

    /// An accuracy is a count of right answers over all scored answers of the evaluation.
    #[test]
    fn accuracies_fit_the_evaluations_size() {
        for (task, rule) in every_rule() {
            let (metric, scored) = match task.config.task {
                TaskParameters::Copying { seq_length, delay, .. } => {
                    let steps = 2 * seq_length + delay + 1;
                    ("recall_accuracy", steps - steps / 2)
                }
                TaskParameters::FewShot { ways, queries, .. } => ("accuracy", ways * queries),
                _ => continue,
            };
            let answers = (scored * task.config.training.eval_episodes()) as f64;
            for value in rule.metrics[metric].finals.iter().flatten() {
                let right = value * answers;
                assert!((right - right.round()).abs() < 1e-9, "{} {}: {right}", task.name, rule.rule);
            }
        }
    }

    #[test]
    fn rates_fit_the_rule() {
        for (task, rule) in every_rule() {
            let label = format!("{} {}", task.name, rule.rule);
            let (eta, norm) = (&rule.metrics["eta_mean"], &rule.metrics["plastic_norm_mean"]);
            if rule.rule == "none" {
                assert_eq!((eta.mean, eta.sd, norm.mean, norm.sd), (0.0, 0.0, 0.0, 0.0), "{label}");
            } else {
                assert!(0.0 < eta.mean && eta.mean < task.config.model.eta0, "{label}");
                assert!(norm.mean > 0.0, "{label}");
            }
        }
    }

    #[test]
    fn configurations() {
        for task in &published().tasks {
            task.config.training.validate().unwrap();
            assert_eq!(task.config.model.model_dim % task.config.model.num_heads, 0, "{}", task.name);
        }
        let training = |name| &published().task(name).unwrap().config.training;
        assert_eq!(*training("copying"), TrainingConfig::new(2, 50));
        assert_eq!(training("omniglot").eval_episodes(), 50);
        assert_eq!(training("omniglot").weight_decay, 5e-4);
    }

    #[test]
    fn figures_keep_every_digit() {
        let copying = published().task("copying").unwrap();
        assert_eq!(copying.rule("hebbian").unwrap().metrics["eta_mean"].mean, 0.00043438349033064977);
    }
}
