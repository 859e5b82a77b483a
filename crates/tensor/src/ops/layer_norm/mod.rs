//! Layer normalisation (Ba, Kiros and Hinton, arXiv 1607.06450) with its scale and shift.

use smallvec::smallvec;

use crate::ops::zip::Zip;
use crate::tape::{Grads, Op, Recorded, Share};
use crate::{Array, Backend, Result, Storage, Tape, Tensor};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;

/// The gradients of a layer normalisation.
#[derive(Debug)]
pub struct LayerNormGrad<Buffer> {
    /// By x.
    pub x: Buffer,
    /// By γ and by β, where they were asked for.
    pub parameters: Option<(Buffer, Buffer)>,
}

/// Kernels over rows of `cols` elements.
pub trait LayerNormKernels: Storage {
    /// `x̂ γ + β` of each row, x̂ the standardised row.
    ///
    /// # Errors
    /// Device errors.
    fn layer_norm(
        &self,
        x: &Self::Buffer,
        gamma: &Self::Buffer,
        beta: &Self::Buffer,
        cols: usize,
        eps: f64,
    ) -> Result<Self::Buffer>;

    /// `x + y`, and its layer normalisation, where there is a kernel for both.
    ///
    /// # Errors
    /// Device errors.
    fn add_layer_norm(
        &self,
        _x: &Self::Buffer,
        _y: &Self::Buffer,
        _gamma: &Self::Buffer,
        _beta: &Self::Buffer,
        _cols: usize,
        _eps: f64,
    ) -> Result<Option<[Self::Buffer; 2]>> {
        Ok(None)
    }

    /// The gradient by x, and, if `parameters`, those by γ and β, given that of the output.
    ///
    /// # Errors
    /// Device errors.
    fn layer_norm_grad(
        &self,
        x: &Self::Buffer,
        gamma: &Self::Buffer,
        grad: &Self::Buffer,
        cols: usize,
        eps: f64,
        parameters: bool,
    ) -> Result<LayerNormGrad<Self::Buffer>>;

    /// Where it costs less to take the derivative by γ once for all steps of a sequence: what does that.
    fn along_sequences(&self) -> Option<&dyn NormsAlongSequences<Self::Buffer>> {
        None
    }
}

/// Kernels for the layer normalisations of all steps of a sequence.
pub trait NormsAlongSequences<Buffer> {
    /// The derivative by γ, `Σ g ∘ x̂` over the rows of pairs of g and x, `[cols]`.
    ///
    /// # Errors
    /// Device errors.
    fn by_gamma(&self, pairs: &[(&Buffer, &Buffer)], cols: usize, eps: f64) -> Result<Buffer>;
}

struct LayerNorm {
    eps: f64,
}

impl<B: Backend> Op<B> for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let (x, gamma, beta) = (&r.inputs[0], &r.inputs[1], &r.inputs[2]);
        if r.is_plain() {
            let (backend, cols) = (x.backend(), gamma.shape().len());
            let buffers = (&x.array.buffer, &gamma.array.buffer, &grad.array.buffer);
            // a step's, of which there are many
            let later = x.shape().rank() == 2 && backend.along_sequences().is_some();
            if later {
                let (g, x, eps) = (grad.array(), x.array(), self.eps);
                r.put_off(1, || Share::Normal { g: g.clone(), x: x.clone(), eps });
                r.put_off(2, || Share::Rows(g.clone()));
            }
            let parameters = !later && (r.wanted[1] || r.wanted[2]);
            if let (Some(kernels), false) = (r.onto(), parameters)
                && let Some(before) = r.take_sum(0)
            {
                let dx = kernels.layer_norm_back(buffers.0, buffers.1, buffers.2, &before, cols, self.eps)?;
                return Ok(smallvec![Some(Array::new(backend, dx, x.shape()).into()), None, None]);
            }
            let LayerNormGrad { x: dx, parameters: d_parameters } =
                backend.layer_norm_grad(buffers.0, buffers.1, buffers.2, cols, self.eps, parameters)?;
            let plain = |buffer, shape| Some(Tensor::from(Array::new(backend, buffer, shape)));
            let (d_gamma, d_beta) = d_parameters.unzip();
            return Ok(smallvec![
                plain(dx, x.shape()),
                d_gamma.and_then(|d| plain(d, gamma.shape())),
                d_beta.and_then(|d| plain(d, beta.shape())),
            ]);
        }
        // the same, as the derivative of its parts
        let dx = r.want(0, || x.normalize_rows_slope(&grad.mul(gamma)?, self.eps))?;
        let d_gamma = r.want(1, || grad.mul(&x.normalize(self.eps)?)?.sum_to(gamma.shape()))?;
        let d_beta = r.want(2, || grad.sum_to(beta.shape()))?;
        Ok(smallvec![dx, d_gamma, d_beta])
    }
}

impl<B: Backend> Tensor<B> {
    /// Layer normalisation over the last axis: `normalize(x, eps) γ + β`, γ and β of the last axis' length.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`](crate::TensorError::Incompatible) when the shapes don't fit.
    pub fn layer_norm(&self, gamma: &Self, beta: &Self, eps: f64) -> Result<Self> {
        let cols = self.normed_length(gamma, beta)?;
        let (x, gamma_b, beta_b) = (&self.array.buffer, &gamma.array.buffer, &beta.array.buffer);
        let buffer = self.backend().layer_norm(x, gamma_b, beta_b, cols, eps)?;
        Tape::record(
            LayerNorm { eps },
            &[self, gamma, beta],
            Array::new(self.backend(), buffer, self.shape()),
        )
    }

    /// `x + y`, of one shape, and its layer normalisation: what [`add`](Self::add) and [`layer_norm`](Self::layer_norm) give.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`](crate::TensorError::Incompatible) when the shapes don't fit.
    pub fn add_layer_norm(&self, y: &Self, gamma: &Self, beta: &Self, eps: f64) -> Result<[Self; 2]> {
        let cols = self.normed_length(gamma, beta)?;
        let at_once = match self.shape() == y.shape() {
            true => {
                let [x, y, gamma, beta] = [self, y, gamma, beta].map(|t| &t.array.buffer);
                self.backend().add_layer_norm(x, y, gamma, beta, cols, eps)?
            }
            false => None,
        };
        let Some(buffers) = at_once else {
            let sum = self.add(y)?;
            let normed = sum.layer_norm(gamma, beta, eps)?;
            return Ok([sum, normed]);
        };
        let [sum, normed] = buffers.map(|buffer| Array::new(self.backend(), buffer, self.shape()));
        let sum = Tape::record(Zip::Add, &[self, y], sum)?;
        let normed = Tape::record(LayerNorm { eps }, &[&sum, gamma, beta], normed)?;
        Ok([sum, normed])
    }

    /// The length of the last axis, which γ and β must have.
    fn normed_length(&self, gamma: &Self, beta: &Self) -> Result<usize> {
        let cols = self.row_length("layer_norm")?;
        let other = [gamma, beta].into_iter().find(|parameter| parameter.shape()[..] != [cols]);
        let rule = "γ and β are as long as the last axis";
        other.map_or(Ok(cols), |other| Err(self.incompatible("layer_norm", other, rule)))
    }
}
