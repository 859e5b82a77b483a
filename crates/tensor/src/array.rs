//! Plain values: a shape and a buffer, with no history.

use crate::{Backend, Result, Shape, TensorError};

/// A plain n-dimensional array on a backend, row-major. Cloning shares the buffer.
///
/// Parameters, gradients and optimiser states are arrays; they may cross threads. A [`Tensor`](crate::Tensor)
/// is an array that a [`Tape`](crate::Tape) may be watching.
#[derive(Clone, Debug)]
pub struct Array<B: Backend> {
    pub(crate) backend: B,
    pub(crate) buffer: B::Buffer,
    pub(crate) shape: Shape,
}

impl<B: Backend> Array<B> {
    pub(crate) fn new(backend: &B, buffer: B::Buffer, shape: Shape) -> Self {
        Self { backend: backend.clone(), buffer, shape }
    }

    /// An array of the given values, row-major.
    ///
    /// # Errors
    /// [`TensorError::Length`] when there are more or fewer values than the shape holds.
    pub fn from_vec(backend: &B, values: Vec<B::Elem>, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if values.len() != shape.len() {
            return Err(TensorError::Length { len: values.len(), shape });
        }
        Ok(Self::new(backend, backend.upload(values)?, shape))
    }

    /// An array of equal values.
    ///
    /// # Errors
    /// When the device has no memory left or is lost.
    pub fn full(backend: &B, value: B::Elem, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        Ok(Self::new(backend, backend.full(shape.len(), value)?, shape))
    }

    /// An array of zeros.
    ///
    /// # Errors
    /// When the device has no memory left or is lost.
    pub fn zeros(backend: &B, shape: impl Into<Shape>) -> Result<Self> {
        Self::full(backend, num_traits::Zero::zero(), shape)
    }

    /// The values, row-major, on the host.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn to_vec(&self) -> Result<Vec<B::Elem>> {
        self.backend.download(&self.buffer)
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The backend that holds the values.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Adds `other`, of the same shape, into this array.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`] when the shapes differ.
    pub fn add_assign(&mut self, other: &Self) -> Result<()> {
        if self.shape != other.shape {
            let (shapes, rule) = (Box::new([self.shape, other.shape]), "they must be equal");
            return Err(TensorError::Incompatible { op: "add_assign", shapes, rule });
        }
        self.backend.add_assign(&mut self.buffer, &other.buffer)
    }

    /// Adds others, of the same shape, into this array, one after the other.
    pub(crate) fn add_all(&mut self, others: &[Self]) -> Result<()> {
        match others {
            [] => Ok(()),
            [other] => self.add_assign(other),
            _ => {
                let buffers: Vec<&B::Buffer> = others.iter().map(|other| &other.buffer).collect();
                self.backend.add_all(&mut self.buffer, &buffers)
            }
        }
    }

    /// The same values seen in another shape of equal length.
    pub(crate) fn viewed(&self, shape: Shape) -> Self {
        debug_assert_eq!(self.shape.len(), shape.len());
        Self { shape, ..self.clone() }
    }
}
