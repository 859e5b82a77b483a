//! Rotary positions (Su et al., arXiv 2104.09864).

use plastica_tensor::{Backend, Element, Tensor};

use crate::Result;

/// The angle by which a step turns pair i of n/2 in a head of width n is this to the power of −2i/n.
const BASE: f64 = 10_000.0;

/// Turns the queries and keys of steps `start ..` by their positions: `qkv` `[B, S, 3d]`, or `[B, 3d]` for one step; the
/// values stay. In a head of width n, elements i and i + n/2 are a pair, which step t turns by `t · 10000^(−2i/n)`. The
/// product of a query and a key then depends on how far they are apart, and not on where they stand.
pub(super) fn turned<B: Backend>(qkv: &Tensor<B>, start: usize, heads: usize) -> Result<Tensor<B>> {
    let shape = qkv.shape();
    let (batch, steps, width) = match shape[..] {
        [batch, width] => (batch, 1, width),
        [batch, steps, width] => (batch, steps, width),
        _ => unreachable!("the model passes [B, 3d] or [B, S, 3d]"),
    };
    let half = width / 3 / heads / 2;
    let table = |at: &dyn Fn(bool, bool, f64) -> f64| {
        let mut values = Vec::with_capacity(steps * width);
        for t in start..start + steps {
            let angle = |i: usize| t as f64 * BASE.powf(-(i as f64) / half as f64);
            for head in 0..3 * heads {
                for second in [false, true] {
                    values.extend((0..half).map(|i| B::Elem::of(at(head >= 2 * heads, second, angle(i)))));
                }
            }
        }
        Tensor::from_vec(qkv.backend(), values, [1, steps, 3 * heads, 2, half])
    };
    let along = table(&|value, _, angle| if value { 1.0 } else { angle.cos() })?;
    // (a, b) turns to (a cos − b sin, b cos + a sin)
    let across = table(&|value, second, angle| match (value, second) {
        (true, _) => 0.0,
        (false, false) => -angle.sin(),
        (false, true) => angle.sin(),
    })?;
    let pairs = qkv.reshape([batch, steps, 3 * heads, 2, half])?;
    let swapped = Tensor::concat(&[&pairs.slice(3, 1, 1)?, &pairs.slice(3, 0, 1)?], 3)?;
    Ok(pairs.mul(&along)?.add(&swapped.mul(&across)?)?.reshape(shape)?)
}

#[cfg(test)]
mod tests {
    use plastica_tensor::Cpu;

    use super::*;

    /// A step at `start` of one head of width 4, `[q, k, v]`.
    fn at(start: usize, qkv: &[f64; 12]) -> Vec<f64> {
        let qkv = Tensor::from_vec(&Cpu::<f64>::new(), qkv.to_vec(), [1, 12]).unwrap();
        turned(&qkv, start, 1).unwrap().to_vec().unwrap()
    }

    const QKV: [f64; 12] = [1.0, 2.0, 3.0, 4.0, -1.0, 0.5, 0.0, 2.0, 7.0, 8.0, 9.0, 10.0];

    #[test]
    fn pairs_turn_by_their_own_angles_and_values_stay() {
        assert_eq!(at(0, &QKV), QKV);
        let found = at(3, &QKV);
        // the first pair turns by 3, the second by 3/100
        let turn = |a: f64, b: f64, angle: f64| {
            [a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()]
        };
        for (first, second, angle) in [(0, 2, 3.0), (1, 3, 0.03), (4, 6, 3.0), (5, 7, 0.03)] {
            let [a, b] = turn(QKV[first], QKV[second], angle);
            assert!((found[first] - a).abs() < 1e-14 && (found[second] - b).abs() < 1e-14);
        }
        assert_eq!(found[8..], QKV[8..]);
    }

    #[test]
    fn products_depend_on_the_distance_alone() {
        let product = |query: usize, key: usize| -> f64 {
            let (q, k) = (at(query, &QKV), at(key, &QKV));
            q[..4].iter().zip(&k[4..8]).map(|(q, k)| q * k).sum()
        };
        for distance in [0, 1, 7] {
            assert!((product(distance, 0) - product(100 + distance, 100)).abs() < 1e-12);
        }
        assert!((product(1, 0) - product(2, 0)).abs() > 1e-3);
    }

    #[test]
    fn a_sequence_is_its_steps() {
        let cpu = Cpu::<f64>::new();
        let values: Vec<f64> = (0..2 * 3 * 24).map(|i| (i as f64).sin()).collect();
        let whole = Tensor::from_vec(&cpu, values, [2, 3, 24]).unwrap();
        let at_once = turned(&whole, 5, 2).unwrap();
        for t in 0..3 {
            let step = turned(&whole.step(t).unwrap(), 5 + t, 2).unwrap().to_vec().unwrap();
            assert_eq!(at_once.step(t).unwrap().to_vec().unwrap(), step);
        }
    }
}
