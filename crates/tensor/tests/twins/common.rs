//! Variables, the same ones for each twin, and how twins are held against each other.

use plastica_tensor::{Array, Cpu, GradMode, Result, Shape, Tape, Tensor, grad};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) type Real = Tensor<Cpu<f64>>;
pub(crate) type Grads = Vec<(&'static str, Vec<f64>)>;

pub(crate) const CPU: Cpu<f64> = Cpu::new();

/// Draws the variables of a computation, the same ones for each twin, when it asks for them.
pub(crate) struct Variables {
    pub(crate) tape: Tape<Cpu<f64>>,
    rng: ChaCha8Rng,
    pub(crate) drawn: Vec<(&'static str, Real)>,
}

impl Variables {
    pub(crate) fn new() -> Self {
        Self { tape: Tape::new(), rng: ChaCha8Rng::seed_from_u64(7), drawn: Vec::new() }
    }

    pub(crate) fn between(
        &mut self,
        (low, high): (f64, f64),
        shape: impl Into<Shape>,
    ) -> Result<Array<Cpu<f64>>> {
        let shape = shape.into();
        let mut uniform = || f64::from(self.rng.next_u32()) / 2.0_f64.powi(32);
        let values = (0..shape.len()).map(|_| low + (high - low) * uniform()).collect();
        Array::from_vec(&CPU, values, shape)
    }

    pub(crate) fn constant(&mut self, shape: impl Into<Shape>) -> Result<Real> {
        Ok(self.between((-1.0, 1.0), shape)?.into())
    }

    pub(crate) fn leaf_in(
        &mut self,
        name: &'static str,
        range: (f64, f64),
        shape: impl Into<Shape>,
    ) -> Result<Real> {
        let value = self.between(range, shape)?;
        let leaf = self.tape.leaf(&value);
        self.drawn.push((name, leaf.clone()));
        Ok(leaf)
    }

    pub(crate) fn leaf(&mut self, name: &'static str, shape: impl Into<Shape>) -> Result<Real> {
        self.leaf_in(name, (-1.0, 1.0), shape)
    }

    /// The gradient of a random projection of `outputs` by each variable, variables of one name together.
    pub(crate) fn gradients(&mut self, outputs: &[Real]) -> Result<[Grads; 2]> {
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

pub(crate) fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

pub(crate) fn close(what: &str, ours: &[f64], twin: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), twin.len(), "{what}: as many numbers");
    let off: Vec<f64> = ours.iter().zip(twin).map(|(a, b)| a - b).collect();
    let error = norm(&off) / norm(twin).max(1e-12);
    assert!(error <= tolerance, "{what}: relative error {error:e}");
}

/// Holds what one computation gives, and its gradients in two sweeps, against its twin.
pub(crate) fn check(
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

pub(crate) fn tracked_gradient(result: &Real, variable: &Real) -> Result<Real> {
    Ok(grad(result, &[variable], GradMode::Tracked)?.remove(0).unwrap())
}

/// What an operation gives, and the gradient of a scalar of it by each variable so far.
pub(crate) fn with_gradients(v: &Variables, outputs: Vec<Real>) -> Result<Vec<Real>> {
    let mut inner = Real::zeros(&CPU, [])?;
    for output in &outputs {
        inner = inner.add(&output.mul(&output.sigmoid()?)?.sum()?)?;
    }
    let leaves: Vec<&Real> = v.drawn.iter().map(|(_, leaf)| leaf).collect();
    let gradients = grad(&inner, &leaves, GradMode::Tracked)?;
    Ok(outputs.into_iter().chain(gradients.into_iter().flatten()).collect())
}

pub(crate) fn check_both_orders(
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
