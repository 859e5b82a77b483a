//! Layer normalisation on a CUDA device.

use cudarc::driver::LaunchConfig;

use super::{LayerNormGrad, LayerNormKernels, NormsAlongSequences};
use crate::cuda::{Cuda, CudaBuffer, grid, groups};
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] =
    &["layer_norm", "layer_norm_back", "layer_norm_sums", "layer_norm_totals"];

/// Chunks that rows are summed in, at most; no chunk is shorter than [`SHORTEST`].
const CHUNKS: usize = 128;
const SHORTEST: usize = 16;

/// Groups for `rows` rows. Threads keep their share of a row in registers, of which a block of 1024 has too few for each: a row of
/// whatever length is dealt to as many as one of this.
fn row_groups(rows: usize, cols: usize) -> LaunchConfig {
    const LONGEST: usize = 8192;
    groups(rows, cols.min(LONGEST))
}

impl LayerNormKernels for Cuda {
    fn layer_norm(
        &self,
        x: &CudaBuffer,
        gamma: &CudaBuffer,
        beta: &CudaBuffer,
        cols: usize,
        eps: f64,
    ) -> Result<CudaBuffer> {
        self.normed(x, None, [gamma, beta], cols, eps)
    }

    fn add_layer_norm(
        &self,
        x: &CudaBuffer,
        y: &CudaBuffer,
        gamma: &CudaBuffer,
        beta: &CudaBuffer,
        cols: usize,
        eps: f64,
    ) -> Result<Option<[CudaBuffer; 2]>> {
        let sum = self.build(x.len(), |_| Ok(()))?;
        let out = self.normed(x, Some((y, &sum)), [gamma, beta], cols, eps)?;
        Ok(Some([sum, out]))
    }

    fn layer_norm_grad(
        &self,
        x: &CudaBuffer,
        gamma: &CudaBuffer,
        grad: &CudaBuffer,
        cols: usize,
        eps: f64,
        parameters: bool,
    ) -> Result<LayerNormGrad<CudaBuffer>> {
        let rows = x.len() / cols;
        // two numbers a row
        let kept = self.build(if parameters { 2 * rows } else { 0 }, |_| Ok(()))?;
        let dx = self.layer_norm_back_onto([x, gamma, grad], None, parameters.then_some(&kept), cols, eps)?;
        if !parameters {
            return Ok(LayerNormGrad { x: dx, parameters: None });
        }
        if rows == 0 {
            let zeros = || self.full(cols, 0.0);
            return Ok(LayerNormGrad { x: dx, parameters: Some((zeros()?, zeros()?)) });
        }
        let chunk = rows.div_ceil(CHUNKS).max(SHORTEST);
        let chunks = rows.div_ceil(chunk);
        let sums = self.build(2 * chunks * cols, |out| {
            let mut blocks = grid(chunks, 32, 8);
            blocks.grid_dim.1 = cols.div_ceil(32) as u32;
            let arguments =
                (out, kept.slice(), x.slice(), grad.slice(), rows as u32, cols as u32, chunk as u32);
            // SAFETY: layer_norm_sums(out, kept, x, grad, rows, cols, chunk) reads `rows` rows of `cols` elements and two
            // numbers for each row, and writes two rows for each chunk; its blocks have the 256 threads it is written for
            unsafe { self.launch("layer_norm_sums", blocks, arguments) }
        })?;
        let mut d_beta = self.build(cols, |_| Ok(()))?;
        let d_gamma = self.build(cols, |d_gamma| {
            let arguments = (d_gamma, d_beta.make_mut()?, sums.slice(), chunks as u32, cols as u32);
            // SAFETY: layer_norm_totals(a, b, parts, chunks, cols) reads `chunks` times two rows of `cols` elements and
            // writes one row to each of a and b
            unsafe { self.launch("layer_norm_totals", grid(cols.div_ceil(32), 32, 8), arguments) }
        })?;
        Ok(LayerNormGrad { x: dx, parameters: Some((d_gamma, d_beta)) })
    }

    fn along_sequences(&self) -> Option<&dyn NormsAlongSequences<CudaBuffer>> {
        Some(self)
    }
}

impl Cuda {
    /// The layer normalisation of x, or of x and another added up, which goes to a buffer that nobody shares.
    fn normed(
        &self,
        x: &CudaBuffer,
        more: Option<(&CudaBuffer, &CudaBuffer)>,
        [gamma, beta]: [&CudaBuffer; 2],
        cols: usize,
        eps: f64,
    ) -> Result<CudaBuffer> {
        let rows = x.len() / cols;
        let (y, sum) = more.map_or((0, 0), |(y, sum)| (y.address(), sum.address()));
        self.build(x.len(), |out| {
            let sizes = (rows as u32, cols as u32, eps as f32);
            let arguments = (out, sum, x.slice(), y, gamma.slice(), beta.slice(), sizes.0, sizes.1, sizes.2);
            // SAFETY: layer_norm(out, sum, x, y, gamma, beta, rows, cols, eps) reads and writes `rows` rows of `cols` elements,
            // as many as x, y, `sum` and `out` have, and reads `cols` of gamma and beta
            unsafe { self.launch("layer_norm", row_groups(rows, cols), arguments) }
        })
    }

    /// The derivative by x, given x, γ and that of the output, added to what was before. Each row's two moments go to `kept`,
    /// which nobody shares.
    pub(crate) fn layer_norm_back_onto(
        &self,
        [x, gamma, grad]: [&CudaBuffer; 3],
        before: Option<&CudaBuffer>,
        kept: Option<&CudaBuffer>,
        cols: usize,
        eps: f64,
    ) -> Result<CudaBuffer> {
        let rows = x.len() / cols;
        let (kept, before) = (kept.map_or(0, CudaBuffer::address), before.map_or(0, CudaBuffer::address));
        self.build(x.len(), |dx| {
            let sizes = (rows as u32, cols as u32, eps as f32);
            let given = (x.slice(), gamma.slice(), grad.slice());
            let arguments = (dx, kept, given.0, given.1, given.2, before, sizes.0, sizes.1, sizes.2);
            // SAFETY: layer_norm_back(dx, kept, x, gamma, grad, before, rows, cols, eps) reads and writes `rows` rows of `cols`
            // elements, as many as dx, x, grad and what was before have, reads `cols` of gamma, and writes two a row to `kept`
            // if there is one
            unsafe { self.launch("layer_norm_back", row_groups(rows, cols), arguments) }
        })
    }
}

impl NormsAlongSequences<CudaBuffer> for Cuda {
    fn by_gamma(&self, pairs: &[(&CudaBuffer, &CudaBuffer)], cols: usize, eps: f64) -> Result<CudaBuffer> {
        let (g, x): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        let (g, x) = (self.joined(&g)?, self.joined(&x)?);
        // γ makes a difference to the gradient by x alone
        let any = self.full(cols, 1.0)?;
        let LayerNormGrad { parameters, .. } = self.layer_norm_grad(&x, &any, &g, cols, eps, true)?;
        match parameters {
            Some((by_gamma, _)) => Ok(by_gamma),
            None => self.full(cols, 0.0),
        }
    }
}
