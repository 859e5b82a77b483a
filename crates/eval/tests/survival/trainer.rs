//! A trainer made of another's snapshot is that trainer.

use plastica_eval::{EpochRecord, Plateau, RunConfig, Snapshot, StepTrace, Trainer};
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
    while !trainer.is_finished() {
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
fn check(config: &RunConfig, epochs: usize) {
    let cpu = Cpu::<f32>::new();
    let start = || Trainer::new(config, &cpu).unwrap();
    let undisturbed = to_the_end(start());
    assert_eq!(undisturbed.history.len(), epochs);
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
    check(&config(Rule::None, Credit::Full, 7), 2);
}

#[test]
fn under_the_hebbian_rule() {
    check(&config(Rule::Hebbian, Credit::Full, 7), 2);
}

#[test]
fn under_the_gradient_rule() {
    check(&config(Rule::Gradient, Credit::Full, 7), 2);
}

#[test]
fn where_some_parameters_have_no_gradient_and_no_moments() {
    check(&config(Rule::Gradient, Credit::Detached, 7), 2);
}

#[test]
fn where_the_run_itself_decides_when_to_stop() {
    let mut config = config(Rule::Hebbian, Credit::Full, 7);
    // a share of the loss that nothing gains, so that it stands still at once, and one that everything does
    for (least_gain, epochs) in [(0.99, 3), (0.0, 5)] {
        config.training.plateau = Some(Plateau { patience: 1, least_gain, smoothing: 1, cooldown: 1 });
        config.training.epochs = 5;
        let mut trainer = Trainer::new(&config, &Cpu::<f32>::new()).unwrap();
        while !trainer.is_finished() {
            trainer.advance(&mut |_| ()).unwrap();
        }
        assert_eq!(trainer.epoch(), epochs);
        assert_eq!(trainer.history()[epochs - 1].metrics["steps"], (3 * epochs) as f64);
        check(&config, epochs);
    }
}

#[test]
fn a_run_that_decides_when_to_stop_is_evaluated_on_the_same_episodes_each_time() {
    let mut config = config(Rule::None, Credit::Full, 7);
    config.training.plateau = Some(Plateau { patience: 1, least_gain: 0.0, smoothing: 1, cooldown: 1 });
    config.training.lr = 0.0;
    let mut trainer = Trainer::new(&config, &Cpu::<f32>::new()).unwrap();
    let losses = [(); 2].map(|()| trainer.epoch_step(&mut |_| ()).unwrap().0.metrics["loss"]);
    assert_eq!(losses[0], losses[1]);
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
