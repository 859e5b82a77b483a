//! One step of plasticity: rule, neuromodulator and fast weights put together, for any number of layers.

use plastica_tensor::{Backend, Tensor};

use crate::{
    Credit, FastWeights, LayerTrace, Modulation, Neuromodulation, PlasticityRule, RankOne, Result, RuleError,
};

/// A linear layer that owns fast weights: `y = (W + F) x + b + c`.
#[derive(Debug, Clone)]
pub struct PlasticLinear<B: Backend> {
    /// W, slow weights, `[out, in]`.
    pub weight: Tensor<B>,
    /// b, slow bias, `[out]`.
    pub bias: Tensor<B>,
    /// α, how plastic each weight is, `[out, in]`.
    pub alpha: Tensor<B>,
    /// β, how plastic each bias is, `[out]`.
    pub beta: Tensor<B>,
}

impl<B: Backend> PlasticLinear<B> {
    /// `(W + F) x + b + c`: `x` `[B, in]` to `[B, out]`.
    ///
    /// # Errors
    /// When the shapes don't fit.
    pub fn forward(&self, x: &Tensor<B>, fast: &FastWeights<B>) -> Result<Tensor<B>> {
        fast.add_to(x.linear(&self.weight, &self.bias)?, x)
    }
}

/// A rule, how strongly it is applied, and what of it the outer gradient sees.
pub struct Plasticity<B: Backend> {
    /// Which way to change.
    pub rule: Box<dyn PlasticityRule<B>>,
    /// How far.
    pub neuromodulation: Neuromodulation,
    /// What the outer gradient sees of it.
    pub credit: Credit,
}

impl<B: Backend> std::fmt::Debug for Plasticity<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plasticity({}, {:?}, {})", self.rule.name(), self.neuromodulation, self.credit)
    }
}

impl<B: Backend> Plasticity<B> {
    /// Changes the layers' fast weights after step `step` (from 0): one rate for all of them.
    ///
    /// `layers[i]`, `traces[i]` and `fast[i]` belong together; `g` `[B]` is the gate's pre-activation. Returns
    /// the step's modulation, or `None` when the rule changes nothing.
    ///
    /// # Errors
    /// [`RuleError::Layers`] when they are not equally many, the rule's, and when the shapes don't fit.
    pub fn update<'a>(
        &self,
        step: usize,
        g: &Tensor<B>,
        layers: impl IntoIterator<Item = &'a PlasticLinear<B>>,
        traces: &[LayerTrace<B>],
        fast: &mut [FastWeights<B>],
    ) -> Result<Option<Modulation<B>>> {
        let layers: Vec<&PlasticLinear<B>> = layers.into_iter().collect();
        if layers.len() != traces.len() || layers.len() != fast.len() {
            let (traces, fast) = (traces.len(), fast.len());
            return Err(RuleError::Layers { layers: layers.len(), traces, fast });
        }
        let detached = self.credit == Credit::Detached;
        let seen = |t: &Tensor<B>| if detached { t.detach() } else { t.clone() };
        let mut moving = Vec::with_capacity(traces.len());
        let mut changes = Vec::with_capacity(traces.len());
        for ((layer, trace), fast) in layers.into_iter().zip(traces).zip(fast) {
            if let Some(RankOne { p, q }) = self.rule.change(trace)? {
                changes.push(RankOne { p: seen(&p), q: seen(&q) });
                moving.push((layer, fast));
            }
        }
        if changes.is_empty() {
            return Ok(None);
        }
        let modulation = self.neuromodulation.modulate(&seen(g), &changes)?;
        for ((layer, fast), change) in moving.into_iter().zip(&changes) {
            fast.update(&modulation.eta, &seen(&layer.alpha), &seen(&layer.beta), change)?;
            if self.credit.cuts_after(step) {
                fast.detach()?;
            }
        }
        Ok(Some(modulation))
    }
}

#[cfg(test)]
mod tests {
    use plastica_tensor::Cpu;

    use super::*;
    use crate::{Rule, RuleError};

    #[test]
    fn layers_traces_and_fast_weights_must_be_equally_many() {
        let cpu = Cpu::<f64>::new();
        let zeros =
            |shape: &[usize]| Tensor::zeros(&cpu, plastica_tensor::Shape::new(shape).unwrap()).unwrap();
        let layer = PlasticLinear {
            weight: zeros(&[3, 2]),
            bias: zeros(&[3]),
            alpha: zeros(&[3, 2]),
            beta: zeros(&[3]),
        };
        let trace = LayerTrace { input: zeros(&[1, 2]), output: zeros(&[1, 3]), internal_gradient: None };
        for rule in [Rule::None, Rule::Hebbian] {
            let plasticity = Plasticity {
                rule: rule.build(),
                neuromodulation: Neuromodulation::default(),
                credit: Credit::Full,
            };
            let check = |layers: usize, traces: usize, fast: usize| {
                let mut fast_weights = vec![FastWeights::zero(); fast];
                let (layers_given, traces_given) = (vec![&layer; layers], vec![trace.clone(); traces]);
                let updated =
                    plasticity.update(0, &zeros(&[1]), layers_given, &traces_given, &mut fast_weights);
                let good = layers == traces && layers == fast;
                let expected = if good { Ok(()) } else { Err(RuleError::Layers { layers, traces, fast }) };
                assert_eq!(updated.map(|_| ()), expected);
            };
            check(2, 2, 2);
            check(1, 2, 2);
            check(2, 1, 2);
            check(2, 2, 1);
            check(3, 2, 2);
        }
    }
}
