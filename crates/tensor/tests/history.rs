//! Fast weights kept as the history of their changes, against fast weights.

use plastica_tensor::ops::history::FastHistory;
use plastica_tensor::ops::outer::decay_outer;
use plastica_tensor::{Array, Cpu, GradMode, Result, Shape, Tape, Tensor, TensorError, grad};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Real = Tensor<Cpu<f64>>;

const CPU: Cpu<f64> = Cpu::new();

struct Draws(ChaCha8Rng);

impl Draws {
    fn array(&mut self, shape: impl Into<Shape>) -> Array<Cpu<f64>> {
        let shape = shape.into();
        let values =
            (0..shape.len()).map(|_| f64::from(self.0.next_u32()) / 2.0_f64.powi(31) - 1.0).collect();
        Array::from_vec(&CPU, values, shape).unwrap()
    }

    fn tensor(&mut self, shape: impl Into<Shape>) -> Real {
        self.array(shape).into()
    }
}

fn filled(value: f64, shape: impl Into<Shape>) -> Real {
    Array::full(&CPU, value, shape).unwrap().into()
}

#[track_caller]
fn close(what: &str, found: &Real, expected: &Real) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let (found, expected) = (found.to_vec().unwrap(), expected.to_vec().unwrap());
    let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart < 1e-12, "{what}: {apart:e} apart");
}

/// `F x + c`, and after it the update, as the equations say.
struct Plain {
    fast: Option<(Real, Real)>,
    alpha: Real,
    beta: Real,
}

impl Plain {
    fn read(&self, x: &Real, out: usize) -> Result<Real> {
        let [batch, inp] = x.shape()[..] else { panic!("x has two axes") };
        let Some((f, c)) = &self.fast else { return Real::zeros(&CPU, [batch, out]) };
        f.matmul(&x.reshape([batch, inp, 1])?)?.reshape([batch, out])?.add(c)
    }

    fn update(&mut self, eta: &Real, p: &Real, q: &Real) -> Result<Real> {
        let batch = eta.shape().len();
        let f = decay_outer(self.fast.as_ref().map(|(f, _)| f), eta, &self.alpha, p, q)?;
        let rate = eta.reshape([batch, 1])?;
        let mut c = rate.mul(&p.mul(&self.beta)?)?;
        if let Some((_, before)) = &self.fast {
            c = c.add(&before.mul(&rate.scale(-1.0)?.shift(1.0)?)?)?;
        }
        let norm = f.square()?.sum_to([batch, 1, 1])?.reshape([batch])?;
        self.fast = Some((f, c));
        Ok(norm)
    }
}

/// Reads before every update, one by one and all at once, F, c and their norms: those of fast weights.
fn check([batch, out, inp]: [usize; 3], steps: usize) {
    let mut draws = Draws(ChaCha8Rng::seed_from_u64(5));
    let (alpha, beta) = (filled(0.3, [out, inp]), filled(-0.2, [out]));
    let mut history = FastHistory::new(&alpha, &beta, batch, steps).unwrap().unwrap();
    let mut plain = Plain { fast: None, alpha, beta };
    let x = draws.tensor([batch, steps, inp]);
    let (mut reads, mut norms) = (Vec::new(), Vec::new());
    for t in 0..steps {
        let name = format!("{batch} episodes, {out} by {inp}, step {t} of {steps}");
        let (now, y) = (x.step(t).unwrap(), draws.tensor([batch, out]));
        reads.push(plain.read(&now, out).unwrap());
        let expected = y.add(&reads[t]).unwrap();
        close(&name, &history.add_to(y.clone(), &now).unwrap(), &expected);
        let leaf = Tape::new().leaf(now.array());
        close(&name, &history.add_to(y, &leaf).unwrap().detach(), &expected);
        let eta = draws.tensor([batch]).square().unwrap();
        let (p, q) = (draws.tensor([batch, out]), draws.tensor([batch, inp]));
        norms.push(plain.update(&eta, &p, &q).unwrap());
        history.update(&eta, &p, &q).unwrap();
        if t % 3 == 1 {
            let taken = history.take_norms().unwrap();
            assert_eq!(taken.len(), norms.len());
            taken.into_iter().zip(norms.drain(..)).for_each(|(a, b)| close(&name, &a.into(), &b));
        }
        let ((f, c), Some((expected_f, expected_c))) = (history.get().unwrap().unwrap(), &plain.fast) else {
            panic!("there was an update")
        };
        close(&name, &f.into(), expected_f);
        close(&name, &c.into(), expected_c);
    }
    let zeros = Real::zeros(&CPU, [batch, steps, out]).unwrap();
    let at_once = history.add_to(zeros, &x).unwrap();
    close("at once", &at_once, &Tensor::stack_steps(&reads).unwrap());
}

