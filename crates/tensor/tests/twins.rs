//! Operations that work in place, or add their gradients up late, against the same mathematics put together plainly.

use plastica_tensor::ops::attention::AttentionCache;
use plastica_tensor::ops::fast::FastTrajectory;
use plastica_tensor::ops::outer::decay_outer;
use plastica_tensor::{Array, Cpu, GradMode, Result, Shape, Tape, Tensor, grad};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Real = Tensor<Cpu<f64>>;
type Grads = Vec<(&'static str, Vec<f64>)>;

const CPU: Cpu<f64> = Cpu::new();

/// Draws the variables of a computation, the same ones for each twin, when it asks for them.
struct Variables {
    tape: Tape<Cpu<f64>>,
    rng: ChaCha8Rng,
    drawn: Vec<(&'static str, Real)>,
}

impl Variables {
    fn new() -> Self {
        Self { tape: Tape::new(), rng: ChaCha8Rng::seed_from_u64(7), drawn: Vec::new() }
    }

    fn between(&mut self, (low, high): (f64, f64), shape: impl Into<Shape>) -> Result<Array<Cpu<f64>>> {
        let shape = shape.into();
        let mut uniform = || f64::from(self.rng.next_u32()) / 2.0_f64.powi(32);
        let values = (0..shape.len()).map(|_| low + (high - low) * uniform()).collect();
        Array::from_vec(&CPU, values, shape)
    }

    fn constant(&mut self, shape: impl Into<Shape>) -> Result<Real> {
        Ok(self.between((-1.0, 1.0), shape)?.into())
    }

    fn leaf_in(&mut self, name: &'static str, range: (f64, f64), shape: impl Into<Shape>) -> Result<Real> {
        let value = self.between(range, shape)?;
        let leaf = self.tape.leaf(&value);
        self.drawn.push((name, leaf.clone()));
        Ok(leaf)
    }

    fn leaf(&mut self, name: &'static str, shape: impl Into<Shape>) -> Result<Real> {
        self.leaf_in(name, (-1.0, 1.0), shape)
    }

    /// The gradient of a random projection of `outputs` by each variable, variables of one name together.
    fn gradients(&mut self, outputs: &[Real]) -> Result<[Grads; 2]> {
        let mut loss = Real::zeros(&CPU, [])?;
        for output in outputs {
            let c = self.constant(output.shape())?;
            loss = loss.add(&output.mul(&c)?.sum()?)?;
        }
        let leaves: Vec<&Real> = self.drawn.iter().map(|(_, leaf)| leaf).collect();
        let sweep = || -> Result<Grads> {
            let mut named = Grads::new();
            for ((name, leaf), by) in self.drawn.iter().zip(grad(&loss, &leaves, GradMode::Plain)?) {
                let by = by.map_or(Ok(vec![0.0; leaf.shape().len()]), |by| by.to_vec())?;
                match named.iter_mut().find(|(other, _)| other == name) {
                    Some((_, all)) => all.extend(by),
                    None => named.push((name, by)),
                }
            }
            Ok(named)
        };
        Ok([sweep()?, sweep()?])
    }
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn close(what: &str, ours: &[f64], twin: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), twin.len(), "{what}: as many numbers");
    let off: Vec<f64> = ours.iter().zip(twin).map(|(a, b)| a - b).collect();
    let error = norm(&off) / norm(twin).max(1e-12);
    assert!(error <= tolerance, "{what}: relative error {error:e}");
}

/// Holds what one computation gives, and its gradients in two sweeps, against its twin.
fn check(
    name: &str,
    tolerance: f64,
    ours: impl FnOnce(&mut Variables) -> Result<Vec<Real>>,
    twin: impl FnOnce(&mut Variables) -> Result<Vec<Real>>,
) {
    let (mut our_variables, mut twin_variables) = (Variables::new(), Variables::new());
    let (ours, twin) = (ours(&mut our_variables).unwrap(), twin(&mut twin_variables).unwrap());
    assert_eq!(ours.len(), twin.len(), "{name}: as many outputs");
    for (i, (ours, twin)) in ours.iter().zip(&twin).enumerate() {
        assert_eq!(ours.shape(), twin.shape(), "{name}: output {i}");
        close(&format!("{name}: output {i}"), &ours.to_vec().unwrap(), &twin.to_vec().unwrap(), tolerance);
    }
    let [first, second] = our_variables.gradients(&ours).unwrap();
    let [expected, _] = twin_variables.gradients(&twin).unwrap();
    for (sweep, grads) in [("first", first), ("second", second)] {
        assert_eq!(grads.len(), expected.len(), "{name}: as many variables");
        for ((what, by), (_, expected)) in grads.iter().zip(&expected) {
            close(&format!("{name}: by {what}, {sweep} sweep"), by, expected, tolerance);
        }
    }
}

fn tracked_gradient(result: &Real, variable: &Real) -> Result<Real> {
    Ok(grad(result, &[variable], GradMode::Tracked)?.remove(0).unwrap())
}

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

/// Attention to a sequence so far, kept in whatever way.
trait Attention {
    fn extend(&mut self, qkv: &Real) -> Result<()>;
    fn attend(&self, qkv: &Real, mask: Option<&Real>) -> Result<Real>;
    fn keys_and_values(&self) -> Result<(Real, Real)>;
}

impl Attention for AttentionCache<Cpu<f64>> {
    fn extend(&mut self, qkv: &Real) -> Result<()> {
        self.extend(qkv)
    }
    fn attend(&self, qkv: &Real, mask: Option<&Real>) -> Result<Real> {
        self.attend(qkv, mask)
    }
    fn keys_and_values(&self) -> Result<(Real, Real)> {
        self.keys_and_values()
    }
}

/// Keys and values, concatenated anew whenever they are read.
struct Concatenated {
    heads: usize,
    /// Steps that the last one sees, itself among them.
    window: usize,
    steps: Vec<Real>,
}

impl Concatenated {
    /// Part 0, 1 or 2 of `[q, k, v]`, `[B, heads, S, per_head]`.
    fn part(&self, qkv: &Real, part: usize) -> Result<Real> {
        let (batch, width) = (qkv.shape()[0], qkv.shape()[qkv.shape().rank() - 1] / 3);
        let steps = qkv.shape().len() / (3 * batch * width);
        let part = qkv.reshape([batch, steps, 3 * width])?.slice(2, part * width, width)?;
        part.reshape([batch, steps, self.heads, width / self.heads])?.permute(&[0, 2, 1, 3])
    }
}

impl Attention for Concatenated {
    fn extend(&mut self, qkv: &Real) -> Result<()> {
        self.steps.push(qkv.clone());
        Ok(())
    }
    fn attend(&self, qkv: &Real, mask: Option<&Real>) -> Result<Real> {
        let (q, (keys, values)) = (self.part(qkv, 0)?, self.keys_and_values()?);
        let [batch, heads, len, per_head] = keys.shape()[..] else { panic!("keys have four axes") };
        let scores = q.matmul_transposed(&keys, false, true)?.scale(1.0 / (per_head as f64).sqrt())?;
        let mut weights = scores.softmax()?;
        if let Some(mask) = mask {
            weights = weights.mul(&mask.reshape([batch, heads, 1, len])?)?;
        }
        weights.matmul(&values)?.reshape([batch, heads * per_head])
    }
    fn keys_and_values(&self) -> Result<(Real, Real)> {
        let all = |part| {
            let parts = self.steps.iter().map(|qkv| self.part(qkv, part)).collect::<Result<Vec<_>>>()?;
            let all = Real::concat(&parts.iter().collect::<Vec<_>>(), 2)?;
            let steps = all.shape()[2];
            all.slice(2, steps.saturating_sub(self.window), steps.min(self.window))
        };
        Ok((all(1)?, all(2)?))
    }
}

#[derive(Clone, Copy)]
struct Reading {
    batch: usize,
    heads: usize,
    per_head: usize,
    /// Lengths of what is taken in at once.
    pieces: &'static [usize],
    masked: bool,
    window: Option<usize>,
}

impl Reading {
    fn check(self, name: &str, inner: bool) {
        let Self { batch, heads, per_head, .. } = self;
        let Self { window, masked, .. } = self;
        let name =
            format!("{name}, {} pieces, {heads} heads, masked {masked}, {window:?}", self.pieces.len());
        let cache = AttentionCache::windowed(&CPU, batch, heads, per_head, 4, window);
        let twin = Concatenated { heads, window: window.unwrap_or(usize::MAX), steps: Vec::new() };
        check(&name, 1e-10, |v| self.follow(cache, v, inner), |v| self.follow(twin, v, inner));
    }

    /// With `inner`, gives the gradient of a scalar of each step's attention by that step's qkv too.
    fn follow(self, mut past: impl Attention, v: &mut Variables, inner: bool) -> Result<Vec<Real>> {
        let Self { batch, heads, per_head, .. } = self;
        let row = 3 * heads * per_head;
        let (mut outputs, mut len) = (Vec::new(), 0);
        for &steps in self.pieces {
            len += steps;
            let visible = len.min(self.window.unwrap_or(len));
            let mask = v.between((0.0, 2.0), [batch, heads, visible])?;
            let mask = self.masked.then(|| Real::from(mask));
            let c = v.leaf("c", [batch, heads * per_head])?;
            let qkv = match steps {
                1 => v.leaf("qkv", [batch, row])?,
                _ => v.leaf("qkv", [batch, steps, row])?,
            };
            past.extend(&qkv)?;
            let last = if steps == 1 { qkv.clone() } else { qkv.step(steps - 1)? };
            let y = past.attend(&last, mask.as_ref())?;
            if inner && steps == 1 {
                outputs.push(tracked_gradient(&y.square()?.mul(&c)?.sum()?, &qkv)?);
            }
            outputs.push(y);
        }
        let (keys, values) = past.keys_and_values()?;
        outputs.extend([keys, values]);
        Ok(outputs)
    }
}

#[test]
fn attention_to_a_cache_is_attention() {
    for (heads, per_head) in [(1, 5), (3, 4), (3, 17)] {
        for masked in [false, true] {
            for pieces in [&[1][..], &[1; 7], &[1; 40], &[3, 1, 1, 6, 1, 2], &[9, 1]] {
                for (batch, window) in [(1, None), (2, None), (2, Some(1)), (2, Some(5))] {
                    let reading = Reading { batch, heads, per_head, pieces, masked, window };
                    reading.check("attention", false);
                    reading.check("attention's gradient", true);
                }
            }
        }
    }
}

#[test]
fn a_window_that_is_only_read_takes_the_same_memory_however_long_the_sequence() {
    let mut v = Variables::new();
    let mut cache = AttentionCache::windowed(&CPU, 2, 3, 4, 8, Some(4));
    let mut twin = Concatenated { heads: 3, window: 4, steps: Vec::new() };
    for step in 1..60 {
        let qkv = v.constant([2, 36]).unwrap();
        cache.extend(&qkv).unwrap();
        twin.extend(&qkv).unwrap();
        let ours = cache.attend(&qkv, None).unwrap().to_vec().unwrap();
        let theirs = twin.attend(&qkv, None).unwrap().to_vec().unwrap();
        assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-14), "step {step}");
        assert_eq!((cache.len(), cache.visible(), cache.capacity()), (step, step.min(4), 8));
    }
}

