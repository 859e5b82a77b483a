//! Shapes: the lengths of a tensor's axes, row-major (the last axis is contiguous).

use std::fmt;
use std::ops::Deref;

use crate::{Result, TensorError};

/// The lengths of a tensor's axes, outermost first; a scalar has none.
///
/// A small `Copy` value, so that shape arithmetic never allocates.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; Shape::MAX_RANK],
    rank: usize,
}

impl Shape {
    /// Most axes a shape can have.
    pub const MAX_RANK: usize = 5;

    /// The shape of a scalar: no axes, one element.
    pub const SCALAR: Shape = Shape { dims: [1; Shape::MAX_RANK], rank: 0 };

    /// A shape of the given axis lengths.
    ///
    /// # Errors
    /// [`TensorError::Rank`] for more than [`Shape::MAX_RANK`] axes.
    pub fn new(dims: &[usize]) -> Result<Self> {
        if dims.len() > Self::MAX_RANK {
            return Err(TensorError::Rank { rank: dims.len() });
        }
        let mut shape = Self::SCALAR;
        shape.dims[..dims.len()].copy_from_slice(dims);
        shape.rank = dims.len();
        Ok(shape)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.iter().product()
    }

    /// Whether some axis has length 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Product of all axes but the last, and the last: how row-wise operations see a tensor.
    /// A scalar is one row of one.
    pub fn rows_cols(&self) -> (usize, usize) {
        match self.split_last() {
            Some((&cols, rows)) => (rows.iter().product(), cols),
            None => (1, 1),
        }
    }

    /// Elements between neighbours along `axis`.
    pub(crate) fn stride(&self, axis: usize) -> usize {
        self[axis + 1..].iter().product()
    }

    /// This shape with `axis` of another length.
    pub(crate) fn with_axis(mut self, axis: usize, len: usize) -> Self {
        self.dims[axis] = len;
        self
    }

    /// The shape that two operands broadcast to: aligned at the last axis, lengths equal or 1.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let (long, short) = if self.rank >= other.rank { (self, other) } else { (other, self) };
        let mut out = *long;
        let lead = long.rank - short.rank;
        for (i, &n) in short.iter().enumerate() {
            out.dims[lead + i] = match (long[lead + i], n) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            };
        }
        Some(out)
    }

    /// The axes of `self` along which a tensor of shape `small` was repeated to reach `self`,
    /// as flags; `None` when `small` does not broadcast to `self`.
    pub(crate) fn repeated_axes(&self, small: &Shape) -> Option<[bool; Shape::MAX_RANK]> {
        let lead = self.rank.checked_sub(small.rank)?;
        let mut repeated = [false; Shape::MAX_RANK];
        repeated[..lead].fill(true);
        for (i, &n) in small.iter().enumerate() {
            if n != self[lead + i] {
                if n != 1 {
                    return None;
                }
                repeated[lead + i] = true;
            }
        }
        Some(repeated)
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank]
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        const { assert!(N <= Shape::MAX_RANK, "a shape has at most five axes") };
        let mut shape = Shape::SCALAR;
        shape.dims[..N].copy_from_slice(&dims);
        shape.rank = N;
        shape
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, n) in self.iter().enumerate() {
            write!(f, "{}{n}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_aligns_at_the_last_axis() {
        let check = |a: &[usize], b: &[usize], out: Option<&[usize]>| {
            let (a, b) = (Shape::new(a).unwrap(), Shape::new(b).unwrap());
            let out = out.map(|o| Shape::new(o).unwrap());
            assert_eq!(a.broadcast(&b), out, "{a} with {b}");
            assert_eq!(b.broadcast(&a), out, "{b} with {a}");
        };
        check(&[2, 3], &[3], Some(&[2, 3]));
        check(&[2, 1], &[1, 3], Some(&[2, 3]));
        check(&[], &[4, 5], Some(&[4, 5]));
        check(&[2, 3], &[2], None);
        check(&[7, 1, 3], &[2, 3], Some(&[7, 2, 3]));
    }

    #[test]
    fn repeated_axes_are_those_that_broadcasting_filled() {
        let big = Shape::from([2, 3, 4]);
        assert_eq!(
            big.repeated_axes(&Shape::from([4])).map(|r| r[..3].to_vec()),
            Some(vec![true, true, false])
        );
        assert_eq!(
            big.repeated_axes(&Shape::from([2, 1, 4])).map(|r| r[..3].to_vec()),
            Some(vec![false, true, false])
        );
        assert_eq!(big.repeated_axes(&Shape::from([3])), None);
        assert_eq!(Shape::from([4]).repeated_axes(&big), None);
    }

    #[test]
    fn too_many_axes_is_an_error_that_says_how_many() {
        let error = Shape::new(&[1; 6]).unwrap_err().to_string();
        assert_eq!(error, "a shape of 6 dimensions was asked for; at most 5 are supported");
    }
}
