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
        recolour(variation, out, self.data.channels());
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
fn recolour(variation: &Variation, pixels: &mut [f32], channels: usize) {
    let keep = |value: f32| value.clamp(0.0, 255.0);
    let away = |from: f32, value: f32, factor: f32| keep(from + factor * (value - from));
    if variation.brightness != 1.0 {
        pixels.iter_mut().for_each(|value| *value = keep(*value * variation.brightness));
    }
    if variation.contrast != 1.0 {
        let greys = greys(pixels, channels);
        let mean = (greys.iter().map(|&grey| f64::from(grey)).sum::<f64>() / greys.len() as f64) as f32;
        pixels.iter_mut().for_each(|value| *value = away(mean, *value, variation.contrast));
    }
    if variation.saturation != 1.0 {
        let greys = greys(pixels, channels);
        for plane in pixels.chunks_exact_mut(greys.len()) {
            for (value, &grey) in plane.iter_mut().zip(&greys) {
                *value = away(grey, *value, variation.saturation);
            }
        }
    }
}

/// Each pixel's luma, by the weights of ITU-R BT.601; a grey image's only channel.
fn greys(pixels: &[f32], channels: usize) -> Vec<f32> {
    let planes: Vec<&[f32]> = pixels.chunks_exact(pixels.len() / channels).collect();
    match planes[..] {
        [red, green, blue] => {
            red.iter().zip(green).zip(blue).map(|((r, g), b)| 0.299 * r + 0.587 * g + 0.114 * b).collect()
        }
        _ => pixels.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

    const SIZE: usize = 5;

    /// An image that is unlike any turn or reflection of itself.
    fn image(data: Dataset) -> Vec<u8> {
        (0..data.channels() * SIZE * SIZE).map(|i| (i * 3 + 1) as u8).collect()
    }

    /// Rendered numbers as values from 0 to 255.
    fn values(data: Dataset, image: &[u8], variation: &Variation) -> Vec<f32> {
        let mut out = vec![f32::NAN; image.len()];
        Renderer::new(data, SIZE).render(image, variation, &mut out);
        let invert = |(i, &number): (usize, &f32)| data.normalisation().invert(i / (SIZE * SIZE), number);
        out.iter().enumerate().map(invert).collect()
    }

    fn bytes(data: Dataset, image: &[u8], variation: &Variation) -> Vec<u8> {
        values(data, image, variation).into_iter().map(|value| value.round() as u8).collect()
    }

    /// Each step's variation applied to the last one's image gives the first image back.
    fn check_returns(steps: &[Variation]) {
        for data in [Dataset::Glyphs, Dataset::Natural100] {
            let image = image(data);
            let back = steps.iter().fold(image.clone(), |image, step| bytes(data, &image, step));
            assert_eq!(back, image, "{steps:?}");
        }
    }

    #[test]
    fn turns_and_flips_undo_themselves() {
        let turn = |turns| Variation { turns, ..Variation::NONE };
        let flip = Variation { flip: true, ..Variation::NONE };
        check_returns(&[Variation::NONE]);
        check_returns(&[turn(1); 4]);
        check_returns(&[turn(2); 2]);
        check_returns(&[turn(3), turn(1)]);
        check_returns(&[turn(1), turn(1), turn(2)]);
        check_returns(&[flip; 2]);
        // A quarter turn and a flip are a reflection in a diagonal.
        check_returns(&[Variation { turns: 1, ..flip }; 2]);
    }

    #[test]
    fn a_turn_is_counterclockwise_and_a_displacement_shows_the_paper() {
        let check = |variation: Variation, expected: [u8; 9]| {
            let mut out = [0.0; 9];
            Renderer::new(Dataset::Glyphs, 3).render(&[1, 2, 3, 4, 5, 6, 7, 8, 9], &variation, &mut out);
            let normalisation = Dataset::Glyphs.normalisation();
            assert_eq!(
                out.map(|number| normalisation.invert(0, number).round() as u8),
                expected,
                "{variation:?}"
            );
        };
        check(Variation { turns: 1, ..Variation::NONE }, [3, 6, 9, 2, 5, 8, 1, 4, 7]);
        check(Variation { flip: true, ..Variation::NONE }, [3, 2, 1, 6, 5, 4, 9, 8, 7]);
        check(Variation { down: 1, right: -1, ..Variation::NONE }, [255, 255, 255, 2, 3, 255, 5, 6, 255]);
        check(Variation { right: 2, flip: true, ..Variation::NONE }, [1, 255, 255, 4, 255, 255, 7, 255, 255]);
    }

    #[test]
    fn colours_at_the_ends_of_their_ranges() {
        for data in [Dataset::Natural100, Dataset::Glyphs] {
            let image = image(data);
            let before = values(data, &image, &Variation::NONE);
            let greys = greys(&before, data.channels());
            let mean = greys.iter().sum::<f32>() / (SIZE * SIZE) as f32;
            let check = |variation: Variation, expected: &dyn Fn(usize) -> f32| {
                for (i, value) in values(data, &image, &variation).into_iter().enumerate() {
                    let expected = expected(i);
                    assert!(
                        (value - expected).abs() < 1e-3,
                        "{data}, {variation:?}: {value}, not {expected}"
                    );
                }
            };
            check(Variation { brightness: 0.0, ..Variation::NONE }, &|_| 0.0);
            check(Variation { brightness: 2.0, ..Variation::NONE }, &|i| (2.0 * before[i]).min(255.0));
            check(Variation { contrast: 0.0, ..Variation::NONE }, &|_| mean);
            check(Variation { contrast: 0.5, ..Variation::NONE }, &|i| (before[i] + mean) / 2.0);
            check(Variation { saturation: 0.0, ..Variation::NONE }, &|i| greys[i % (SIZE * SIZE)]);
        }
    }

    #[test]
    fn the_grey_of_a_grey_is_itself_and_green_is_lighter_than_blue() {
        assert!((greys(&[9.0; 3], 3)[0] - 9.0).abs() < 1e-5);
        let [red, green, blue] =
            [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|pixel| greys(&pixel, 3)[0]);
        assert!(green > red && red > blue && (red + green + blue - 1.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_off_takes_no_bits() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(Augmentation::default().draw(&mut rng), Variation::NONE);
        assert_eq!(rng, ChaCha8Rng::seed_from_u64(1));
    }

    proptest! {
        #[test]
        fn variations_stay_within_what_the_configuration_says(
            crop_padding in 0usize..SIZE, flip: bool, strengths in prop::array::uniform3(0.0f32..=1.0), seed: u64,
        ) {
            let data = Dataset::Natural100;
            let [brightness, contrast, saturation] = strengths;
            let augmentation = Augmentation { crop_padding, flip, brightness, contrast, saturation };
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let varied = augmentation.draw(&mut rng);
            prop_assert!(varied.down.unsigned_abs() <= crop_padding && varied.right.unsigned_abs() <= crop_padding);
            prop_assert!(flip || !varied.flip);
            let factors = [varied.brightness, varied.contrast, varied.saturation];
            prop_assert!(factors.iter().zip(strengths).all(|(factor, s)| (factor - 1.0).abs() <= s + 1e-6));
            let values = values(data, &image(data), &varied);
            prop_assert!(values.iter().all(|value| (-1e-3..255.001).contains(value)), "{values:?}");
        }
    }
}
