//! Small image data for tests.

use std::sync::Arc;

use plastica_tasks::{DataSplit, EpisodeSource, Glyphs, ImageData, ImageSet, TaskConfig, TaskError, Usage};

/// A dozen characters of eight drawings, the same for every split.
pub struct Small;

impl ImageData for Small {
    fn open(&self, _: &str, _: DataSplit, size: usize) -> Result<Arc<ImageSet>, TaskError> {
        Ok(Arc::new(Glyphs { alphabets: 3, characters_per_alphabet: 4, drawings: 8, size, seed: 1 }.draw()?))
    }
}

/// The source of a task for training, on [`Small`].
pub fn build(task: &TaskConfig) -> Box<dyn EpisodeSource> {
    task.build_with(&Small, Usage::Training).expect("the configuration is valid")
}
