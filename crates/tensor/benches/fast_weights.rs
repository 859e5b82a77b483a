//! Fast weights along a copying sequence (31 steps, d = 128, f = 256, two blocks, thus four plastic layers): the reads and
//! updates of a shard of episodes, and the way back through them.

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use plastica_tensor::ops::fast::FastTrajectory;
use plastica_tensor::{Array, Cpu, GradMode, Result, Shape, Tape, Tensor, grad};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

type B = Cpu<f32>;

const STEPS: usize = 31;
/// Output and input units of each plastic layer.
const LAYERS: [[usize; 2]; 4] = [[256, 128], [128, 256], [256, 128], [128, 256]];

/// What the layers read at each step, and their α and β: the same for every run.
struct Values {
    batch: usize,
    plastic: Vec<[Array<B>; 2]>,
    /// By step, then layer.
    inputs: Vec<Vec<Array<B>>>,
    eta: Vec<Array<B>>,
}

impl Values {
    fn new(batch: usize) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut between = |low: f64, high: f64, shape: &[usize]| {
            let shape = Shape::new(shape)?;
            let mut uniform = || f64::from(rng.next_u32()) / 2.0_f64.powi(32);
            let values = (0..shape.len()).map(|_| (low + (high - low) * uniform()) as f32).collect();
            Array::from_vec(&B::new(), values, shape)
        };
        let mut plastic = Vec::new();
        for [out, inp] in LAYERS {
            plastic.push([between(0.0, 0.04, &[out, inp])?, between(0.0, 0.04, &[out])?]);
        }
        let (mut inputs, mut eta) = (Vec::new(), Vec::new());
        for _ in 0..STEPS {
            let step: Result<_> = LAYERS.iter().map(|&[_, inp]| between(-1.0, 1.0, &[batch, inp])).collect();
            inputs.push(step?);
            eta.push(between(0.0, 0.01, &[batch])?);
        }
        Ok(Self { batch, plastic, inputs, eta })
    }

    /// Reads and updates, layer after layer and step after step, by a rule that takes the layer's output for p and its
    /// input for q. Gives a scalar of all outputs, and what it depends on; nothing is on a tape without `tape`.
    fn forward(&self, tape: Option<&Tape<B>>) -> Result<(Tensor<B>, Vec<Tensor<B>>)> {
        let mut leaves = Vec::new();
        let mut leaf = |array: &Array<B>| match tape {
            Some(tape) => {
                let leaf = tape.leaf(array);
                leaves.push(leaf.clone());
                leaf
            }
            None => Tensor::from(array.clone()),
        };
        let plastic: Vec<[Tensor<B>; 2]> = self.plastic.iter().map(|[a, b]| [leaf(a), leaf(b)]).collect();
        let mut fast =
            LAYERS.map(|[out, inp]| FastTrajectory::new(&B::new(), self.batch, out, inp, Some(STEPS)));
        let mut sum = Tensor::zeros(&B::new(), [])?;
        for (inputs, eta) in self.inputs.iter().zip(&self.eta) {
            let eta = leaf(eta);
            let mut changes = Vec::new();
            for ((input, fast), [_, beta]) in inputs.iter().zip(&fast).zip(&plastic) {
                let x = leaf(input);
                let y = fast.read(&x)?.add(beta)?;
                sum = sum.add(&y.square()?.sum()?)?;
                changes.push((y, x));
            }
            for ((fast, (y, x)), [alpha, beta]) in fast.iter_mut().zip(&changes).zip(&plastic) {
                fast.update([&eta, alpha, beta, y, x])?;
            }
        }
        Ok((sum, leaves))
    }
}

fn backward(sum: &Tensor<B>, leaves: &[Tensor<B>]) -> Result<Vec<Option<Tensor<B>>>> {
    grad(sum, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain)
}

fn fast_weights(c: &mut Criterion) {
    let mut group = c.benchmark_group("fast_weights");
    for batch in [1, 8] {
        let values = Values::new(batch).expect("shapes fit");
        group.bench_function(BenchmarkId::new("forward, not recorded", batch), |b| {
            b.iter(|| values.forward(None).expect("shapes fit"));
        });
        group.bench_function(BenchmarkId::new("forward", batch), |b| {
            b.iter(|| values.forward(Some(&Tape::new())).expect("shapes fit"));
        });
        group.bench_function(BenchmarkId::new("backward", batch), |b| {
            b.iter_batched(
                || values.forward(Some(&Tape::new())).expect("shapes fit"),
                |(sum, leaves)| backward(&sum, &leaves).expect("all is tracked"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, fast_weights);
criterion_main!(benches);
