//! One step of plasticity: rule, neuromodulator and fast weights put together, for any number of layers.

use plastica_tensor::{Backend, Tensor};

use crate::{
    ClipMode, Credit, FastWeights, LayerTrace, Modulation, Neuromodulation, PlasticSite, PlasticityRule,
    RankOne, Result, RuleError, bounded,
};

/// What makes a layer plastic.
#[derive(Debug, Clone)]
pub struct Plastic<B: Backend> {
    /// α, how plastic each weight is, `[out, in]`.
    pub alpha: Tensor<B>,
    /// β, how plastic each bias is, `[out]`.
    pub beta: Tensor<B>,
    /// The rule's own [parameters](PlasticityRule::parameters), in their order.
    pub rule: Vec<Tensor<B>>,
    /// The logarithm of the largest root mean square of what the fast weights gather, `[1]`, if there is a bound
    /// ([`bounded`]).
    pub log_bound: Option<Tensor<B>>,
}

impl<B: Backend> Plastic<B> {
    /// α `[out, in]` and β `[out]` alone: for a rule without parameters of its own, and no bound.
    pub fn new(alpha: Tensor<B>, beta: Tensor<B>) -> Self {
        Self { alpha, beta, rule: Vec::new(), log_bound: None }
    }

    /// The same as constants.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self {
            alpha: self.alpha.detach(),
            beta: self.beta.detach(),
            rule: self.rule.iter().map(Tensor::detach).collect(),
            log_bound: self.log_bound.as_ref().map(Tensor::detach),
        }
    }
}

/// A linear layer that owns fast weights: `y = (W + F) x + b + c`.
#[derive(Debug, Clone)]
pub struct PlasticLinear<B: Backend> {
    /// W, slow weights, `[out, in]`.
    pub weight: Tensor<B>,
    /// b, slow bias, `[out]`.
    pub bias: Tensor<B>,
    /// How F and c change.
    pub plastic: Plastic<B>,
}

impl<B: Backend> PlasticLinear<B> {
    /// `(W + F) x + b + c`: `x` `[B, in]` to `[B, out]`.
    ///
    /// # Errors
    /// When the shapes don't fit.
    pub fn forward(&self, x: &Tensor<B>, fast: &FastWeights<B>) -> Result<Tensor<B>> {
        fast.linear(x, &self.weight, &self.bias)
    }
}

/// A rule, how strongly it is applied, and what of it the outer gradient sees.
pub struct Plasticity<B: Backend> {
    /// Which way to change.
    pub rule: Box<dyn PlasticityRule<B>>,
    /// How far.
    pub neuromodulation: Neuromodulation,
    /// η0 `[1]` where it is learned, in the place of the neuromodulator's constant.
    pub eta0: Option<Tensor<B>>,
    /// What the outer gradient sees of it.
    pub credit: Credit,
}

impl<B: Backend> std::fmt::Debug for Plasticity<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plasticity({}, {:?}, {})", self.rule.name(), self.neuromodulation, self.credit)
    }
}

