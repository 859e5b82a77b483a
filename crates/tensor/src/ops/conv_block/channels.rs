//! Blocks whose channels are no whole registers, made so by channels of zeros.

use super::grid::LANES;
use super::{BlockInput, BlockSizes};
use crate::cpu::{CpuBuffer, CpuElement};

/// A block with more channels.
pub(super) struct Wide<E: CpuElement> {
    x: CpuBuffer<E>,
    weight: CpuBuffer<E>,
    gamma: CpuBuffer<E>,
    beta: CpuBuffer<E>,
    pub sizes: BlockSizes,
}

impl<E: CpuElement> Wide<E> {
    /// The block with as many channels as fill registers; `None` if it has such.
    pub fn of(block: &BlockInput<'_, CpuBuffer<E>>) -> Option<Self> {
        let few = block.sizes;
        let [inputs, outputs] = [few.inputs, few.outputs].map(|channels| channels.next_multiple_of(LANES));
        let sizes = BlockSizes { inputs, outputs, ..few };
        let [gamma, beta] =
            [block.gamma, block.beta].map(|x| with_channels(x, [few.outputs, outputs], E::zero()));
        (sizes != few).then(|| Self {
            x: with_channels(block.x, [few.inputs, inputs], E::zero()),
            weight: with_kernels(block.weight, [few.inputs, inputs], outputs),
            gamma,
            beta,
            sizes,
        })
    }

    pub fn block<'a>(&'a self, few: &BlockInput<'a, CpuBuffer<E>>) -> BlockInput<'a, CpuBuffer<E>> {
        let Self { x, weight, gamma, beta, sizes } = self;
        BlockInput { x, weight, gamma, beta, groups: few.groups, eps: few.eps, sizes: *sizes }
    }
}

/// Rows of one length with another: cut off, or `fill`ed up.
pub(super) fn with_channels<E: CpuElement>(
    x: &CpuBuffer<E>,
    [from, to]: [usize; 2],
    fill: E,
) -> CpuBuffer<E> {
    CpuBuffer::build(x.as_slice().len() / from * to, |wide| {
        for (wide, x) in wide.chunks_exact_mut(to).zip(x.as_slice().chunks_exact(from)) {
            let both = from.min(to);
            wide[..both].copy_from_slice(&x[..both]);
            wide[both..].fill(fill);
        }
    })
}

/// A weight `[out, in, 3, 3]` with other channels: cut off, or filled up with zeros.
pub(super) fn with_kernels<E: CpuElement>(
    weight: &CpuBuffer<E>,
    inputs: [usize; 2],
    outputs: usize,
) -> CpuBuffer<E> {
    let weight = with_channels(weight, inputs.map(|inputs| 9 * inputs), E::zero());
    CpuBuffer::build(outputs * 9 * inputs[1], |all| {
        let both = all.len().min(weight.as_slice().len());
        all[..both].copy_from_slice(&weight.as_slice()[..both]);
        all[both..].fill(E::zero());
    })
}
