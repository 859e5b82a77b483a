//! Images in another size, by a filter of the `image` crate.

use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma};

/// The filter: bilinear, widened to cover all that a pixel of the result covers, as torchvision's `Resize` does. Its
/// name is part of what a packed cache is recognised by.
pub(super) const FILTER: FilterType = FilterType::Triangle;

/// Resizes greyscale images from one size to another: `image::imageops::resize` to the bit, with the weights worked
/// out once for all images.
#[derive(Debug)]
pub(super) struct Resampler {
    stored: [usize; 2],
    size: [usize; 2],
    rows: Vec<Taps>,
    columns: Vec<Taps>,
}

/// What one row or column of the result is made of.
#[derive(Debug)]
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Resampler {
    /// From images of the height and width `stored` to `size`; both at least 1.
    pub fn new(stored: [usize; 2], size: [usize; 2]) -> Self {
        Self { stored, size, rows: taps(stored[0], size[0]), columns: taps(stored[1], size[1]) }
    }

    /// Height and width of what is resized.
    pub fn stored(&self) -> [usize; 2] {
        self.stored
    }

    /// Resizes `image`, `[height, width]`; `scratch` is overwritten.
    pub fn resize(&self, image: &[u8], scratch: &mut Vec<f32>, into: &mut [u8]) {
        if self.stored == self.size {
            into.copy_from_slice(image);
            return;
        }
        let (width, to_width) = (self.stored[1], self.size[1]);
        scratch.resize(width, 0.0);
        for (row, into) in self.rows.iter().zip(into.chunks_exact_mut(to_width)) {
            scratch.fill(0.0);
            for (weight, from) in row.weights.iter().zip(image[row.first * width..].chunks_exact(width)) {
                for (sum, &pixel) in scratch.iter_mut().zip(from) {
                    *sum += f32::from(pixel) * weight;
                }
            }
            for (column, into) in self.columns.iter().zip(into) {
                let from = &scratch[column.first..];
                let sum =
                    column.weights.iter().zip(from).fold(0.0, |sum, (weight, pixel)| sum + pixel * weight);
                *into = sum.clamp(0.0, 255.0).round() as u8;
            }
        }
    }
}

/// The filter's weights: what it makes of an identity matrix whose height alone changes.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let identity = ImageBuffer::from_fn(from as u32, from as u32, |x, y| Luma([f32::from(u8::from(x == y))]));
    let matrix = resize(&identity, from as u32, to as u32, FILTER);
    let row = |row: &[f32]| {
        let first = row.iter().position(|&weight| weight != 0.0).unwrap_or(0);
        let last = row.iter().rposition(|&weight| weight != 0.0).unwrap_or(0);
        Taps { first, weights: row[first..=last].to_vec() }
    };
    matrix.as_raw().chunks_exact(from).map(row).collect()
}

#[cfg(test)]
mod tests {
    use image::GrayImage;
    use proptest::prelude::*;

    use super::*;

    fn resized(image: &[u8], stored: [usize; 2], size: [usize; 2]) -> Vec<u8> {
        let mut into = vec![0; size[0] * size[1]];
        Resampler::new(stored, size).resize(image, &mut Vec::new(), &mut into);
        into
    }

    proptest! {
        #[test]
        fn it_is_the_image_crates_resize(
            [height, width, to_height, to_width] in [1usize..40, 1..40, 1..40, 1..40],
            seed in any::<u32>(),
        ) {
            let mix = |i: usize| (i as u32 ^ seed).wrapping_mul(0x9E37_79B1).to_le_bytes()[3];
            let pixels: Vec<u8> = (0..height * width).map(mix).collect();
            let image = GrayImage::from_raw(width as u32, height as u32, pixels.clone()).unwrap();
            let expected = resize(&image, to_width as u32, to_height as u32, FILTER).into_raw();
            prop_assert_eq!(resized(&pixels, [height, width], [to_height, to_width]), expected);
        }
    }

    #[test]
    fn paper_stays_white_and_a_line_stays_where_it_is() {
        assert!(resized(&[255; 105 * 105], [105, 105], [28, 28]).iter().all(|&pixel| pixel == 255));
        // A dark column in the middle: dark in the middle of the result, symmetric, white at the sides.
        let image: Vec<u8> = (0..105 * 105).map(|at| if at % 105 == 52 { 0 } else { 255 }).collect();
        let small = resized(&image, [105, 105], [42, 42]);
        let row = &small[..42];
        assert!(row.iter().eq(row.iter().rev()), "{row:?}");
        let dark: Vec<usize> = (0..42).filter(|&at| row[at] < 255).collect();
        assert_eq!(dark, [20, 21], "{row:?}");
        assert!(small.chunks_exact(42).all(|other| other == row));
    }
}
