//! Linear layers, steps of a sequence and rows.

use plastica_tensor::{Result, Shape};

use crate::common::{Real, Variables, check_both_orders};

#[test]
fn a_linear_layer_used_again_and_again() {
    type Layer = fn(&Real, &Real, &Real) -> Result<Real>;
    let layer: Layer = |x, w, b| x.linear(w, b);
    let plain: Layer = |x, w, b| x.matmul_transposed(w, false, true)?.add(b);
    for (steps, batch, inp, out) in [(1, 1, 5, 7), (5, 3, 7, 5), (9, 2, 33, 16)] {
        let over = |layer: Layer| {
            move |v: &mut Variables| {
                let (w, b) = (v.leaf("w", [out, inp])?, v.leaf("b", [out])?);
                let (back, c) = (v.leaf("back", [inp, out])?, v.leaf("c", [inp])?);
                let mut x = v.leaf("x", [batch, inp])?;
                let mut outputs = Vec::new();
                for _ in 0..steps {
                    // the weight is used otherwise too, so that its gradient has shares of both kinds
                    let y = layer(&x, &w, &b)?;
                    outputs.push(w.square()?.matmul_transposed(&x, false, true)?);
                    x = layer(&y.sigmoid()?, &back, &c)?.sigmoid()?;
                    outputs.push(y);
                }
                let sequence = v.leaf("sequence", [batch, 3, inp])?;
                outputs.push(layer(&sequence, &w, &b)?);
                Ok(outputs)
            }
        };
        check_both_orders(&format!("linear, {steps} steps"), over(layer), over(plain));
    }
}

#[test]
fn steps_are_slices() {
    type Taking = fn(&Real, usize) -> Result<Real>;
    type Stacking = fn(&[Real]) -> Result<Real>;
    let slice: Taking = |x, t| x.slice(1, t, 1)?.reshape([x.shape()[0], x.shape()[2]]);
    let concat: Stacking = |steps| {
        let [batch, width] = steps[0].shape()[..] else { panic!("steps have two axes") };
        let steps = steps.iter().map(|s| s.reshape([batch, 1, width])).collect::<Result<Vec<_>>>()?;
        Real::concat(&steps.iter().collect::<Vec<_>>(), 1)
    };
    for (batch, steps, width) in [(1, 1, 3), (3, 7, 5), (2, 40, 17)] {
        let over = |take: Taking, stack: Stacking| {
            move |v: &mut Variables| {
                let x = v.leaf("x", [batch, steps, width])?;
                let mut taken = Vec::new();
                for t in (0..steps).rev().chain([0]).filter(|t| t % 3 != 1) {
                    taken.push(take(&x, t)?.sigmoid()?);
                }
                let stacked = stack(&taken)?;
                let again = take(&stacked, taken.len() - 1)?;
                Ok(vec![stacked.square()?, again, x.square()?])
            }
        };
        check_both_orders(
            &format!("step, {steps} steps"),
            over(|x, t| x.step(t), Real::stack_steps),
            over(slice, concat),
        );
    }
}

#[test]
fn rows() {
    for dims in [&[3, 5][..], &[2, 3, 17], &[1, 64]] {
        let (shape, cols) = (Shape::new(dims).unwrap(), dims[dims.len() - 1]);
        for eps in [1e-5, 0.5] {
            type Norm = fn(&Real, &Real, &Real, f64) -> Result<Real>;
            let over = |layer: Norm| {
                move |v: &mut Variables| {
                    let (gamma, beta) = (v.leaf("γ", [cols])?, v.leaf("β", [cols])?);
                    let x = v.leaf("x", shape)?;
                    let once = layer(&x, &gamma, &beta, eps)?;
                    Ok(vec![layer(&once.sigmoid()?, &gamma, &beta, eps)?, once])
                }
            };
            check_both_orders(
                &format!("layer_norm {shape}"),
                over(|x, gamma, beta, eps| x.layer_norm(gamma, beta, eps)),
                over(|x, gamma, beta, eps| x.normalize(eps)?.mul(gamma)?.add(beta)),
            );
        }
    }
    check_both_orders(
        "row_squares",
        |v| Ok(vec![v.leaf("x", [3, 17])?.row_squares()?]),
        |v| Ok(vec![v.leaf("x", [3, 17])?.square()?.sum_axis(1)?.reshape([3])?]),
    );
}
