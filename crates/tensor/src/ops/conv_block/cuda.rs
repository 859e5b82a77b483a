//! A block on a CUDA device. The patches under the kernel are written out, as many images' at a time as memory allows,
//! and multiplied by cuBLAS in full single precision; kernels of a thread an element do the rest. So convolution is a
//! product of tall matrices, [pixels, 9 in] by [9 in, out], and so is the way back to the images, whose patches are those
//! of the result's gradient. The weight's gradient is a product along the pixels, made in slices that are added up in
//! order.

use std::ops::Range;

use cudarc::driver::{DeviceRepr, LaunchConfig};

use super::{BlockForward, BlockGrad, BlockInput, BlockSizes, ConvBlockKernels, FusedBlock};
use crate::cuda::{Cuda, CudaBuffer, elements, grid};
use crate::ops::matmul::MatMulSizes;
use crate::ops::zip::ZipKernels;
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &[
    "block_patches",
    "block_patches_by_4",
    "block_kernel_rows",
    "block_kernel_of_rows",
    "block_moments",
    "block_statistics",
    "block_normals",
    "block_pool",
    "block_sums",
    "block_slopes",
    "block_totals",
    "block_unpool",
];

/// Elements of patches that are written out at a time: 256 MiB.
const PATCHES: usize = 1 << 26;

/// Pixels of a slice of the product that gives the weight's gradient, at least: fewer would make more to be added up.
const SLICE: usize = 2048;

/// Height, width and channels of an image, as in `kernels.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Image {
    height: u32,
    width: u32,
    channels: u32,
}

// SAFETY: it is laid out as in C, has no padding and holds numbers only, so it can be handed to a kernel
unsafe impl DeviceRepr for Image {}

/// One side of the convolution: images, of whose patches rows are made.
#[derive(Clone, Copy)]
struct Side {
    image: Image,
    pixels: usize,
    channels: usize,
    /// Elements of a pixel's row of patches, a multiple of 4, which products are faster with.
    row: usize,
}

impl Side {
    fn of(height: usize, width: usize, channels: usize) -> Self {
        let image = Image { height: height as u32, width: width as u32, channels: channels as u32 };
        Self { image, pixels: height * width, channels, row: (9 * channels).next_multiple_of(4) }
    }

    /// Elements of an image.
    fn len(&self) -> usize {
        self.pixels * self.channels
    }
}

#[derive(Clone, Copy)]
struct Plan {
    sizes: BlockSizes,
    x: Side,
    y: Side,
    /// Pixels of an image of the block's result.
    pooled: usize,
}

impl Plan {
    fn of(sizes: BlockSizes) -> Self {
        let BlockSizes { height, width, inputs, outputs, .. } = sizes;
        let [x, y] = [inputs, outputs].map(|channels| Side::of(height, width, channels));
        Self { sizes, x, y, pooled: (height / 2) * (width / 2) }
    }

    /// The images, in runs whose patches fit into memory.
    fn runs(&self, side: &Side) -> impl Iterator<Item = Range<usize>> + use<> {
        let (images, at_once) = (self.sizes.images, (PATCHES / (side.pixels * side.row)).max(1));
        (0..images).step_by(at_once).map(move |i| i..(i + at_once).min(images))
    }

    /// A grid of a block for 32 channels of each image of the result.
    fn channels_of_images(&self) -> LaunchConfig {
        grid(self.sizes.images * self.y.channels.div_ceil(32), 32, 8)
    }
}

/// Groups of images on the device, as indices.
struct Groups {
    count: usize,
    /// Where each begins, and the end.
    starts: CudaBuffer,
    /// Each image's.
    of_image: CudaBuffer,
}

impl ConvBlockKernels for Cuda {
    fn fused_block(&self) -> Option<&dyn FusedBlock<CudaBuffer>> {
        Some(self)
    }
}

