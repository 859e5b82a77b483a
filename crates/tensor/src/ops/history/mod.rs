//! Fast weights as the history of their changes, for short sequences and constant updates.
//!
//! Where α and β are one number each, the fast weights after t changes are
//! `F = α Σ_s w(t, s) p_s ⊗ q_s` and `c = β Σ_s w(t, s) p_s`, with `w(t, s) = η_s Π_{s < r < t} (1 − η_r)`. So
//! `F x + c = Σ_s w(t, s) (α q_s·x + β) p_s`, which takes t (out + in) multiply-adds where a walk over F takes
//! out · in, and no F. Once all changes are known, the reads of a whole sequence are two products of matrices.
//!
//! The changes are constants: derivatives go through what is read, x, and not through the history.

use crate::ops::fast::{Change, FastSizes};
use crate::{Array, Backend, Element, Result, Storage, Tensor, TensorError};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;

/// The changes of a layer's fast weights; rows beyond those made so far are zero.
#[derive(Debug, Clone)]
pub struct Changes<Buffer> {
    /// p of every change, `[batch, capacity, out]`.
    pub p: Buffer,
    /// q of every change, `[batch, capacity, inp]`.
    pub q: Buffer,
    /// `w(t, s)`, `[batch, capacity + 1, capacity]`.
    pub weights: Buffer,
}

/// Kernels of fast weights kept as a history.
pub trait HistoryKernels: Storage {
    /// The value of all elements, if it is one; `None` as well on a device that had better keep fast weights as they are.
    ///
    /// # Errors
    /// Device errors.
    fn uniform(&self, x: &Self::Buffer) -> Result<Option<Self::Elem>>;

    /// Adds change number `t`, below `capacity`.
    ///
    /// # Errors
    /// Device errors.
    fn append_change(
        &self,
        changes: &mut Changes<Self::Buffer>,
        change: Change<'_, Self::Buffer>,
        t: usize,
        capacity: usize,
        sizes: FastSizes,
    ) -> Result<()>;

    /// `y += Σ_s w(t, s) (α q_s·x + β) p_s`, `plasticity` being α and β, over the changes before `t`; x `[batch, inp]`, y `[batch, out]`.
    ///
    /// # Errors
    /// Device errors.
    fn read_changes(
        &self,
        changes: &Changes<Self::Buffer>,
        plasticity: [Self::Elem; 2],
        x: &Self::Buffer,
        y: &mut Self::Buffer,
        t: usize,
        capacity: usize,
        sizes: FastSizes,
    ) -> Result<()>;
}

/// One layer's fast weights along a sequence, as the history of their changes.
#[derive(Debug, Clone)]
pub struct FastHistory<B: Backend> {
    backend: B,
    sizes: FastSizes,
    capacity: usize,
    plasticity: [B::Elem; 2],
    changes: Changes<B::Buffer>,
    made: usize,
    /// Changes whose norms have been taken.
    taken: usize,
}

impl<B: Backend> FastHistory<B> {
    /// α and β, if they are one number each and a history of `steps` changes takes less work than the fast weights
    /// themselves; α is `[out, in]`, β `[out]`.
    ///
    /// # Errors
    /// Device errors, or [`TensorError::Incompatible`] when α and β don't belong together.
    pub fn plasticity(alpha: &Tensor<B>, beta: &Tensor<B>, steps: usize) -> Result<Option<[B::Elem; 2]>> {
        let &[out, inp] = &alpha.shape()[..] else {
            return Err(alpha.incompatible("fast_history", beta, "α is [out, in], β [out]"));
        };
        if beta.shape()[..] != [out] {
            return Err(alpha.incompatible("fast_history", beta, "α is [out, in], β [out]"));
        }
        if steps.saturating_mul(out + inp) > out * inp {
            return Ok(None);
        }
        let backend = alpha.backend();
        let alpha = backend.uniform(&alpha.array.buffer)?;
        Ok(alpha.zip(backend.uniform(&beta.array.buffer)?).map(|(alpha, beta)| [alpha, beta]))
    }

    /// The history before the first of up to `steps` changes, of `batch` episodes; `None` where there is no
    /// [`plasticity`](Self::plasticity) for it.
    ///
    /// # Errors
    /// Those of [`plasticity`](Self::plasticity).
    pub fn new(alpha: &Tensor<B>, beta: &Tensor<B>, batch: usize, steps: usize) -> Result<Option<Self>> {
        let Some(plasticity) = Self::plasticity(alpha, beta, steps)? else { return Ok(None) };
        let backend = alpha.backend();
        let (out, inp) = alpha.shape().rows_cols();
        let zeros = |row: usize, width: usize| backend.full(batch * row * width, B::Elem::of(0.0));
        let changes =
            Changes { p: zeros(steps, out)?, q: zeros(steps, inp)?, weights: zeros(steps + 1, steps)? };
        Ok(Some(Self {
            backend: backend.clone(),
            sizes: FastSizes { batch, out, inp },
            capacity: steps,
            plasticity,
            changes,
            made: 0,
            taken: 0,
        }))
    }

    /// Whether one more change has a place.
    pub fn has_room(&self) -> bool {
        self.made < self.capacity
    }

