//! Invented characters, as if written by hand.

mod character;
mod raster;

use std::ops::Range;

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rayon::prelude::*;

use self::{
    character::{Character, Style},
    raster::Raster,
};
use super::{Dataset, ImageClass, ImageSet};
use crate::{TaskError, batch::zeros, bounds::Bounds};

/// The most alphabets, the most characters of one, and the most drawings of one of those.
const MAX_COUNT: usize = 100_000;

/// Images of invented characters, black on white, a few strokes each; characters of one alphabet share a style.
///
/// A program of strokes is drawn for each character, in the manner of the generative model that Omniglot was
/// collected for (Lake et al., 2015), and every drawing follows it with a hand of its own: displaced points, another
/// slant, size and place, another pen. The characters, and each drawing, depend on `seed` and their own place alone:
/// more alphabets, characters or drawings, or another `size`, leave those that there were as they were.
///
/// Needs no files, and is no benchmark: a number that was measured on it says `glyphs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glyphs {
    /// Alphabets, the groups of the classes: 1 to 100000.
    pub alphabets: usize,
    /// Characters of each alphabet, the classes: 1 to 100000.
    pub characters_per_alphabet: usize,
    /// Drawings of each character, the images: 1 to 100000.
    pub drawings: usize,
    /// Height and width in pixels: 1 to [`MAX_IMAGE_SIZE`](crate::MAX_IMAGE_SIZE).
    pub size: usize,
    /// What all of it is drawn from.
    pub seed: u64,
}

impl Default for Glyphs {
    /// 50 alphabets of 20 characters of 20 drawings of 28 by 28 pixels, from seed 0.
    fn default() -> Self {
        Self { alphabets: 50, characters_per_alphabet: 20, drawings: 20, size: 28, seed: 0 }
    }
}

impl Glyphs {
    /// All of the alphabets.
    ///
    /// # Errors
    /// [`TaskError::InvalidField`] for a field out of its range; [`TaskError::BatchTooLarge`] when the images do not
    /// fit in memory.
    pub fn draw(&self) -> Result<ImageSet, TaskError> {
        self.draw_alphabets(0..self.alphabets)
    }

    /// Some of the alphabets alone, the same that [`draw`](Glyphs::draw) gives.
    ///
    /// # Errors
    /// Those of [`draw`](Glyphs::draw), and [`TaskError::InvalidField`] for alphabets that are not there.
    pub fn draw_alphabets(&self, alphabets: Range<usize>) -> Result<ImageSet, TaskError> {
        self.validate()?;
        let name = Dataset::Glyphs.name();
        let there = alphabets.start < alphabets.end && alphabets.end <= self.alphabets;
        Bounds(name).ensure(there, "alphabets", format_args!("{alphabets:?}"), || {
            format!("some of 0..{}", self.alphabets)
        })?;
        let of_alphabet = self.characters_per_alphabet;
        let (first, count) = (alphabets.start * of_alphabet, alphabets.len() * of_alphabet);
        let image = self.size * self.size;
        let mut pixels = zeros::<u8>(name, count, self.drawings, image)?;
        let class = |index: usize| ImageClass {
            name: format!("character{:02}", (first + index) % of_alphabet + 1),
            group: format!("alphabet{:02}", (first + index) / of_alphabet + 1),
            images: index * self.drawings..(index + 1) * self.drawings,
        };
        pixels.par_chunks_exact_mut(self.drawings * image).enumerate().for_each(|(index, images)| {
            self.draw_character((first + index) / of_alphabet, (first + index) % of_alphabet, images);
        });
        ImageSet::new(name, [1, self.size, self.size], (0..count).map(class).collect(), pixels)
    }

    /// Every drawing of one character, into `images` `[drawings, size, size]`.
    fn draw_character(&self, alphabet: usize, character: usize, images: &mut [u8]) {
        let style = Style::draw(&mut self.stream(alphabet, 0));
        let mut rng = self.stream(alphabet, character + 1);
        let character = Character::draw(&style, &mut rng);
        let mut raster = Raster::new(self.size);
        for image in images.chunks_exact_mut(self.size * self.size) {
            raster.clear();
            character.write(&style, &mut rng, &mut raster);
            raster.print(image);
        }
    }

