use super::*;
use crate::cpu::with_threads;
use crate::testing::{Real, check, check_error, noise, tensor};
use crate::{Cpu, GradMode, grad};

/// `[N, in, H, W]` convolved by seven loops.
fn by_loops(x: &Real, w: &Real, padding: usize) -> (Vec<f64>, Shape) {
    let (&[n, inputs, h, wd], &[outputs, _, kh, kw]) = (&x.shape()[..], &w.shape()[..]) else {
        unreachable!("four axes each")
    };
    let (x, w) = (x.to_vec().unwrap(), w.to_vec().unwrap());
    let (rows, cols) = (h + 2 * padding + 1 - kh, wd + 2 * padding + 1 - kw);
    let mut y = Vec::new();
    for (n, o) in (0..n).flat_map(|n| (0..outputs).map(move |o| (n, o))) {
        for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
            let mut sum = 0.0;
            for (i, a, b) in (0..inputs).flat_map(|i| (0..kh * kw).map(move |ab| (i, ab / kw, ab % kw))) {
                let (row, col) = (r + a, c + b);
                if (padding..h + padding).contains(&row) && (padding..wd + padding).contains(&col) {
                    let pixel = ((n * inputs + i) * h + row - padding) * wd + col - padding;
                    sum += w[((o * inputs + i) * kh + a) * kw + b] * x[pixel];
                }
            }
            y.push(sum);
        }
    }
    (y, [n, outputs, rows, cols].into())
}

fn inner(a: &Real, b: &Real) -> f64 {
    a.mul(b).unwrap().sum().unwrap().item().unwrap()
}

/// The convolution against loops, and its derivatives against what defines them:
/// `⟨g, convolve(x, w)⟩ = ⟨∂x, x⟩ = ⟨∂w, w⟩` for any x and w.
fn check_shapes(image: [usize; 4], kernel: [usize; 4], padding: usize) {
    let tape = Tape::new();
    let (x, w) = (tape.leaf(noise(image).array()), tape.leaf(noise(kernel).array()));
    let y = x.conv2d(&w, padding).unwrap();
    let (expected, shape) = by_loops(&x, &w, padding);
    check(Ok(y.detach()), &expected, shape);

    let g = noise(shape);
    let gradients = grad(&y.mul(&g).unwrap().sum().unwrap(), &[&x, &w], GradMode::Plain).unwrap();
    let [Some(dx), Some(dw)] = &gradients[..] else { unreachable!("it depends on both") };
    let other = |t: &Real| t.detach().mul(&t.detach()).unwrap().shift(-0.3).unwrap();
    let (x2, w2) = (other(&x), other(&w));
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * a.abs().max(1.0), "{a} is not {b}");
    close(inner(dx, &x2), inner(&g, &x2.conv2d(&w.detach(), padding).unwrap()));
    close(inner(dw, &w2), inner(&g, &x.detach().conv2d(&w2, padding).unwrap()));
}

#[test]
fn values_and_derivatives_are_those_of_the_sums() {
    check_shapes([2, 3, 5, 7], [4, 3, 3, 3], 1);
    check_shapes([2, 3, 5, 7], [4, 3, 3, 3], 0);
    check_shapes([1, 1, 1, 1], [1, 1, 3, 3], 1);
    check_shapes([1, 2, 3, 2], [2, 2, 3, 2], 0);
    check_shapes([2, 1, 4, 4], [3, 1, 1, 1], 0);
    check_shapes([1, 2, 2, 1], [2, 2, 5, 4], 3);
    // more images than one group, and more patches than one block
    check_shapes([9, 2, 3, 3], [2, 2, 3, 3], 1);
    check_shapes([2, 64, 20, 20], [2, 64, 3, 3], 1);
}

#[test]
fn a_sum_over_neighbours_by_hand() {
    let x = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], [1, 1, 3, 3]);
    let ones = tensor(&[1.0; 9], [1, 1, 3, 3]);
    check(x.conv2d(&ones, 1), &[12.0, 21.0, 16.0, 27.0, 45.0, 33.0, 24.0, 39.0, 28.0], [1, 1, 3, 3]);
    check(x.conv2d(&ones, 0), &[45.0], [1, 1, 1, 1]);
    // a cross-correlation: the kernel's first column meets the image's first
    let first = tensor(&[1.0, 0.0], [1, 1, 1, 2]);
    check(x.conv2d(&first, 0), &[1.0, 2.0, 4.0, 5.0, 7.0, 8.0], [1, 1, 3, 2]);
}

#[test]
fn nothing_to_sum_gives_zeros() {
    check(noise([2, 0, 3, 3]).conv2d(&noise([1, 0, 3, 3]), 1), &[0.0; 18], [2, 1, 3, 3]);
    check(noise([0, 2, 3, 3]).conv2d(&noise([1, 2, 3, 3]), 1), &[], [0, 1, 3, 3]);
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let run = |threads: usize| {
        with_threads(threads, || {
            let single = |shape: [usize; 4]| {
                let values = noise(shape).to_vec().unwrap().into_iter().map(|x| x as f32).collect();
                Array::from_vec(&Cpu::<f32>::new(), values, shape).unwrap()
            };
            let tape = Tape::new();
            let (x, w) = (tape.leaf(&single([11, 16, 17, 19])), tape.leaf(&single([16, 16, 3, 3])));
            let y = x.conv2d(&w, 1).unwrap();
            let loss = y.square().unwrap().sum().unwrap();
            let gradients = grad(&loss, &[&x, &w], GradMode::Plain).unwrap();
            let tensors = gradients.into_iter().flatten().chain([y]);
            tensors.flat_map(|t| t.to_vec().unwrap()).map(f32::to_bits).collect::<Vec<_>>()
        })
        .unwrap()
    };
    assert_eq!(run(1), run(2));
    assert_eq!(run(1), run(3));
}

#[test]
fn what_does_not_fit_is_named() {
    let x = noise([1, 2, 3, 3]);
    check_error(
        noise([3, 3]).conv2d(&noise([1, 2, 3, 3]), 1),
        "conv2d: shapes [3, 3] and [1, 2, 3, 3] don't go together: \
         images are [N, in, H, W], weights [out, in, kh, kw]",
    );
    check_error(
        x.conv2d(&noise([1, 3, 3, 3]), 1),
        "conv2d: shapes [1, 2, 3, 3] and [1, 3, 3, 3] don't go together: \
         the numbers of input channels must be equal",
    );
    check_error(
        x.conv2d(&noise([1, 2, 4, 3]), 0),
        "conv2d: shapes [1, 2, 3, 3] and [1, 2, 4, 3] don't go together: \
         the kernel must fit into the padded image",
    );
    check_error(
        x.conv2d(&noise([1, 2, 3, 3]), 3),
        "conv2d: a tensor of shape [1, 2, 3, 3] won't do: \
         padding 3 is too much for it; at most the kernel's size − 1 will do",
    );
}
