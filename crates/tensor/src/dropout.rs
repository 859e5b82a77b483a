//! Dropout masks (Srivastava et al., JMLR 15, 2014), from a generator an episode.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{Backend, Element, Result, Tensor, TensorError};

/// A mask `[generators.len(), row_len]` of 0 with probability `p` and 1/(1 − p) else, row `b` drawn from
/// `generators[b]`: an episode's mask never depends on its neighbours.
///
/// An element takes one 32-bit word, so a row drawn in two parts is the row drawn at once; `p` is
/// resolved to 2⁻³².
///
/// # Errors
/// [`TensorError::Setting`] when `p` is outside of [0, 1).
pub fn dropout_mask<B: Backend>(
    backend: &B,
    generators: &mut [ChaCha8Rng],
    row_len: usize,
    p: f64,
) -> Result<Tensor<B>> {
    if !(0.0..1.0).contains(&p) {
        let rule = "a dropout probability must lie in [0, 1)";
        return Err(TensorError::Setting { name: "p", value: p.to_string(), rule });
    }
    let threshold = (p * 4_294_967_296.0) as u32;
    let (dropped, kept) = (B::Elem::of(0.0), B::Elem::of(1.0 / (1.0 - p)));
    let mut values = Vec::with_capacity(generators.len() * row_len);
    for generator in generators.iter_mut() {
        values.extend((0..row_len).map(|_| if generator.next_u32() < threshold { dropped } else { kept }));
    }
    Tensor::from_vec(backend, values, [generators.len(), row_len])
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::Cpu;

    fn draw(generators: &mut [ChaCha8Rng], row_len: usize, p: f64) -> Vec<f32> {
        dropout_mask(&Cpu::<f32>::new(), generators, row_len, p).unwrap().to_vec().unwrap()
    }

    #[test]
    fn drops_as_often_as_asked_and_keeps_the_mean() {
        for p in [0.0, 0.1, 0.5, 0.9] {
            let mask = draw(&mut [ChaCha8Rng::seed_from_u64(1)], 100_000, p);
            let dropped = mask.iter().filter(|&&m| m == 0.0).count() as f64 / 1e5;
            assert!((dropped - p).abs() < 0.005, "{dropped} dropped at {p}");
            let kept = (1.0 / (1.0 - p)) as f32;
            assert!(mask.iter().all(|&m| m == 0.0 || m == kept));
        }
    }

    #[test]
    fn a_row_in_two_parts_is_the_row_at_once_and_neighbours_do_not_matter() {
        let rng = ChaCha8Rng::seed_from_u64;
        let whole = draw(&mut [rng(7)], 13, 0.4);
        let mut again = [rng(7)];
        let parts = [draw(&mut again, 5, 0.4), draw(&mut again, 8, 0.4)].concat();
        assert_eq!(whole, parts);
        assert_eq!(draw(&mut [rng(3), rng(7)], 13, 0.4)[13..], whole);
    }

    #[test]
    fn a_probability_of_one_is_refused() {
        let error = dropout_mask(&Cpu::<f32>::new(), &mut [], 3, 1.0).unwrap_err().to_string();
        assert_eq!(error, "p = 1 won't do: a dropout probability must lie in [0, 1)");
    }
}
