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
