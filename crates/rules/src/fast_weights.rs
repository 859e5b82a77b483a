//! Fast weights: a matrix and a bias an episode, which live for one sequence.

use plastica_tensor::ops::fast::FastTrajectory;
use plastica_tensor::ops::history::FastHistory;
use plastica_tensor::ops::outer::decay_outer;
use plastica_tensor::{Backend, Tensor};

use crate::{RankOne, Result, RuleError, RuleMemory};

/// A layer's fast weights, for a batch of `B` episodes: F `[B, out, in]` and c `[B, out]`, zero at first.
///
/// They are kept in place ([`FastTrajectory`]): one F, changed step by step and taken back on the way back. In a
/// short sequence whose updates are constants, the list of the updates stands for F ([`FastHistory`]). The
/// [`plain`](Self::plain) kind makes a new F at every step, as the equations are written; it is slower and keeps
/// every F on the tape, but has derivatives of every order, and a rate η of exactly 1.
///
/// What a rule keeps of the layer from step to step ([`RuleMemory`]) goes with them.
#[derive(Debug, Clone)]
pub struct FastWeights<B: Backend> {
    kind: Kind<B>,
    /// What no η is above, if that is known.
    largest_rate: Option<f64>,
    /// ‖F‖² after updates that the kind itself does not remember, until taken.
    norms: Vec<Tensor<B>>,
    pub(crate) memory: RuleMemory<B>,
    /// A bound on the norm of what was gathered, `[B]`, where there is one; `None` while it is zero.
    pub(crate) gathered: Option<Tensor<B>>,
}

#[derive(Debug, Clone)]
enum Kind<B: Backend> {
    /// Zero, to be kept in place from the first update on, of a sequence of so many steps if that is known.
    Zero(Option<usize>),
    InPlace(FastTrajectory<B>),
    History(FastHistory<B>),
    Plain(Option<(Tensor<B>, Tensor<B>)>),
}

impl<B: Backend> Default for FastWeights<B> {
    fn default() -> Self {
        Self::zero()
    }
}

impl<B: Backend> FastWeights<B> {
    fn of(kind: Kind<B>) -> Self {
        Self { kind, largest_rate: None, norms: Vec::new(), memory: RuleMemory::default(), gathered: None }
    }

    /// Fast weights before the first update: zero, and taking no memory.
    pub fn zero() -> Self {
        Self::of(Kind::Zero(None))
    }

    /// The same, of the plain kind.
    pub fn plain() -> Self {
        Self::of(Kind::Plain(None))
    }

    /// The same, for a sequence of `steps` steps: how far apart copies for the way back are kept follows from it.
    pub fn for_steps(steps: usize) -> Self {
        Self::of(Kind::Zero(Some(steps)))
    }

    /// The same, of which it is known that no η will be above `bound`: an update in place then need not wait for η.
    #[must_use]
    pub fn with_rates_up_to(self, bound: f64) -> Self {
        Self { largest_rate: Some(bound), ..self }
    }

    /// Whether there has been no update yet.
    pub fn is_zero(&self) -> bool {
        matches!(self.kind, Kind::Zero(_) | Kind::Plain(None))
    }

    /// Fast weights F `[B, out, in]` and c `[B, out]` from elsewhere: stored ones, or ones that were learned.
    /// Tracked tensors keep their history; such fast weights are of the plain kind.
    ///
    /// # Errors
    /// [`RuleError::FastWeights`] when the two shapes don't belong together.
    pub fn from_parts(weight: Tensor<B>, bias: Tensor<B>) -> Result<Self> {
        let (weight_shape, bias_shape) = (weight.shape(), bias.shape());
        match (&weight_shape[..], &bias_shape[..]) {
            ([batch, out, _], [bias_batch, bias_out]) if (batch, out) == (bias_batch, bias_out) => {
                let kind = if weight.is_tracked() || bias.is_tracked() {
                    Kind::Plain(Some((weight, bias)))
                } else {
                    Kind::InPlace(FastTrajectory::from_parts(weight.array(), bias.array())?)
                };
                Ok(Self::of(kind))
            }
            _ => Err(RuleError::FastWeights { weight: weight_shape, bias: bias_shape }),
        }
    }

