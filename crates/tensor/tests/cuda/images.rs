//! Convolution, pooling and batch normalisation.

use plastica_tensor::{Backend, Cpu, Cuda, Result, Tensor};

use crate::common::Draw::Any;
use crate::common::{Derivatives, check, compare};

#[test]
fn images() {
    check!("conv2d", &[(Any, &[5, 3, 14, 13]), (Any, &[8, 3, 3, 3])], |x| x[0].conv2d(&x[1], 1));
    check!("conv2d, one image", &[(Any, &[1, 3, 14, 13]), (Any, &[8, 3, 3, 3])], |x| x[0].conv2d(&x[1], 1));
    check!("conv2d without padding", &[(Any, &[2, 2, 9, 7]), (Any, &[3, 2, 2, 3])], |x| x[0]
        .conv2d(&x[1], 0));
    check!("conv2d, one by one", &[(Any, &[2, 3, 5, 4]), (Any, &[2, 3, 1, 1])], |x| x[0].conv2d(&x[1], 0));
    check!("conv2d, wide padding", &[(Any, &[5, 1, 2, 1]), (Any, &[1, 1, 3, 4])], |x| x[0].conv2d(&x[1], 2));
    check!("max_pool2d", &[(Any, &[3, 4, 15, 20])], |x| x[0].max_pool2d());
    check!("max_pool2d of equals", &[(Any, &[3, 5, 6])], |x| x[0].sub(&x[0].detach())?.max_pool2d());
    let (gamma, beta) = ((Any, &[6][..]), (Any, &[6][..]));
    check!("batch_norm", &[(Any, &[7, 6, 12, 13]), gamma, beta], |x| {
        Ok(x[0].batch_norm(&x[1], &x[2], 0.1)?.0)
    });
    check!("batch_norm of large channels", &[(Any, &[20, 6, 30, 20]), gamma, beta], |x| {
        Ok(x[0].batch_norm(&x[1], &x[2], 0.1)?.0)
    });
    check!("batch_norm's statistics", &[(Any, &[7, 6, 12, 13]), gamma, beta], |x| {
        let statistics = x[0].batch_norm(&x[1], &x[2], 0.1)?.1;
        Tensor::concat(&[&statistics.mean.into(), &statistics.variance.into()], 0)
    });
    check!("a stage of an encoder", &[(Any, &[3, 2, 12, 12]), (Any, &[6, 2, 3, 3]), gamma, beta], |x| x[0]
        .conv2d(&x[1], 1)?
        .batch_norm(&x[2], &x[3], 0.1)?
        .0
        .gelu()?
        .max_pool2d());
}

#[test]
fn a_convolution_whose_patches_need_more_than_one_block() {
    let (x, w) = ((Any, &[120, 16, 64, 64][..]), (Any, &[2, 16, 3, 3][..]));
    check!("conv2d", &[x, w], |x| x[0].conv2d(&x[1], 1));
}
