//! Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101).

use crate::cpu::simd::{fma, kernel};
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::{Array, Backend, Result, Shape, Storage, TensorError};

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

/// One parameter's update.
#[derive(Debug)]
pub struct AdamWUpdate<'a, Buffer> {
    /// The parameter.
    pub parameter: &'a mut Buffer,
    /// Its gradient.
    pub gradient: &'a Buffer,
    /// Its first moment.
    pub first: &'a mut Buffer,
    /// Its second moment.
    pub second: &'a mut Buffer,
    /// The update's numbers.
    pub step: AdamWStep,
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

    /// Updates several parameters and their moments in place.
    ///
    /// # Errors
    /// Device errors.
    fn adamw_all(&self, updates: Vec<AdamWUpdate<'_, Self::Buffer>>) -> Result<()> {
        for AdamWUpdate { parameter, gradient, first, second, step } in updates {
            self.adamw(parameter, gradient, first, second, step)?;
        }
        Ok(())
    }

    /// Sum of the squares of several buffers, in f64 on the host.
    ///
    /// # Errors
    /// Device errors.
    fn sum_of_all_squares(&self, all: &[&Self::Buffer]) -> Result<f64> {
        let mut sum = 0.0;
        for x in all {
            sum += self.sum_of_squares(x)?;
        }
        Ok(sum)
    }

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
        let (p, m, v) = (parameter.make_mut(), first.make_mut(), second.make_mut());
        update(p, gradient.as_slice(), m, v, step);
        Ok(())
    }

    fn sum_of_squares(&self, x: &CpuBuffer<E>) -> Result<f64> {
        Ok(sum_of_squares(x.as_slice()))
    }

    fn scale_assign(&self, x: &mut CpuBuffer<E>, c: f64) -> Result<()> {
        let c = E::of(c);
        for x in x.make_mut() {
            *x *= c;
        }
        Ok(())
    }
}

kernel! {
    fn update<E>(p: &mut [E], g: &[E], m: &mut [E], v: &mut [E], step: AdamWStep) {
        let [b1, b2, eps, keep, rate, root_scale] =
            [step.beta1, step.beta2, step.eps, step.keep, step.rate, step.root_scale].map(E::of);
        let (c1, c2) = (E::of(1.0 - step.beta1), E::of(1.0 - step.beta2));
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            *m = fma::<E, FUSED>(b1, *m, c1 * g);
            *v = fma::<E, FUSED>(b2, *v, c2 * g * g);
            *p = fma::<E, FUSED>(keep, *p, -rate * *m / fma::<E, FUSED>(v.sqrt(), root_scale, eps));
        }
    }
}

kernel! {
    fn sum_of_squares<E>(x: &[E]) -> f64 {
        let mut lanes = [[0.0_f64; 8]; 4];
        let (blocks, rest) = x.as_chunks::<32>();
        for block in blocks {
            for (lane, x) in lanes.as_flattened_mut().iter_mut().zip(block) {
                *lane = fma::<f64, FUSED>(x.wide(), x.wide(), *lane);
            }
        }
        lanes.as_flattened().iter().sum::<f64>() + rest.iter().map(|x| x.wide() * x.wide()).sum::<f64>()
    }
}

/// What is kept of one parameter from step to step.
#[derive(Debug, Clone)]
pub struct Moments<B: Backend> {
    /// Running mean of the gradient, of the parameter's shape.
    pub first: Array<B>,
    /// Running mean of its square, of the parameter's shape.
    pub second: Array<B>,
    /// Steps that the parameter has been taken through, at least 1.
    pub steps: i32,
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

    /// An optimiser that goes on from these moments, one entry a parameter, `None` where there was no gradient yet.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`TensorError::Setting`] for moments of no step, and [`TensorError::Incompatible`] for two of
    /// different shapes.
    pub fn with_moments(settings: AdamWSettings, moments: Vec<Option<Moments<B>>>) -> Result<Self> {
        for Moments { first, second, steps } in moments.iter().flatten() {
            if *steps < 1 {
                let rule = "moments are of at least one step";
                return Err(TensorError::Setting { name: "steps", value: steps.to_string(), rule });
            }
            if first.shape != second.shape {
                return Err(incompatible(
                    [first.shape, second.shape],
                    "both moments have their parameter's shape",
                ));
            }
        }
        Ok(Self { moments, ..Self::new(settings)? })
    }

    /// The constants.
    pub fn settings(&self) -> AdamWSettings {
        self.settings
    }

