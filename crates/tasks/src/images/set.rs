//! Decoded images in memory, sorted by class.

use std::ops::Range;

use crate::TaskError;

/// A class of an [`ImageSet`]: a character, or a kind of object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageClass {
    /// The class's name, such as `character03` or `willow_tree`.
    pub name: String,
    /// What it belongs to, such as an alphabet; empty where classes have no groups.
    pub group: String,
    /// Its images, counted from the set's first.
    pub images: Range<usize>,
}

/// Images of one size, 8 bits a channel, with their classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSet {
    name: String,
    channels: usize,
    height: usize,
    width: usize,
    classes: Vec<ImageClass>,
    pixels: Vec<u8>,
}

impl ImageSet {
    /// A set of `pixels` `[images, channels, height, width]`, row-major; the classes' ranges follow each other from 0
    /// to the number of images.
    ///
    /// # Errors
    /// [`TaskError::ImageSet`] when the pixels are not a whole number of images, or the classes' ranges do not cover
    /// them in order.
    pub fn new(
        name: impl Into<String>,
        [channels, height, width]: [usize; 3],
        classes: Vec<ImageClass>,
        pixels: Vec<u8>,
    ) -> Result<Self, TaskError> {
        let name = name.into();
        let fail = |problem: String| Err(TaskError::ImageSet { name: name.clone(), problem });
        let Some(image) = channels.checked_mul(height).and_then(|n| n.checked_mul(width)).filter(|&n| n > 0)
        else {
            return fail(format!(
                "images of {channels} channels, {height} by {width}, expected at least 1 each"
            ));
        };
        if !pixels.len().is_multiple_of(image) {
            return fail(format!("{} pixels, expected a multiple of {image}, one image's", pixels.len()));
        }
        let mut next = 0;
        for class in &classes {
            if class.images.start != next || class.images.end <= next {
                return fail(format!(
                    "class {} has images {:?}, expected some from {next} on",
                    class.name, class.images
                ));
            }
            next = class.images.end;
        }
        if next != pixels.len() / image {
            return fail(format!("{} images, of which {next} have a class", pixels.len() / image));
        }
        Ok(Self { name, channels, height, width, classes, pixels })
    }

    /// The set's name, such as `omniglot-minimal`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Channels, height and width of every image.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// The classes, in the order of their images.
    pub fn classes(&self) -> &[ImageClass] {
        &self.classes
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.pixels.len() / (self.channels * self.height * self.width)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// All images, `[images, channels, height, width]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// One image, `[channels, height, width]`.
    ///
    /// # Panics
    /// Like any indexing, when there is no such image.
    pub fn image(&self, index: usize) -> &[u8] {
        let image = self.channels * self.height * self.width;
        &self.pixels[index * image..(index + 1) * image]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(images: Range<usize>) -> ImageClass {
        ImageClass { name: format!("c{}", images.start), group: String::new(), images }
    }

    #[test]
    fn images_are_where_their_classes_say() {
        let set = ImageSet::new("s", [1, 2, 2], vec![class(0..1), class(1..3)], (0..12).collect()).unwrap();
        assert_eq!((set.len(), set.shape(), set.image(2)), (3, [1, 2, 2], &[8, 9, 10, 11][..]));
        assert!(!set.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let check = |shape: [usize; 3], classes: Vec<ImageClass>, pixels: usize, part: &str| {
            let message = ImageSet::new("s", shape, classes, vec![0; pixels]).unwrap_err().to_string();
            assert!(message.starts_with("image set s: ") && message.contains(part), "{message}");
        };
        check([0, 2, 2], vec![], 0, "0 channels, 2 by 2");
        check([1, 2, 2], vec![class(0..1)], 5, "5 pixels, expected a multiple of 4");
        check([1, 2, 2], vec![class(1..2)], 8, "class c1 has images 1..2, expected some from 0 on");
        check([1, 2, 2], vec![class(0..1), class(1..1)], 4, "class c1 has images 1..1");
        check([1, 2, 2], vec![class(0..1)], 8, "2 images, of which 1 have a class");
        check([usize::MAX, 2, 2], vec![], 0, "expected at least 1 each");
    }
}
