//! A trainer made of another's snapshot is that trainer.

use plastica_eval::{EpochRecord, RunConfig, Snapshot, StepTrace, Trainer};
use plastica_rules::{Credit, Rule};
use plastica_tensor::Cpu;

use crate::{ADVANCES, config};

/// Everything that a run leaves.
#[derive(Debug, PartialEq)]
struct End {
    parameters: Vec<u32>,
    history: Vec<EpochRecord>,
    trace: Option<StepTrace>,
    /// Episodes told of since the start.
    told: usize,
}

fn to_the_end(mut trainer: Trainer<Cpu<f32>>) -> End {
    let mut told = 0;
    while trainer.epoch() < trainer.config().training.epochs {
        trainer.advance(&mut |episodes| told += episodes).unwrap();
    }
    let arrays = trainer.parameters().arrays().iter();
    End {
        parameters: arrays.flat_map(|a| a.to_vec().unwrap()).map(f32::to_bits).collect(),
        history: trainer.history().to_vec(),
        trace: trainer.trace().cloned(),
        told,
    }
}

/// Stops after each number of steps, goes on from the file, and compares every bit with a run that never stopped.
#[track_caller]
fn check(config: &RunConfig) {
    let cpu = Cpu::<f32>::new();
    let start = || Trainer::new(config, &cpu).unwrap();
    let undisturbed = to_the_end(start());
    assert_eq!(undisturbed.history.len(), 2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.snapshot");
    for stop_after in 0..=ADVANCES {
        let mut stopped = start();
        for _ in 0..stop_after {
            stopped.advance(&mut |_| ()).unwrap();
        }
        stopped.snapshot().write(&path, config).unwrap();
        let done = stopped.episodes();
        drop(stopped);
        let mut resumed = start();
        resumed.restore(Snapshot::read(&path, config, &cpu).unwrap().unwrap()).unwrap();
        assert_eq!(resumed.episodes(), done);
        let mut end = to_the_end(resumed);
        end.told += done;
        assert_eq!(end, undisturbed, "{}: stopped after {stop_after} steps", config.model.rule);
    }
}

#[test]
fn without_a_rule() {
    check(&config(Rule::None, Credit::Full, 7));
}

#[test]
fn under_the_hebbian_rule() {
    check(&config(Rule::Hebbian, Credit::Full, 7));
}

#[test]
fn under_the_gradient_rule() {
    check(&config(Rule::Gradient, Credit::Full, 7));
}

#[test]
fn where_some_parameters_have_no_gradient_and_no_moments() {
    check(&config(Rule::Gradient, Credit::Detached, 7));
}

#[test]
fn an_epoch_is_the_same_in_one_call() {
    let config = config(Rule::Hebbian, Credit::Full, 7);
    let mut trainer = Trainer::new(&config, &Cpu::<f32>::new()).unwrap();
    let mut told = 0;
    let first = trainer.epoch_step(&mut |episodes| told += episodes).unwrap();
    let (second, evaluation) = trainer.epoch_step(&mut |episodes| told += episodes).unwrap();
    let end = to_the_end(Trainer::new(&config, &Cpu::<f32>::new()).unwrap());
    assert_eq!((end.history, end.trace, end.told), (vec![first.0, second], evaluation.trace, told));
}