impl<B: Backend> Plasticity<B> {
    /// Changes the layers' fast weights after step `step` (from 0).
    ///
    /// `layers[i]`, `traces[i]` and `fast[i]` belong together; `g` is the gate's pre-activation, `[B]` for all layers or
    /// `[B, layers]`. Returns the step's modulation, the mean over the layers where they differ and η being 0 of a layer that
    /// the rule leaves as it is; `None` under a rule that [never changes anything](PlasticityRule::is_plastic).
    ///
    /// # Errors
    /// [`RuleError::Layers`] when they are not equally many, [`RuleError::Gates`] when the gates are neither one nor as
    /// many, the rule's, and when the shapes don't fit.
    pub fn update<'a>(
        &self,
        step: usize,
        g: &Tensor<B>,
        layers: impl IntoIterator<Item = &'a Plastic<B>>,
        traces: &[LayerTrace<B>],
        fast: &mut [FastWeights<B>],
    ) -> Result<Option<Modulation<B>>> {
        let layers: Vec<&Plastic<B>> = layers.into_iter().collect();
        if layers.len() != traces.len() || layers.len() != fast.len() {
            let (traces, fast) = (traces.len(), fast.len());
            return Err(RuleError::Layers { layers: layers.len(), traces, fast });
        }
        if self.credit == Credit::Detached {
            let layers: Vec<Plastic<B>> = layers.into_iter().map(Plastic::detach).collect();
            let traces: Vec<LayerTrace<B>> = traces.iter().map(LayerTrace::detach).collect();
            return self.apply(&g.detach(), &layers.iter().collect::<Vec<_>>(), &traces, fast);
        }
        let modulation = self.apply(g, &layers, traces, fast)?;
        if self.credit.cuts_after(step) {
            // whether they changed in this step or not
            fast.iter_mut().try_for_each(FastWeights::detach)?;
        }
        Ok(modulation)
    }

    fn apply(
        &self,
        g: &Tensor<B>,
        layers: &[&Plastic<B>],
        traces: &[LayerTrace<B>],
        fast: &mut [FastWeights<B>],
    ) -> Result<Option<Modulation<B>>> {
        let per_layer = g.shape().rank() == 2;
        if per_layer && g.shape()[1] != layers.len() {
            return Err(RuleError::Gates { gates: g.shape(), layers: layers.len() });
        }
        if !self.rule.is_plastic() {
            return Ok(None);
        }
        let mut moves = Vec::with_capacity(traces.len());
        let mut changes = Vec::with_capacity(traces.len());
        for ((layer, trace), fast) in layers.iter().zip(traces).zip(&mut *fast) {
            let mut memory = std::mem::take(&mut fast.memory);
            let mut site = PlasticSite { trace, parameters: &layer.rule, fast, memory: &mut memory };
            let change = self.rule.change(&mut site);
            fast.memory = memory;
            let change = change?;
            moves.push(change.is_some());
            changes.push(change.map_or_else(|| RankOne::zero(trace), Ok)?);
        }
        let gates: Vec<Tensor<B>> = match per_layer {
            true => {
                let gate = |i| Ok(g.slice(1, i, 1)?.reshape([g.shape()[0]])?);
                (0..layers.len()).map(gate).collect::<Result<_>>()?
            }
            false => vec![g.clone()],
        };
        let eta0 = self.eta0.as_ref();
        let eta0 = if self.credit == Credit::Detached { eta0.map(Tensor::detach) } else { eta0.cloned() };
        let mut modulations = self.neuromodulation.modulate(&gates, &changes, eta0.as_ref())?;
        let each = layers.iter().zip(fast).zip(&changes).zip(&mut modulations).zip(&moves);
        for ((((layer, fast), change), Modulation { eta, .. }), &moves) in each {
            if !moves {
                *eta = Tensor::zeros(eta.backend(), eta.shape())?;
            }
            match layer.log_bound.as_ref().filter(|_| moves) {
                Some(log_bound) => {
                    let (eta, change) = bounded(&mut fast.gathered, log_bound, eta, change)?;
                    fast.update(&eta, &layer.alpha, &layer.beta, &change)?;
                }
                // at the rate 0 as well: fast weights count their updates as the sequence's steps
                None => fast.update(eta, &layer.alpha, &layer.beta, change)?,
            }
        }
        if !per_layer && self.neuromodulation.clip != ClipMode::PerLayer {
            // one for all that move
            let first = moves.iter().position(|&moves| moves).unwrap_or(0);
            return Ok(modulations.into_iter().nth(first));
        }
        Modulation::mean(&modulations)
    }
}

#[cfg(test)]
mod tests {
    use plastica_tensor::{Cpu, Element, GradMode, Tape, grad};

    use super::*;
    use crate::Rule;

