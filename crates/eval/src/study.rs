//! A study: the runs of a protocol, and what they come to beside the published figures.

use std::fmt;
use std::str::FromStr;

use plastica_model::{Checkpoint, ModelKind};
use plastica_rules::{Credit, Rule};
use plastica_tasks::{Dataset, TaskConfig};
use plastica_tensor::Backend;
use plastica_tensor::optim::Schedule;

use crate::{EvalError, Plateau, Preset, RunConfig, Trainer, TrainingConfig, published};

/// How much of the study is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The published configurations, budgets and seeds.
    Paper,
    /// The published models and tasks, trained until they stand still: [`Preset::Converged`].
    Converged,
    /// The same path in seconds: the published models on a handful of episodes.
    Smoke,
    /// A configuration of the user's own.
    Custom,
}

impl Protocol {
    /// Those that a study can be made of.
    pub const ALL: [Protocol; 3] = [Protocol::Paper, Protocol::Smoke, Protocol::Converged];

    /// The protocol's name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Paper => "paper",
            Protocol::Converged => "converged",
            Protocol::Smoke => "smoke",
            Protocol::Custom => "custom",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Protocol {
    type Err = EvalError;

    fn from_str(name: &str) -> Result<Self, EvalError> {
        let found = Protocol::ALL.into_iter().find(|protocol| protocol.name() == name);
        let expected = || format!("one of {}", Protocol::ALL.map(Protocol::name).join(", "));
        found.ok_or_else(|| EvalError::Config { field: "protocol", value: name.into(), expected: expected() })
    }
}

/// Which runs a study is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Study {
    /// How much is run.
    pub protocol: Protocol,
    /// Tasks, by name.
    pub tasks: Vec<String>,
    /// The images of image tasks, where they are not the published ones.
    pub data: Vec<(String, Dataset)>,
    /// Settings that take the place of the published ones.
    pub preset: Option<Preset>,
    /// Plasticity rules.
    pub rules: Vec<Rule>,
    /// What the outer gradient sees of the fast weights, each with runs of its own; the published ones are detached.
    /// Rule none has no fast weights, and runs once: under the first of them that cuts no attention, if there is one, so that
    /// nothing is held against a rule none that was cut.
    pub credits: Vec<Credit>,
    /// Runs of each task and rule: the published seeds first, and on from the last.
    pub seeds: usize,
    /// Whether every run is cut down to what takes seconds, to see the way through.
    pub quick: bool,
}

/// One run of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    name: String,
    config: RunConfig,
    protocol: Protocol,
}

impl Study {
    /// The runs, in the order of tasks, rules and seeds.
    ///
    /// # Errors
    /// For an unknown task, or no seeds.
    pub fn plan(&self) -> Result<Vec<PlannedRun>, EvalError> {
        if self.seeds == 0 {
            let expected = "at least 1".to_owned();
            return Err(EvalError::Config { field: "seeds", value: "0".into(), expected });
        }
        let uncut = self.credits.iter().position(|credit| credit.window().is_none()).unwrap_or(0);
        let once = &self.credits[uncut..self.credits.len().min(uncut + 1)];
        let mut runs = Vec::new();
        for task in &self.tasks {
            for &rule in &self.rules {
                let credits = if rule == Rule::None { once } else { &self.credits };
                for &credit in credits {
                    self.plan_rule(task, rule, credit, ModelKind::Plastic, &mut runs)?;
                }
            }
            if TaskConfig::from_name(task)?.data().is_some() {
                for &credit in once {
                    self.plan_rule(task, Rule::None, credit, ModelKind::Prototypical, &mut runs)?;
                }
            }
        }
        Ok(runs)
    }

    /// The runs of one task, rule and credit; of a prototypical network, of one task alone.
    fn plan_rule(
        &self,
        task: &str,
        rule: Rule,
        credit: Credit,
        kind: ModelKind,
        runs: &mut Vec<PlannedRun>,
    ) -> Result<(), EvalError> {
        let mut config = RunConfig::published(task, rule)?;
        config.model.kind = kind;
        if self.protocol == Protocol::Converged {
            Preset::Converged.apply(&mut config);
        }
        if let Some(preset) = self.preset {
            preset.apply(&mut config);
        }
        if let (Some(images), Some((_, data))) =
            (config.task.few_shot_mut(), self.data.iter().find(|(of, _)| of == task))
        {
            images.data = *data;
        }
        config.fit_to_task()?;
        config.training.credit = credit;
        if self.quick {
            shorten(&mut config.training);
        }
        if self.protocol == Protocol::Smoke {
            config.training.epochs = 1;
            config.training.dataset_size = 3;
            config.training.schedule = Schedule::default();
            config.training.plateau = None;
            config.training.eval_episodes = config.training.eval_episodes.map(|_| 3);
        }
        config.validate()?;
        let known =
            published().task(task).and_then(|t| t.rule(rule.name())).map_or(&[][..], |r| &r.seeds[..]);
        let first = config.training.seed;
        for i in 0..self.seeds {
            let mut config = config.clone();
            // outside of the published runs, every rule has the same seeds, so that runs make pairs
            config.training.seed = match self.preset {
                Some(_) => i as u64,
                None if self.protocol == Protocol::Converged => i as u64,
                None => known.get(i).copied().unwrap_or(first + i as u64),
            };
            runs.push(PlannedRun::new(config, self.protocol));
        }
        Ok(())
    }
}