#[test]
fn a_clone_of_a_cache_is_independent() {
    let mut v = Variables::new();
    let mut cache = AttentionCache::new(&CPU, 2, 3, 4, 4);
    cache.extend(&v.leaf("qkv", [2, 3, 36]).unwrap()).unwrap();
    let mut clone = cache.clone();
    let values = |cache: &AttentionCache<Cpu<f64>>| cache.keys_and_values().unwrap().1.to_vec().unwrap();
    let before = values(&cache);
    assert_eq!(values(&clone), before);
    clone.extend(&v.constant([2, 36]).unwrap()).unwrap();
    assert!(!clone.keys_and_values().unwrap().0.is_tracked(), "a clone has no history");
    cache.extend(&v.constant([2, 36]).unwrap()).unwrap();
    assert_ne!(values(&clone), values(&cache), "each has its own fourth step");
}

/// What an operation gives, and the gradient of a scalar of it by each variable so far.
fn with_gradients(v: &Variables, outputs: Vec<Real>) -> Result<Vec<Real>> {
    let mut inner = Real::zeros(&CPU, [])?;
    for output in &outputs {
        inner = inner.add(&output.mul(&output.sigmoid()?)?.sum()?)?;
    }
    let leaves: Vec<&Real> = v.drawn.iter().map(|(_, leaf)| leaf).collect();
    let gradients = grad(&inner, &leaves, GradMode::Tracked)?;
    Ok(outputs.into_iter().chain(gradients.into_iter().flatten()).collect())
}

