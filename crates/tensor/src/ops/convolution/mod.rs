//! Convolution of images, stride 1, and the two operations that are its derivatives.
//!
//! `⟨g, convolve(x, w)⟩` is linear in each of x, w and g. Its derivative by g is the convolution, by x the
//! input gradient, by w the weight gradient; so the derivatives of each of the three are the other two,
//! and with those all orders are there.

use smallvec::smallvec;

use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Result, Shape, Storage, Tape, Tensor};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

/// Sizes of a convolution: `x [images, inputs, height, width]`, `w [outputs, inputs, kernel..]` and the
/// result `[images, outputs, area..]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvolutionSizes {
    /// Number of images.
    pub images: usize,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the result.
    pub outputs: usize,
    /// Rows and columns of an input channel.
    pub image: [usize; 2],
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Rows and columns of a result's channel: `image + 2 padding − kernel + 1`.
    pub area: [usize; 2],
    /// Zeros on each side of an image, fewer than the kernel's rows and columns.
    pub padding: usize,
}

impl ConvolutionSizes {
    /// Shape of x.
    pub fn input_shape(&self) -> Shape {
        [self.images, self.inputs, self.image[0], self.image[1]].into()
    }

    /// Shape of w.
    pub fn weight_shape(&self) -> Shape {
        [self.outputs, self.inputs, self.kernel[0], self.kernel[1]].into()
    }

    /// Shape of the result.
    pub fn output_shape(&self) -> Shape {
        [self.images, self.outputs, self.area[0], self.area[1]].into()
    }
}

/// A convolution in which there is something to be summed, as a product with each image's matrix of patches: a row for
/// each element of the kernel, a column for each pixel of the result.
#[derive(Clone, Copy)]
struct Patches {
    s: ConvolutionSizes,
    /// Rows: elements of the kernel, over all input channels.
    height: usize,
    /// Columns: pixels of a channel of the result.
    area: usize,
}

impl Patches {
    /// `None` when there is nothing to be summed: a result of zeros, or of no elements.
    fn of(s: ConvolutionSizes) -> Option<Self> {
        let (height, area) = (s.inputs * s.kernel[0] * s.kernel[1], s.area[0] * s.area[1]);
        (s.images * s.outputs * height * area > 0).then_some(Self { s, height, area })
    }

    fn input_len(&self) -> usize {
        self.s.inputs * self.s.image[0] * self.s.image[1]
    }

    fn output_len(&self) -> usize {
        self.s.outputs * self.area
    }
}

/// Kernels of convolution.
pub trait ConvolutionKernels: Storage {
    /// `y[n, o, r, c] = Σ w[o, i, a, b] x[n, i, r + a − padding, c + b − padding]`, x being 0 outside.
    ///
    /// # Errors
    /// Device errors.
    fn convolve(&self, x: &Self::Buffer, w: &Self::Buffer, sizes: ConvolutionSizes) -> Result<Self::Buffer>;

    /// The gradient of `⟨g, convolve(x, w)⟩` by x, g of the result's shape.
    ///
    /// # Errors
    /// Device errors.
    fn convolve_input(
        &self,
        g: &Self::Buffer,
        w: &Self::Buffer,
        sizes: ConvolutionSizes,
    ) -> Result<Self::Buffer>;

    /// The gradient of `⟨g, convolve(x, w)⟩` by w, g of the result's shape.
    ///
    /// # Errors
    /// Device errors.
    fn convolve_weight(
        &self,
        x: &Self::Buffer,
        g: &Self::Buffer,
        sizes: ConvolutionSizes,
    ) -> Result<Self::Buffer>;
}

struct Convolve(ConvolutionSizes);

impl<B: Backend> Op<B> for Convolve {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let (x, w) = (&r.inputs[0], &r.inputs[1]);
        let dx = r.want(0, || input_gradient(grad, w, self.0))?;
        let dw = r.want(1, || weight_gradient(x, grad, self.0))?;
        Ok(smallvec![dx, dw])
    }
}

