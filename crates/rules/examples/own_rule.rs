//! A rule of plasticity that is not in the crate: one file, and nothing else is touched.
//!
//! The rule of covariance (Sejnowski, J. Math. Biol. 4, 1977), `p = y − ȳ`, `q = x − x̄`, with running means that decay
//! by a learned factor λ. It has everything a rule can have: a parameter, a memory, and a change of rank one. What the
//! outer gradient sees of it, how strongly it is applied, and how the fast weights take it is the crate's business.
//!
//! Run it with `cargo run --release -p plastica-rules --example own_rule`.

use plastica_rules::{
    Credit, FastWeights, LayerSizes, LayerTrace, Neuromodulation, Plastic, PlasticLinear, PlasticSite,
    Plasticity, PlasticityRule, RankOne, Result, RuleMemory, RuleParameter,
};
use plastica_tensor::{Array, Backend, Cpu, GradMode, Shape, Tape, Tensor, grad};

/// `p = y − ȳ`, `q = x − x̄`.
struct Covariance;

/// `x − x̄`, x̄ being the mean so far, which then takes x in: `x̄ ← λ x̄ + (1 − λ) x`.
fn centred<B: Backend>(
    memory: &mut RuleMemory<B>,
    place: usize,
    x: &Tensor<B>,
    lambda: &Tensor<B>,
) -> Result<Tensor<B>> {
    let mean = memory.recall(place, x)?;
    let apart = x.sub(&mean)?;
    memory.keep(place, x.sub(&apart.mul(lambda)?)?);
    Ok(apart)
}

impl<B: Backend> PlasticityRule<B> for Covariance {
    fn name(&self) -> &'static str {
        "covariance"
    }

    fn parameters(&self, _: LayerSizes) -> Vec<RuleParameter> {
        // λ = sigmoid(decay), 1/2 at first
        vec![RuleParameter::number("decay", 0.0)]
    }

    fn change(&self, site: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>> {
        let lambda = site.parameter(0)?.sigmoid()?;
        let p = centred(site.memory, 0, &site.trace.output, &lambda)?;
        let q = centred(site.memory, 1, &site.trace.input, &lambda)?;
        Ok(Some(RankOne { p, q }))
    }
}

/// A layer of 2 units with 3 inputs reads four steps and changes after each; the loss is the sum of its squared outputs.
/// Gives the fast weights' norm, and the derivative of the loss by the rule's parameter.
fn read(decay: f64, credit: Credit) -> Result<(f64, f64, Option<f64>)> {
    let (cpu, tape) = (Cpu::<f64>::new(), Tape::new());
    let numbers = |shape: &[usize], seed: f64| -> Result<Array<Cpu<f64>>> {
        let shape = Shape::new(shape)?;
        Ok(Array::from_vec(&cpu, (0..shape.len()).map(|i| (seed + i as f64).sin()).collect(), shape)?)
    };
    let decay = tape.leaf(&Array::from_vec(&cpu, vec![decay], [1])?);
    let plastic = Plastic {
        rule: vec![decay.clone()],
        ..Plastic::new(numbers(&[2, 3], 1.0)?.into(), numbers(&[2], 2.0)?.into())
    };
    let layer =
        PlasticLinear { weight: numbers(&[2, 3], 3.0)?.into(), bias: numbers(&[2], 4.0)?.into(), plastic };
    let (rule, neuromodulation, eta0) = (Box::new(Covariance), Neuromodulation::default(), None);
    let plasticity = Plasticity { rule, neuromodulation, eta0, credit };
    let mut fast = [FastWeights::zero()];
    let mut loss = Tensor::zeros(&cpu, [])?;
    for t in 0..4 {
        let input: Tensor<_> = numbers(&[1, 3], 5.0 + t as f64)?.into();
        let output = layer.forward(&input, &fast[0])?;
        loss = loss.add(&output.square()?.sum()?)?;
        let gate = Tensor::zeros(&cpu, [1])?;
        let trace = LayerTrace { input, output, internal_gradient: None };
        plasticity.update(t, &gate, [&layer.plastic], &[trace], &mut fast)?;
    }
    let norm = fast[0].squared_norm()?.map_or(Ok(0.0), |norm| norm.item())?.sqrt();
    let slope = match loss.is_tracked() {
        true => grad(&loss, &[&decay], GradMode::Plain)?.remove(0).map(|g| g.item()).transpose()?,
        false => None,
    };
    Ok((norm, loss.item()?, slope))
}

fn main() -> Result<()> {
    for credit in [Credit::Full, Credit::Detached] {
        let (norm, loss, slope) = read(0.0, credit)?;
        println!("{credit}: ‖F‖ {norm:.4}, loss {loss:.4}, its derivative by the rule's parameter {slope:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_trains_the_rules_parameter_under_full_credit_alone() {
        const H: f64 = 1e-4;
        let loss = |decay| read(decay, Credit::Full).unwrap().1;
        let expected = (loss(0.3 + H) - loss(0.3 - H)) / (2.0 * H);
        let (norm, _, slope) = read(0.3, Credit::Full).unwrap();
        let slope = slope.expect("the loss depends on the parameter");
        assert!(norm > 0.0 && (slope - expected).abs() < 1e-7 * expected.abs(), "{slope} for {expected}");
        assert_eq!(read(0.3, Credit::Detached).unwrap().2, None);
    }
}
