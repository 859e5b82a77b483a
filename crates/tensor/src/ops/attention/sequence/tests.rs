//! A sequence's attention by the kernel, against operations, and against one step at a time.

use super::*;
use crate::testing::{CPU, Real, check_error, noise};
use crate::{Cpu, GradMode, Shape, grad};

#[derive(Debug, Clone, Copy)]
struct Case {
    steps: usize,
    heads: usize,
    per_head: usize,
    window: Option<usize>,
    masked: bool,
}

/// How a sequence is read.
#[derive(Debug, Clone, Copy)]
enum How {
    AtOnce,
    InOperations,
    StepByStep,
    /// So many steps at once, then the others, which takes operations.
    InTwo(usize),
}

const BATCH: usize = 2;

impl Case {
    fn sizes(self) -> SequenceSizes {
        let Self { steps, heads, per_head, window, .. } = self;
        SequenceSizes { batch: BATCH, steps, heads, per_head, window }
    }

    fn qkv(self) -> Real {
        // large enough for probabilities that differ
        noise([BATCH, self.steps, 3 * self.sizes().width()]).scale(2.0).unwrap()
    }

    fn masks(self) -> Vec<Real> {
        let mask = |t: usize| {
            let visible = t + 1 - self.sizes().first_seen(t);
            noise([BATCH, self.heads, visible]).shift(1.0).unwrap()
        };
        if self.masked { (0..self.steps).map(mask).collect() } else { Vec::new() }
    }

    fn read(self, qkv: &Real, how: How) -> Real {
        let Self { steps, heads, per_head, window, .. } = self;
        let mut cache = AttentionCache::windowed(&CPU, BATCH, heads, per_head, 4, window);
        let masks = self.masks();
        match how {
            How::AtOnce => cache.attend_all(qkv, &masks).unwrap(),
            How::InOperations => cache.attend_part(qkv, &masks, self.sizes()).unwrap(),
            How::StepByStep => {
                let step = |t: usize| {
                    let qkv = qkv.step(t).unwrap();
                    cache.extend(&qkv).unwrap();
                    cache.attend(&qkv, masks.get(t)).unwrap()
                };
                Tensor::stack_steps(&(0..steps).map(step).collect::<Vec<_>>()).unwrap()
            }
            How::InTwo(first) => {
                let (some, others) = masks.split_at(if self.masked { first } else { 0 });
                let mut part = |start, len, masks: &[Real]| {
                    cache.attend_all(&qkv.slice(1, start, len).unwrap(), masks).unwrap()
                };
                let parts = [part(0, first, some), part(first, steps - first, others)];
                Tensor::concat(&[&parts[0], &parts[1]], 1).unwrap()
            }
        }
    }

    /// Outputs, and the derivative of a projection of them by qkv.
    fn with_gradient(self, how: How) -> [Vec<f64>; 2] {
        let qkv = Tape::new().leaf(self.qkv().array());
        let y = self.read(&qkv, how);
        let loss = y.mul(&noise(y.shape())).unwrap().sum().unwrap();
        let by = grad(&loss, &[&qkv], GradMode::Plain).unwrap().remove(0).unwrap();
        [y.to_vec().unwrap(), by.to_vec().unwrap()]
    }

    /// A tracked derivative, and the derivative of a projection of that.
    fn second_order(self, how: How) -> [Vec<f64>; 2] {
        let qkv = Tape::new().leaf(self.qkv().array());
        let loss = self.read(&qkv, how).square().unwrap().sum().unwrap();
        let by = grad(&loss, &[&qkv], GradMode::Tracked).unwrap().remove(0).unwrap();
        let along = by.mul(&noise(by.shape())).unwrap().sum().unwrap();
        let again = grad(&along, &[&qkv], GradMode::Plain).unwrap().remove(0).unwrap();
        [by.to_vec().unwrap(), again.to_vec().unwrap()]
    }
}

