//! Fast weights in place, against a new F at every step.

use plastica_tensor::ops::fast::FastTrajectory;
use plastica_tensor::ops::outer::decay_outer;
use plastica_tensor::{Cpu, GradMode, Result, grad};

use crate::common::{CPU, Real, Variables, check, close, tracked_gradient};

/// Fast weights, kept in whatever way.
trait Fast {
    fn start(sizes: [usize; 3], from: Option<(&Real, &Real)>) -> Result<Self>
    where
        Self: Sized;
    fn read(&self, x: &Real) -> Result<Real>;
    fn read_transposed(&self, g: &Real) -> Result<Real>;
    fn update(&mut self, by: [&Real; 5]) -> Result<()>;
    fn detach(&mut self) -> Result<()>;
    /// ‖F‖² after each update so far.
    fn norms(&mut self) -> Result<Vec<Real>>;
}

impl Fast for FastTrajectory<Cpu<f64>> {
    fn start([batch, out, inp]: [usize; 3], from: Option<(&Real, &Real)>) -> Result<Self> {
        match from {
            Some((f, c)) => Self::from_parts(f.array(), c.array()),
            None => Ok(Self::new(&CPU, batch, out, inp, None)),
        }
    }
    fn read(&self, x: &Real) -> Result<Real> {
        self.read(x)
    }
    fn read_transposed(&self, g: &Real) -> Result<Real> {
        self.read_transposed(g)
    }
    fn update(&mut self, by: [&Real; 5]) -> Result<()> {
        self.update(by)
    }
    fn detach(&mut self) -> Result<()> {
        self.detach()
    }
    fn norms(&mut self) -> Result<Vec<Real>> {
        self.settle()?;
        Ok(self.take_norms().into_iter().map(Real::from).collect())
    }
}

/// A new F at every step.
struct Plain {
    inp: usize,
    fast: Option<(Real, Real)>,
    norms: Vec<Real>,
}

impl Fast for Plain {
    fn start([_, _, inp]: [usize; 3], from: Option<(&Real, &Real)>) -> Result<Self> {
        Ok(Self { inp, fast: from.map(|(f, c)| (f.detach(), c.detach())), norms: Vec::new() })
    }
    fn read(&self, x: &Real) -> Result<Real> {
        // F = 0 reads 0, of a length that no test asks for
        let Some((f, c)) = &self.fast else { return x.scale(0.0) };
        let [batch, out, inp] = f.shape()[..] else { panic!("F has three axes") };
        f.matmul(&x.reshape([batch, inp, 1])?)?.reshape([batch, out])?.add(c)
    }
    fn read_transposed(&self, g: &Real) -> Result<Real> {
        let batch = g.shape()[0];
        let Some((f, _)) = &self.fast else { return Real::zeros(&CPU, [batch, self.inp]) };
        let g = g.reshape([batch, f.shape()[1], 1])?;
        f.matmul_transposed(&g, true, false)?.reshape([batch, self.inp])
    }
    fn update(&mut self, [eta, alpha, beta, p, q]: [&Real; 5]) -> Result<()> {
        let batch = eta.shape().len();
        let f = decay_outer(self.fast.as_ref().map(|(f, _)| f), eta, alpha, p, q)?;
        let rate = eta.reshape([batch, 1])?;
        let grown = rate.mul(&p.mul(beta)?)?;
        let c = match &self.fast {
            Some((_, c)) => c.mul(&rate.scale(-1.0)?.shift(1.0)?)?.add(&grown)?,
            None => grown,
        };
        self.norms.push(f.detach().square()?.sum_to([batch, 1, 1])?.reshape([batch])?);
        self.fast = Some((f, c));
        Ok(())
    }
    fn detach(&mut self) -> Result<()> {
        self.fast = self.fast.take().map(|(f, c)| (f.detach(), c.detach()));
        Ok(())
    }
    fn norms(&mut self) -> Result<Vec<Real>> {
        Ok(std::mem::take(&mut self.norms))
    }
}

