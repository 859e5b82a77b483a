//! How operands are walked along an output.

use cudarc::driver::DeviceRepr;

use crate::Shape;

/// For each of N operands, how far apart its elements lie along each axis of an output. The same struct is in
/// `common.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Strided<const N: usize> {
    rank: u32,
    lens: [u32; Shape::MAX_RANK],
    strides: [[u32; Shape::MAX_RANK]; N],
}

// SAFETY: it is laid out as in C, has no padding and holds numbers only, so it can be handed to a kernel
unsafe impl<const N: usize> DeviceRepr for Strided<N> {}

impl<const N: usize> Strided<N> {
    /// `strides[n][axis]` is how far apart neighbours along the output's `axis` lie in operand `n`.
    ///
    /// Axes that all operands walk along as if they were one become one, which saves a kernel divisions:
    /// operands of the output's own shape are left with a single axis, a repeated row with two.
    pub(crate) fn new(out: &Shape, strides: [[usize; Shape::MAX_RANK]; N]) -> Self {
        let mut walk = Self { rank: 0, lens: [1; Shape::MAX_RANK], strides: [[0; Shape::MAX_RANK]; N] };
        if out.is_empty() {
            return walk;
        }
        for (axis, &len) in out.iter().enumerate().filter(|&(_, &len)| len != 1) {
            let (len, rank) = (len as u32, walk.rank as usize);
            let by = strides.map(|s| s[axis] as u32);
            let joins = rank > 0 && (0..N).all(|n| walk.strides[n][rank - 1] == by[n] * len);
            let place = if joins { rank - 1 } else { rank };
            walk.lens[place] *= len;
            for (walk, by) in walk.strides.iter_mut().zip(by) {
                walk[place] = by;
            }
            walk.rank = place as u32 + 1;
        }
        walk
    }

    /// Operands of the given shapes, all broadcast to `out`.
    pub(crate) fn broadcast(out: &Shape, operands: [&Shape; N]) -> Self {
        Self::new(
            out,
            operands.map(|operand| {
                let repeated = out.repeated_axes(operand).unwrap_or_default();
                let lead = out.rank() - operand.rank();
                let mut strides = [0; Shape::MAX_RANK];
                for axis in (lead..out.rank()).filter(|&axis| !repeated[axis]) {
                    strides[axis] = operand.stride(axis - lead);
                }
                strides
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{any, coordinates, place};

    /// What the kernels do.
    fn locate<const N: usize>(walk: &Strided<N>, mut i: u32) -> [u32; N] {
        let mut at = [0; N];
        for axis in (1..walk.rank as usize).rev() {
            let along = i % walk.lens[axis];
            i /= walk.lens[axis];
            (0..N).for_each(|n| at[n] += along * walk.strides[n][axis]);
        }
        (0..N).for_each(|n| at[n] += i * walk.strides[n][0]);
        at
    }

    #[test]
    fn what_is_walked_along_as_one_axis_is_one() {
        let check = |out: &[usize], a: &[usize], b: &[usize], rank: u32| {
            let [out, a, b] = [out, a, b].map(|dims| Shape::new(dims).unwrap());
            assert_eq!(Strided::broadcast(&out, [&a, &b]).rank, rank, "{a} and {b} to {out}");
        };
        check(&[], &[], &[], 0);
        check(&[2, 3, 4], &[2, 3, 4], &[2, 3, 4], 1);
        check(&[2, 3, 4], &[2, 3, 4], &[], 1);
        check(&[2, 3, 4], &[2, 3, 4], &[4], 2);
        check(&[2, 3, 4], &[2, 3, 4], &[2, 1, 1], 2);
        check(&[2, 1, 4], &[2, 1, 4], &[2, 1, 4], 1);
        check(&[2, 3, 4], &[2, 1, 4], &[3, 1], 3);
    }

    proptest! {
        #[test]
        fn every_element_is_found((out, a, b) in any::shape().prop_flat_map(|out| {
            (Just(out), any::smaller(out), any::smaller(out))
        })) {
            let walk = Strided::broadcast(&out, [&a, &b]);
            for (i, at) in coordinates(out).enumerate() {
                prop_assert_eq!(locate(&walk, i as u32).map(|at| at as usize), [place(&at, a), place(&at, b)]);
            }
        }
    }
}
