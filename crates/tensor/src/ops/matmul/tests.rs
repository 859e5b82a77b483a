use proptest::prelude::*;

use super::*;
use crate::cpu::with_threads;
use crate::testing::{Real, check, check_error, noise, tensor};
use crate::{Cpu, Shape};

/// `op(A) op(B)` of `[batch, ..]` by three loops.
fn by_loops(a: &Real, b: &Real, s: MatMulSizes) -> Vec<f64> {
    let (a, b) = (a.to_vec().unwrap(), b.to_vec().unwrap());
    let at = |x: &[f64], transposed, batch, rows, cols, i, j| {
        x[batch * rows * cols + if transposed { j * rows + i } else { i * cols + j }]
    };
    let mut c = Vec::new();
    for batch in 0..s.batch {
        for i in 0..s.m {
            for j in 0..s.n {
                let a = |l| at(&a, s.transpose_a, batch, s.m, s.k, i, l);
                let b = |l| at(&b, s.transpose_b, batch, s.k, s.n, l, j);
                c.push((0..s.k).map(|l| a(l) * b(l)).sum());
            }
        }
    }
    c
}

fn stored(batch: usize, rows: usize, cols: usize, transposed: bool) -> Shape {
    if transposed { [batch, cols, rows].into() } else { [batch, rows, cols].into() }
}

fn check_sizes(s: MatMulSizes) {
    let a = noise(stored(s.batch, s.m, s.k, s.transpose_a));
    let b = noise(stored(s.batch, s.k, s.n, s.transpose_b));
    let product = a.matmul_transposed(&b, s.transpose_a, s.transpose_b);
    check(product, &by_loops(&a, &b, s), [s.batch, s.m, s.n]);
}

proptest! {
    #[test]
    fn products_are_three_loops(
        (batch, m, k, n) in (0_usize..4, 0_usize..20, 0_usize..20, 0_usize..20),
        (transpose_a, transpose_b) in any::<(bool, bool)>(),
    ) {
        check_sizes(MatMulSizes { batch, m, k, n, transpose_a, transpose_b });
        check_sizes(MatMulSizes { batch, m: 1, k, n, transpose_a, transpose_b });
        check_sizes(MatMulSizes { batch, m, k, n: 1, transpose_a, transpose_b });
    }
}

#[test]
fn few_rows_are_three_loops_at_every_width() {
    // one short of, exactly and one beyond the columns whose sums are kept in registers together
    for n in [1, 15, 16, 17, 31, 32, 33, 127, 128, 129, 176, 256, 303] {
        for m in [1, 2, 7, 8, 9] {
            let s = MatMulSizes { batch: 1, m, k: 5, n, transpose_a: false, transpose_b: false };
            check_sizes(s);
            let (x, weight) = (noise([m, s.k]), noise([n, s.k]));
            let layer = x.linear(&weight, &Tensor::zeros(x.backend(), [n]).unwrap());
            check(layer, &by_loops(&x, &weight, MatMulSizes { transpose_b: true, ..s }), [m, n]);
        }
    }
}

/// Sizes beyond the one from which a product is spread over threads, the last chunk of rows a short one.
const LARGE: MatMulSizes =
    MatMulSizes { batch: 1, m: 300, k: 350, n: 330, transpose_a: false, transpose_b: false };

#[test]
fn a_large_product_is_three_loops() {
    for (transpose_a, transpose_b) in [(false, false), (true, false), (false, true), (true, true)] {
        check_sizes(MatMulSizes { transpose_a, transpose_b, ..LARGE });
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let bits = |transpose: bool, threads: usize| {
        with_threads(threads, || {
            let single = |t: Real| -> Vec<f32> { t.to_vec().unwrap().iter().map(|&x| x as f32).collect() };
            let (sa, sb) = (stored(1, LARGE.m, LARGE.k, transpose), stored(1, LARGE.k, LARGE.n, transpose));
            let a = Tensor::from_vec(&Cpu::<f32>::new(), single(noise(sa)), sa).unwrap();
            let b = Tensor::from_vec(&Cpu::<f32>::new(), single(noise(sb)), sb).unwrap();
            let c = a.matmul_transposed(&b, transpose, transpose).unwrap();
            c.to_vec().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        })
        .unwrap()
    };
    for transpose in [false, true] {
        assert_eq!(bits(transpose, 1), bits(transpose, 2));
        assert_eq!(bits(transpose, 1), bits(transpose, 3));
    }
}

#[test]
fn one_matrix_serves_a_whole_batch() {
    let (x, w) = (noise([2, 3, 4]), noise([4, 5]));
    let batched = Tensor::concat(&[&w.reshape([1, 4, 5]).unwrap(); 2], 0).unwrap();
    check(x.matmul(&w), &x.matmul(&batched).unwrap().to_vec().unwrap(), [2, 3, 5]);
    check(tensor(&[1.0, 2.0], [2]).matmul(&tensor(&[3.0, 4.0, 5.0, 6.0], [2, 2])), &[13.0, 16.0], [2]);
}

#[test]
fn a_linear_layer_by_hand() {
    let (x, w) = (tensor(&[1.0, 2.0], [1, 2]), tensor(&[1.0, 1.0, 0.0, -1.0, 2.0, 0.0], [3, 2]));
    check(x.linear(&w, &tensor(&[10.0, 20.0, 30.0], [3])), &[13.0, 18.0, 32.0], [1, 3]);
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let rule = "matrices need two axes, equal batch axes before them, and equal inner lengths";
    let check_shapes = |a: &[usize], b: &[usize]| {
        let (a, b) = (Shape::new(a).unwrap(), Shape::new(b).unwrap());
        check_error(
            noise(a).matmul(&noise(b)),
            &format!("matmul: shapes {a} and {b} don't go together: {rule}"),
        );
    };
    check_shapes(&[2, 3], &[4, 2]);
    check_shapes(&[2, 2, 3], &[3, 3, 2]);
    check_shapes(&[], &[2, 2]);
    check_shapes(&[2, 3], &[3]);
}