/// A sequence of updates and reads.
#[derive(Clone, Copy)]
struct Course {
    /// Episodes, units and inputs.
    sizes: [usize; 3],
    steps: usize,
    eta: (f64, f64),
    /// Reads after update `t` of so many.
    reads: fn(usize, usize) -> usize,
    /// Whether updates depend on what was read.
    closed: bool,
    /// Whether updates depend on transposed reads.
    transposed: bool,
    /// Whether F starts with something.
    started: bool,
    /// The update before which the history is cut.
    detached: Option<usize>,
}

const SMALL: (f64, f64) = (0.001, 0.001);
const LARGE: (f64, f64) = (0.3, 0.85);

impl Course {
    fn of(sizes: [usize; 3], steps: usize, eta: (f64, f64)) -> Self {
        Self {
            sizes,
            steps,
            eta,
            reads: |_, _| 1,
            closed: false,
            transposed: false,
            started: false,
            detached: None,
        }
    }

    fn follow<F: Fast>(self, v: &mut Variables) -> Result<Vec<Real>> {
        let [batch, out, inp] = self.sizes;
        let (alpha, beta) = (v.leaf("α", [out, inp])?, v.leaf("β", [out])?);
        let (f, c) = (v.constant([batch, out, inp])?, v.constant([batch, out])?);
        let mut fast = F::start(self.sizes, self.started.then_some((&f, &c)))?;
        let mut outputs = Vec::new();
        if self.started {
            outputs.push(fast.read(&v.leaf("x", [batch, inp])?)?);
        }
        for t in 0..self.steps {
            if self.detached == Some(t) {
                fast.detach()?;
            }
            let eta = v.leaf_in("η", self.eta, [batch])?;
            let (mut p, mut q) = (v.leaf("p", [batch, out])?, v.leaf("q", [batch, inp])?);
            if self.transposed {
                q = q.sub(&fast.read_transposed(&p)?)?;
            }
            if let (true, Some(last)) = (self.closed, outputs.last()) {
                p = p.add(&last.sigmoid()?)?;
            }
            fast.update([&eta, &alpha, &beta, &p, &q])?;
            for _ in 0..(self.reads)(t, self.steps) {
                outputs.push(fast.read(&v.leaf("x", [batch, inp])?)?);
            }
        }
        outputs.extend(fast.norms()?);
        Ok(outputs)
    }

    /// Reads with late variables, takes their tracked gradients, and updates by these.
    fn learn<F: Fast>(self, v: &mut Variables) -> Result<Vec<Real>> {
        let [batch, out, inp] = self.sizes;
        let (alpha, beta) = (v.leaf("α", [out, inp])?, v.leaf("β", [out])?);
        let mut fast = F::start(self.sizes, None)?;
        let (eta, p, q) =
            (v.leaf_in("η", self.eta, [batch])?, v.leaf("p", [batch, out])?, v.leaf("q", [batch, inp])?);
        fast.update([&eta, &alpha, &beta, &p, &q])?;
        let mut outputs = Vec::new();
        for _ in 0..self.steps {
            let (eta, c) = (v.leaf_in("η", self.eta, [batch])?, v.leaf("c", [batch, out])?);
            let x = v.leaf("x", [batch, inp])?;
            let y = fast.read(&x)?;
            let back = tracked_gradient(&y.mul(&c)?.sum()?, &x)?;
            fast.update([&eta, &alpha, &beta, &c.add(&y.sigmoid()?)?, &back.sigmoid()?])?;
            outputs.extend([y, back]);
        }
        Ok(outputs)
    }
}

fn check_course(name: &str, course: Course) {
    let tolerance = if course.eta.1 > 0.1 { 1e-7 } else { 1e-9 };
    let name = format!("{name}, {:?}, {} steps, η {:?}", course.sizes, course.steps, course.eta);
    check(&name, tolerance, |v| course.follow::<FastTrajectory<Cpu<f64>>>(v), |v| course.follow::<Plain>(v));
}

