//! The fast-weight update against its definition.

use plastica_tensor::ops::outer::decay_outer;
use plastica_tensor::{Cpu, Result, Shape, Tensor};

type Real = Tensor<Cpu<f64>>;

/// Values without a pattern, the same at every call.
fn values(shape: impl Into<Shape>, salt: f64) -> Real {
    let shape = shape.into();
    let values = (0..shape.len()).map(|i| (12.9898 * i as f64 + salt).sin()).collect();
    Tensor::from_vec(&Cpu::new(), values, shape).unwrap()
}

#[test]
fn the_update_is_decay_and_a_scaled_outer_product() {
    let [batch, out, inp] = [3, 4, 5];
    let fast = values([batch, out, inp], 1.0);
    let (eta, alpha) = (values([batch], 2.0), values([out, inp], 3.0));
    let (p, q) = (values([batch, out], 4.0), values([batch, inp], 5.0));
    let [f, e, a, pv, qv] = [&fast, &eta, &alpha, &p, &q].map(|t| t.to_vec().unwrap());
    let check = |fast: Option<&Real>, f: &[f64]| {
        let new = decay_outer(fast, &eta, &alpha, &p, &q).unwrap();
        assert_eq!(new.shape(), Shape::from([batch, out, inp]));
        for (i, new) in new.to_vec().unwrap().into_iter().enumerate() {
            let (b, unit, input) = (i / (out * inp), i / inp % out, i % inp);
            let grown = e[b] * a[unit * inp + input] * pv[b * out + unit] * qv[b * inp + input];
            let expected = (1.0 - e[b]) * f[i] + grown;
            assert!((new - expected).abs() < 1e-14, "element {i} is {new}, not {expected}");
        }
    };
    check(Some(&fast), &f);
    check(None, &vec![0.0; batch * out * inp]);
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let update = |f: &[usize], eta: &[usize], alpha: &[usize], p: &[usize], q: &[usize]| -> Result<Real> {
        let [f, eta, alpha, p, q] = [f, eta, alpha, p, q].map(|s| values(Shape::new(s).unwrap(), 0.0));
        decay_outer(Some(&f), &eta, &alpha, &p, &q)
    };
    let check = |result: Result<Real>, message: &str| {
        assert_eq!(result.err().map(|e| e.to_string()).as_deref(), Some(message));
    };
    check(
        update(&[2, 3, 4], &[2], &[3, 4], &[2, 3], &[1, 4]),
        "decay_outer: shapes [2, 3] and [1, 4] don't go together: p is [B, out] and q [B, in]",
    );
    check(
        update(&[2, 3, 4], &[3], &[3, 4], &[2, 3], &[2, 4]),
        "decay_outer: shapes [3] and [2, 3] don't go together: eta is [B] where p is [B, out]",
    );
    check(
        update(&[2, 3, 4], &[2], &[4, 3], &[2, 3], &[2, 4]),
        "decay_outer: a tensor of shape [4, 3] won't do: alpha is [out, in], here [3, 4]",
    );
    check(
        update(&[1, 3, 4], &[2], &[3, 4], &[2, 3], &[2, 4]),
        "decay_outer: a tensor of shape [1, 3, 4] won't do: fast weights are [B, out, in], here [2, 3, 4]",
    );
}