#[test]
fn a_history_reads_as_the_fast_weights_it_stands_for() {
    check([1, 8, 4], 2);
    check([2, 40, 33], 7);
    check([3, 70, 100], 12);
    check([1, 256, 128], 31);
}

#[test]
fn the_derivative_by_what_is_read_is_that_of_fast_weights() {
    let [batch, out, inp, steps] = [2, 30, 20, 5];
    let mut draws = Draws(ChaCha8Rng::seed_from_u64(6));
    let (alpha, beta) = (filled(0.3, [out, inp]), filled(-0.2, [out]));
    let mut history = FastHistory::new(&alpha, &beta, batch, steps).unwrap().unwrap();
    let mut plain = Plain { fast: None, alpha, beta };
    let tape = Tape::new();
    let x = tape.leaf(&draws.array([batch, steps, inp]));
    let mut reads = Vec::new();
    for t in 0..steps {
        reads.push(plain.read(&x.step(t).unwrap(), out).unwrap());
        let eta = draws.tensor([batch]).square().unwrap();
        let (p, q) = (draws.tensor([batch, out]), draws.tensor([batch, inp]));
        plain.update(&eta, &p, &q).unwrap();
        history.update(&eta, &p, &q).unwrap();
    }
    let c = draws.tensor([batch, steps, out]);
    let by_x = |read: Real| {
        let loss = read.mul(&c).unwrap().square().unwrap().sum().unwrap();
        grad(&loss, &[&x], GradMode::Plain).unwrap().remove(0).unwrap()
    };
    let zeros = Real::zeros(&CPU, [batch, steps, out]).unwrap();
    close("by x", &by_x(history.add_to(zeros, &x).unwrap()), &by_x(Tensor::stack_steps(&reads).unwrap()));
}

#[test]
fn only_plasticity_that_is_one_number_and_few_steps_make_a_history() {
    let check = |alpha: Real, beta: Real, steps: usize, expected: Option<[f64; 2]>| {
        assert_eq!(FastHistory::plasticity(&alpha, &beta, steps).unwrap(), expected);
    };
    let mut varied = vec![0.5; 3000];
    varied[2999] = 0.6;
    let varied = Real::from_vec(&CPU, varied, [50, 60]).unwrap();
    check(filled(0.5, [50, 60]), filled(0.1, [50]), 27, Some([0.5, 0.1]));
    check(filled(0.5, [50, 60]), filled(0.1, [50]), 28, None);
    check(varied, filled(0.1, [50]), 2, None);
    check(filled(f64::NAN, [50, 60]), filled(0.1, [50]), 2, None);
    let error = FastHistory::plasticity(&filled(0.5, [50, 60]), &filled(0.1, [60]), 2).unwrap_err();
    assert!(matches!(error, TensorError::Incompatible { .. }), "{error}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let (alpha, beta) = (filled(0.3, [6, 4]), filled(0.2, [6]));
    let mut history = FastHistory::new(&alpha, &beta, 2, 1).unwrap().unwrap();
    let mut refused = |eta: [usize; 1], p: [usize; 2], q: [usize; 2]| {
        history.update(&filled(0.1, eta), &filled(1.0, p), &filled(1.0, q)).unwrap_err()
    };
    for (eta, p, q) in [([1], [2, 6], [2, 4]), ([2], [2, 4], [2, 4]), ([2], [2, 6], [1, 4])] {
        assert!(matches!(refused(eta, p, q), TensorError::Incompatible { .. }));
    }
    history.update(&filled(0.1, [2]), &filled(1.0, [2, 6]), &filled(1.0, [2, 4])).unwrap();
    let full = history.update(&filled(0.1, [2]), &filled(1.0, [2, 6]), &filled(1.0, [2, 4])).unwrap_err();
    assert_eq!(full, TensorError::Index { op: "fast_history", index: 1, len: 1 });
    for x in [filled(1.0, [2, 6]), filled(1.0, [2, 2, 4]), filled(1.0, [1, 4])] {
        assert!(history.add_to(filled(0.0, [2, 6]), &x).is_err());
    }
}