#[test]
fn fast_weights_in_place_are_fast_weights() {
    for sizes in [[1, 5, 7], [3, 5, 7], [1, 16, 33], [3, 16, 32]] {
        for steps in [1, 2, 7, 40] {
            for eta in [SMALL, LARGE] {
                let course = Course::of(sizes, steps, eta);
                check_course("a read a step", course);
                check_course("closed", Course { closed: true, started: true, ..course });
                check_course("transposed", Course { transposed: true, ..course });
                let both = Course { transposed: true, closed: true, started: true, ..course };
                check_course("transposed and closed", Course { reads: |t, _| (t + 1) % 3, ..both });
                check_course("0 to 2 reads a step", Course { reads: |t, _| (t + 1) % 3, ..course });
                check_course("a read at the end", Course { reads: |t, n| usize::from(t + 1 == n), ..course });
                let ends = |t, n| usize::from(t < 3 || t + 1 == n);
                check_course("reads at both ends", Course { reads: ends, ..course });
                check_course("reads at first", Course { reads: |t, _| usize::from(t < 1), ..course });
            }
        }
    }
}

#[test]
fn more_rows_than_are_walked_at_once() {
    for sizes in [[2, 70, 33], [3, 9, 600]] {
        let course = Course { closed: true, started: true, ..Course::of(sizes, 5, LARGE) };
        check_course("many rows", course);
        check_course("many rows, 0 to 3 reads a step", Course { reads: |t, _| (t + 1) % 4, ..course });
    }
}

#[test]
fn fast_weights_start_where_they_are_put_or_cut() {
    for eta in [SMALL, LARGE] {
        let course = Course::of([3, 5, 7], 40, eta);
        check_course("started", Course { started: true, ..course });
        for detached in [0, 1, 17, 39] {
            let course = Course { detached: Some(detached), closed: true, ..course };
            check_course(&format!("cut before {detached}"), course);
            check_course(
                &format!("transposed, cut before {detached}"),
                Course { detached: Some(detached), transposed: true, ..course },
            );
            check_course(
                &format!("cut unread before {detached}"),
                Course { reads: |t, _| (t + 1) % 2, ..course },
            );
        }
    }
}

#[test]
fn transposed_reads_are_differentiable() {
    for sizes in [[1, 5, 7], [3, 16, 33]] {
        for (steps, eta) in [(1, SMALL), (2, LARGE), (12, SMALL), (40, LARGE)] {
            let course = Course::of(sizes, steps, eta);
            let name = format!("learning, {sizes:?}, {steps} steps, η {eta:?}");
            check(&name, 1e-7, |v| course.learn::<FastTrajectory<Cpu<f64>>>(v), |v| course.learn::<Plain>(v));
        }
    }
}

/// Untracked updates, then tracked ones, of the trajectory itself, of a clone, or after a release.
fn later_history<F: Fast>(
    v: &mut Variables,
    untracked: usize,
    turn: impl FnOnce(F) -> Result<F>,
) -> Result<Vec<Real>> {
    let [batch, out, inp] = [2, 5, 18];
    let (alpha, beta) = (v.leaf("α", [out, inp])?, v.leaf("β", [out])?);
    let mut fast = F::start([batch, out, inp], None)?;
    let mut outputs = Vec::new();
    let step = |fast: &mut F, v: &mut Variables, tracked: bool| -> Result<()> {
        let eta = v.leaf_in("η", LARGE, [batch])?;
        let (p, q) = (v.leaf("p", [batch, out])?, v.leaf("q", [batch, inp])?);
        match tracked {
            true => fast.update([&eta, &alpha, &beta, &p, &q]),
            false => fast.update([&eta.detach(), &alpha.detach(), &beta.detach(), &p.detach(), &q.detach()]),
        }
    };
    for _ in 0..untracked {
        step(&mut fast, v, false)?;
    }
    let mut fast = turn(fast)?;
    if untracked > 1 {
        outputs.push(fast.read(&v.leaf("x", [batch, inp])?)?);
    }
    for _ in 0..5 {
        step(&mut fast, v, true)?;
        outputs.push(fast.read(&v.leaf("x", [batch, inp])?)?);
    }
    Ok(outputs)
}

#[test]
fn a_history_may_begin_late() {
    for untracked in [0, 1, 3] {
        let twin = |v: &mut Variables| later_history::<Plain>(v, untracked, Ok);
        type InPlace = FastTrajectory<Cpu<f64>>;
        check("untracked first", 1e-9, |v| later_history::<InPlace>(v, untracked, Ok), twin);
        check("a clone", 1e-9, |v| later_history::<InPlace>(v, untracked, |fast| Ok(fast.clone())), twin);
        let settled = |fast: InPlace| fast.settle().map(|()| fast);
        let read = |fast: InPlace| fast.read(&Real::zeros(&CPU, [2, 18])?).map(|_| fast);
        check("read first", 1e-9, |v| later_history::<InPlace>(v, untracked, read), twin);
        check("settled first", 1e-9, |v| later_history::<InPlace>(v, untracked, settled), twin);
    }
}

