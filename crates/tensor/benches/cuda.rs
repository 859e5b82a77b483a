//! What a CUDA device makes of the two things that take most of its time: the update of fast weights, beside the device's
//! own copy, and Conv-4's blocks, forward and back. A line each; times are to the end of the device's work, the median of
//! some, after a warm-up.

use std::time::Instant;

use plastica_tensor::ops::fast::FastTrajectory;
use plastica_tensor::{Array, Cuda, GradMode, Result, Shape, Storage, Tape, Tensor, grad};

/// Episodes that are trained on at once.
const EPISODES: usize = 512;
/// Output and input units of each plastic layer: four, so that what one leaves in a cache is gone when it comes again.
const LAYERS: [[usize; 2]; 4] = [[256, 128], [128, 256], [256, 128], [128, 256]];

/// Images of 16 episodes of 5-way 1-shot classification with 15 queries a class, and the groups that they are
/// normalised in.
const GROUPS: [usize; 32] = {
    let mut groups = [5; 32];
    let mut i = 1;
    while i < 32 {
        groups[i] = 75;
        i += 2;
    }
    groups
};
const IMAGES: usize = 16 * 80;

fn main() -> Result<()> {
    let cuda = match Cuda::new(0) {
        Ok(cuda) => cuda,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(1)
        }
    };
    println!("device {}", cuda.name());
    let copy = copy(&cuda)?;
    println!("copy of 1 GiB on the device: {:.0} GB/s read and written", copy / 1e9);
    update(&cuda, copy)?;
    conv_4(&cuda)
}

/// Values between −1 and 1 that look like nothing in particular.
fn array(cuda: &Cuda, shape: &[usize], scale: f32) -> Result<Array<Cuda>> {
    let shape = Shape::new(shape)?;
    let values =
        (0..shape.len()).map(|i| (((i * 2_654_435_761) % 2003) as f32 / 1001.0 - 1.0) * scale).collect();
    Array::from_vec(cuda, values, shape)
}

/// Median of the seconds that `f` takes.
fn median(cuda: &Cuda, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut seconds = Vec::new();
    for turn in 0..13 {
        cuda.synchronize()?;
        let begin = Instant::now();
        f()?;
        cuda.synchronize()?;
        if turn >= 3 {
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// Bytes a second.
fn copy(cuda: &Cuda) -> Result<f64> {
    let source = cuda.full(1 << 28, 1.5)?;
    let seconds = median(cuda, || cuda.copy(&source).map(drop))?;
    Ok((8_u64 << 28) as f64 / seconds)
}

/// An update reads all fast weights once and writes them once: no work on them can do with less.
fn update(cuda: &Cuda, copy: f64) -> Result<()> {
    const TURNS: usize = 8;
    let tensor = |shape: &[usize], scale| {
        Ok::<_, plastica_tensor::TensorError>(Tensor::from(array(cuda, shape, scale)?))
    };
    let eta = tensor(&[EPISODES], 0.01)?;
    let mut layers = Vec::new();
    for [out, inp] in LAYERS {
        // no η is above this: an update need not wait for η to come to the host
        let fast = FastTrajectory::new(cuda, EPISODES, out, inp, None).with_rates_up_to(Some(0.01));
        let by = [
            tensor(&[out, inp], 0.04)?,
            tensor(&[out], 0.04)?,
            tensor(&[EPISODES, out], 1.0)?,
            tensor(&[EPISODES, inp], 1.0)?,
        ];
        layers.push((fast, by));
    }
    let seconds = median(cuda, || {
        for _ in 0..TURNS {
            for (fast, [alpha, beta, post, pre]) in &mut layers {
                fast.update([&eta, alpha, beta, post, pre])?;
            }
        }
        Ok(())
    })?;
    let numbers: usize = LAYERS.iter().map(|[out, inp]| out * inp + out).sum();
    let rate = (TURNS * 2 * 4 * EPISODES * numbers) as f64 / seconds;
    println!(
        "update of {EPISODES} episodes' fast weights: {:.0} GB/s, {:.0} % of the copy, {:.1} µs a layer",
        rate / 1e9,
        100.0 * rate / copy,
        1e6 * seconds / (TURNS * LAYERS.len()) as f64
    );
    Ok(())
}

fn conv_4(cuda: &Cuda) -> Result<()> {
    let images = array(cuda, &[IMAGES, 32, 32, 3], 1.0)?;
    let mut parameters = Vec::new();
    for inputs in [3, 64, 64, 64] {
        parameters.push(array(cuda, &[64, inputs, 3, 3], 0.1)?);
        parameters.push(Array::full(cuda, 1.0, [64])?);
        parameters.push(Array::full(cuda, 0.0, [64])?);
    }
    let run = |back: bool| -> Result<()> {
        let tape = Tape::new();
        let leaves: Vec<Tensor<Cuda>> = parameters.iter().map(|parameter| tape.leaf(parameter)).collect();
        let mut x = Tensor::from(images.clone());
        for block in leaves.chunks(3) {
            x = x.conv_block(&block[0], &block[1], &block[2], &GROUPS, 1e-5)?.0;
        }
        if back {
            grad(&x.sum()?, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain)?;
        }
        Ok(())
    };
    let (forward, both) = (median(cuda, || run(false))?, median(cuda, || run(true))?);
    println!(
        "Conv-4 of {IMAGES} images: forward {:.2} ms, forward and back {:.2} ms",
        1e3 * forward,
        1e3 * both
    );
    Ok(())
}
