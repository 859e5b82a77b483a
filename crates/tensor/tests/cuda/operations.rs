//! Operations on elements, rows, axes and matrices.

use plastica_tensor::{Backend, Cpu, Cuda, Element, GradMode, Result, Shape, Tensor, grad};

use crate::common::Draw::{Any, Positive};
use crate::common::{Derivatives, check, compare, device};

#[test]
fn functions_of_one_element() {
    for dims in [&[][..], &[1], &[3, 85], &[257], &[7, 11, 1300]] {
        let (any, positive) = (&[(Any, dims)], &[(Positive, dims)]);
        check!("scale", any, |x| x[0].scale(-1.7));
        check!("shift", any, |x| x[0].shift(0.3));
        check!("square", any, |x| x[0].square());
        check!("exp", any, |x| x[0].scale(5.0)?.exp());
        check!("ln", positive, |x| x[0].ln());
        check!("sqrt", positive, |x| x[0].sqrt());
        check!("sigmoid", any, |x| x[0].scale(3.0)?.sigmoid());
        check!("gelu", any, |x| x[0].scale(4.0)?.gelu());
        check!("relu", any, |x| x[0].relu());
        check!("at_most", any, |x| x[0].at_most(0.25));
    }
}

#[test]
fn gelu_keeps_its_precision_in_the_tail() {
    let Some((cuda, _memory)) = device() else { return };
    let x = Tensor::from_vec(&cuda, vec![-5.0, -9.0, 9.0, -1e30, f32::NEG_INFINITY], [5]).unwrap();
    let y = x.slice(0, 0, 4).unwrap().gelu().unwrap().to_vec().unwrap();
    // −5 Φ(−5) and −9 Φ(−9)
    for (got, expected) in y.into_iter().zip([-1.433_257_859e-6, -1.015_729_565e-18, 9.0, 0.0]) {
        assert!((f64::from(got) - expected).abs() <= 1e-5 * f64::abs(expected), "{got} for {expected}");
    }
    assert_eq!(x.sigmoid().unwrap().to_vec().unwrap()[3..], [0.0, 0.0]);
}

#[test]
fn a_nan_shows() {
    let Some((cuda, _memory)) = device() else { return };
    let x = Tensor::from_vec(&cuda, vec![1.0, f32::NAN], [2]).unwrap();
    for y in
        [x.relu(), x.at_most(1.0), x.sigmoid(), x.gelu(), x.softmax(), x.log_softmax(), x.normalize(1e-5)]
    {
        assert!(y.unwrap().to_vec().unwrap()[1].is_nan());
    }
    for at in 0..4 {
        let mut values = vec![1.0, 2.0, 3.0, f32::INFINITY];
        values[at] = f32::NAN;
        let largest = Tensor::from_vec(&cuda, values, [2, 2]).unwrap().max_pool2d().unwrap();
        assert!(largest.item().unwrap().is_nan(), "NaN at {at}");
    }
}

#[test]
fn functions_of_two_elements() {
    let shapes: [(&[usize], &[usize]); 14] = [
        (&[], &[]),
        (&[2, 3], &[2, 3]),
        (&[300, 41], &[41]),
        (&[41], &[300, 41]),
        (&[300, 41], &[300, 1]),
        (&[300, 1], &[1, 41]),
        (&[], &[300, 41]),
        (&[17, 1, 9], &[17, 33, 9]),
        (&[2, 33, 9], &[33, 1]),
        (&[8, 5, 4, 3], &[5, 1, 1]),
        (&[2, 1, 3, 1, 5], &[4, 1, 6, 1]),
        (&[2, 4, 3, 6, 5], &[2, 1, 3, 1, 5]),
        (&[2, 1, 3, 1, 5], &[1, 4, 1, 6, 1]),
        (&[1, 1], &[1]),
    ];
    for (a, b) in shapes {
        check!("add", &[(Any, a), (Any, b)], |x| x[0].add(&x[1]));
        check!("sub", &[(Any, a), (Any, b)], |x| x[0].sub(&x[1]));
        check!("mul", &[(Any, a), (Any, b)], |x| x[0].mul(&x[1]));
        check!("div", &[(Any, a), (Positive, b)], |x| x[0].div(&x[1]));
    }
    check!("both the same", &[(Positive, &[70, 70])], |x| x[0].mul(&x[0])?.div(&x[0].exp()?));
}