/// Tracked updates, whose history is let go, then more of them.
fn released<F: Fast>(v: &mut Variables, release: impl FnOnce(&mut F) -> Result<()>) -> Result<Vec<Real>> {
    let [batch, out, inp] = [2, 5, 18];
    let (alpha, beta) = (v.leaf("α", [out, inp])?, v.leaf("β", [out])?);
    let mut fast = F::start([batch, out, inp], None)?;
    let mut release = Some(release);
    let mut outputs = Vec::new();
    for t in 0..8 {
        let eta = v.leaf_in("η", LARGE, [batch])?;
        let (p, q) = (v.leaf("p", [batch, out])?, v.leaf("q", [batch, inp])?);
        if t == 3
            && let Some(release) = release.take()
        {
            release(&mut fast)?;
            outputs.clear();
        }
        fast.update([&eta, &alpha, &beta, &p, &q])?;
        outputs.push(fast.read(&v.leaf("x", [batch, inp])?)?);
    }
    Ok(outputs)
}

#[test]
fn a_released_history_is_a_constant() {
    check(
        "released",
        1e-9,
        |v| {
            released::<FastTrajectory<Cpu<f64>>>(v, |fast| {
                fast.release();
                Ok(())
            })
        },
        |v| released::<Plain>(v, Fast::detach),
    );
}

#[test]
fn a_clone_is_independent() {
    let mut v = Variables::new();
    let values = |fast: &FastTrajectory<Cpu<f64>>| fast.get().unwrap().unwrap().0.to_vec().unwrap();
    let mut fast = FastTrajectory::new(&CPU, 2, 3, 4, None);
    let by = |v: &mut Variables| {
        [
            v.leaf_in("η", LARGE, [2]).unwrap(),
            v.leaf("α", [3, 4]).unwrap(),
            v.leaf("β", [3]).unwrap(),
            v.leaf("p", [2, 3]).unwrap(),
            v.leaf("q", [2, 4]).unwrap(),
        ]
    };
    let [eta, alpha, beta, p, q] = by(&mut v);
    fast.update([&eta, &alpha, &beta, &p, &q]).unwrap();
    let mut clone = fast.clone();
    let before = values(&fast);
    close("a clone's values", &values(&clone), &before, 0.0);
    assert!(!clone.read(&v.constant([2, 4]).unwrap()).unwrap().is_tracked(), "a clone has no history");
    clone.update([&eta, &alpha, &beta, &q.slice(1, 0, 3).unwrap(), &q]).unwrap();
    assert_ne!(values(&clone), before);
    assert_eq!(values(&fast), before, "a clone's update left the original alone");
}

#[test]
fn a_tracked_derivative_of_a_read_that_an_update_has_followed_is_refused() {
    let mut v = Variables::new();
    let mut fast = FastTrajectory::new(&CPU, 2, 3, 4, None);
    let mut update = |fast: &mut FastTrajectory<Cpu<f64>>| {
        let (eta, alpha) = (v.leaf_in("η", LARGE, [2]).unwrap(), v.constant([3, 4]).unwrap());
        let (beta, p, q) =
            (v.constant([3]).unwrap(), v.leaf("p", [2, 3]).unwrap(), v.constant([2, 4]).unwrap());
        fast.update([&eta, &alpha, &beta, &p, &q]).unwrap();
        v.leaf("x", [2, 4]).unwrap()
    };
    let x = update(&mut fast);
    let read = fast.read(&x).unwrap().sum().unwrap();
    assert!(grad(&read, &[&x], GradMode::Tracked).is_ok(), "before the next update it has one");
    update(&mut fast);
    let error = grad(&read, &[&x], GradMode::Tracked).unwrap_err().to_string();
    assert!(error.contains("fast weights in place has no second derivative"), "{error}");
    assert!(grad(&read, &[&x], GradMode::Plain).is_ok(), "the plain one is always there");
}
