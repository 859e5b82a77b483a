//! Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101).

use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::{Array, Backend, Result, Storage, TensorError};

/// AdamW's constants. The defaults are the field's.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AdamWSettings {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment, above 0.
    pub eps: f64,
    /// Decoupled decay, a rate per unit of learning rate, at least 0.
    pub weight_decay: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2 }
    }
}

/// One update's numbers, the same for every element: `θ ← keep θ − rate m / (sqrt(v) root_scale + eps)`.
#[derive(Clone, Copy, Debug)]
pub struct AdamWStep {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the corrected root of the second moment.
    pub eps: f64,
    /// `1 − lr · weight_decay`
    pub keep: f64,
    /// `lr / (1 − beta1^t)`
    pub rate: f64,
    /// `1 / sqrt(1 − beta2^t)`
    pub root_scale: f64,
}

/// Kernels of the optimiser.
pub trait OptimiserKernels: Storage {
    /// Updates a parameter and its two moments in place.
    ///
    /// # Errors
    /// Device errors.
    fn adamw(
        &self,
        parameter: &mut Self::Buffer,
        gradient: &Self::Buffer,
        first: &mut Self::Buffer,
        second: &mut Self::Buffer,
        step: AdamWStep,
    ) -> Result<()>;

    /// Sum of squares, in f64 on the host.
    ///
    /// # Errors
    /// Device errors.
    fn sum_of_squares(&self, x: &Self::Buffer) -> Result<f64>;

    /// Multiplies every element by `c`, in place.
    ///
    /// # Errors
    /// Device errors.
    fn scale_assign(&self, x: &mut Self::Buffer, c: f64) -> Result<()>;
}

impl<E: CpuElement> OptimiserKernels for Cpu<E> {
    fn adamw(
        &self,
        parameter: &mut CpuBuffer<E>,
        gradient: &CpuBuffer<E>,
        first: &mut CpuBuffer<E>,
        second: &mut CpuBuffer<E>,
        step: AdamWStep,
    ) -> Result<()> {
        let [b1, b2, eps, keep, rate, root_scale] =
            [step.beta1, step.beta2, step.eps, step.keep, step.rate, step.root_scale].map(E::of);
        let (c1, c2) = (E::of(1.0 - step.beta1), E::of(1.0 - step.beta2));
        let (p, m, v) = (parameter.make_mut(), first.make_mut(), second.make_mut());
        for (((p, &g), m), v) in p.iter_mut().zip(gradient.as_slice()).zip(m).zip(v) {
            *m = b1 * *m + c1 * g;
            *v = b2 * *v + c2 * g * g;
            *p = keep * *p - rate * *m / (v.sqrt() * root_scale + eps);
        }
        Ok(())
    }

    fn sum_of_squares(&self, x: &CpuBuffer<E>) -> Result<f64> {
        let mut lanes = [0.0_f64; 8];
        let (blocks, rest) = x.as_slice().as_chunks::<8>();
        for block in blocks {
            for (lane, x) in lanes.iter_mut().zip(block) {
                *lane += x.wide() * x.wide();
            }
        }
        Ok(lanes.iter().sum::<f64>() + rest.iter().map(|x| x.wide() * x.wide()).sum::<f64>())
    }

    fn scale_assign(&self, x: &mut CpuBuffer<E>, c: f64) -> Result<()> {
        let c = E::of(c);
        for x in x.make_mut() {
            *x *= c;
        }
        Ok(())
    }
}

struct Moments<B: Backend> {
    first: Array<B>,
    second: Array<B>,
    steps: i32,
}

/// AdamW over a fixed list of parameters.
///
/// A parameter without a gradient is left untouched, weight decay included; its moments and its bias
/// correction start at its first gradient.
pub struct AdamW<B: Backend> {
    settings: AdamWSettings,
    moments: Vec<Option<Moments<B>>>,
}

impl<B: Backend> AdamW<B> {
    /// An optimiser that has made no step yet.
    ///
    /// # Errors
    /// [`TensorError::Setting`] for a constant outside of its range.
    pub fn new(settings: AdamWSettings) -> Result<Self> {
        let check = |name, value: f64, good: bool, rule| {
            if good { Ok(()) } else { Err(TensorError::Setting { name, value: value.to_string(), rule }) }
        };
        let AdamWSettings { beta1, beta2, eps, weight_decay } = settings;
        check("beta1", beta1, (0.0..1.0).contains(&beta1), "it must lie in [0, 1)")?;
        check("beta2", beta2, (0.0..1.0).contains(&beta2), "it must lie in [0, 1)")?;
        check("eps", eps, eps > 0.0 && eps.is_finite(), "it must be above 0 and finite")?;
        let decays = weight_decay >= 0.0 && weight_decay.is_finite();
        check("weight_decay", weight_decay, decays, "it must be at least 0 and finite")?;
        Ok(Self { settings, moments: Vec::new() })
    }

    /// Updates parameter `i` by gradient `i`, for every `i` that has one.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`] when a gradient has not its parameter's shape.
    pub fn step<'a>(
        &mut self,
        parameters: impl IntoIterator<Item = &'a mut Array<B>>,
        gradients: &[Option<Array<B>>],
        lr: f64,
    ) -> Result<()> {
        let AdamWSettings { beta1, beta2, eps, weight_decay } = self.settings;
        self.moments.resize_with(gradients.len().max(self.moments.len()), || None);
        for ((parameter, gradient), moments) in parameters.into_iter().zip(gradients).zip(&mut self.moments) {
            let Some(gradient) = gradient else { continue };
            if parameter.shape != gradient.shape {
                let (left, right) = (parameter.shape, gradient.shape);
                let rule = "a gradient has its parameter's shape";
                return Err(TensorError::Incompatible { op: "adamw", left, right, rule });
            }
            if moments.is_none() {
                let zeros = || Array::zeros(&parameter.backend, parameter.shape);
                *moments = Some(Moments { first: zeros()?, second: zeros()?, steps: 0 });
            }
            let Some(Moments { first, second, steps }) = moments else { continue };
            *steps += 1;
            let step = AdamWStep {
                beta1,
                beta2,
                eps,
                keep: 1.0 - lr * weight_decay,
                rate: lr / (1.0 - beta1.powi(*steps)),
                root_scale: 1.0 / (1.0 - beta2.powi(*steps)).sqrt(),
            };
            let backend = parameter.backend.clone();
            backend.adamw(
                &mut parameter.buffer,
                &gradient.buffer,
                &mut first.buffer,
                &mut second.buffer,
                step,
            )?;
        }
        Ok(())
    }
}
