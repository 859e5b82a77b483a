//! Blocks of an encoder.

use plastica_tensor::Result;

use crate::common::{Real, Variables, check, check_both_orders, close};

#[test]
fn a_block_of_an_encoder() {
    type Block = fn(&Real, &Real, &[&Real; 2], &[usize]) -> Result<(Real, [Real; 2])>;
    let fused: Block = |x, w, [gamma, beta], groups| {
        let (y, statistics) = x.conv_block(w, gamma, beta, groups, 1e-5)?;
        Ok((y, [statistics.mean, statistics.variance].map(Real::from)))
    };
    let plain: Block = |x, w, [gamma, beta], groups| {
        let (y, statistics) = x.conv_block_plain(w, gamma, beta, groups, 1e-5)?;
        Ok((y, [statistics.mean, statistics.variance].map(Real::from)))
    };
    // few channels and many, whole registers of them and not, odd edges, runs of images and parts of one
    let shapes: [([usize; 3], usize, &[usize]); 10] = [
        ([4, 4, 1], 1, &[2]),
        ([5, 6, 3], 4, &[1, 2]),
        ([7, 3, 7], 35, &[3, 1]),
        ([8, 8, 8], 32, &[1, 4]),
        ([6, 7, 17], 5, &[2, 1, 1]),
        ([3, 2, 33], 16, &[5, 8, 4]),
        ([2, 2, 64], 64, &[1, 18]),
        ([16, 16, 32], 40, &[1, 1]),
        ([9, 9, 3], 64, &[9, 1]),
        ([19, 37, 2], 64, &[2, 9]),
    ];
    for ([height, width, inputs], outputs, groups) in shapes {
        let images = groups.iter().sum();
        let over = |block: Block| {
            move |v: &mut Variables| {
                let w = v.leaf("w", [outputs, inputs, 3, 3])?;
                let (gamma, beta) = (v.leaf("γ", [outputs])?, v.leaf("β", [outputs])?);
                let x = v.leaf("x", [images, height, width, inputs])?;
                let (y, [mean, variance]) = block(&x, &w, &[&gamma, &beta], groups)?;
                Ok(vec![y, mean, variance])
            }
        };
        let name = format!("{height} × {width}, {inputs} to {outputs} channels, groups {groups:?}");
        check(&name, 1e-10, over(fused), over(plain));
        let of_plain_images = |block: Block| {
            move |v: &mut Variables| {
                let x = v.constant([images, height, width, inputs])?;
                let w = v.leaf("w", [outputs, inputs, 3, 3])?;
                let (gamma, beta) = (v.leaf("γ", [outputs])?, v.leaf("β", [outputs])?);
                Ok(vec![block(&x, &w, &[&gamma, &beta], groups)?.0])
            }
        };
        check(&format!("{name}, of images alone"), 1e-10, of_plain_images(fused), of_plain_images(plain));
    }
    check_both_orders(
        "a block",
        |v| {
            let (x, w) = (v.leaf("x", [3, 4, 5, 2])?, v.leaf("w", [3, 2, 3, 3])?);
            let (gamma, beta) = (v.leaf("γ", [3])?, v.leaf("β", [3])?);
            Ok(vec![x.conv_block(&w, &gamma, &beta, &[1, 2], 0.1)?.0])
        },
        |v| {
            let (x, w) = (v.leaf("x", [3, 4, 5, 2])?, v.leaf("w", [3, 2, 3, 3])?);
            let (gamma, beta) = (v.leaf("γ", [3])?, v.leaf("β", [3])?);
            Ok(vec![x.conv_block_plain(&w, &gamma, &beta, &[1, 2], 0.1)?.0])
        },
    );
}

#[test]
fn a_block_by_given_statistics() {
    for ([height, width, inputs], outputs, images) in
        [([5, 4, 3], 4, 3), ([7, 6, 16], 33, 20), ([16, 16, 8], 32, 2)]
    {
        let mut v = Variables::new();
        let x = v.constant([images, height, width, inputs]).unwrap();
        let w = v.constant([outputs, inputs, 3, 3]).unwrap();
        let (scale, shift) = (v.constant([outputs]).unwrap(), v.constant([outputs]).unwrap());
        let fused = x.conv_block_by(&w, &scale, &shift).unwrap();
        // a tracked operand takes the parts' way
        let plain = x.conv_block_by(&v.tape.leaf(w.array()), &scale, &shift).unwrap();
        assert_eq!(fused.shape(), plain.shape());
        close("a block by statistics", &fused.to_vec().unwrap(), &plain.to_vec().unwrap(), 1e-10);
    }
}
