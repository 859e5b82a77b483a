//! Convolution on a CUDA device: the patches under the kernel are written out as columns, as many images'
//! at a time as memory allows, and the rest is matrix products.

use std::ops::Range;

use cudarc::driver::DeviceRepr;

use super::{ConvolutionKernels, ConvolutionSizes, Patches};
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
struct PatchSizes {
    inputs: u32,
    image: [u32; 2],
    kernel: [u32; 2],
    area: [u32; 2],
    padding: u32,
}

// SAFETY: it is laid out as in C, has no padding and holds numbers only, so it can be handed to a kernel
unsafe impl DeviceRepr for PatchSizes {}

impl Patches {
    /// The images, in runs whose patches fit into a block.
    fn runs(self) -> impl Iterator<Item = Range<usize>> {
        let at_once = (BLOCK / (self.height * self.area.max(self.s.outputs))).max(1);
        (0..self.s.images).step_by(at_once).map(move |i| i..(i + at_once).min(self.s.images))
    }

    fn sizes(&self) -> PatchSizes {
        let pair = |sizes: [usize; 2]| sizes.map(|n| n as u32);
        let ConvolutionSizes { inputs, image, kernel, area, padding, .. } = self.s;
        PatchSizes {
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
        let Some(p) = Patches::of(s) else { return self.full(s.output_shape().len(), 0.0) };
        let (m, k, n, one) = (s.outputs, p.height, p.area, p.output_len());
        self.build(s.output_shape().len(), |y| {
            for images in p.runs() {
                let columns = self.gather_patches(x, &p, images.clone())?;
                let mut y = y.slice_mut(images.start * one..images.end * one);
                let sizes =
                    MatMulSizes { batch: images.len(), m, k, n, transpose_a: false, transpose_b: false };
                self.products((w.slice(), 0), (columns.slice(), k * n), (&mut y, one), sizes)?;
            }
            Ok(())
        })
    }

    fn convolve_input(&self, g: &CudaBuffer, w: &CudaBuffer, s: ConvolutionSizes) -> Result<CudaBuffer> {
        let Some(p) = Patches::of(s) else { return self.full(s.input_shape().len(), 0.0) };
        let (m, k, n, one) = (p.height, s.outputs, p.area, p.output_len());
        self.build(s.input_shape().len(), |x| {
            for images in p.runs() {
                let columns = self.build(images.len() * m * n, |columns| {
                    let g = g.slice().slice(images.start * one..images.end * one);
                    let sizes =
                        MatMulSizes { batch: images.len(), m, k, n, transpose_a: true, transpose_b: false };
                    self.products((w.slice(), 0), (&g, one), (columns, m * n), sizes)
                })?;
                let len = images.len() * p.input_len();
                let arguments = (&mut *x, columns.slice(), p.sizes(), images.start as u32, len as u32);
                // SAFETY: scatter_patches(x, columns, patches, first, len) writes the `len` elements of the
                // images from `first` on and reads those images' columns
                unsafe { self.launch("scatter_patches", elements(len), arguments) }?;
            }
            Ok(())
        })
    }

    fn convolve_weight(&self, x: &CudaBuffer, g: &CudaBuffer, s: ConvolutionSizes) -> Result<CudaBuffer> {
        let Some(p) = Patches::of(s) else { return self.full(s.weight_shape().len(), 0.0) };
        let (m, k, n, one) = (s.outputs, p.area, p.height, p.output_len());
        let mut sum: Option<CudaBuffer> = None;
        for images in p.runs() {
            let columns = self.gather_patches(x, &p, images.clone())?;
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
    fn gather_patches(&self, x: &CudaBuffer, p: &Patches, images: Range<usize>) -> Result<CudaBuffer> {
        let len = images.len() * p.s.inputs * p.area;
        self.build(images.len() * p.height * p.area, |columns| {
            let arguments = (columns, x.slice(), p.sizes(), images.start as u32, len as u32);
            // SAFETY: gather_patches(columns, x, patches, first, len) writes the kernel's size of elements for
            // each of `len` channels' pixels, as many as `columns` has, and reads the images from `first` on
            unsafe { self.launch("gather_patches", elements(len), arguments) }
        })
    }
}
