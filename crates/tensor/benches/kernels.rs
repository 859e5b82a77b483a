//! The kernels of a training step, each alone, at the sizes of the published model: d = 128, f = 256, 4 heads, a
//! shard of 8 episodes, and a single episode where that goes another way.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use plastica_tensor::ops::attention::AttentionCache;
use plastica_tensor::optim::{AdamW, AdamWSettings};
use plastica_tensor::{Array, Cpu, GradMode, Result, Shape, Tape, Tensor, grad};

type B = Cpu<f32>;

/// Values between −1 and 1 that look like nothing in particular.
fn array(shape: &[usize]) -> Array<B> {
    let shape = Shape::new(shape).expect("the shapes here have five axes at most");
    let values = (0..shape.len()).map(|i| ((i * 2_654_435_761) % 2003) as f32 / 1001.0 - 1.0).collect();
    Array::from_vec(&B::new(), values, shape).expect("there are as many values as the shape holds")
}

fn tensor(shape: &[usize]) -> Tensor<B> {
    Tensor::from(array(shape))
}

/// Times `f` of tracked inputs and the way back from the sum of what it gives to all of them.
fn forward_and_back(
    c: &mut Criterion,
    name: &str,
    inputs: &[&[usize]],
    f: impl Fn(&[Tensor<B>]) -> Result<Tensor<B>>,
) {
    let inputs: Vec<Array<B>> = inputs.iter().map(|shape| array(shape)).collect();
    let run = || -> Result<_> {
        let tape = Tape::new();
        let leaves: Vec<Tensor<B>> = inputs.iter().map(|input| tape.leaf(input)).collect();
        grad(&f(&leaves)?.sum()?, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain)
    };
    c.bench_function(name, |b| b.iter(|| run().expect("the shapes fit")));
}

fn matmul(c: &mut Criterion) {
    let mut group = c.benchmark_group("matmul");
    for (m, k, n) in [(1, 128, 256), (8, 128, 384), (8, 256, 128), (248, 128, 256), (512, 512, 512)] {
        let (a, b) = (tensor(&[m, k]), tensor(&[k, n]));
        group.throughput(Throughput::Elements(2 * (m * k * n) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{m}x{k}x{n}")), |bench| {
            bench.iter(|| a.matmul(&b).expect("the shapes fit"));
        });
    }
}

fn linear(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear");
    for (rows, inp, out) in [(1, 128, 384), (1, 128, 15), (8, 128, 384), (8, 128, 15), (248, 128, 384)] {
        let [x, w, b] = [tensor(&[rows, inp]), tensor(&[out, inp]), tensor(&[out])];
        group.throughput(Throughput::Elements(2 * (rows * inp * out) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{rows}x{inp}x{out}")), |bench| {
            bench.iter(|| x.linear(&w, &b).expect("the shapes fit"));
        });
    }
    group.finish();
    for rows in [8, 248] {
        let name = format!("linear and back/{rows}x128x384");
        forward_and_back(c, &name, &[&[rows, 128], &[384, 128], &[384]], |t| t[0].linear(&t[1], &t[2]));
    }
}

fn rows(c: &mut Criterion) {
    let (x, hidden) = (tensor(&[8, 128]), tensor(&[8, 256]));
    let (gamma, beta) = (tensor(&[128]), tensor(&[128]));
    c.bench_function("layer norm/8x128", |b| {
        b.iter(|| x.layer_norm(&gamma, &beta, 1e-5).expect("the shapes fit"));
    });
    forward_and_back(c, "layer norm and back/8x128", &[&[8, 128], &[128], &[128]], |t| {
        t[0].layer_norm(&t[1], &t[2], 1e-5)
    });
    c.bench_function("gelu/8x256", |b| b.iter(|| hidden.gelu().expect("any shape will do")));
    forward_and_back(c, "gelu and back/8x256", &[&[8, 256]], |t| t[0].gelu());
    let scores = tensor(&[8, 4, 31, 31]);
    c.bench_function("softmax/992x31", |b| b.iter(|| scores.softmax().expect("there is an axis")));
    forward_and_back(c, "softmax and back/992x31", &[&[8, 4, 31, 31]], |t| t[0].softmax());
}

