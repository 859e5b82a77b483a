//! Plasticity rules, neuromodulation and fast weights, for any layer.
//!
//! A plastic layer has two sets of weights: slow ones, W, that training changes, and fast ones, F, that
//! the layer itself changes at every step of a sequence and that start from zero with each new one. This
//! crate is the second set: what a layer saw at a step ([`LayerTrace`]) goes through a rule
//! ([`PlasticityRule`]) to a change, through the neuromodulator ([`Neuromodulation`]) to a rate, and into the
//! fast weights ([`FastWeights`]).
//!
//! The rules are in `src/rules`, a file each; `examples/own_rule/covariance.rs` is one that is not in this crate.
//! [`register`] lets configurations name it.
//!
//! One decision shaped it: **every rule's change is of rank one**, `p ⊗ q`, a number per output unit times
//! a number per input unit. So nothing forms a matrix to measure or to carry a change; the gradient rule
//! needs `∂L/∂y`, a vector, never `∂L/∂F`; and a trajectory of fast weights is a list of vectors.
//!
//! The crate knows no Transformer. Here a single plastic layer learns an association in one step: shown
//! `x` while its output is forced to `y`, it answers `x` with `y` afterwards.
//!
//! ```
//! use plastica_rules::{
//!     Credit, FastWeights, Hebbian, LayerTrace, Neuromodulation, Plastic, PlasticLinear, Plasticity,
//! };
//! use plastica_tensor::{Cpu, Tensor};
//!
//! let cpu = Cpu::<f32>::new();
//! let filled = |value, shape: &[usize]| Tensor::zeros(&cpu, plastica_tensor::Shape::new(shape)?)?.shift(value);
//! let layer = PlasticLinear {
//!     weight: filled(0.0, &[2, 3])?, bias: filled(0.0, &[2])?, // no slow weights: it knows nothing
//!     plastic: Plastic::new(filled(1.0, &[2, 3])?, filled(0.0, &[2])?),
//! };
//! let x = Tensor::from_vec(&cpu, vec![0.6, 0.0, 0.8], [1, 3])?; // one episode, unit length
//! let y = Tensor::from_vec(&cpu, vec![0.5, -0.5], [1, 2])?;
//! let learn = Plasticity {
//!     rule: Box::new(Hebbian), eta0: None, credit: Credit::Full,
//!     neuromodulation: Neuromodulation { eta0: 1.0, max_norm: 10.0, ..Neuromodulation::default() },
//! };
//! let mut fast = [FastWeights::zero()];
//! let seen = LayerTrace { input: x.clone(), output: y, internal_gradient: None };
//! let open = Tensor::from_vec(&cpu, vec![30.0], [1])?; // the gate's pre-activation: wide open
//! learn.update(0, &open, [&layer.plastic], &[seen], &mut fast)?;
//! let answer = layer.forward(&x, &fast[0])?.to_vec()?;
//! assert!((answer[0] - 0.5).abs() < 1e-6 && (answer[1] + 0.5).abs() < 1e-6);
//! # Ok::<(), plastica_rules::RuleError>(())
//! ```

mod bound;
mod credit;
mod error;
mod fast_weights;
mod neuromodulation;
mod plasticity;
mod registry;
mod rule;
mod rules;

pub use bound::bounded;
pub use credit::Credit;
pub use error::{Result, RuleError};
pub use fast_weights::FastWeights;
pub use neuromodulation::{ClipMode, Modulation, Neuromodulation};
pub use plasticity::{Plastic, PlasticLinear, Plasticity};
pub use registry::{OwnName, OwnRule, register};
pub use rule::{
    Init, LayerSizes, LayerTrace, PlasticSite, PlasticityRule, RankOne, RuleMemory, RuleParameter,
};
pub use rules::{Bcm, Delta, Gradient, Hebbian, Hybrid, NoPlasticity, Oja, Rule, SoftHebbian, ThreeFactor};