impl FusedBlock<CudaBuffer> for Cuda {
    fn forward(&self, block: &BlockInput<'_, CudaBuffer>) -> Result<BlockForward<CudaBuffer>> {
        let (plan, groups) = (Plan::of(block.sizes), self.groups(block.groups)?);
        let convolved = self.convolve_block(block.x, block.weight, &plan)?;
        let (pixels, channels) = (plan.y.pixels as u32, plan.y.channels);
        let moments = self.build(plan.sizes.images * 2 * channels, |moments| {
            let arguments = (moments, convolved.slice(), pixels, channels as u32);
            // SAFETY: block_moments(moments, y, pixels, channels) writes two numbers a channel of each image that the grid
            // has, and reads those images of `y`
            unsafe { self.launch("block_moments", plan.channels_of_images(), arguments) }
        })?;
        let len = groups.count * channels;
        let mut variance = self.build(len, |_| Ok(()))?;
        let mean = self.build(len, |mean| {
            let (sizes, starts) = ((pixels, channels as u32, len as u32), groups.starts.slice());
            let arguments = (mean, variance.make_mut()?, moments.slice(), starts, sizes.0, sizes.1, sizes.2);
            // SAFETY: block_statistics(mean, variance, moments, starts, pixels, channels, len) writes `len` elements of
            // either, as many as they have, and reads the images between the groups' starts, which end with the last image
            unsafe { self.launch("block_statistics", elements(len), arguments) }
        })?;
        let normals = self.normals(block, &mean, &variance)?;
        let mut peaks = self.build(plan.sizes.pooled_shape().len(), |_| Ok(()))?;
        let normal = normals.slice();
        let pooled = self.build(peaks.len(), |pooled| {
            let shifts = normal.slice(channels.min(normals.len())..);
            let arguments = (
                pooled,
                peaks.make_mut()?,
                convolved.slice(),
                normal,
                &shifts,
                groups.of_image.slice(),
                plan.y.image,
                3 * channels as u32,
                1_u32,
                plan.sizes.pooled_shape().len() as u32,
            );
            // SAFETY: block_pool(pooled, peaks, y, scales, shifts, group_of, image, apart, keep, len) writes `len` elements,
            // as many as `pooled` has, and as many peaks if they are kept, and reads as many windows of `y`; scales and
            // shifts of the groups are `apart` from each other, and every image has a group
            unsafe { self.launch("block_pool", elements(plan.sizes.pooled_shape().len()), arguments) }
        })?;
        Ok(BlockForward { pooled, convolved, peaks, mean, variance })
    }

    fn backward(
        &self,
        block: &BlockInput<'_, CudaBuffer>,
        forward: &BlockForward<CudaBuffer>,
        grad: &CudaBuffer,
        input: bool,
    ) -> Result<BlockGrad<CudaBuffer>> {
        let (plan, groups) = (Plan::of(block.sizes), self.groups(block.groups)?);
        let (images, channels) = (plan.sizes.images, plan.y.channels);
        let normals = self.normals(block, &forward.mean, &forward.variance)?;
        let sums = self.build(images * 2 * channels, |sums| {
            let (mean, group_of) = (forward.mean.slice(), groups.of_image.slice());
            let sizes = (plan.pooled as u32, channels as u32);
            let (peaks, normals) = (forward.peaks.slice(), normals.slice());
            let arguments = (sums, peaks, grad.slice(), mean, normals, group_of, sizes.0, sizes.1);
            // SAFETY: block_sums(sums, peaks, grad, mean, normals, group_of, pixels, channels) writes two numbers a channel
            // of each image that the grid has, and reads those images' peaks and gradients, which are `pixels` each
            unsafe { self.launch("block_sums", plan.channels_of_images(), arguments) }
        })?;
        let len = groups.count * channels;
        let mut slopes = self.build(2 * len, |_| Ok(()))?;
        let totals = self.build(2 * len, |totals| {
            let sizes = (plan.y.pixels as u32, channels as u32, len as u32);
            let (mean, normals) = (forward.mean.slice(), normals.slice());
            let (slopes, starts) = (slopes.make_mut()?, groups.starts.slice());
            let arguments = (totals, slopes, sums.slice(), starts, mean, normals, sizes.0, sizes.1, sizes.2);
            // SAFETY: block_slopes(totals, slopes, sums, starts, mean, normals, pixels, channels, len) writes two numbers of
            // either for each of `len` channels of groups, and reads the images between the groups' starts
            unsafe { self.launch("block_slopes", elements(len), arguments) }
        })?;
        let mut beta = self.build(channels, |_| Ok(()))?;
        let gamma = self.build(channels, |gamma| {
            let arguments = (gamma, beta.make_mut()?, totals.slice(), groups.count as u32, channels as u32);
            // SAFETY: block_totals(gamma, beta, totals, groups, channels) writes an element of either a channel, and reads
            // two a channel of each group
            unsafe { self.launch("block_totals", elements(channels), arguments) }
        })?;
        let dy = self.build(forward.convolved.len(), |dy| {
            let across = plan.sizes.height.div_ceil(2) * plan.sizes.width.div_ceil(2);
            let windows = images * across * channels;
            let (y, normals) = (forward.convolved.slice(), normals.slice());
            let (slopes, group_of) = (slopes.slice(), groups.of_image.slice());
            let arguments = (dy, y, grad.slice(), normals, slopes, group_of, plan.y.image, windows as u32);
            // SAFETY: block_unpool(dy, y, grad, normals, slopes, group_of, image, len) writes the images' every pixel, in
            // `len` windows of up to four, and reads the same of `y` and the whole windows' of `grad`
            unsafe { self.launch("block_unpool", elements(windows), arguments) }
        })?;
        let weight = self.block_weight(block, &dy, &plan)?;
        let x = input.then(|| self.block_input(&dy, block.weight, &plan)).transpose()?;
        Ok(BlockGrad { x, weight, gamma, beta })
    }

