//! What the machine could do: a large matrix product, and a large copy.

use std::time::Instant;

use plastica_tensor::{Cpu, Tensor};

/// Rates of the machine, on the threads in use.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct Ceilings {
    /// f32 matrix product of 1024 × 1024 × 1024, floating-point operations a second.
    pub matmul_flops: f64,
    /// Copy of 256 MiB, bytes read plus bytes written a second.
    pub copy_bytes: f64,
}

impl Ceilings {
    /// Measures them: the best of several tries each.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn measure() -> anyhow::Result<Self> {
        const SIDE: usize = 1024;
        let cpu = Cpu::<f32>::new();
        let values = (0..SIDE * SIDE).map(|i| (i % 17) as f32 / 17.0 - 0.4).collect();
        let a = Tensor::from_vec(&cpu, values, [SIDE, SIDE])?;
        let best =
            |tries: usize, mut f: Box<dyn FnMut() -> anyhow::Result<()> + '_>| -> anyhow::Result<f64> {
                let mut best = f64::INFINITY;
                for _ in 0..tries {
                    let begin = Instant::now();
                    f()?;
                    best = best.min(begin.elapsed().as_secs_f64());
                }
                Ok(best)
            };
        let product = best(
            8,
            Box::new(|| {
                a.matmul(&a)?;
                Ok(())
            }),
        )?;
        let threads = rayon::current_num_threads();
        let source = vec![1_u8; 256 << 20];
        let mut target = vec![0_u8; 256 << 20];
        let chunk = source.len().div_ceil(threads);
        let copy = best(
            5,
            Box::new(|| {
                rayon::scope(|scope| {
                    for (target, source) in target.chunks_mut(chunk).zip(source.chunks(chunk)) {
                        scope.spawn(|_| target.copy_from_slice(source));
                    }
                });
                Ok(())
            }),
        )?;
        Ok(Self {
            matmul_flops: 2.0 * (SIDE * SIDE * SIDE) as f64 / product,
            copy_bytes: 2.0 * source.len() as f64 / copy,
        })
    }
}