fn check_both_orders(
    name: &str,
    ours: impl Fn(&mut Variables) -> Result<Vec<Real>>,
    twin: impl Fn(&mut Variables) -> Result<Vec<Real>>,
) {
    check(name, 1e-10, &ours, &twin);
    let second = |f: &dyn Fn(&mut Variables) -> Result<Vec<Real>>, v: &mut Variables| {
        let outputs = f(v)?;
        with_gradients(v, outputs)
    };
    check(&format!("{name}, second order"), 1e-10, |v| second(&ours, v), |v| second(&twin, v));
}

#[test]
fn a_linear_layer_used_again_and_again() {
    type Layer = fn(&Real, &Real, &Real) -> Result<Real>;
    let layer: Layer = |x, w, b| x.linear(w, b);
    let plain: Layer = |x, w, b| x.matmul_transposed(w, false, true)?.add(b);
    for (steps, batch, inp, out) in [(1, 1, 5, 7), (5, 3, 7, 5), (9, 2, 33, 16)] {
        let over = |layer: Layer| {
            move |v: &mut Variables| {
                let (w, b) = (v.leaf("w", [out, inp])?, v.leaf("b", [out])?);
                let (back, c) = (v.leaf("back", [inp, out])?, v.leaf("c", [inp])?);
                let mut x = v.leaf("x", [batch, inp])?;
                let mut outputs = Vec::new();
                for _ in 0..steps {
                    // the weight is used otherwise too, so that its gradient has shares of both kinds
                    let y = layer(&x, &w, &b)?;
                    outputs.push(w.square()?.matmul_transposed(&x, false, true)?);
                    x = layer(&y.sigmoid()?, &back, &c)?.sigmoid()?;
                    outputs.push(y);
                }
                let sequence = v.leaf("sequence", [batch, 3, inp])?;
                outputs.push(layer(&sequence, &w, &b)?);
                Ok(outputs)
            }
        };
        check_both_orders(&format!("linear, {steps} steps"), over(layer), over(plain));
    }
}