    /// The moments, one entry a parameter; `None`, or no entry, where there was no gradient yet.
    pub fn moments(&self) -> &[Option<Moments<B>>] {
        &self.moments
    }

    /// Updates parameter `i` by gradient `i`, for every `i` that has one.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`] when a gradient, or the moments that it goes into, have not the parameter's shape.
    pub fn step<'a>(
        &mut self,
        parameters: impl IntoIterator<Item = &'a mut Array<B>>,
        gradients: &[Option<Array<B>>],
        lr: f64,
    ) -> Result<()> {
        let AdamWSettings { beta1, beta2, eps, weight_decay } = self.settings;
        self.moments.resize_with(gradients.len().max(self.moments.len()), || None);
        let mut updates = Vec::with_capacity(gradients.len());
        let mut backend = None;
        for ((parameter, gradient), moments) in parameters.into_iter().zip(gradients).zip(&mut self.moments) {
            let Some(gradient) = gradient else { continue };
            if parameter.shape != gradient.shape {
                let rule = "a gradient has its parameter's shape";
                return Err(incompatible([parameter.shape, gradient.shape], rule));
            }
            if moments.is_none() {
                let zeros = || Array::zeros(&parameter.backend, parameter.shape);
                *moments = Some(Moments { first: zeros()?, second: zeros()?, steps: 0 });
            }
            let Some(Moments { first, second, steps }) = moments else { continue };
            if parameter.shape != first.shape {
                let rule = "both moments have their parameter's shape";
                return Err(incompatible([parameter.shape, first.shape], rule));
            }
            *steps += 1;
            let step = AdamWStep {
                beta1,
                beta2,
                eps,
                keep: 1.0 - lr * weight_decay,
                rate: lr / (1.0 - beta1.powi(*steps)),
                root_scale: 1.0 / (1.0 - beta2.powi(*steps)).sqrt(),
            };
            backend = Some(parameter.backend.clone());
            updates.push(AdamWUpdate {
                parameter: &mut parameter.buffer,
                gradient: &gradient.buffer,
                first: &mut first.buffer,
                second: &mut second.buffer,
                step,
            });
        }
        backend.map_or(Ok(()), |backend| backend.adamw_all(updates))
    }
}

