//! What a sequence takes in training, counted from the equations and not from the program.

use plastica_eval::RunConfig;
use plastica_model::{ModelConfig, ModelKind};
use plastica_rules::{Credit, Rule};

/// Work of one sequence in training, forward and backward. The optimiser, normalisations and nonlinearities are left
/// out: they are small beside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Floating-point operations; a multiplication with an addition is two.
    pub flop: f64,
    /// Bytes of what every sequence has of its own and every step goes through, so that no cache of a batch can help:
    /// fast weights, keys and values, and their derivatives, each as often as it is read and as it is written.
    pub bytes: f64,
}

/// Bytes of an f32.
const ELEMENT: f64 = 4.0;

impl Work {
    /// Counts, a step and weight:
    ///
    /// - a shared weight: 2 operations forward, 4 backward;
    /// - a fast one: 2 to be read and 4 to be changed forward, and 13 backward under credit (2 to be read transposed,
    ///   2 to add what was read, 1 to decay, 8 for the derivatives by η, α, p and q), 2 where it is a constant;
    /// - oja reads the fast weights once more, transposed; delta's target has as many shared weights as there are fast ones;
    /// - a rule of one's own, which no command has, would count as hebbian does;
    /// - an earlier step's key and value, together: 4 operations forward, 8 backward;
    /// - the gradient rule adds its own pass back, which ends in the first block's feed-forward, and under credit the
    ///   way back through that.
    pub fn of(config: &RunConfig, steps: usize) -> Self {
        let ModelConfig { model_dim: d, ffn_dim: f, num_layers, input_dim, .. } = config.model;
        let [d, f, layers, input, head, steps] =
            [d, f, num_layers, input_dim, config.model.head_dim(), steps].map(|n| n as f64);
        let full = config.training.credit != Credit::Detached;
        let (shared_ops, fast_ops, fast_walks, inner_ops) = match (config.model.rule, full) {
            (Rule::None, _) => (6.0, 0.0, 0.0, 0.0),
            (Rule::Hebbian | Rule::Bcm | Rule::SoftHebbian | Rule::ThreeFactor | Rule::Own(_), false) => {
                (6.0, 8.0, 4.0, 0.0)
            }
            (Rule::Hebbian | Rule::Bcm | Rule::SoftHebbian | Rule::ThreeFactor | Rule::Own(_), true) => {
                (6.0, 19.0, 6.0, 0.0)
            }
            (Rule::Gradient | Rule::Hybrid, false) => (8.0, 10.0, 5.0, 4.0),
            (Rule::Gradient | Rule::Hybrid, true) => (12.0, 25.0, 8.0, 12.0),
            (Rule::Oja, false) => (6.0, 10.0, 5.0, 0.0),
            (Rule::Oja, true) => (6.0, 25.0, 8.0, 0.0),
            (Rule::Delta, false) => (6.0, 10.0, 4.0, 0.0),
            (Rule::Delta, true) => (6.0, 25.0, 6.0, 0.0),
        };
        let shared = layers * (4.0 * d * d + 2.0 * d * f) + input * d + head * d;
        let plastic = config.model.plastic_layers;
        let fast = layers
            * 2.0
            * d
            * (f64::from(plastic.in_feed_forward()) * f + f64::from(plastic.in_attention()) * d);
        // the step at place t looks at t steps
        let looks = d * steps * (steps + 1.0) / 2.0;
        let attention = 12.0 * layers + inner_ops * (layers - 1.0);
        // the encoder counts its own, a step's image at a time
        let images = steps * config.model.encoder.as_ref().map_or(0.0, |encoder| encoder.flops().1);
        if config.model.kind == ModelKind::Prototypical {
            return Self { flop: images, bytes: 0.0 };
        }
        Self {
            flop: steps * (shared * shared_ops + fast * fast_ops) + looks * attention + images,
            bytes: ELEMENT * (steps * fast * fast_walks + looks * layers * 8.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(rule: Rule, credit: Credit, steps: usize, num_layers: usize) -> Work {
        let mut config = RunConfig::published("copying", rule).unwrap();
        config.training.credit = credit;
        config.model = ModelConfig { model_dim: 4, num_heads: 1, ffn_dim: 8, num_layers, ..config.model };
        Work::of(&config, steps)
    }

    #[test]
    fn one_step_by_hand() {
        // 4·16 + 2·32 weights in the block, 10·4 before it, 15·4 after it; 64 fast weights; one step looks at itself
        let shared = f64::from(64 + 64 + 40 + 60);
        let check = |rule, credit, flop: f64, bytes: f64| {
            assert_eq!(work(rule, credit, 1, 1), Work { flop, bytes }, "{rule} {credit}");
        };
        check(Rule::None, Credit::Full, 6.0 * shared + 4.0 * 12.0, 4.0 * 32.0);
        check(Rule::Hebbian, Credit::Full, 6.0 * shared + 19.0 * 64.0 + 48.0, 4.0 * (6.0 * 64.0 + 32.0));
        check(Rule::Hebbian, Credit::Detached, 6.0 * shared + 8.0 * 64.0 + 48.0, 4.0 * (4.0 * 64.0 + 32.0));
        check(Rule::Gradient, Credit::Full, 12.0 * shared + 25.0 * 64.0 + 48.0, 4.0 * (8.0 * 64.0 + 32.0));
    }

    #[test]
    fn images_are_counted_by_their_encoder() {
        let config = RunConfig::published("cifar-fs", Rule::None).unwrap();
        let [mut without, mut prototypical] = [config.clone(), config.clone()];
        without.model.encoder = None;
        prototypical.model.kind = ModelKind::Prototypical;
        let encoder = Work::of(&prototypical, 80);
        assert_eq!(Work::of(&config, 80).flop, Work::of(&without, 80).flop + encoder.flop);
        // 80 images, each pixel of the second layer 64·64 weights of 9 places, forward and twice backward
        assert!(encoder.flop > 80.0 * 256.0 * 64.0 * 64.0 * 9.0 * 6.0);
    }

    #[test]
    fn attention_alone_grows_with_the_square_of_the_steps() {
        for rule in Rule::ALL {
            let flop = |steps| work(rule, Credit::Full, steps, 3).flop;
            // T(T + 1)/2 looks: the second difference is constant, and is one look's operations
            let second = |steps: usize| flop(steps + 2) - 2.0 * flop(steps + 1) + flop(steps);
            assert!(second(1) > 0.0, "{rule}");
            assert_eq!(second(1), second(500), "{rule}");
        }
    }
}
