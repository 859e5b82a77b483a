//! Variations of images: quarter turns, random crops, flips and colours; and the way from bytes to a model's numbers.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::{
    TaskError,
    bounds::Bounds,
    draw::{below, within},
};

/// How training varies each image that it shows; all of it is off by default. Evaluation never varies any.
///
/// In this order: padded and cropped, flipped, brightness, contrast, saturation; every colour is held within 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// The image is displaced by up to this many pixels in each direction, and what is behind it shows
    /// ([`Dataset::blank`]): below the image's size, 4 is usual; 0 is off.
    pub crop_padding: usize,
    /// Half of the images are mirrored, left to right.
    pub flip: bool,
    /// Pixels are multiplied by a factor within 1 ± this: 0 to 1.
    pub brightness: f32,
    /// Pixels' distances from the image's mean grey are multiplied by a factor within 1 ± this: 0 to 1.
    pub contrast: f32,
    /// Pixels' distances from their own grey are multiplied by a factor within 1 ± this: 0 to 1, and 0 for grey images.
    pub saturation: f32,
}

impl Augmentation {
    pub(crate) fn validate(&self, bounds: &Bounds, size: usize, data: Dataset) -> Result<(), TaskError> {
        bounds.within("augmentation.crop_padding", self.crop_padding, 0..=size - 1)?;
        let strengths = [
            ("augmentation.brightness", self.brightness),
            ("augmentation.contrast", self.contrast),
            ("augmentation.saturation", self.saturation),
        ];
        for (field, strength) in strengths {
            bounds.ensure((0.0..=1.0).contains(&strength), field, strength, || "0 to 1".to_owned())?;
        }
        bounds.ensure(
            self.saturation == 0.0 || data.channels() == 3,
            "augmentation.saturation",
            self.saturation,
            || format!("0, because the images of {data} are grey"),
        )
    }

    /// The variation of one image; only what is on takes bits from `rng`.
    pub(crate) fn draw(&self, rng: &mut dyn Rng) -> Variation {
        let padding = self.crop_padding as u32;
        let mut displacement =
            || if padding == 0 { 0 } else { below(rng, 2 * padding + 1) as isize - padding as isize };
        let (down, right) = (displacement(), displacement());
        let flip = self.flip && below(rng, 2) == 1;
        let mut factor = |strength: f32| {
            let strength = f64::from(strength);
            if strength == 0.0 { 1.0 } else { within(rng, 1.0 - strength..=1.0 + strength) as f32 }
        };
        Variation {
            turns: 0,
            down,
            right,
            flip,
            brightness: factor(self.brightness),
            contrast: factor(self.contrast),
            saturation: factor(self.saturation),
        }
    }
}

/// What happens to one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Variation {
    /// Quarter turns, counterclockwise, before everything else: 0 to 3.
    pub turns: u32,
    down: isize,
    right: isize,
    flip: bool,
    brightness: f32,
    contrast: f32,
    saturation: f32,
}

impl Variation {
    /// The image as it is.
    pub const NONE: Self =
        Self { turns: 0, down: 0, right: 0, flip: false, brightness: 1.0, contrast: 1.0, saturation: 1.0 };

    fn keeps_colours(&self) -> bool {
        [self.brightness, self.contrast, self.saturation] == [1.0; 3]
    }
}

/// Turns the bytes of square images of one kind into a model's numbers.
pub(crate) struct Renderer {
    size: usize,
    blank: u8,
    data: Dataset,
    /// What each byte becomes, for each channel.
    normalised: Vec<[f32; 256]>,
    plain: Vec<[f32; 256]>,
}

impl Renderer {
    pub fn new(data: Dataset, size: usize) -> Self {
        Self {
            size,
            blank: data.blank(),
            data,
            normalised: data.normalisation().tables(data.channels()),
            plain: vec![std::array::from_fn(|byte| byte as f32); data.channels()],
        }
    }

    /// Writes `image`, varied and normalised, to `out`; both are `[channels, size, size]`.
    pub fn render(&self, image: &[u8], variation: &Variation, out: &mut [f32]) {
        if variation.keeps_colours() {
            return self.place(image, variation, &self.normalised, out);
        }
        self.place(image, variation, &self.plain, out);
        recolour(variation, out);
        for (channel, plane) in out.chunks_exact_mut(self.size * self.size).enumerate() {
            plane.iter_mut().for_each(|value| *value = self.data.normalisation().apply(channel, *value));
        }
    }

    /// The turned, cropped and flipped image, each byte looked up in `tables`.
    fn place(&self, image: &[u8], variation: &Variation, tables: &[[f32; 256]], out: &mut [f32]) {
        let n = self.size as isize;
        let area = self.size * self.size;
        for ((plane, table), out) in image.chunks_exact(area).zip(tables).zip(out.chunks_exact_mut(area)) {
            let blank = table[usize::from(self.blank)];
            for (y, row) in (0..n).zip(out.chunks_exact_mut(self.size)) {
                let y = y - variation.down;
                // Where (y, 0) is in the image before its turns, and how far apart neighbours in x are there.
                let (start, stride) = match variation.turns {
                    0 => (y * n, 1),
                    1 => (n - 1 - y, n),
                    2 => ((n - y) * n - 1, -1),
                    _ => ((n - 1) * n + y, -n),
                };
                for (x, value) in (0..n).zip(row) {
                    let x = if variation.flip { n - 1 - x } else { x } - variation.right;
                    let inside = (0..n).contains(&x) && (0..n).contains(&y);
                    *value =
                        if inside { table[usize::from(plane[(start + x * stride) as usize])] } else { blank };
                }
            }
        }
    }
}

/// Brightness, contrast and saturation of `pixels` `[1 or 3, height, width]` from 0 to 255.
fn recolour(variation: &Variation, pixels: &mut [f32]) {
    let keep = |value: f32| value.clamp(0.0, 255.0);
    let away = |from: f32, value: f32, factor: f32| keep(from + factor * (value - from));
    if variation.brightness != 1.0 {
        pixels.iter_mut().for_each(|value| *value = keep(*value * variation.brightness));
    }
    if variation.contrast != 1.0 {
        let greys = greys(pixels);
        let mean = (greys.iter().map(|&grey| f64::from(grey)).sum::<f64>() / greys.len() as f64) as f32;
        pixels.iter_mut().for_each(|value| *value = away(mean, *value, variation.contrast));
    }
    if variation.saturation != 1.0 {
        let greys = greys(pixels);
        for plane in pixels.chunks_exact_mut(greys.len()) {
            for (value, &grey) in plane.iter_mut().zip(&greys) {
                *value = away(grey, *value, variation.saturation);
            }
        }
    }
}

/// Each pixel's luma, by the weights of ITU-R BT.601.
fn greys(pixels: &[f32]) -> Vec<f32> {
    let (red, rest) = pixels.split_at(pixels.len() / 3);
    let (green, blue) = rest.split_at(rest.len() / 2);
    red.iter().zip(green).zip(blue).map(|((r, g), b)| 0.299 * r + 0.587 * g + 0.114 * b).collect()
}

#[cfg(test)]
mod tests {}