struct InputGradient(ConvolutionSizes);

impl<B: Backend> Op<B> for InputGradient {
    fn name(&self) -> &'static str {
        "conv2d's input gradient"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let (g, w) = (&r.inputs[0], &r.inputs[1]);
        let dg = r.want(0, || convolve(grad, w, self.0))?;
        let dw = r.want(1, || weight_gradient(grad, g, self.0))?;
        Ok(smallvec![dg, dw])
    }
}

struct WeightGradient(ConvolutionSizes);

impl<B: Backend> Op<B> for WeightGradient {
    fn name(&self) -> &'static str {
        "conv2d's weight gradient"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let (x, g) = (&r.inputs[0], &r.inputs[1]);
        let dx = r.want(0, || input_gradient(g, grad, self.0))?;
        let dg = r.want(1, || convolve(x, grad, self.0))?;
        Ok(smallvec![dx, dg])
    }
}

fn convolve<B: Backend>(x: &Tensor<B>, w: &Tensor<B>, sizes: ConvolutionSizes) -> Result<Tensor<B>> {
    let buffer = x.backend().convolve(&x.array.buffer, &w.array.buffer, sizes)?;
    Tape::record(Convolve(sizes), &[x, w], Array::new(x.backend(), buffer, sizes.output_shape()))
}

fn input_gradient<B: Backend>(g: &Tensor<B>, w: &Tensor<B>, sizes: ConvolutionSizes) -> Result<Tensor<B>> {
    let buffer = g.backend().convolve_input(&g.array.buffer, &w.array.buffer, sizes)?;
    Tape::record(InputGradient(sizes), &[g, w], Array::new(g.backend(), buffer, sizes.input_shape()))
}

fn weight_gradient<B: Backend>(x: &Tensor<B>, g: &Tensor<B>, sizes: ConvolutionSizes) -> Result<Tensor<B>> {
    let buffer = x.backend().convolve_weight(&x.array.buffer, &g.array.buffer, sizes)?;
    Tape::record(WeightGradient(sizes), &[x, g], Array::new(x.backend(), buffer, sizes.weight_shape()))
}

impl<B: Backend> Tensor<B> {
    /// Two-dimensional convolution (cross-correlation, as the field has it), stride 1, with `padding` zeros
    /// on each side: `[N, in, H, W]` with `weight [out, in, kh, kw]` to
    /// `[N, out, H + 2 padding − kh + 1, W + 2 padding − kw + 1]`. A bias is `.add(bias)`, as `[out, 1, 1]`.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`](crate::TensorError::Incompatible) when the shapes don't fit or the kernel
    /// is larger than the padded image, [`TensorError::Unsuitable`](crate::TensorError::Unsuitable) when the
    /// padding is as large as the kernel, so that parts of the result would see nothing but padding.
    pub fn conv2d(&self, weight: &Self, padding: usize) -> Result<Self> {
        let (&[images, inputs, h, w], &[outputs, inputs_w, kh, kw]) =
            (&self.shape()[..], &weight.shape()[..])
        else {
            return Err(self.incompatible(
                "conv2d",
                weight,
                "images are [N, in, H, W], weights [out, in, kh, kw]",
            ));
        };
        if inputs != inputs_w {
            return Err(self.incompatible("conv2d", weight, "the numbers of input channels must be equal"));
        }
        if padding >= kh || padding >= kw {
            let rule = format!("padding {padding} is too much for it; at most the kernel's size − 1 will do");
            return Err(weight.unsuitable("conv2d", rule));
        }
        if h + 2 * padding < kh || w + 2 * padding < kw {
            return Err(self.incompatible("conv2d", weight, "the kernel must fit into the padded image"));
        }
        let area = [h + 2 * padding - kh + 1, w + 2 * padding - kw + 1];
        let sizes =
            ConvolutionSizes { images, inputs, outputs, image: [h, w], kernel: [kh, kw], area, padding };
        convolve(self, weight, sizes)
    }
}
