//! Moving elements without changing them: reshape, permute, slice, concatenate.

use smallvec::{SmallVec, smallvec};

use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Result, Shape, Storage, Tape, Tensor, TensorError};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

/// Kernels that move elements. Copies see an axis as `outer` runs of (axis length × `inner`) elements.
pub trait LayoutKernels: Storage {
    /// Reorders axes: output axis `i` is input axis `order[i]`.
    ///
    /// # Errors
    /// Device errors.
    fn permute(&self, x: &Self::Buffer, shape: &Shape, order: &[usize]) -> Result<Self::Buffer>;

    /// Of each of `outer` runs of `stride` elements, the `len` elements from `start`.
    ///
    /// # Errors
    /// Device errors.
    fn slice(
        &self,
        x: &Self::Buffer,
        outer: usize,
        stride: usize,
        start: usize,
        len: usize,
    ) -> Result<Self::Buffer>;

    /// The opposite of `slice`: `outer` runs of `stride` zeros, with the `len` elements from `start` taken
    /// from `x`.
    ///
    /// # Errors
    /// Device errors.
    fn pad(
        &self,
        x: &Self::Buffer,
        outer: usize,
        stride: usize,
        start: usize,
        len: usize,
    ) -> Result<Self::Buffer>;

    /// Of each of `outer` runs of `stride` elements, two neighbouring parts, of `first` and `second` elements from `start` on, in
    /// each other's place.
    ///
    /// # Errors
    /// Device errors.
    fn swap(
        &self,
        x: &Self::Buffer,
        outer: usize,
        stride: usize,
        start: usize,
        parts: [usize; 2],
    ) -> Result<Self::Buffer>;

    /// Joins buffers, each `outer` runs of its own length, run by run.
    ///
    /// # Errors
    /// Device errors.
    fn concat(&self, parts: &[(&Self::Buffer, usize)], outer: usize) -> Result<Self::Buffer>;
}

struct Reshape;

impl<B: Backend> Op<B> for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        Ok(smallvec![Some(grad.reshape(r.inputs[0].shape())?)])
    }
}

struct Permute(SmallVec<[usize; Shape::MAX_RANK]>);

impl<B: Backend> Op<B> for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn backward(&self, _: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let mut inverse = self.0.clone();
        for (to, &from) in self.0.iter().enumerate() {
            inverse[from] = to;
        }
        Ok(smallvec![Some(grad.permute(&inverse)?)])
    }
}

struct Slice {
    axis: usize,
    start: usize,
}

impl<B: Backend> Op<B> for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let whole = r.inputs[0].shape();
        let len = whole[self.axis];
        if let Some(kernels) = r.onto()
            && let Some(before) = r.take_sum(0)
        {
            let (outer, inner) = (whole[..self.axis].iter().product(), whole.stride(self.axis));
            let (start, run) = (self.start * inner, grad.shape()[self.axis] * inner);
            let sum = kernels.pad(&grad.array.buffer, &before, outer, len * inner, start, run)?;
            return Ok(smallvec![Some(Array::new(grad.backend(), sum, whole).into())]);
        }
        Ok(smallvec![Some(grad.pad(self.axis, self.start, len)?)])
    }
}

struct Pad {
    axis: usize,
    start: usize,
}

impl<B: Backend> Op<B> for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let len = r.inputs[0].shape()[self.axis];
        Ok(smallvec![Some(grad.slice(self.axis, self.start, len)?)])
    }
}

struct Swap {
    start: usize,
    parts: [usize; 2],
}

impl<B: Backend> Op<B> for Swap {
    fn name(&self) -> &'static str {
        "swap"
    }

    fn backward(&self, _: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let [first, second] = self.parts;
        Ok(smallvec![Some(grad.swap(self.start, [second, first])?)])
    }
}

struct Concat {
    axis: usize,
}

impl<B: Backend> Op<B> for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let mut start = 0;
        let mut grads = Grads::with_capacity(r.inputs.len());
        for (i, input) in r.inputs.iter().enumerate() {
            let len = input.shape()[self.axis];
            grads.push(r.want(i, || grad.slice(self.axis, start, len))?);
            start += len;
        }
        Ok(grads)
    }
}