    fn by(
        &self,
        x: &CudaBuffer,
        weight: &CudaBuffer,
        scale: &CudaBuffer,
        shift: &CudaBuffer,
        sizes: BlockSizes,
    ) -> Result<CudaBuffer> {
        let plan = Plan::of(sizes);
        let convolved = self.convolve_block(x, weight, &plan)?;
        let len = sizes.pooled_shape().len();
        self.build(len, |pooled| {
            // no peaks are kept, and all images have one scale: what stands in these places is not read
            let (y, nothing) = (convolved.slice(), convolved.slice());
            let sizes = (plan.y.image, 0_u32, 0_u32, len as u32);
            let arguments = (
                pooled,
                nothing,
                y,
                scale.slice(),
                shift.slice(),
                nothing,
                sizes.0,
                sizes.1,
                sizes.2,
                sizes.3,
            );
            // SAFETY: as in `forward`; no group is asked for where scales are not apart
            unsafe { self.launch("block_pool", elements(len), arguments) }
        })
    }
}

impl Cuda {
    fn groups(&self, groups: &[usize]) -> Result<Groups> {
        let mut starts = vec![0];
        let mut of_image = Vec::new();
        for (group, &images) in (0..).zip(groups) {
            of_image.resize(of_image.len() + images, group);
            starts.push(of_image.len() as u32);
        }
        let [starts, of_image] = [&starts, &of_image].map(|indices| self.upload_indices(indices));
        Ok(Groups { count: groups.len(), starts: starts?, of_image: of_image? })
    }

    /// Normalisation by statistics of groups, `[groups, 3, channels]`.
    fn normals(
        &self,
        block: &BlockInput<'_, CudaBuffer>,
        mean: &CudaBuffer,
        variance: &CudaBuffer,
    ) -> Result<CudaBuffer> {
        let (len, channels) = (mean.len(), block.sizes.outputs as u32);
        self.build(3 * len, |normals| {
            let (mean, variance) = (mean.slice(), variance.slice());
            let (gamma, beta) = (block.gamma.slice(), block.beta.slice());
            let arguments = (normals, mean, variance, gamma, beta, block.eps as f32, channels, len as u32);
            // SAFETY: block_normals(normals, mean, variance, gamma, beta, eps, channels, len) writes three numbers for each
            // of `len` channels of groups, as many as `mean` and `variance` have
            unsafe { self.launch("block_normals", elements(len), arguments) }
        })
    }

    /// The rows of patches of some images, `[pixels, row]`.
    fn patches(&self, x: &CudaBuffer, side: &Side, images: Range<usize>) -> Result<CudaBuffer> {
        let len = images.len() * side.pixels * side.row;
        self.build(len, |patches| {
            let (x, first) = (x.slice(), images.start as u32);
            if side.channels.is_multiple_of(4) {
                let arguments = (patches, x, side.image, first, (len / 4) as u32);
                // SAFETY: block_patches_by_4(patches, x, image, first, len) writes four elements for each of `len`, as many
                // as `patches` has, and reads the images from `first` on; buffers begin at multiples of 256 bytes
                unsafe { self.launch("block_patches_by_4", elements(len / 4), arguments) }
            } else {
                let arguments = (patches, x, side.image, side.row as u32, first, len as u32);
                // SAFETY: block_patches(patches, x, image, row, first, len) writes `len` elements, as many as `patches` has,
                // and reads the images from `first` on
                unsafe { self.launch("block_patches", elements(len), arguments) }
            }
        })
    }

    /// The matrix that rows of patches are multiplied with, `[row, out]`, or `[row, in]` on the way back.
    fn kernel_rows(&self, weight: &CudaBuffer, plan: &Plan, back: bool) -> Result<CudaBuffer> {
        let (side, columns) = if back { (&plan.y, plan.x.channels) } else { (&plan.x, plan.y.channels) };
        let len = side.row * columns;
        self.build(len, |rows| {
            let (inputs, outputs) = (plan.x.channels as u32, plan.y.channels as u32);
            let arguments = (rows, weight.slice(), inputs, outputs, u32::from(back), len as u32);
            // SAFETY: block_kernel_rows(rows, weight, inputs, outputs, back, len) writes `len` elements, as many as `rows`
            // has, and reads those of the weight
            unsafe { self.launch("block_kernel_rows", elements(len), arguments) }
        })
    }

    /// The convolution's result.
    fn convolve_block(&self, x: &CudaBuffer, weight: &CudaBuffer, plan: &Plan) -> Result<CudaBuffer> {
        let rows = self.kernel_rows(weight, plan, false)?;
        self.multiply_patches(x, &rows, (&plan.x, &plan.y), plan)
    }