/// The last step's attention of 8 episodes, and all steps', one by one and at once, with the way back.
fn attention(c: &mut Criterion) {
    let read = |qkv: &Tensor<B>| -> Result<AttentionCache<B>> {
        let mut cache = AttentionCache::new(&B::new(), 8, 4, 32, qkv.shape()[1]);
        cache.extend(qkv)?;
        Ok(cache)
    };
    let mut group = c.benchmark_group("cached attention");
    for steps in [31, 256, 1024] {
        let cache = read(&tensor(&[8, steps, 384])).expect("the shapes fit");
        let last = tensor(&[8, 384]);
        group.throughput(Throughput::Elements(steps as u64));
        group.bench_function(BenchmarkId::from_parameter(steps), |b| {
            b.iter(|| cache.attend(&last, None).expect("the shapes fit"));
        });
    }
    group.finish();
    forward_and_back(c, "cached attention of 31 steps and back", &[&[8, 31, 384]], |t| {
        let mut cache = AttentionCache::new(&B::new(), 8, 4, 32, 31);
        let mut sum = Tensor::zeros(&B::new(), [8, 128])?;
        for step in 0..31 {
            let qkv = t[0].step(step)?;
            cache.extend(&qkv)?;
            sum = sum.add(&cache.attend(&qkv, None)?)?;
        }
        Ok(sum)
    });
    // a whole sequence at once, and in operations, as steps that come after others go
    for steps in [31, 1024] {
        let empty = || AttentionCache::new(&B::new(), 8, 4, 32, steps);
        let name = format!("attention of {steps} steps at once and back");
        forward_and_back(c, &name, &[&[8, steps, 384]], |t| empty().attend_all(&t[0], &[]));
        let first = tensor(&[8, 1, 384]);
        let name = format!("attention of {steps} steps in operations and back");
        forward_and_back(c, &name, &[&[8, steps, 384]], |t| {
            let mut cache = empty();
            cache.extend(&first)?;
            cache.attend_all(&t[0], &[])
        });
    }
}

/// The last layer of an image encoder, whose 64 channels have 8 by 8 pixels.
fn convolution(c: &mut Criterion) {
    let (x, weight) = (tensor(&[16, 64, 8, 8]), tensor(&[64, 64, 3, 3]));
    c.bench_function("conv2d/16x64x8x8", |b| b.iter(|| x.conv2d(&weight, 1).expect("the shapes fit")));
    forward_and_back(c, "conv2d and back/16x64x8x8", &[&[16, 64, 8, 8], &[64, 64, 3, 3]], |t| {
        t[0].conv2d(&t[1], 1)
    });
}

/// The encoder's blocks on two runs of images as few-shot drawings are, one thread or as many as `RAYON_NUM_THREADS` says.
fn blocks(c: &mut Criterion) {
    for (side, inputs) in [(84, 1), (42, 64), (21, 64), (10, 64)] {
        let name = format!("16x{side}x{side}x{inputs}");
        let (images, weight) = (tensor(&[16, side, side, inputs]), [64, inputs, 3, 3]);
        let [w, scale, shift] = [&weight[..], &[64], &[64]].map(tensor);
        c.bench_function(&format!("conv_block_by/{name}"), |b| {
            b.iter(|| images.conv_block_by(&w, &scale, &shift).expect("the shapes fit"));
        });
        let inputs: &[&[usize]] = &[&weight, &[64], &[64], &[16, side, side, inputs]];
        let tracked = &inputs[..if side == 84 { 3 } else { 4 }];
        forward_and_back(c, &format!("conv_block and back/{name}"), tracked, |t| {
            let x = t.get(3).unwrap_or(&images);
            Ok(x.conv_block(&t[0], &t[1], &t[2], &[4, 12], 1e-5)?.0)
        });
    }
}

fn optimiser(c: &mut Criterion) {
    let gradients = vec![Some(array(&[384, 128])), Some(array(&[256, 128])), Some(array(&[128]))];
    let parameters: Vec<Array<B>> = gradients.iter().flatten().cloned().collect();
    let mut adamw = AdamW::new(AdamWSettings::default()).expect("the defaults are in range");
    c.bench_function("AdamW/82048", |b| {
        b.iter_batched_ref(
            || parameters.clone(),
            |parameters| adamw.step(parameters, &gradients, 1e-3).expect("the shapes are the same"),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, matmul, linear, rows, attention, convolution, blocks, optimiser);
criterion_main!(benches);