    /// F and c, `[B, out, in]` and `[B, out]`; `None` while they are zero. Those of the plain kind have their history,
    /// those kept in place are plain values.
    ///
    /// # Errors
    /// Device errors.
    pub fn get(&self) -> Result<Option<(Tensor<B>, Tensor<B>)>> {
        Ok(match &self.kind {
            Kind::Zero(_) => None,
            Kind::InPlace(path) => path.get()?.map(|(weight, bias)| (weight.into(), bias.into())),
            Kind::History(history) => history.get()?.map(|(weight, bias)| (weight.into(), bias.into())),
            Kind::Plain(set) => set.clone(),
        })
    }

    /// Adds `F x + c` to `y`: what the fast weights contribute to the layer's output. `x` is `[B, in]`, `y`
    /// `[B, out]`; or they are `[B, T, ..]`, and the fast weights zero or a whole sequence's
    /// [history](Self::is_history), of which step t reads what came before it.
    ///
    /// # Errors
    /// When the shapes don't fit.
    pub fn add_to(&self, y: Tensor<B>, x: &Tensor<B>) -> Result<Tensor<B>> {
        match &self.kind {
            Kind::Zero(_) | Kind::Plain(None) => Ok(y),
            Kind::InPlace(path) => Ok(y.add(&path.read(x)?)?),
            Kind::History(history) => Ok(history.add_to(y, x)?),
            Kind::Plain(Some((weight, bias))) => {
                let (batch, inp) = x.shape().rows_cols();
                let read = weight.matmul(&x.reshape([batch, inp, 1])?)?.reshape(bias.shape())?;
                Ok(y.add(&read)?.add(bias)?)
            }
        }
    }

    /// `(W + F) x + b + c`: a linear layer with them, x `[B, in]`, or as [`add_to`](Self::add_to) has it.
    ///
    /// # Errors
    /// When the shapes don't fit.
    pub fn linear(&self, x: &Tensor<B>, weight: &Tensor<B>, bias: &Tensor<B>) -> Result<Tensor<B>> {
        match &self.kind {
            Kind::InPlace(path) => Ok(path.linear(x, weight, bias)?),
            _ => self.add_to(x.linear(weight, bias)?, x),
        }
    }

    /// `Fᵀ g`: what reads an output back to the inputs that make it. `g` is `[B, out]`, the result `[B, in]`; `None` while
    /// they are zero.
    ///
    /// # Errors
    /// When the shapes don't fit.
    pub fn read_transposed(&self, g: &Tensor<B>) -> Result<Option<Tensor<B>>> {
        match &self.kind {
            Kind::Zero(_) | Kind::Plain(None) => Ok(None),
            Kind::InPlace(path) => Ok(Some(path.read_transposed(g)?)),
            Kind::History(history) => Ok(Some(history.read_transposed(g)?)),
            Kind::Plain(Some((weight, _))) => {
                let ((batch, out), inp) = (g.shape().rows_cols(), weight.shape().rows_cols().1);
                let read = weight.matmul_transposed(&g.reshape([batch, out, 1])?, true, false)?;
                Ok(Some(read.reshape([batch, inp])?))
            }
        }
    }

    /// `F ← (1 − η) F + η α ∘ (p ⊗ q)` and `c ← (1 − η) c + η β ∘ p`; η `[B]`, α `[out, in]`, β `[out]`.
    ///
    /// # Errors
    /// When the shapes don't fit.
    pub fn update(
        &mut self,
        eta: &Tensor<B>,
        alpha: &Tensor<B>,
        beta: &Tensor<B>,
        RankOne { p, q }: &RankOne<B>,
    ) -> Result<()> {
        let constant = ![eta, alpha, beta, p, q].into_iter().any(Tensor::is_tracked);
        match &self.kind {
            &Kind::Zero(steps) => {
                let ((batch, out), (_, inp)) = (p.shape().rows_cols(), q.shape().rows_cols());
                let history = match steps.filter(|_| constant) {
                    Some(steps) => FastHistory::new(alpha, beta, batch, steps)?,
                    None => None,
                };
                self.kind = match history {
                    Some(history) => Kind::History(history),
                    None => Kind::InPlace(
                        FastTrajectory::new(p.backend(), batch, out, inp, steps)
                            .with_rates_up_to(self.largest_rate),
                    ),
                };
            }
            // longer than was said, or no longer constant: on from F itself
            Kind::History(history) if !(constant && history.has_room()) => {
                if let Some((weight, bias)) = history.get()? {
                    self.norms = self.take_norms()?;
                    let path = FastTrajectory::from_parts(&weight, &bias)?;
                    self.kind = Kind::InPlace(path.with_rates_up_to(self.largest_rate));
                }
            }
            _ => {}
        }
        match &mut self.kind {
            Kind::Zero(_) => {}
            Kind::InPlace(path) => path.update([eta, alpha, beta, p, q])?,
            Kind::History(history) => history.update(eta, p, q)?,
            Kind::Plain(set) => {
                let column = eta.reshape([eta.shape().len(), 1])?;
                let grown = p.mul(beta)?.mul(&column)?;
                let (weight, bias) = match set {
                    Some((weight, bias)) => {
                        let kept = bias.mul(&column.scale(-1.0)?.shift(1.0)?)?;
                        (decay_outer(Some(weight), eta, alpha, p, q)?, kept.add(&grown)?)
                    }
                    None => (decay_outer(None, eta, alpha, p, q)?, grown),
                };
                self.norms.push(squared_norm(&weight)?);
                *set = Some((weight, bias));
            }
        }
        Ok(())
    }