#[track_caller]
fn assert_close(ours: &[Vec<f64>; 2], theirs: &[Vec<f64>; 2], what: impl std::fmt::Debug) {
    for (ours, theirs) in ours.iter().zip(theirs) {
        let size = theirs.iter().fold(1.0, |size: f64, x| size.max(x.abs()));
        let apart = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(ours.len() == theirs.len() && apart <= 1e-12 * size, "{what:?}: {apart:e} of {size}");
    }
}

/// Lengths on both sides of a group of rows, of a run, of a block, and of several; heads of every kind of width.
fn cases() -> impl Iterator<Item = Case> {
    let windows = [None, Some(1), Some(5), Some(40), Some(70)];
    let sizes = [(1, 5), (3, 16), (2, 32), (2, 41)];
    [1, 2, 8, 31, 33, 64, 65, 150].into_iter().flat_map(move |steps| {
        windows.into_iter().flat_map(move |window| {
            sizes.into_iter().flat_map(move |(heads, per_head)| {
                [false, true].map(|masked| Case { steps, heads, per_head, window, masked })
            })
        })
    })
}

#[test]
fn at_once_is_in_operations_and_step_by_step() {
    for case in cases() {
        let at_once = case.with_gradient(How::AtOnce);
        assert_close(&at_once, &case.with_gradient(How::InOperations), (case, "in operations"));
        assert_close(&at_once, &case.with_gradient(How::StepByStep), (case, "step by step"));
        if case.steps > 20 {
            assert_close(&at_once, &case.with_gradient(How::InTwo(19)), (case, "in two"));
        }
    }
}

#[test]
fn a_tracked_derivative_is_that_of_operations() {
    for case in cases().filter(|case| case.steps < 40) {
        let at_once = case.second_order(How::AtOnce);
        assert_close(&at_once, &case.second_order(How::InOperations), case);
    }
}

/// Steps that see many have their probabilities made again on the way back.
#[test]
fn step_by_step_is_at_once_however_many_steps_there_are() {
    for (window, masked) in [(None, false), (None, true), (Some(270), false), (Some(270), true)] {
        let case = Case { steps: 300, heads: 2, per_head: 20, window, masked };
        let at_once = case.with_gradient(How::AtOnce);
        assert_close(&at_once, &case.with_gradient(How::StepByStep), (case, "step by step"));
        assert_close(&at_once, &case.with_gradient(How::InTwo(1)), (case, "in operations"));
    }
}

#[test]
fn in_single_precision_it_is_the_same_to_seven_digits() {
    let cpu = Cpu::<f32>::new();
    for steps in [31, 100] {
        let case = Case { steps, heads: 4, per_head: 32, window: None, masked: false };
        let values = case.qkv().to_vec().unwrap().into_iter().map(|x| x as f32).collect();
        let qkv = Tensor::from_vec(&cpu, values, case.qkv().shape()).unwrap();
        let found = AttentionCache::new(&cpu, BATCH, 4, 32, 1).attend_all(&qkv, &[]).unwrap();
        let exact = case.read(&case.qkv(), How::InOperations).to_vec().unwrap();
        for (found, exact) in found.to_vec().unwrap().into_iter().zip(exact) {
            assert!((f64::from(found) - exact).abs() < 1e-6, "{found} is not {exact}");
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let attend = |shape: &[usize], masks: &[Real]| {
        AttentionCache::new(&CPU, 2, 3, 4, 8).attend_all(&noise(Shape::new(shape).unwrap()), masks)
    };
    let rule = "won't do: steps are [2, S, 36], S at least 1";
    for (shape, shown) in
        [(&[2, 36][..], "[2, 36]"), (&[2, 0, 36], "[2, 0, 36]"), (&[1, 5, 36], "[1, 5, 36]")]
    {
        check_error(attend(shape, &[]), &format!("attention: a tensor of shape {shown} {rule}"));
    }
    check_error(
        attend(&[2, 3, 36], &[noise([2, 3, 1])]),
        "attention: a tensor of shape [2, 3, 36] won't do: 1 masks are not one a step",
    );
    check_error(
        attend(&[2, 2, 36], &[noise([2, 3, 1]), noise([2, 3, 1])]),
        "attention: a tensor of shape [2, 3, 1] won't do: the mask is [2, 3, 2]",
    );
}
