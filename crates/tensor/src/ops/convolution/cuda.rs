//! Convolution on a CUDA device: the patches under the kernel are written out as columns, as many images'
//! at a time as memory allows, and the rest is matrix products.

use std::ops::Range;

use cudarc::driver::DeviceRepr;

use super::{ConvolutionKernels, ConvolutionSizes};
use crate::cuda::{Cuda, CudaBuffer, elements};
use crate::ops::matmul::MatMulSizes;
use crate::ops::zip::ZipKernels;
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &["gather_patches", "scatter_patches"];

/// Elements of patches, and of images' own gradients, that are written out at a time: 256 MiB.
const BLOCK: usize = 1 << 26;

/// What `kernels.cu` needs to know of the sizes.
#[derive(Clone, Copy)]
#[repr(C)]
struct Patches {
    inputs: u32,
    image: [u32; 2],
    kernel: [u32; 2],
    area: [u32; 2],
    padding: u32,
}

// SAFETY: it is laid out as in C, has no padding and holds numbers only, so it can be handed to a kernel
unsafe impl DeviceRepr for Patches {}

/// Sizes of a convolution in which there is something to be summed.
#[derive(Clone, Copy)]
struct Plan {
    s: ConvolutionSizes,
    /// Rows of an image's matrix of patches: elements of the kernel, over all input channels.
    height: usize,
    /// Columns of it: pixels of a channel of the result.
    area: usize,
}

impl Plan {
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

    /// The images, in runs whose patches fit into a block.
    fn runs(self) -> impl Iterator<Item = Range<usize>> {
        let at_once = (BLOCK / (self.height * self.area.max(self.s.outputs))).max(1);
        (0..self.s.images).step_by(at_once).map(move |i| i..(i + at_once).min(self.s.images))
    }

    fn patches(&self) -> Patches {
        let pair = |sizes: [usize; 2]| sizes.map(|n| n as u32);
        let ConvolutionSizes { inputs, image, kernel, area, padding, .. } = self.s;
        Patches {
            inputs: inputs as u32,
            image: pair(image),
            kernel: pair(kernel),
            area: pair(area),
            padding: padding as u32,
        }
    }
}

impl ConvolutionKernels for Cuda {
    fn convolve(&self, x: &CudaBuffer, w: &CudaBuffer, s: ConvolutionSizes) -> Result<CudaBuffer> {
        let Some(plan) = Plan::of(s) else { return self.full(s.output_shape().len(), 0.0) };
        let (m, k, n, one) = (s.outputs, plan.height, plan.area, plan.output_len());
        self.build(s.output_shape().len(), |y| {
            for images in plan.runs() {
                let columns = self.gather_patches(x, &plan, images.clone())?;
                let mut y = y.slice_mut(images.start * one..images.end * one);
                let sizes =
                    MatMulSizes { batch: images.len(), m, k, n, transpose_a: false, transpose_b: false };
                self.products((w.slice(), 0), (columns.slice(), k * n), (&mut y, one), sizes)?;
            }
            Ok(())
        })
    }

    fn convolve_input(&self, g: &CudaBuffer, w: &CudaBuffer, s: ConvolutionSizes) -> Result<CudaBuffer> {
        let Some(plan) = Plan::of(s) else { return self.full(s.input_shape().len(), 0.0) };
        let (m, k, n, one) = (plan.height, s.outputs, plan.area, plan.output_len());
        self.build(s.input_shape().len(), |x| {
            for images in plan.runs() {
                let columns = self.build(images.len() * m * n, |columns| {
                    let g = g.slice().slice(images.start * one..images.end * one);
                    let sizes =
                        MatMulSizes { batch: images.len(), m, k, n, transpose_a: true, transpose_b: false };
                    self.products((w.slice(), 0), (&g, one), (columns, m * n), sizes)
                })?;
                let len = images.len() * plan.input_len();
                let arguments = (&mut *x, columns.slice(), plan.patches(), images.start as u32, len as u32);
                // SAFETY: scatter_patches(x, columns, patches, first, len) writes the `len` elements of the
                // images from `first` on and reads those images' columns
                unsafe { self.launch("scatter_patches", elements(len), arguments) }?;
            }
            Ok(())
        })
    }

    fn convolve_weight(&self, x: &CudaBuffer, g: &CudaBuffer, s: ConvolutionSizes) -> Result<CudaBuffer> {
        let Some(plan) = Plan::of(s) else { return self.full(s.weight_shape().len(), 0.0) };
        let (m, k, n, one) = (s.outputs, plan.area, plan.height, plan.output_len());
        let mut sum: Option<CudaBuffer> = None;
        for images in plan.runs() {
            let columns = self.gather_patches(x, &plan, images.clone())?;
            // each image's own first: added up afterwards, in order
            let own = self.build(images.len() * m * n, |own| {
                let g = g.slice().slice(images.start * one..images.end * one);
                let sizes =
                    MatMulSizes { batch: images.len(), m, k, n, transpose_a: false, transpose_b: true };
                self.products((&g, one), (columns.slice(), k * n), (own, m * n), sizes)
            })?;
            let run = self.sum_middle(own, 1, images.len(), m * n)?;
            match &mut sum {
                Some(sum) => self.add_assign(sum, &run)?,
                None => sum = Some(run),
            }
        }
        sum.map_or_else(|| self.full(s.weight_shape().len(), 0.0), Ok)
    }
}

impl Cuda {
    /// The columns of some images, `[images, height, area]`.
    fn gather_patches(&self, x: &CudaBuffer, plan: &Plan, images: Range<usize>) -> Result<CudaBuffer> {
        let len = images.len() * plan.s.inputs * plan.area;
        self.build(images.len() * plan.height * plan.area, |columns| {
            let arguments = (columns, x.slice(), plan.patches(), images.start as u32, len as u32);
            // SAFETY: gather_patches(columns, x, patches, first, len) writes the kernel's size of elements for
            // each of `len` channels' pixels, as many as `columns` has, and reads the images from `first` on
            unsafe { self.launch("gather_patches", elements(len), arguments) }
        })
    }
}