#[test]
fn steps_are_slices() {
    type Taking = fn(&Real, usize) -> Result<Real>;
    type Stacking = fn(&[Real]) -> Result<Real>;
    let slice: Taking = |x, t| x.slice(1, t, 1)?.reshape([x.shape()[0], x.shape()[2]]);
    let concat: Stacking = |steps| {
        let [batch, width] = steps[0].shape()[..] else { panic!("steps have two axes") };
        let steps = steps.iter().map(|s| s.reshape([batch, 1, width])).collect::<Result<Vec<_>>>()?;
        Real::concat(&steps.iter().collect::<Vec<_>>(), 1)
    };
    for (batch, steps, width) in [(1, 1, 3), (3, 7, 5), (2, 40, 17)] {
        let over = |take: Taking, stack: Stacking| {
            move |v: &mut Variables| {
                let x = v.leaf("x", [batch, steps, width])?;
                let mut taken = Vec::new();
                for t in (0..steps).rev().chain([0]).filter(|t| t % 3 != 1) {
                    taken.push(take(&x, t)?.sigmoid()?);
                }
                let stacked = stack(&taken)?;
                let again = take(&stacked, taken.len() - 1)?;
                Ok(vec![stacked.square()?, again, x.square()?])
            }
        };
        check_both_orders(
            &format!("step, {steps} steps"),
            over(|x, t| x.step(t), Real::stack_steps),
            over(slice, concat),
        );
    }
}

#[test]
fn rows() {
    for dims in [&[3, 5][..], &[2, 3, 17], &[1, 64]] {
        let (shape, cols) = (Shape::new(dims).unwrap(), dims[dims.len() - 1]);
        for eps in [1e-5, 0.5] {
            type Norm = fn(&Real, &Real, &Real, f64) -> Result<Real>;
            let over = |layer: Norm| {
                move |v: &mut Variables| {
                    let (gamma, beta) = (v.leaf("γ", [cols])?, v.leaf("β", [cols])?);
                    let x = v.leaf("x", shape)?;
                    let once = layer(&x, &gamma, &beta, eps)?;
                    Ok(vec![layer(&once.sigmoid()?, &gamma, &beta, eps)?, once])
                }
            };
            check_both_orders(
                &format!("layer_norm {shape}"),
                over(|x, gamma, beta, eps| x.layer_norm(gamma, beta, eps)),
                over(|x, gamma, beta, eps| x.normalize(eps)?.mul(gamma)?.add(beta)),
            );
        }
    }
    check_both_orders(
        "row_squares",
        |v| Ok(vec![v.leaf("x", [3, 17])?.row_squares()?]),
        |v| Ok(vec![v.leaf("x", [3, 17])?.square()?.sum_axis(1)?.reshape([3])?]),
    );
}