    /// The gradient of the images.
    fn block_input(&self, dy: &CudaBuffer, weight: &CudaBuffer, plan: &Plan) -> Result<CudaBuffer> {
        let rows = self.kernel_rows(weight, plan, true)?;
        self.multiply_patches(dy, &rows, (&plan.y, &plan.x), plan)
    }

    fn multiply_patches(
        &self,
        from: &CudaBuffer,
        rows: &CudaBuffer,
        (side, to): (&Side, &Side),
        plan: &Plan,
    ) -> Result<CudaBuffer> {
        self.build(plan.sizes.images * to.len(), |out| {
            for images in plan.runs(side) {
                let patches = self.patches(from, side, images.clone())?;
                let (m, k, n) = (images.len() * side.pixels, side.row, to.channels);
                let mut out = out.slice_mut(images.start * to.len()..images.end * to.len());
                let sizes = MatMulSizes { batch: 1, m, k, n, transpose_a: false, transpose_b: false };
                self.products((patches.slice(), 0), (rows.slice(), 0), (&mut out, m * n), sizes)?;
            }
            Ok(())
        })
    }

    /// The gradient of the weight.
    fn block_weight(
        &self,
        block: &BlockInput<'_, CudaBuffer>,
        dy: &CudaBuffer,
        plan: &Plan,
    ) -> Result<CudaBuffer> {
        let (x, y) = (&plan.x, &plan.y);
        let one = x.row * y.channels;
        let mut sum: Option<CudaBuffer> = None;
        for images in plan.runs(x) {
            let patches = self.patches(block.x, x, images.clone())?;
            let slices = Slices::of(images.len(), x.pixels);
            let parts = self.build(slices.count() * one, |parts| {
                for (first, batch, k) in slices.products() {
                    let at = first * slices.pixels;
                    let a = patches.slice().slice(at * x.row..(at + batch * k) * x.row);
                    let from = (images.start * y.pixels + at) * y.channels;
                    let b = dy.slice().slice(from..from + batch * k * y.channels);
                    let mut c = parts.slice_mut(first * one..(first + batch) * one);
                    let (m, n) = (x.row, y.channels);
                    let sizes = MatMulSizes { batch, m, k, n, transpose_a: true, transpose_b: false };
                    self.products((&a, k * x.row), (&b, k * y.channels), (&mut c, one), sizes)?;
                }
                Ok(())
            })?;
            let run = self.sum_middle(parts, 1, slices.count(), one)?;
            match &mut sum {
                Some(sum) => self.add_assign(sum, &run)?,
                None => sum = Some(run),
            }
        }
        let len = block.weight.len();
        let Some(rows) = sum else { return self.full(len, 0.0) };
        self.build(len, |weight| {
            let sizes = (x.channels as u32, y.channels as u32, len as u32);
            let arguments = (weight, rows.slice(), sizes.0, sizes.1, sizes.2);
            // SAFETY: block_kernel_of_rows(weight, rows, inputs, outputs, len) writes `len` elements, as many as the weight
            // has, and reads as many of the rows
            unsafe { self.launch("block_kernel_of_rows", elements(len), arguments) }
        })
    }
}

/// How the pixels of a run of images are cut for a sum over them: into equal slices of whole images, and what is left.
struct Slices {
    /// Equal slices.
    whole: usize,
    /// Pixels of each.
    pixels: usize,
    /// Pixels of what is left.
    rest: usize,
}

impl Slices {
    fn of(images: usize, pixels_of_image: usize) -> Self {
        let together = SLICE.div_ceil(pixels_of_image).min(images);
        let pixels = together * pixels_of_image;
        Self { whole: images / together, pixels, rest: images % together * pixels_of_image }
    }

    fn count(&self) -> usize {
        self.whole + usize::from(self.rest > 0)
    }

    /// The first slice of a batch of products, how many they are, and the pixels of each.
    fn products(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let whole = (0, self.whole, self.pixels);
        let rest = (self.whole, 1, self.rest);
        [whole, rest].into_iter().filter(|&(_, count, pixels)| count * pixels > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_all_pixels_once() {
        for (images, pixels) in [(1, 4), (1, 5000), (7, 1024), (1280, 16), (129, 16), (1280, 256), (513, 4)] {
            let slices = Slices::of(images, pixels);
            let products: Vec<_> = slices.products().collect();
            let mut at = 0;
            for &(first, count, of_each) in &products {
                assert_eq!(first * slices.pixels, at, "{images} images of {pixels}");
                at += count * of_each;
            }
            assert_eq!(at, images * pixels);
            assert_eq!(products.iter().map(|p| p.1).sum::<usize>(), slices.count());
        }
    }
}