impl<B: Backend> Tensor<B> {
    /// The same elements in another shape.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`] when the number of elements differs.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.len() != self.shape().len() {
            return Err(self.unsuitable("reshape", format!("it has not as many elements as {shape}")));
        }
        if shape == self.shape() {
            return Ok(self.clone());
        }
        Tape::record(Reshape, &[self], self.array.viewed(shape))
    }

    /// Reorders the axes: output axis `i` is input axis `order[i]`.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`] when `order` is not a permutation of the axes.
    pub fn permute(&self, order: &[usize]) -> Result<Self> {
        let shape = self.shape();
        let named: SmallVec<[bool; Shape::MAX_RANK]> =
            (0..shape.rank()).map(|i| order.contains(&i)).collect();
        if order.len() != shape.rank() || named.contains(&false) {
            return Err(self.unsuitable("permute", format!("{order:?} does not name each of its axes once")));
        }
        let mut to = shape;
        for (i, &axis) in order.iter().enumerate() {
            to = to.with_axis(i, shape[axis]);
        }
        let buffer = self.backend().permute(&self.array.buffer, &shape, order)?;
        Tape::record(Permute(order.into()), &[self], Array::new(self.backend(), buffer, to))
    }

    /// Elements `start .. start + len` along `axis`.
    ///
    /// # Errors
    /// [`TensorError::Index`] when the axis does not exist or ends before that.
    pub fn slice(&self, axis: usize, start: usize, len: usize) -> Result<Self> {
        self.check_axis("slice", axis)?;
        let shape = self.shape();
        let end = start.saturating_add(len);
        if end > shape[axis] {
            return Err(TensorError::Index { op: "slice", index: end, len: shape[axis] });
        }
        if len == shape[axis] {
            return Ok(self.clone());
        }
        let (outer, inner) = (shape[..axis].iter().product(), shape.stride(axis));
        let buffer = self.backend().slice(
            &self.array.buffer,
            outer,
            shape[axis] * inner,
            start * inner,
            len * inner,
        )?;
        let array = Array::new(self.backend(), buffer, shape.with_axis(axis, len));
        Tape::record(Slice { axis, start }, &[self], array)
    }

    /// Zeros of length `len` along `axis`, with this tensor in them from `start` on: the opposite of
    /// [`Tensor::slice`].
    ///
    /// # Errors
    /// [`TensorError::Index`] when the axis does not exist or this tensor reaches beyond `len`.
    pub fn pad(&self, axis: usize, start: usize, len: usize) -> Result<Self> {
        self.check_axis("pad", axis)?;
        let shape = self.shape();
        let end = start.saturating_add(shape[axis]);
        if end > len {
            return Err(TensorError::Index { op: "pad", index: end, len });
        }
        let (outer, inner) = (shape[..axis].iter().product(), shape.stride(axis));
        let run = shape[axis] * inner;
        let buffer = self.backend().pad(&self.array.buffer, outer, len * inner, start * inner, run)?;
        Tape::record(
            Pad { axis, start },
            &[self],
            Array::new(self.backend(), buffer, shape.with_axis(axis, len)),
        )
    }

    /// Along the last axis, two neighbouring parts from `start` on, of such lengths, in each other's place.
    ///
    /// # Errors
    /// [`TensorError::Index`] when the axis ends before that.
    pub fn swap(&self, start: usize, parts: [usize; 2]) -> Result<Self> {
        let (outer, stride) = self.shape().rows_cols();
        let end = start.saturating_add(parts[0]).saturating_add(parts[1]);
        if end > stride {
            return Err(TensorError::Index { op: "swap", index: end, len: stride });
        }
        let buffer = self.backend().swap(&self.array.buffer, outer, stride, start, parts)?;
        Tape::record(Swap { start, parts }, &[self], Array::new(self.backend(), buffer, self.shape()))
    }

    /// Joins tensors along `axis`; their other axes must be equal.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`] when they don't match, [`TensorError::Index`] when there is no such
    /// axis, [`TensorError::Setting`] when no tensor was given.
    pub fn concat(parts: &[&Self], axis: usize) -> Result<Self> {
        let Some(first) = parts.first() else {
            return Err(TensorError::Setting {
                name: "parts",
                value: "[]".into(),
                rule: "give at least one tensor",
            });
        };
        first.check_axis("concat", axis)?;
        let shape = first.shape();
        let mut len = 0;
        for part in parts {
            let other = part.shape();
            if other.rank() != shape.rank() || other.with_axis(axis, shape[axis]) != shape {
                return Err(first.incompatible("concat", part, "all axes but the joined one must be equal"));
            }
            len += other[axis];
        }
        let outer = shape[..axis].iter().product();
        let buffers: SmallVec<[_; 4]> =
            parts.iter().map(|p| (&p.array.buffer, p.shape()[axis] * shape.stride(axis))).collect();
        let buffer = first.backend().concat(&buffers, outer)?;
        let array = Array::new(first.backend(), buffer, shape.with_axis(axis, len));
        Tape::record(Concat { axis }, parts, array)
    }
}