    /// Hebbian at the first of its steps, and nothing after.
    struct Once(std::sync::atomic::AtomicBool);

    impl<B: Backend> PlasticityRule<B> for Once {
        fn name(&self) -> &'static str {
            "once"
        }

        fn change(&self, site: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>> {
            let first = self.0.swap(false, std::sync::atomic::Ordering::Relaxed);
            // a place beyond the next is one like any other
            site.memory.keep(1, site.trace.output.clone());
            assert!(site.memory.recall(0, &site.trace.input)?.to_vec()?.iter().all(|&x| x.wide() == 0.0));
            Ok(first.then(|| RankOne { p: site.trace.output.clone(), q: site.trace.input.clone() }))
        }
    }

    /// The edge of a window cuts a layer that did not change in that step as well, with what its rule keeps.
    #[test]
    fn credit_is_cut_at_a_windows_edge_whether_anything_changed_there_or_not() {
        let cpu = Cpu::<f64>::new();
        for (credit, reaches) in [("full", true), ("truncated(2)", false)] {
            let tape = Tape::new();
            let leaf = |values: &[f64], shape: &[usize]| {
                let shape = plastica_tensor::Shape::new(shape).unwrap();
                tape.leaf(&plastica_tensor::Array::from_vec(&cpu, values.to_vec(), shape).unwrap())
            };
            let layer = PlasticLinear {
                weight: leaf(&[0.5, -1.0, 2.0, 1.0], &[2, 2]),
                bias: leaf(&[0.1, 0.2], &[2]),
                plastic: Plastic::new(leaf(&[1.0; 4], &[2, 2]), leaf(&[1.0; 2], &[2])),
            };
            let x = leaf(&[1.0, 2.0], &[1, 2]);
            let plasticity = Plasticity {
                rule: Box::new(Once(true.into())),
                neuromodulation: Neuromodulation::default(),
                eta0: None,
                credit: credit.parse().unwrap(),
            };
            let mut fast = [FastWeights::zero()];
            for step in 0..2 {
                let output = layer.forward(&x, &fast[0]).unwrap();
                let trace = LayerTrace { input: x.clone(), output, internal_gradient: None };
                let g = Tensor::zeros(&cpu, [1]).unwrap();
                plasticity.update(step, &g, [&layer.plastic], &[trace], &mut fast).unwrap();
            }
            let kept = fast[0].memory.recall(1, &x).unwrap();
            assert_eq!(kept.is_tracked(), reaches, "{credit}");
            let loss = layer.forward(&x.detach(), &fast[0]).unwrap().sum().unwrap();
            let by_alpha = grad(&loss, &[&layer.plastic.alpha], GradMode::Plain).unwrap();
            assert_eq!(by_alpha[0].is_some(), reaches, "{credit}");
        }
    }

    #[test]
    fn layers_traces_and_fast_weights_must_be_equally_many() {
        let cpu = Cpu::<f64>::new();
        let zeros =
            |shape: &[usize]| Tensor::zeros(&cpu, plastica_tensor::Shape::new(shape).unwrap()).unwrap();
        let layer = PlasticLinear {
            weight: zeros(&[3, 2]),
            bias: zeros(&[3]),
            plastic: Plastic::new(zeros(&[3, 2]), zeros(&[3])),
        };
        let trace = LayerTrace { input: zeros(&[1, 2]), output: zeros(&[1, 3]), internal_gradient: None };
        for rule in [Rule::None, Rule::Hebbian] {
            let plasticity = Plasticity {
                rule: rule.build().unwrap(),
                neuromodulation: Neuromodulation::default(),
                eta0: None,
                credit: Credit::Full,
            };
            let check = |layers: usize, traces: usize, fast: usize| {
                let mut fast_weights = vec![FastWeights::zero(); fast];
                let (layers_given, traces_given) =
                    (vec![&layer.plastic; layers], vec![trace.clone(); traces]);
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
