//! Steps of an optimiser, and norms of gradients.

use plastica_tensor::optim::{AdamW, AdamWSettings, clip_global_norm, global_norm};
use plastica_tensor::{Array, Backend, Element, Result};

use crate::common::Draw::Any;
use crate::common::{CPU, array, device, draw};

#[test]
fn optimisers() {
    fn trained<B: Backend>(backend: &B) -> Result<(Vec<f64>, Vec<f64>)> {
        let mut parameters =
            [array(backend, &draw(Any, 1, 5000), [5000].into()), Array::zeros(backend, [3])?];
        let mut optimiser = AdamW::new(AdamWSettings { weight_decay: 0.1, ..AdamWSettings::default() })?;
        let mut norms = Vec::new();
        for step in 0..5 {
            let first = array(backend, &draw(Any, 10 + step, 5000), [5000].into());
            let second = (step > 1).then(|| array(backend, &draw(Any, 20 + step, 3), [3].into()));
            let mut gradients = [Some(first), second, None];
            norms.push(clip_global_norm(&mut gradients, 5.0)?);
            norms.push(global_norm(&gradients)?);
            optimiser.step(&mut parameters, &gradients, 0.01)?;
        }
        let values = parameters.iter().map(Array::to_vec).collect::<Result<Vec<_>>>()?.concat();
        Ok((values.into_iter().map(Element::wide).collect(), norms))
    }
    let Some((cuda, _memory)) = device() else { return };
    let (found, truth) = (trained(&cuda).unwrap(), trained(&CPU).unwrap());
    assert_eq!(found, trained(&cuda).unwrap());
    let close = |found: &[f64], truth: &[f64], most: f64| {
        assert_eq!(found.len(), truth.len());
        for (a, b) in found.iter().zip(truth) {
            assert!((a - b).abs() <= most * b.abs().max(0.1), "{a} for {b}");
        }
    };
    close(&found.0, &truth.0, 1e-5);
    close(&found.1, &truth.1, 1e-6);
}

#[test]
fn a_norm_is_taken_in_double_precision() {
    let Some((cuda, _memory)) = device() else { return };
    let n = 1_000_003;
    let norm = |value: f32| global_norm(&[Some(Array::full(&cuda, value, [n]).unwrap())]).unwrap();
    for value in [1e-25_f32, 1.0, 1e25] {
        assert!((norm(value) / (f64::from(value) * (n as f64).sqrt()) - 1.0).abs() < 1e-12, "of {value}");
    }
    assert_eq!(global_norm(&[Some(Array::zeros(&cuda, [0]).unwrap())]).unwrap(), 0.0);
}