#[test]
fn sums_and_repetition() {
    // one axis: less than a warp's, a block's, a chunk's, and many chunks
    for n in [1, 2, 31, 33, 1000, 1025, 4096, 4097, 300_000] {
        check!("sum", &[(Any, &[n])], |x| x[0].sum());
        check!("sum of columns", &[(Any, &[n, 3])], |x| x[0].sum_axis(0));
    }
    for dims in
        [&[7, 9000][..], &[9000, 7], &[3, 5], &[1000, 100], &[2, 600, 33], &[2, 33, 600], &[4, 2, 3, 5, 6]]
    {
        check!("mean", &[(Any, dims)], |x| x[0].mean());
        check!("sum over the first axis", &[(Any, dims)], |x| x[0].sum_axis(0));
        check!("sum over the second axis", &[(Any, dims)], |x| x[0].sum_axis(1));
        check!("sum over all but the second", &[(Any, dims)], |x| {
            let to: Vec<usize> =
                x[0].shape().iter().enumerate().map(|(i, &n)| if i == 1 { n } else { 1 }).collect();
            x[0].sum_to(Shape::new(&to)?)
        });
        check!("sum over every other axis", &[(Any, dims)], |x| {
            let to: Vec<usize> =
                x[0].shape().iter().enumerate().map(|(i, &n)| if i % 2 == 1 { n } else { 1 }).collect();
            x[0].sum_to(Shape::new(&to)?)
        });
    }
    for dims in [&[][..], &[5], &[3, 1], &[70, 1, 5], &[1, 3, 5], &[2, 1, 1, 1]] {
        check!("broadcast_to", &[(Any, dims)], |x| x[0].broadcast_to([2, 70, 3, 5]));
    }
}

#[test]
fn matrix_products() {
    let sizes = [(2, 3, 4), (1, 70, 65), (65, 70, 1), (70, 1, 65), (129, 257, 65), (300, 128, 256)];
    for (m, k, n) in sizes {
        for batch in [&[][..], &[1], &[7], &[3, 5]] {
            let (a, at) = ([batch, &[m, k]].concat(), [batch, &[k, m]].concat());
            let (b, bt) = ([batch, &[k, n]].concat(), [batch, &[n, k]].concat());
            check!("A B", &[(Any, &a), (Any, &b)], |x| x[0].matmul(&x[1]));
            check!("Aᵀ B", &[(Any, &at), (Any, &b)], |x| x[0].matmul_transposed(&x[1], true, false));
            check!("A Bᵀ", &[(Any, &a), (Any, &bt)], |x| x[0].matmul_transposed(&x[1], false, true));
            check!("Aᵀ Bᵀ", &[(Any, &at), (Any, &bt)], |x| x[0].matmul_transposed(&x[1], true, true));
        }
    }
    check!("linear", &[(Any, &[4, 50, 60]), (Any, &[70, 60]), (Any, &[70])], |x| x[0].linear(&x[1], &x[2]));
}

#[test]
fn moving_elements() {
    check!("reshape", &[(Any, &[20, 30])], |x| x[0].reshape([3, 1, 200]));
    check!("a transpose", &[(Any, &[200, 31])], |x| x[0].permute(&[1, 0]));
    check!("permute", &[(Any, &[20, 3, 40])], |x| x[0].permute(&[2, 0, 1]));
    check!("permute heads", &[(Any, &[4, 9, 3, 16])], |x| x[0].permute(&[0, 2, 1, 3]));
    check!("permute five", &[(Any, &[2, 3, 4, 5, 6])], |x| x[0].permute(&[4, 2, 0, 3, 1]));
    check!("slice", &[(Any, &[20, 40, 3])], |x| x[0].slice(1, 7, 20));
    check!("slice of the first axis", &[(Any, &[20, 40])], |x| x[0].slice(0, 3, 1));
    check!("slice of the last axis", &[(Any, &[20, 40])], |x| x[0].slice(1, 39, 1));
    check!("pad", &[(Any, &[20, 20, 3])], |x| x[0].pad(1, 11, 40));
    check!("swap", &[(Any, &[20, 30, 7])], |x| x[0].swap(1, [2, 4]));
    check!("swap of nothing", &[(Any, &[300, 70])], |x| x[0].swap(3, [0, 60])?.swap(69, [1, 0]));
    check!("concat", &[(Any, &[20, 1, 7]), (Any, &[20, 30, 7])], |x| {
        Tensor::concat(&[&x[0], &x[1], &x[0]], 1)
    });
    check!("concat of the last axis", &[(Any, &[300, 1]), (Any, &[300, 2])], |x| {
        Tensor::concat(&[&x[0], &x[1]], 1)
    });
}

#[test]
fn rows() {
    for dims in [&[1][..], &[5, 1], &[100, 3], &[9, 31], &[2, 3, 33], &[3, 1024], &[3, 1025], &[2, 9000]] {
        let (x, row) = ((Any, dims), (Any, &dims[dims.len() - 1..]));
        check!("softmax", &[x], |x| x[0].scale(9.0)?.softmax());
        check!("log_softmax", &[x], |x| x[0].scale(9.0)?.log_softmax());
        check!("normalize", &[x], |x| x[0].normalize(0.1));
        check!("layer_norm", &[x, row, row], |x| x[0].layer_norm(&x[1], &x[2], 0.1));
    }
    check!("normalize, a small eps", &[(Any, &[50, 128])], |x| x[0].normalize(1e-5));
    check!("cross_entropy", &[(Any, &[3, 40])], |x| x[0].cross_entropy(&[39, 0, 39]));
    let Some((cuda, _memory)) = device() else { return };
    let large = Tensor::from_vec(&cuda, vec![1e30, 1e30, -1e30, 1e4, 1e4 + 1.0, 0.0], [2, 3]).unwrap();
    assert_eq!(large.softmax().unwrap().to_vec().unwrap()[..3], [0.5, 0.5, 0.0]);
    assert!(large.log_softmax().unwrap().to_vec().unwrap()[3..].iter().all(|y| y.is_finite()));
}