#[test]
fn a_block_of_an_encoder() {
    type Block = fn(&Real, &Real, &[&Real; 2], &[usize]) -> Result<(Real, [Real; 2])>;
    let fused: Block = |x, w, [gamma, beta], groups| {
        let (y, statistics) = x.conv_block(w, gamma, beta, groups, 1e-5)?;
        Ok((y, [statistics.mean, statistics.variance].map(Real::from)))
    };
    let plain: Block = |x, w, [gamma, beta], groups| {
        let (y, statistics) = x.conv_block_plain(w, gamma, beta, groups, 1e-5)?;
        Ok((y, [statistics.mean, statistics.variance].map(Real::from)))
    };
    // few channels and many, whole registers of them and not, odd edges, runs of images and parts of one
    let shapes: [([usize; 3], usize, &[usize]); 10] = [
        ([4, 4, 1], 1, &[2]),
        ([5, 6, 3], 4, &[1, 2]),
        ([7, 3, 7], 35, &[3, 1]),
        ([8, 8, 8], 32, &[1, 4]),
        ([6, 7, 17], 5, &[2, 1, 1]),
        ([3, 2, 33], 16, &[5, 8, 4]),
        ([2, 2, 64], 64, &[1, 18]),
        ([16, 16, 32], 40, &[1, 1]),
        ([9, 9, 3], 64, &[9, 1]),
        ([19, 37, 2], 64, &[2, 9]),
    ];
    for ([height, width, inputs], outputs, groups) in shapes {
        let images = groups.iter().sum();
        let over = |block: Block| {
            move |v: &mut Variables| {
                let w = v.leaf("w", [outputs, inputs, 3, 3])?;
                let (gamma, beta) = (v.leaf("γ", [outputs])?, v.leaf("β", [outputs])?);
                let x = v.leaf("x", [images, height, width, inputs])?;
                let (y, [mean, variance]) = block(&x, &w, &[&gamma, &beta], groups)?;
                Ok(vec![y, mean, variance])
            }
        };
        let name = format!("{height} × {width}, {inputs} to {outputs} channels, groups {groups:?}");
        check(&name, 1e-10, over(fused), over(plain));
        let of_plain_images = |block: Block| {
            move |v: &mut Variables| {
                let x = v.constant([images, height, width, inputs])?;
                let w = v.leaf("w", [outputs, inputs, 3, 3])?;
                let (gamma, beta) = (v.leaf("γ", [outputs])?, v.leaf("β", [outputs])?);
                Ok(vec![block(&x, &w, &[&gamma, &beta], groups)?.0])
            }
        };
        check(&format!("{name}, of images alone"), 1e-10, of_plain_images(fused), of_plain_images(plain));
    }
    check_both_orders(
        "a block",
        |v| {
            let (x, w) = (v.leaf("x", [3, 4, 5, 2])?, v.leaf("w", [3, 2, 3, 3])?);
            let (gamma, beta) = (v.leaf("γ", [3])?, v.leaf("β", [3])?);
            Ok(vec![x.conv_block(&w, &gamma, &beta, &[1, 2], 0.1)?.0])
        },
        |v| {
            let (x, w) = (v.leaf("x", [3, 4, 5, 2])?, v.leaf("w", [3, 2, 3, 3])?);
            let (gamma, beta) = (v.leaf("γ", [3])?, v.leaf("β", [3])?);
            Ok(vec![x.conv_block_plain(&w, &gamma, &beta, &[1, 2], 0.1)?.0])
        },
    );
}

#[test]
fn a_block_by_given_statistics() {
    for ([height, width, inputs], outputs, images) in
        [([5, 4, 3], 4, 3), ([7, 6, 16], 33, 20), ([16, 16, 8], 32, 2)]
    {
        let mut v = Variables::new();
        let x = v.constant([images, height, width, inputs]).unwrap();
        let w = v.constant([outputs, inputs, 3, 3]).unwrap();
        let (scale, shift) = (v.constant([outputs]).unwrap(), v.constant([outputs]).unwrap());
        let fused = x.conv_block_by(&w, &scale, &shift).unwrap();
        // a tracked operand takes the parts' way
        let plain = x.conv_block_by(&v.tape.leaf(w.array()), &scale, &shift).unwrap();
        assert_eq!(fused.shape(), plain.shape());
        close("a block by statistics", &fused.to_vec().unwrap(), &plain.to_vec().unwrap(), 1e-10);
    }
}
