use super::*;
use crate::cpu::with_threads;
use crate::testing::{check_error, noise};
use crate::{Cpu, Element};

#[test]
fn a_group_sees_nothing_of_another() {
    let (w, gamma, beta) = (noise([4, 8, 3, 3]), noise([4]), noise([4]));
    let x = noise([5, 6, 6, 8]);
    let other = Tensor::concat(&[&x.slice(0, 0, 2).unwrap(), &noise([3, 6, 6, 8])], 0).unwrap();
    let first = |x: &Tensor<Cpu<f64>>| {
        x.conv_block(&w, &gamma, &beta, &[2, 3], 1e-5).unwrap().0.slice(0, 0, 2).unwrap().to_vec().unwrap()
    };
    assert_eq!(first(&x), first(&other));
    let alone = x.slice(0, 0, 2).unwrap().conv_block(&w, &gamma, &beta, &[2], 1e-5).unwrap().0;
    assert_eq!(first(&x), alone.to_vec().unwrap());
}

#[test]
fn a_nan_shows() {
    let (w, one, zero) =
        (noise([3, 2, 3, 3]), noise([3]).scale(0.0).unwrap().shift(1.0).unwrap(), noise([3]));
    let mut values = noise([2, 4, 4, 2]).to_vec().unwrap();
    values[5] = f64::NAN;
    let x = Tensor::from_vec(&Cpu::<f64>::new(), values, [2, 4, 4, 2]).unwrap();
    for y in [x.conv_block(&w, &one, &zero, &[2], 1e-5).unwrap().0, x.conv_block_by(&w, &one, &zero).unwrap()]
    {
        assert!(y.to_vec().unwrap()[..3].iter().all(|y| y.is_nan()), "the first window sees the pixel");
    }
}

/// The bits of what a block gives and of its gradients, in f32, images of `shape` in groups of 9 and 20.
fn bits_of_block(threads: usize, [height, width, inputs, outputs]: [usize; 4], of_images: bool) -> Vec<u64> {
    let run = || {
        let single = |shape: Shape| {
            let values = noise(shape).to_vec().unwrap().into_iter().map(|x| x as f32).collect();
            Array::from_vec(&Cpu::<f32>::new(), values, shape).unwrap()
        };
        let tape = Tape::new();
        let x = single([29, height, width, inputs].into());
        let x = if of_images { Tensor::from(x) } else { tape.leaf(&x) };
        let [w, gamma, beta] = [[outputs, inputs, 3, 3].into(), [outputs].into(), [outputs].into()]
            .map(|shape: Shape| tape.leaf(&single(shape)));
        let (y, statistics) = x.conv_block(&w, &gamma, &beta, &[9, 20], 1e-5).unwrap();
        let loss = y.square().unwrap().sum().unwrap();
        let mut by = vec![&w, &gamma, &beta];
        by.extend((!of_images).then_some(&x));
        let gradients = crate::grad(&loss, &by, GradMode::Plain).unwrap();
        assert!(gradients.iter().all(Option::is_some));
        let x = x.detach();
        let evaluated = x.conv_block_by(&w.detach(), &gamma.detach(), &beta.detach()).unwrap();
        let others = [y, statistics.mean.into(), statistics.variance.into(), evaluated];
        let tensors = gradients.into_iter().flatten().chain(others);
        tensors.flat_map(|t| t.to_vec().unwrap()).map(|x| x.wide().to_bits()).collect::<Vec<_>>()
    };
    with_threads(threads, run).unwrap()
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    // a first block of drawings and of photographs; tiles of all kinds, channels that fill registers and that do not
    for (shape, of_images) in [
        ([21, 20, 1, 64], true),
        ([16, 16, 3, 64], true),
        ([9, 8, 1, 33], false),
        ([9, 8, 3, 33], false),
        ([6, 7, 16, 40], false),
        ([10, 10, 64, 64], false),
        ([8, 8, 32, 64], false),
        ([2, 2, 32, 32], false),
        ([13, 9, 17, 5], false),
    ] {
        let alone = bits_of_block(1, shape, of_images);
        for threads in [2, 3] {
            assert!(alone == bits_of_block(threads, shape, of_images), "{shape:?} on {threads} threads");
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let (w, two) = (noise([2, 1, 3, 3]), noise([2]));
    let block = |x: &[usize], w, groups: &[usize]| {
        noise(Shape::new(x).unwrap()).conv_block(w, &two, &two, groups, 1e-5).map(|_| ())
    };
    check_error(
        block(&[2, 4, 4, 1], &w, &[1]),
        "conv_block: a tensor of shape [2, 4, 4, 1] won't do: groups of [1] images were given: \
         at least one each, N together",
    );
    check_error(
        block(&[2, 4, 4, 2], &w, &[2]),
        "conv_block: shapes [2, 4, 4, 2] and [2, 1, 3, 3] don't go together: \
         the numbers of input channels must be equal",
    );
    check_error(
        block(&[2, 1, 4, 1], &w, &[2]),
        "conv_block: a tensor of shape [2, 1, 4, 1] won't do: \
         it needs a channel, and a window of 2 × 2 to pool",
    );
    check_error(
        block(&[2, 4, 4, 1], &noise([3, 1, 3, 3]), &[2]),
        "conv_block: shapes [3, 1, 3, 3] and [2] don't go together: \
         there must be one number an output channel",
    );
}
