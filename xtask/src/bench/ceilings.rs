//! What a device could do: a large matrix product, and a large copy.

use std::time::Instant;

use plastica_tensor::{Backend, Cpu, Element, Tensor};

use super::memory;

/// A device's rates.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct Ceilings {
    /// f32 matrix product, floating-point operations a second.
    pub matmul_flops: f64,
    /// Copy, bytes read plus bytes written a second.
    pub copy_bytes: f64,
}

/// A backend whose ceilings and memory can be told.
pub trait Rated: Backend {
    /// Most memory that it had in use at once, in bytes, and where that was read; `None` where it is not known.
    fn peak_bytes(&self) -> Option<(u64, &'static str)>;

    /// Measures the ceilings: the best of several tries each.
    ///
    /// # Errors
    /// When there is no memory, or the device fails.
    fn ceilings(&self) -> anyhow::Result<Ceilings>;
}

impl Rated for Cpu<f32> {
    fn peak_bytes(&self) -> Option<(u64, &'static str)> {
        memory::peak_bytes().zip(memory::SOURCE)
    }

    fn ceilings(&self) -> anyhow::Result<Ceilings> {
        let threads = rayon::current_num_threads();
        let source = vec![1_u8; 256 << 20];
        let mut target = vec![0_u8; 256 << 20];
        let chunk = source.len().div_ceil(threads);
        Ok(Ceilings {
            matmul_flops: product(self, 1024)?,
            copy_bytes: 2.0 * source.len() as f64
                / shortest(self, 5, || {
                    rayon::scope(|scope| {
                        for (target, source) in target.chunks_mut(chunk).zip(source.chunks(chunk)) {
                            scope.spawn(|_| target.copy_from_slice(source));
                        }
                    });
                    Ok(())
                })?,
        })
    }
}

#[cfg(feature = "cuda")]
impl Rated for plastica_tensor::Cuda {
    fn peak_bytes(&self) -> Option<(u64, &'static str)> {
        let memory = self.memory().ok()?;
        Some((memory.used as u64, "in use on the device after the training, by the driver's count"))
    }

    fn ceilings(&self) -> anyhow::Result<Ceilings> {
        use plastica_tensor::Storage;
        const ELEMENTS: usize = 1 << 28;
        let matmul_flops = product(self, 8192)?;
        let source = self.full(ELEMENTS, 1.5)?;
        let mut copy = None;
        let seconds = shortest(self, 10, || {
            // the last copy's memory is the next one's
            drop(copy.take());
            copy = Some(self.copy(&source)?);
            Ok(())
        })?;
        Ok(Ceilings { matmul_flops, copy_bytes: (2 * 4 * ELEMENTS) as f64 / seconds })
    }
}

/// Floating-point operations a second of a product of two square matrices.
fn product<B: Backend>(backend: &B, side: usize) -> anyhow::Result<f64> {
    let values = (0..side * side).map(|i| B::Elem::of((i % 17) as f64 / 17.0 - 0.4)).collect();
    let a = Tensor::from_vec(backend, values, [side, side])?;
    let seconds = shortest(backend, 8, || {
        a.matmul(&a)?;
        Ok(())
    })?;
    Ok(2.0 * (side as f64).powi(3) / seconds)
}

/// The shortest of several tries, in seconds.
fn shortest<B: Backend>(
    backend: &B,
    tries: usize,
    mut f: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let mut shortest = f64::INFINITY;
    for _ in 0..tries {
        backend.synchronize()?;
        let begin = Instant::now();
        f()?;
        backend.synchronize()?;
        shortest = shortest.min(begin.elapsed().as_secs_f64());
    }
    Ok(shortest)
}
