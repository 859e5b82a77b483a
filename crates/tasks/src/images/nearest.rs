//! Baselines that have learned nothing: the nearest support image, and chance.

use crate::{EpisodeBatch, Targets};

/// Gives every query of a few-shot batch the label of the support image nearest to it by squared Euclidean distance of
/// the pixels, the first of equally near ones: `[B, T - support]`, row-major.
///
/// `None` for a batch without images or without classes.
#[must_use]
pub fn nearest_neighbour(batch: &EpisodeBatch) -> Option<Vec<u32>> {
    let (Some(images), Targets::Classes(labels)) = (&batch.images, &batch.targets) else {
        return None;
    };
    let image: usize = images.shape.iter().product();
    let support = images.support;
    let mut answers = Vec::with_capacity(batch.batch * batch.steps.saturating_sub(support));
    let episodes = images.pixels.chunks_exact(batch.steps * image).zip(labels.chunks_exact(batch.steps));
    for (pixels, labels) in episodes {
        let (shown, asked) = pixels.split_at(support * image);
        for query in asked.chunks_exact(image) {
            let distances = shown.chunks_exact(image).map(|shown| squared_distance(shown, query));
            let (_, label) = distances.zip(labels).min_by(|(a, _), (b, _)| a.total_cmp(b))?;
            answers.push(*label);
        }
    }
    Some(answers)
}

/// The share of right answers that guessing gets: one in the number of classes.
#[must_use]
pub fn chance(batch: &EpisodeBatch) -> f64 {
    1.0 / batch.output_width as f64
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    // Sums side by side, which the compiler may keep in a vector; in one sum it may not change the order.
    const LANES: usize = 16;
    let mut sums = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| (x - y) * (x - y)).sum();
    for (a, b) in a.zip(b) {
        for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
            *sum += (x - y) * (x - y);
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EpisodeImages, images::layout::EpisodeLayout};

    /// One episode of images of two pixels.
    fn batch(labels: &[u32], support: usize, pixels: &[f32]) -> EpisodeBatch {
        let layout = EpisodeLayout { ways: 3, support, queries: labels.len() - support };
        layout
            .sample("test", 1, [1, 1, 2], |to, images| {
                to.copy_from_slice(labels);
                images.copy_from_slice(pixels);
            })
            .unwrap()
    }

    #[test]
    fn the_nearest_image_answers_and_the_first_of_equals() {
        let images = [0.0, 0.0, 4.0, 0.0, 0.0, 9.0, 3.0, 1.0, 0.0, 7.0, 2.0, 0.0];
        let batch = batch(&[2, 1, 0, 1, 0, 0], 3, &images);
        assert_eq!(nearest_neighbour(&batch), Some(vec![1, 0, 2]));
        assert_eq!(chance(&batch), 1.0 / 3.0);
    }

    #[test]
    fn what_has_no_images_or_no_classes_has_no_answers() {
        let mut batch = batch(&[0, 1], 1, &[0.0; 4]);
        batch.targets = Targets::Values(vec![0.0; 6]);
        assert_eq!(nearest_neighbour(&batch), None);
        batch.targets = Targets::Classes(vec![0; 2]);
        assert_eq!(nearest_neighbour(&batch), Some(vec![0]));
        batch.images = None::<EpisodeImages>;
        assert_eq!(nearest_neighbour(&batch), None);
    }

    #[test]
    fn distances_are_the_sum_of_squares() {
        for length in [0, 1, 15, 16, 17, 100] {
            let a: Vec<f32> = (0..length).map(|i| i as f32).collect();
            let b: Vec<f32> = a.iter().map(|x| 3.0 - x).collect();
            let expected: f32 = a.iter().map(|x| (2.0 * x - 3.0).powi(2)).sum();
            assert_eq!(squared_distance(&a, &b), expected, "{length}");
        }
    }
}