fn incompatible(shapes: [Shape; 2], rule: &'static str) -> TensorError {
    TensorError::Incompatible { op: "adamw", shapes: Box::new(shapes), rule }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check, check_error, tensor};

    /// One element's update by the textbook, in PyTorch's order of operations: decay first, then Adam.
    struct Textbook {
        p: f64,
        m: f64,
        v: f64,
    }

    impl Textbook {
        fn step(&mut self, g: f64, t: i32, lr: f64, s: AdamWSettings) {
            self.p *= 1.0 - lr * s.weight_decay;
            self.m = s.beta1 * self.m + (1.0 - s.beta1) * g;
            self.v = s.beta2 * self.v + (1.0 - s.beta2) * g * g;
            let denominator = self.v.sqrt() / (1.0 - s.beta2.powi(t)).sqrt() + s.eps;
            self.p -= lr / (1.0 - s.beta1.powi(t)) * self.m / denominator;
        }
    }

    #[test]
    fn three_steps_are_the_textbooks() {
        let settings = AdamWSettings { beta1: 0.8, beta2: 0.95, eps: 1e-3, weight_decay: 0.1 };
        let start = [1.0, -2.0, 0.5, 0.0];
        let gradients = [[0.1, -3.0, 0.0, 1e-4], [-0.4, 2.0, 0.0, 1e-4], [0.2, 0.5, 1.0, -1e-4]];
        let rates = [0.1, 0.01, 0.05];
        let mut textbook = start.map(|p| Textbook { p, m: 0.0, v: 0.0 });
        let mut parameter = tensor(&start, [4]).array;
        let mut optimiser = AdamW::new(settings).unwrap();
        for ((gradient, lr), t) in gradients.iter().zip(rates).zip(1..) {
            for (element, &g) in textbook.iter_mut().zip(gradient) {
                element.step(g, t, lr, settings);
            }
            optimiser.step([&mut parameter], &[Some(tensor(gradient, [4]).array)], lr).unwrap();
            check(Ok(parameter.clone().into()), &textbook.each_ref().map(|e| e.p), [4]);
        }
    }

    #[test]
    fn the_first_step_is_the_rate_along_the_gradients_sign() {
        let settings = AdamWSettings { weight_decay: 0.0, eps: 1e-30, ..AdamWSettings::default() };
        let mut parameter = tensor(&[1.0, 1.0], [2]).array;
        let gradient = tensor(&[1e-5, -1e5], [2]).array;
        AdamW::new(settings).unwrap().step([&mut parameter], &[Some(gradient)], 0.1).unwrap();
        check(Ok(parameter.into()), &[0.9, 1.1], [2]);
    }

    #[test]
    fn a_parameter_without_a_gradient_is_untouched_and_its_correction_starts_late() {
        let settings = AdamWSettings { weight_decay: 0.5, ..AdamWSettings::default() };
        let gradient = || Some(tensor(&[0.3], [1]).array);
        let (mut early, mut late) = (tensor(&[1.0], [1]).array, tensor(&[1.0], [1]).array);
        let mut optimiser = AdamW::new(settings).unwrap();
        optimiser.step([&mut early, &mut late], &[gradient(), None], 0.1).unwrap();
        assert_eq!(late.to_vec().unwrap(), [1.0]);
        let after_one = early.to_vec().unwrap();
        optimiser.step([&mut early, &mut late], &[None, gradient()], 0.1).unwrap();
        assert_eq!(early.to_vec().unwrap(), after_one);
        assert_eq!(late.to_vec().unwrap(), after_one);
    }

    #[test]
    fn an_optimiser_made_of_anothers_moments_goes_on_as_that_one() {
        let settings = AdamWSettings { weight_decay: 0.1, ..AdamWSettings::default() };
        let gradient = |g: f64| [Some(tensor(&[g, -g], [2]).array), None];
        let mut parameters = [tensor(&[1.0, 2.0], [2]).array, tensor(&[3.0], [1]).array];
        let mut optimiser = AdamW::new(settings).unwrap();
        for g in [0.3, -0.7] {
            optimiser.step(&mut parameters, &gradient(g), 0.1).unwrap();
        }
        let mut restored = AdamW::with_moments(settings, optimiser.moments().to_vec()).unwrap();
        let mut copies = parameters.clone();
        optimiser.step(&mut parameters, &gradient(0.2), 0.1).unwrap();
        restored.step(&mut copies, &gradient(0.2), 0.1).unwrap();
        assert_eq!(copies.map(|p| p.to_vec().unwrap()), parameters.map(|p| p.to_vec().unwrap()));
    }

    #[test]
    fn moments_that_fit_no_parameter_are_named() {
        let moments = |first: &[f64], second: &[f64], steps| {
            let [first, second] = [first, second].map(|m| tensor(m, [m.len()]).array);
            AdamW::with_moments(AdamWSettings::default(), vec![Some(Moments { first, second, steps })])
        };
        check_error(moments(&[0.0], &[0.0], 0), "steps = 0 won't do: moments are of at least one step");
        let rule = "both moments have their parameter's shape";
        check_error(
            moments(&[0.0], &[0.0, 0.0], 1),
            &format!("adamw: shapes [1] and [2] don't go together: {rule}"),
        );
        let mut parameter = tensor(&[1.0, 2.0], [2]).array;
        let gradient = parameter.clone();
        check_error(
            moments(&[0.0], &[0.0], 1).unwrap().step([&mut parameter], &[Some(gradient)], 0.1),
            &format!("adamw: shapes [2] and [1] don't go together: {rule}"),
        );
    }

    #[test]
    fn constants_outside_of_their_ranges_and_strange_gradients_are_named() {
        let check_settings = |change: fn(&mut AdamWSettings), message: &str| {
            let mut settings = AdamWSettings::default();
            change(&mut settings);
            check_error(AdamW::<Cpu<f64>>::new(settings), message);
        };
        check_settings(|s| s.beta1 = 1.0, "beta1 = 1 won't do: it must lie in [0, 1)");
        check_settings(|s| s.beta2 = -0.1, "beta2 = -0.1 won't do: it must lie in [0, 1)");
        check_settings(|s| s.eps = 0.0, "eps = 0 won't do: it must be above 0 and finite");
        check_settings(
            |s| s.weight_decay = f64::NAN,
            "weight_decay = NaN won't do: it must be at least 0 and finite",
        );
        let mut parameter = tensor(&[1.0], [1]).array;
        let gradient = tensor(&[1.0, 2.0], [2]).array;
        check_error(
            AdamW::new(AdamWSettings::default()).unwrap().step([&mut parameter], &[Some(gradient)], 0.1),
            "adamw: shapes [1] and [2] don't go together: a gradient has its parameter's shape",
        );
    }
}
