//! The seam of this crate: from what one plastic layer saw at one step to its rank-one change.

use plastica_tensor::{Backend, Shape, Tensor};

use crate::{FastWeights, Result};

/// What one plastic layer saw and did at one step, for a batch of `B` episodes.
#[derive(Debug, Clone)]
pub struct LayerTrace<B: Backend> {
    /// The layer's input, `[B, in]`.
    pub input: Tensor<B>,
    /// The layer's output before any nonlinearity, `[B, out]`.
    pub output: Tensor<B>,
    /// Derivative of each episode's internal loss by that episode's output, `[B, out]`, where the rule asked
    /// for it.
    pub internal_gradient: Option<Tensor<B>>,
}

impl<B: Backend> LayerTrace<B> {
    /// The same as constants.
    pub(crate) fn detach(&self) -> Self {
        Self {
            input: self.input.detach(),
            output: self.output.detach(),
            internal_gradient: self.internal_gradient.as_ref().map(Tensor::detach),
        }
    }
}

/// A rank-one change `p ⊗ q` of a weight matrix, and `p` of its bias, an episode each.
#[derive(Debug, Clone)]
pub struct RankOne<B: Backend> {
    /// One number per output unit, `[B, out]`.
    pub p: Tensor<B>,
    /// One number per input unit, `[B, in]`.
    pub q: Tensor<B>,
}

impl<B: Backend> RankOne<B> {
    /// No change of the layer whose trace this is.
    pub(crate) fn zero(LayerTrace { input, output, .. }: &LayerTrace<B>) -> Result<Self> {
        let zeros = |like: &Tensor<B>| Tensor::zeros(like.backend(), like.shape());
        Ok(Self { p: zeros(output)?, q: zeros(input)? })
    }
}

/// Sizes of a plastic layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSizes {
    /// Output units.
    pub out: usize,
    /// Input units.
    pub inp: usize,
}

/// What a parameter starts from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Uniform in ± this.
    Uniform(f64),
    /// The same everywhere.
    Constant(f64),
}

/// A parameter that a rule has at each plastic layer: trained with all others, and kept in checkpoints as
/// `LAYER.NAME`.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleParameter {
    /// Its name, such as `target.weight`.
    pub name: &'static str,
    /// Its shape.
    pub shape: Shape,
    /// What it starts from.
    pub init: Init,
}

impl RuleParameter {
    /// One number.
    pub fn number(name: &'static str, init: f64) -> Self {
        Self { name, shape: Shape::from([1]), init: Init::Constant(init) }
    }
}

/// What a rule keeps of a layer from step to step: tensors by place, from 0, each `[B, ..]`. It starts empty with every
/// sequence, and the credit cuts it where it cuts the fast weights.
#[derive(Debug, Clone)]
pub struct RuleMemory<B: Backend>(Vec<Option<Tensor<B>>>);

impl<B: Backend> Default for RuleMemory<B> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<B: Backend> RuleMemory<B> {
    /// What was kept at `place`, or zeros in the shape of `like` if nothing was yet.
    ///
    /// # Errors
    /// Device errors.
    pub fn recall(&self, place: usize, like: &Tensor<B>) -> Result<Tensor<B>> {
        match self.0.get(place) {
            Some(Some(kept)) => Ok(kept.clone()),
            _ => Ok(Tensor::zeros(like.backend(), like.shape())?),
        }
    }

    /// Keeps `value` at `place`, whatever was there.
    pub fn keep(&mut self, place: usize, value: Tensor<B>) {
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        self.0[place] = Some(value);
    }

    /// Cuts it from what it was made of.
    pub(crate) fn detach(&mut self) {
        self.0.iter_mut().flatten().for_each(|kept| *kept = kept.detach());
    }
}

/// A plastic layer as a rule sees it after a step.
#[derive(Debug)]
pub struct PlasticSite<'a, B: Backend> {
    /// What the layer saw and did.
    pub trace: &'a LayerTrace<B>,
    /// The rule's own [parameters](PlasticityRule::parameters) at this layer, in their order.
    pub parameters: &'a [Tensor<B>],
    /// The layer's fast weights, as the step read them.
    pub fast: &'a FastWeights<B>,
    /// What the rule keeps of this layer from step to step.
    pub memory: &'a mut RuleMemory<B>,
}

impl<B: Backend> PlasticSite<'_, B> {
    /// The rule's own parameter number `i`.
    ///
    /// # Errors
    /// [`RuleError::NoParameter`](crate::RuleError::NoParameter) where the layer has none for it.
    pub fn parameter(&self, i: usize) -> Result<&Tensor<B>> {
        self.parameters.get(i).ok_or(crate::RuleError::NoParameter { index: i, given: self.parameters.len() })
    }

    /// The derivative of the internal loss by the layer's output.
    ///
    /// # Errors
    /// [`RuleError::NoInternalGradient`](crate::RuleError::NoInternalGradient) where `rule` was given none.
    pub fn internal_gradient(&self, rule: &'static str) -> Result<&Tensor<B>> {
        self.trace.internal_gradient.as_ref().ok_or(crate::RuleError::NoInternalGradient { rule })
    }
}

/// A rule of plasticity: how a layer's fast weights are to change after a step.
///
/// A rule decides the direction only. How far to go is the neuromodulator's business
/// ([`Neuromodulation`](crate::Neuromodulation)), how the change is carried out the fast weights'
/// ([`FastWeights`](crate::FastWeights)), and what of it the outer gradient sees is decided for it
/// ([`Credit`](crate::Credit)): a rule is written as if all of it were seen.
pub trait PlasticityRule<B: Backend>: Send + Sync {
    /// The rule's name, as in configurations.
    fn name(&self) -> &'static str;

    /// Whether [`LayerTrace::internal_gradient`] must be there.
    fn needs_internal_gradient(&self) -> bool {
        false
    }

    /// The parameters that it has at a layer of these sizes, apart from α and β, in the order in which
    /// [`change`](Self::change) gets them.
    fn parameters(&self, _: LayerSizes) -> Vec<RuleParameter> {
        Vec::new()
    }

    /// Whether it ever changes anything. One that does not takes no time and no memory.
    fn is_plastic(&self) -> bool {
        true
    }

    /// The change, or `None` for a layer that this step leaves as it is: it is then updated at the rate 0.
    ///
    /// # Errors
    /// [`RuleError::NoInternalGradient`](crate::RuleError::NoInternalGradient) where one was needed, and when shapes
    /// don't fit.
    fn change(&self, site: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>>;
}