    /// The generator of a character, which are counted from 1, or of its alphabet's style.
    fn stream(&self, alphabet: usize, character: usize) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream((alphabet as u64) << 32 | character as u64);
        rng
    }

    fn validate(&self) -> Result<(), TaskError> {
        let bounds = Bounds(Dataset::Glyphs.name());
        bounds.within("alphabets", self.alphabets, 1..=MAX_COUNT)?;
        bounds.within("characters_per_alphabet", self.characters_per_alphabet, 1..=MAX_COUNT)?;
        bounds.within("drawings", self.drawings, 1..=MAX_COUNT)?;
        bounds.within("size", self.size, 1..=super::MAX_IMAGE_SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Glyphs = Glyphs { alphabets: 3, characters_per_alphabet: 4, drawings: 3, size: 20, seed: 5 };

    /// FNV-1a, 64 bits.
    fn hash(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    #[test]
    fn drawings_are_these_bits_everywhere() {
        let check = |size, expected: u64| {
            let found = hash(Glyphs { size, ..SMALL }.draw().unwrap().pixels());
            assert_eq!(found, expected, "size {size}: {found:#x}");
        };
        check(28, 0xb53d_20fe_faa6_5344);
        check(105, 0x4eea_295b_f275_f0fa);
    }

    #[test]
    fn a_larger_set_holds_the_smaller() {
        let small = SMALL.draw().unwrap();
        let large = Glyphs { alphabets: 4, characters_per_alphabet: 6, drawings: 5, ..SMALL }.draw().unwrap();
        let find = |name: &ImageClass| {
            let same = |class: &&ImageClass| (&class.group, &class.name) == (&name.group, &name.name);
            large.classes().iter().find(same).unwrap().images.start
        };
        for class in small.classes() {
            for (drawing, image) in class.images.clone().enumerate() {
                assert_eq!(large.image(find(class) + drawing), small.image(image), "{class:?}");
            }
        }
    }

    #[test]
    fn a_part_is_the_same_part_of_the_whole() {
        let (whole, part) = (SMALL.draw().unwrap(), SMALL.draw_alphabets(1..3).unwrap());
        assert_eq!(part.pixels(), &whole.pixels()[4 * 3 * 400..]);
        let names = |set: &ImageSet| -> Vec<_> {
            set.classes().iter().map(|class| (class.group.clone(), class.name.clone())).collect()
        };
        assert_eq!(names(&part), names(&whole)[4..]);
        assert_eq!(names(&part)[0], ("alphabet02".to_owned(), "character01".to_owned()));
    }

    #[test]
    fn every_drawing_is_another_and_has_ink_and_paper() {
        let set = Glyphs { size: 28, ..SMALL }.draw().unwrap();
        assert_eq!((set.len(), set.shape(), set.name()), (36, [1, 28, 28], "glyphs"));
        let mut images: Vec<&[u8]> = (0..36).map(|i| set.image(i)).collect();
        for image in &images {
            let ink = image.iter().map(|&byte| f64::from(255 - byte)).sum::<f64>() / 255.0 / 784.0;
            assert!((0.02..0.5).contains(&ink), "{ink} of the paper is inked");
        }
        images.sort_unstable();
        images.dedup();
        assert_eq!(images.len(), 36);
    }

    #[test]
    fn sizes_show_the_same_drawings() {
        let (fine, coarse) = (SMALL, Glyphs { size: 5, ..SMALL });
        let (fine, coarse) = (fine.draw().unwrap(), coarse.draw().unwrap());
        // A drawing's fine image, its squares of 4 by 4 pixels averaged, is nearest to its own coarse image.
        let averaged = |image: &[u8]| -> Vec<f64> {
            let square = |i: usize| (0..16).map(move |k| (i / 5 * 4 + k / 4) * 20 + i % 5 * 4 + k % 4);
            (0..25).map(|i| square(i).map(|p| f64::from(image[p])).sum::<f64>() / 16.0).collect()
        };
        let correlation = |a: &[f64], b: &[u8]| {
            let b: Vec<f64> = b.iter().map(|&byte| byte.into()).collect();
            let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
            let (ma, mb) = (mean(a), mean(&b));
            let dot =
                |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(&b).map(|(&x, &y)| f(x - ma, y - mb)).sum::<f64>();
            dot(&|x, y| x * y) / (dot(&|x, _| x * x) * dot(&|_, y| y * y)).sqrt()
        };
        for i in 0..fine.len() {
            let r = correlation(&averaged(fine.image(i)), coarse.image(i));
            assert!(r > 0.7, "drawing {i}: correlation {r}");
        }
    }

    #[test]
    fn fields_out_of_range_are_named() {
        let check = |glyphs: Glyphs, message: &str| {
            assert_eq!(glyphs.draw().unwrap_err().to_string(), message);
        };
        check(Glyphs { alphabets: 0, ..SMALL }, "glyphs: alphabets = 0, expected 1 to 100000");
        check(
            Glyphs { characters_per_alphabet: 100_001, ..SMALL },
            "glyphs: characters_per_alphabet = 100001, expected 1 to 100000",
        );
        check(Glyphs { drawings: 0, ..SMALL }, "glyphs: drawings = 0, expected 1 to 100000");
        check(Glyphs { size: 257, ..SMALL }, "glyphs: size = 257, expected 1 to 256");
        let beyond = SMALL.draw_alphabets(2..4).unwrap_err().to_string();
        assert_eq!(beyond, "glyphs: alphabets = 2..4, expected some of 0..3");
    }
}
