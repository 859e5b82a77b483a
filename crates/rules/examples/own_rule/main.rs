//! A rule of plasticity that is not in the crate (`covariance.rs`): one file, and nothing else is touched. Here a single
//! plastic layer changes by it; `train_own_rule`, an example of plastica-eval, trains a model with it.
//!
//! Run it with `cargo run --release -p plastica-rules --example own_rule`.

mod covariance;

use covariance::Covariance;
use plastica_rules::{
    Credit, FastWeights, LayerTrace, Neuromodulation, Plastic, PlasticLinear, Plasticity, Result,
};
use plastica_tensor::{Array, Cpu, GradMode, Shape, Tape, Tensor, grad};

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
