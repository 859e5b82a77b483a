//! A block of a convolutional encoder in one piece, against the CPU's in double precision, and against the block as it is
//! written on the same device.

use plastica_tensor::{Backend, Cuda, GradMode, Result, Shape, Tape, Tensor, grad};

use crate::common::{CPU, Draw, Found, array, device, draw};

/// Of the result: as large as a sum of a few hundred products makes it.
const VALUE: f64 = 1e-5;
/// Of gradients, which are sums over all pixels.
const DERIVATIVE: f64 = 1e-4;

/// Images, height, width, input channels, output channels.
type Sizes = [usize; 5];

/// The result, the groups' mean and variance, and the gradients of a random projection of the result.
fn block<B: Backend>(
    backend: &B,
    [images, height, width, inputs, outputs]: Sizes,
    groups: &[usize],
    plain: bool,
) -> Result<Vec<Found>> {
    let tape = Tape::new();
    let shapes: [Shape; 4] = [
        [images, height, width, inputs].into(),
        [outputs, inputs, 3, 3].into(),
        [outputs].into(),
        [outputs].into(),
    ];
    let leaves: Vec<_> = (1..)
        .zip(shapes)
        .map(|(seed, shape)| tape.leaf(&array(backend, &draw(Draw::Any, seed, shape.len()), shape)))
        .collect();
    let [x, weight, gamma, beta] = &leaves[..] else { unreachable!("as many as shapes") };
    let (y, statistics) = match plain {
        true => x.conv_block_plain(weight, gamma, beta, groups, 1e-3)?,
        false => x.conv_block(weight, gamma, beta, groups, 1e-3)?,
    };
    let shape = y.shape();
    let projection = Tensor::from(array(backend, &draw(Draw::Any, 9, shape.len()), shape));
    let gradients = grad(&y.mul(&projection)?.sum()?, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain)?;
    let values = [y.detach(), statistics.mean.into(), statistics.variance.into()];
    values.iter().chain(gradients.iter().flatten()).map(Found::of).collect()
}

fn check(cuda: &Cuda, sizes: Sizes, groups: &[usize]) {
    let found = block(cuda, sizes, groups, false).unwrap();
    assert!(found == block(cuda, sizes, groups, false).unwrap(), "{sizes:?}: not the same bits again");
    let truth = block(&CPU, sizes, groups, true).unwrap();
    assert_eq!((found.len(), truth.len()), (7, 7), "{sizes:?}");
    for (i, (found, truth)) in found.iter().zip(&truth).enumerate() {
        assert_eq!(found.shape, truth.shape, "{sizes:?}");
        let (off, most) = (found.off(truth), if i < 3 { VALUE } else { DERIVATIVE });
        assert!(off <= most, "{sizes:?} in groups of {groups:?}: tensor {i} is off by {off:e}");
    }
}

#[test]
fn blocks_in_training() {
    let Some((cuda, _memory)) = device() else { return };
    // even and odd sides, channels in fours and not, one image, one channel, more channels than a tile has
    check(&cuda, [6, 8, 8, 3, 8], &[2, 4]);
    check(&cuda, [5, 7, 9, 4, 6], &[1, 1, 3]);
    check(&cuda, [1, 2, 2, 1, 1], &[1]);
    check(&cuda, [3, 3, 2, 5, 33], &[3]);
    check(&cuda, [4, 6, 5, 64, 70], &[1, 3]);
    check(&cuda, [20, 32, 32, 3, 64], &[5, 5, 10]);
    check(&cuda, [40, 4, 4, 64, 64], &[5, 35]);
}

#[test]
fn a_block_whose_patches_do_not_fit_at_once() {
    let Some((cuda, _memory)) = device() else { return };
    check(&cuda, [150, 64, 64, 13, 2], &[70, 80]);
}

#[test]
fn blocks_in_evaluation() {
    let Some((cuda, _memory)) = device() else { return };
    fn by<B: Backend>(backend: &B, [images, height, width, inputs, outputs]: Sizes) -> Found {
        let shapes: [Shape; 4] = [
            [images, height, width, inputs].into(),
            [outputs, inputs, 3, 3].into(),
            [outputs].into(),
            [outputs].into(),
        ];
        let [x, weight, scale, shift] = [0, 1, 2, 3].map(|i: usize| {
            Tensor::from(array(backend, &draw(Draw::Any, 40 + i as u64, shapes[i].len()), shapes[i]))
        });
        Found::of(&x.conv_block_by(&weight, &scale, &shift).unwrap()).unwrap()
    }
    for sizes in [[6, 8, 8, 3, 8], [5, 7, 9, 4, 6], [80, 32, 32, 3, 64], [1, 2, 3, 1, 1]] {
        let (found, truth) = (by(&cuda, sizes), by(&CPU, sizes));
        assert!(found == by(&cuda, sizes), "{sizes:?}: not the same bits again");
        assert_eq!(found.shape, truth.shape);
        let off = found.off(&truth);
        assert!(off <= VALUE, "{sizes:?}: off by {off:e}");
    }
}

#[test]
fn second_derivatives_go_through_the_block_as_it_is_written() {
    let Some((cuda, _memory)) = device() else { return };
    fn second<B: Backend>(backend: &B) -> Result<Vec<Found>> {
        let tape = Tape::new();
        let shapes: [Shape; 4] = [[4, 6, 6, 2].into(), [3, 2, 3, 3].into(), [3].into(), [3].into()];
        let leaves: Vec<_> = (50..)
            .zip(shapes)
            .map(|(seed, shape)| tape.leaf(&array(backend, &draw(Draw::Any, seed, shape.len()), shape)))
            .collect();
        let all: Vec<_> = leaves.iter().collect();
        let y = leaves[0].conv_block(&leaves[1], &leaves[2], &leaves[3], &[1, 3], 0.1)?.0;
        let first = grad(&y.square()?.sum()?, &all, GradMode::Tracked)?;
        let mut total = Tensor::zeros(backend, [])?;
        for gradient in first.iter().flatten() {
            total = total.add(&gradient.square()?.sum()?)?;
        }
        grad(&total, &all, GradMode::Plain)?.iter().flatten().map(Found::of).collect()
    }
    for (found, truth) in second(&cuda).unwrap().iter().zip(&second(&CPU).unwrap()) {
        let off = found.off(truth);
        assert!(off <= DERIVATIVE, "off by {off:e}");
    }
}