    /// Cuts them from what they were made of, with what the rule keeps: constants from here on.
    ///
    /// # Errors
    /// Device errors.
    pub fn detach(&mut self) -> Result<()> {
        self.memory.detach();
        self.gathered = self.gathered.as_ref().map(Tensor::detach);
        match &mut self.kind {
            Kind::Zero(_) | Kind::History(_) | Kind::Plain(None) => {}
            Kind::InPlace(path) => path.detach()?,
            Kind::Plain(Some((weight, bias))) => (*weight, *bias) = (weight.detach(), bias.detach()),
        }
        Ok(())
    }

    /// Lets go of the way back: no derivative will be asked of what was read so far. A sequence that is only read
    /// then takes the same memory however long it is.
    pub fn release(&mut self) {
        if let Kind::InPlace(path) = &mut self.kind {
            path.release();
        }
    }

    /// `‖F‖²` of each episode, `[B]`, plain (the bias is not counted); `None` while they are zero.
    ///
    /// # Errors
    /// Device errors.
    pub fn squared_norm(&self) -> Result<Option<Tensor<B>>> {
        self.get()?.map(|(weight, _)| squared_norm(&weight)).transpose()
    }

    /// `‖F‖²` `[B]` after each update that has been carried out since this was last called, plain. An update is
    /// carried out at the read that follows it, or by [`settle`](Self::settle); the norm then costs nothing more.
    ///
    /// # Errors
    /// Device errors.
    pub fn take_norms(&mut self) -> Result<Vec<Tensor<B>>> {
        let mut norms = std::mem::take(&mut self.norms);
        match &mut self.kind {
            Kind::InPlace(path) => norms.extend(path.take_norms().into_iter().map(Tensor::from)),
            Kind::History(history) => norms.extend(history.take_norms()?.into_iter().map(Tensor::from)),
            Kind::Zero(_) | Kind::Plain(_) => {}
        }
        Ok(norms)
    }

    /// Whether the updates so far are kept as their history, so that a whole sequence can be read at once.
    pub fn is_history(&self) -> bool {
        matches!(self.kind, Kind::History(_))
    }

    /// Carries out the last update now, not at the next read.
    ///
    /// # Errors
    /// Device errors.
    pub fn settle(&self) -> Result<()> {
        match &self.kind {
            Kind::InPlace(path) => Ok(path.settle()?),
            Kind::Zero(_) | Kind::History(_) | Kind::Plain(_) => Ok(()),
        }
    }
}

fn squared_norm<B: Backend>(weight: &Tensor<B>) -> Result<Tensor<B>> {
    let batch = weight.shape()[0];
    Ok(weight.detach().square()?.sum_to([batch, 1, 1])?.reshape([batch])?)
}

#[cfg(test)]
mod tests {
    use plastica_tensor::{Cpu, Shape};

    use super::*;

    type F64 = Cpu<f64>;

    fn tensor<const N: usize>(values: &[f64], shape: [usize; N]) -> Tensor<F64> {
        Tensor::from_vec(&F64::new(), values.to_vec(), shape).unwrap()
    }