#[test]
fn picking_elements() {
    check!("gather, some twice", &[(Any, &[300, 20])], |x| x[0].gather(&[299, 0, 17, 17, 0, 17]));
    check!("gather, each once", &[(Any, &[300, 20])], |x| x[0].gather(&[299, 0, 17]));
    check!("gather, often", &[(Any, &[3, 20])], |x| {
        x[0].gather(&(0..1000).map(|i| i * i % 3).collect::<Vec<_>>())
    });
    check!("gather of scalars", &[(Any, &[40])], |x| x[0].gather(&[1, 39, 1]));
    check!("gather of nothing", &[(Any, &[40])], |x| x[0].gather(&[]));
    check!("gather_last", &[(Any, &[30, 2, 9])], |x| {
        x[0].gather_last(&(0..60).map(|i| i % 9).collect::<Vec<_>>())
    });
}

#[test]
fn tensors_of_no_elements() {
    check!("map", &[(Any, &[0, 3])], |x| x[0].exp());
    check!("zip", &[(Any, &[0, 3]), (Any, &[3])], |x| x[0].mul(&x[1]));
    check!("zip, far apart", &[(Any, &[0, 70_000, 70_000]), (Any, &[1, 1])], |x| x[0].mul(&x[1]));
    check!("a sum of nothing", &[(Any, &[0, 3])], |x| x[0].sum_axis(0));
    check!("a product over nothing", &[(Any, &[4, 0]), (Any, &[0, 5])], |x| x[0].matmul(&x[1]));
    check!("a product of nothing", &[(Any, &[0, 4]), (Any, &[4, 5])], |x| x[0].matmul(&x[1]));
    check!("permute", &[(Any, &[3, 0, 2])], |x| x[0].permute(&[2, 0, 1]));
    check!("slice", &[(Any, &[3, 4])], |x| x[0].slice(1, 2, 0));
    check!("concat", &[(Any, &[3, 0]), (Any, &[3, 2])], |x| Tensor::concat(&[&x[0], &x[1]], 1));
    check!("softmax", &[(Any, &[0, 4])], |x| x[0].softmax());
    check!("normalize", &[(Any, &[0, 4])], |x| x[0].normalize(0.1));
    check!("gather", &[(Any, &[4, 0])], |x| x[0].gather(&[1, 1]));
    check!("conv2d", &[(Any, &[0, 2, 4, 4]), (Any, &[3, 2, 3, 3])], |x| x[0].conv2d(&x[1], 1));
}

#[test]
fn composed_expressions() {
    let (first, second) = ([(Any, &[40, 24][..]), (Any, &[40])], [(Any, &[24, 40][..]), (Any, &[24])]);
    check!("a perceptron", &[(Any, &[30, 24]), first[0], first[1], second[0], second[1]], |x| {
        let hidden = x[0].normalize(1e-3)?.linear(&x[1], &x[2])?.gelu()?;
        x[0].add(&hidden.linear(&x[3], &x[4])?)?.log_softmax()
    });
    check!("causal attention", &[(Any, &[3, 4, 9, 8]), (Any, &[3, 4, 9, 8]), (Any, &[3, 4, 9, 8])], |x| {
        let mask = (0..81).map(|i| B::Elem::of(if i % 9 > i / 9 { -1e9 } else { 0.0 })).collect();
        let mask = Tensor::from_vec(x[0].backend(), mask, [9, 9])?;
        let scores = x[0].matmul_transposed(&x[1], false, true)?.scale(0.35)?.add(&mask)?;
        scores.softmax()?.matmul(&x[2])?.permute(&[0, 2, 1, 3])
    });
    check!("a tensor that many read", &[(Any, &[7, 50])], |x| {
        let mut y = x[0].add(&x[0])?;
        for n in 0..40 {
            y = y.add(&x[0].scale(0.01 * f64::from(n))?)?;
        }
        Ok(y)
    });
    check!("a step of gradient descent", &[(Any, &[20, 30]), (Any, &[30])], |x| {
        let loss = |w: &Tensor<B>| w.matmul(&x[1].reshape([30, 1])?)?.sigmoid()?.square()?.sum();
        let slope = grad(&loss(&x[0])?, &[&x[0]], GradMode::Tracked)?.remove(0);
        loss(&x[0].sub(&slope.expect("the loss is made of it").scale(0.1)?)?)
    });
}