/// The same way in seconds.
fn shorten(training: &mut TrainingConfig) {
    training.epochs = 3;
    training.dataset_size = 4;
    training.batch_size = 2;
    training.eval_episodes = Some(4);
    training.schedule = Schedule::default();
    training.plateau =
        training.plateau.map(|_| Plateau { patience: 1, smoothing: 1, cooldown: 1, ..Plateau::default() });
}

impl PlannedRun {
    /// A run by itself.
    pub fn new(config: RunConfig, protocol: Protocol) -> Self {
        let (task, method, seed) = (config.task.name(), config.model.method(), config.training.seed);
        let name = match protocol {
            Protocol::Converged if config.model.rule != Rule::None => {
                format!("{task}-{method}-{}-{seed}", config.training.credit)
            }
            _ => format!("{task}-{method}-{seed}"),
        };
        Self { name, config, protocol }
    }

    /// The same run under another configuration of the same task, rule, credit and seed.
    pub fn with_config(self, config: RunConfig) -> Self {
        Self::new(config, self.protocol)
    }

    /// `copying-hebbian-2000`: task, rule and seed; of the converged protocol `copying-hebbian-full-0`, with the credit.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The run's configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// Episodes that the run takes, training and evaluation together.
    pub fn episodes(&self) -> usize {
        let training = &self.config.training;
        training.epochs.saturating_mul(training.dataset_size.saturating_add(training.eval_episodes()))
    }

    /// How the run trains and measures.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
}

impl<B: Backend> Trainer<B> {
    /// The model as it stands, with its task in the metadata.
    pub fn checkpoint(&self) -> Checkpoint<B> {
        let run = serde_json::to_string(self.config()).unwrap_or_default();
        Checkpoint {
            config: self.config().model.clone(),
            parameters: self.parameters().clone(),
            metadata: [("plastica.run".to_owned(), run)].into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(seeds: usize) -> Study {
        let tasks = vec!["copying".to_owned(), "regression".to_owned()];
        Study {
            protocol: Protocol::Paper,
            tasks,
            data: Vec::new(),
            preset: None,
            rules: Rule::PUBLISHED.to_vec(),
            credits: vec![Credit::Detached],
            seeds,
            quick: false,
        }
    }

    #[test]
    fn the_plan_has_the_published_budgets_and_seeds_and_goes_on_from_them() {
        let runs = study(5).plan().unwrap();
        assert_eq!(runs.len(), 2 * 3 * 5);
        let seeds: Vec<u64> = runs[5..10].iter().map(|r| r.config.training.seed).collect();
        assert_eq!(seeds, [2000, 2001, 2002, 2003, 2004]);
        assert_eq!(runs[5].name, "copying-hebbian-2000");
        let regression = &runs.last().unwrap().config;
        assert_eq!((regression.training.epochs, regression.training.dataset_size), (5, 150));
        assert_eq!((regression.model.input_dim, regression.model.output_dim), (5, 1));
    }

    #[test]
    fn the_converged_plan_has_every_credit_and_one_budget_for_all() {
        let credits = vec![Credit::Detached, Credit::Full];
        let plan = Study { protocol: Protocol::Converged, credits, ..study(2) }.plan().unwrap();
        let names: Vec<&str> = plan.iter().map(PlannedRun::name).collect();
        let copying = ["none", "hebbian-detached", "hebbian-full", "gradient-detached", "gradient-full"]
            .map(|arm| [0, 1].map(|seed| format!("copying-{arm}-{seed}")));
        assert_eq!(names[..10], copying.concat());
        assert_eq!(plan.len(), 2 * 5 * 2);
        let budget = |run: &PlannedRun| TrainingConfig {
            seed: 0,
            credit: Credit::Full,
            ..run.config.training.clone()
        };
        assert!(
            plan.iter().all(|run| budget(run) == budget(&plan[0]) && run.config.training.plateau.is_some())
        );
    }

    /// A rule none whose attention was cut would be held against arms whose attention was not.
    #[test]
    fn rule_none_runs_once_and_uncut_if_any_arm_is() {
        let window = "windowed(8)".parse().unwrap();
        for (credits, expected) in [
            (vec![window, Credit::Full], Credit::Full),
            (vec![Credit::Detached, window], Credit::Detached),
            (vec![window], window),
        ] {
            let plan = Study { protocol: Protocol::Converged, credits, ..study(1) }.plan().unwrap();
            let none: Vec<Credit> = plan
                .iter()
                .filter(|run| run.config.model.rule == Rule::None && run.name.starts_with("copying"))
                .map(|run| run.config.training.credit)
                .collect();
            assert_eq!(none, [expected]);
        }
    }

    /// One epoch has no room for a plateau.
    #[test]
    fn the_smoke_protocol_takes_a_preset() {
        let plan =
            Study { protocol: Protocol::Smoke, preset: Some(Preset::Converged), ..study(1) }.plan().unwrap();
        assert!(
            plan.iter().all(|run| run.config.training.plateau.is_none() && run.config.training.epochs == 1)
        );
    }

    #[test]
    fn what_cannot_be_planned_is_said() {
        let check = |study: Study, part: &str| {
            let message = study.plan().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        check(study(0), "seeds is 0; it must be at least 1");
        check(Study { tasks: vec!["copyin".into()], ..study(1) }, "did you mean `copying`?");
        assert!(
            "papers".parse::<Protocol>().unwrap_err().to_string().contains("one of paper, smoke, converged")
        );
    }
}