    /// Adds a change: η `[B]`, p `[B, out]`, q `[B, in]`, as constants.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`] when the shapes don't fit, [`TensorError::Index`] when there is no room.
    pub fn update(&mut self, eta: &Tensor<B>, p: &Tensor<B>, q: &Tensor<B>) -> Result<()> {
        let FastSizes { batch, out, inp } = self.sizes;
        let rule = "p is [B, out], q [B, in], η [B]";
        if p.shape()[..] != [batch, out] || q.shape()[..] != [batch, inp] {
            return Err(p.incompatible("fast_history", q, rule));
        }
        if eta.shape()[..] != [batch] {
            return Err(eta.incompatible("fast_history", p, rule));
        }
        if !self.has_room() {
            return Err(TensorError::Index { op: "fast_history", index: self.made, len: self.capacity });
        }
        let change = Change { eta: &eta.array.buffer, p: &p.array.buffer, q: &q.array.buffer };
        self.backend.append_change(&mut self.changes, change, self.made, self.capacity, self.sizes)?;
        self.made += 1;
        Ok(())
    }

    /// `y + F x + c`, x `[B, in]`, or `[B, T, in]` for the reads of the first T steps, each with the changes before it.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`] when the shapes don't fit.
    pub fn add_to(&self, mut y: Tensor<B>, x: &Tensor<B>) -> Result<Tensor<B>> {
        let FastSizes { batch, out, inp } = self.sizes;
        match (&x.shape()[..], &y.shape()[..]) {
            (&[b, i], &[c, o]) if [b, i, c, o] == [batch, inp, batch, out] => {
                if x.is_tracked() || y.is_tracked() {
                    let read = self.read(&x.reshape([batch, 1, inp])?, self.made)?;
                    return y.add(&read.reshape([batch, out])?);
                }
                let (x, y_buffer) = (&x.array.buffer, &mut y.array.buffer);
                let (t, capacity) = (self.made, self.capacity);
                self.backend.read_changes(
                    &self.changes,
                    self.plasticity,
                    x,
                    y_buffer,
                    t,
                    capacity,
                    self.sizes,
                )?;
                Ok(y)
            }
            (&[b, steps, i], &[c, s, o])
                if [b, i, c, s, o] == [batch, inp, batch, steps, out] && steps <= self.capacity =>
            {
                y.add(&self.read(x, 0)?)
            }
            _ => Err(x.incompatible("fast_history", &y, "x is [B, in] or [B, T, in], y accordingly")),
        }
    }

    /// `Fᵀ g` with all changes so far: g `[B, out]` to `[B, in]`.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`] when g has another shape.
    pub fn read_transposed(&self, g: &Tensor<B>) -> Result<Tensor<B>> {
        let FastSizes { batch, out, inp } = self.sizes;
        if g.shape()[..] != [batch, out] {
            return Err(g.unsuitable("fast_history", format!("transposed, it reads [{batch}, {out}]")));
        }
        let (p, q, weights) = self.tensors();
        let along = g.reshape([batch, 1, out])?.matmul_transposed(&p, false, true)?;
        let weighted = along.mul(&weights.slice(1, self.made, 1)?)?.scale(self.plasticity[0].wide())?;
        weighted.matmul(&q)?.reshape([batch, inp])
    }

    /// The reads of consecutive steps x `[B, T, in]`, from step `first` on: `[B, T, out]`.
    fn read(&self, x: &Tensor<B>, first: usize) -> Result<Tensor<B>> {
        let [alpha, beta] = self.plasticity.map(Element::wide);
        let (p, q, weights) = self.tensors();
        let weights = weights.slice(1, first, x.shape()[1])?;
        x.matmul_transposed(&q, false, true)?.scale(alpha)?.shift(beta)?.mul(&weights)?.matmul(&p)
    }

    fn tensors(&self) -> (Tensor<B>, Tensor<B>, Tensor<B>) {
        let FastSizes { batch, out, inp } = self.sizes;
        let tensor = |buffer: &B::Buffer, rows: usize, width: usize| {
            Tensor::from(Array::new(&self.backend, buffer.clone(), [batch, rows, width].into()))
        };
        let (n, c) = (self.capacity, &self.changes);
        (tensor(&c.p, n, out), tensor(&c.q, n, inp), tensor(&c.weights, n + 1, n))
    }

    /// F `[B, out, in]` and c `[B, out]` as they stand; `None` before the first change.
    ///
    /// # Errors
    /// Device errors.
    pub fn get(&self) -> Result<Option<(Array<B>, Array<B>)>> {
        if self.made == 0 {
            return Ok(None);
        }
        let FastSizes { batch, out, .. } = self.sizes;
        let [alpha, beta] = self.plasticity.map(Element::wide);
        let (p, q, weights) = self.tensors();
        let now = weights.slice(1, self.made, 1)?.reshape([batch, self.capacity, 1])?;
        let weighted = p.mul(&now)?;
        let fast = weighted.matmul_transposed(&q, true, false)?.scale(alpha)?;
        let bias = weighted.sum_axis(1)?.reshape([batch, out])?.scale(beta)?;
        Ok(Some((fast.array, bias.array)))
    }

    /// ‖F‖² `[B]` after each change since this was last called, by `Σ_{r, s} w_r w_s (p_r·p_s) (q_r·q_s)`.
    ///
    /// # Errors
    /// Device errors.
    pub fn take_norms(&mut self) -> Result<Vec<Array<B>>> {
        let (first, count) = (self.taken + 1, self.made - self.taken);
        self.taken = self.made;
        if count == 0 {
            return Ok(Vec::new());
        }
        let (p, q, weights) = self.tensors();
        let gram = p.matmul_transposed(&p, false, true)?.mul(&q.matmul_transposed(&q, false, true)?)?;
        let weights = weights.slice(1, first, count)?;
        let alpha = self.plasticity[0].wide();
        let norms = weights.matmul(&gram)?.mul(&weights)?.sum_axis(2)?.scale(alpha * alpha)?;
        let norms = norms.reshape([self.sizes.batch, count])?;
        (0..count).map(|t| Ok(norms.slice(1, t, 1)?.reshape([self.sizes.batch])?.array)).collect()
    }
}