    #[track_caller]
    fn assert_close(found: &Tensor<F64>, shape: &[usize], expected: &[f64]) {
        let values = found.to_vec().unwrap();
        assert_eq!(found.shape()[..], *shape);
        let apart = values.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(values.len() == expected.len() && apart < 1e-15, "{values:?} for {expected:?}");
    }

    #[test]
    fn two_updates_by_hand() {
        let alpha = tensor(&[1.0, 2.0, -1.0, 0.0], [2, 2]);
        let beta = tensor(&[10.0, 1.0], [2]);
        let mut fast = FastWeights::zero();
        let mut update = |eta: f64, p: [f64; 2], q: [f64; 2]| {
            let change = RankOne { p: tensor(&p, [1, 2]), q: tensor(&q, [1, 2]) };
            fast.update(&tensor(&[eta], [1]), &alpha, &beta, &change).unwrap();
            fast.get().unwrap().unwrap()
        };
        // η α ∘ (p ⊗ q) = 0.5 [[1·3, 2·4], [−1·6, 0·8]], η β ∘ p = 0.5 [10, 2]
        let (weight, bias) = update(0.5, [1.0, 2.0], [3.0, 4.0]);
        assert_close(&weight, &[1, 2, 2], &[1.5, 4.0, -3.0, 0.0]);
        assert_close(&bias, &[1, 2], &[5.0, 1.0]);
        // 3/4 of that, and 0.25 [[1·2, 2·(−4)], [−1·(−1), 0·2]], 0.25 [20, −1]
        let (weight, bias) = update(0.25, [2.0, -1.0], [1.0, -2.0]);
        assert_close(&weight, &[1, 2, 2], &[1.625, 1.0, -2.0, 0.0]);
        assert_close(&bias, &[1, 2], &[8.75, 0.5]);
        assert_close(&fast.squared_norm().unwrap().unwrap(), &[1], &[1.625 * 1.625 + 1.0 + 4.0]);
        // F x + c, on top of what is there
        let read = fast.add_to(tensor(&[100.0, 0.0], [1, 2]), &tensor(&[2.0, 1.0], [1, 2])).unwrap();
        assert_close(&read, &[1, 2], &[100.0 + 3.25 + 1.0 + 8.75, -4.0 + 0.5]);
    }

    #[test]
    fn a_rate_of_one_forgets_everything_and_of_zero_changes_nothing() {
        let before =
            FastWeights::from_parts(tensor(&[7.0, 8.0], [2, 1, 1]), tensor(&[3.0, 4.0], [2, 1])).unwrap();
        let mut after = before.clone();
        let change = RankOne { p: tensor(&[2.0, 2.0], [2, 1]), q: tensor(&[5.0, 5.0], [2, 1]) };
        let (alpha, beta) = (tensor(&[1.0], [1, 1]), tensor(&[1.0], [1]));
        after.update(&tensor(&[1.0, 0.0], [2]), &alpha, &beta, &change).unwrap();
        let (weight, bias) = after.get().unwrap().unwrap();
        assert_close(&weight, &[2, 1, 1], &[10.0, 8.0]);
        assert_close(&bias, &[2, 1], &[2.0, 4.0]);
    }

    #[test]
    fn zero_adds_nothing_and_has_no_norm() {
        let zero = FastWeights::<F64>::zero();
        let y = zero.add_to(tensor(&[1.0, 2.0], [1, 2]), &tensor(&[3.0], [1, 1])).unwrap();
        assert_close(&y, &[1, 2], &[1.0, 2.0]);
        assert!(zero.get().unwrap().is_none() && zero.squared_norm().unwrap().is_none());
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let check = |weight: &[usize], bias: &[usize], good: bool| {
            let zeros = |shape| Tensor::zeros(&F64::new(), Shape::new(shape).unwrap()).unwrap();
            let found = FastWeights::from_parts(zeros(weight), zeros(bias)).map(|_| ());
            let shapes = |(weight, bias)| RuleError::FastWeights { weight, bias };
            let expected = shapes((Shape::new(weight).unwrap(), Shape::new(bias).unwrap()));
            assert_eq!(found, if good { Ok(()) } else { Err(expected) });
        };
        check(&[2, 3, 4], &[2, 3], true);
        check(&[2, 3, 4], &[2, 4], false);
        check(&[2, 3, 4], &[1, 3], false);
        check(&[3, 4], &[3], false);
        check(&[2, 3, 4], &[3], false);
        check(&[], &[], false);
    }
}
