//! Image sets from archives: what is read, what is refused, what is kept.

mod archives;
mod cache;
mod manifests;
mod published;
mod splits;
mod support;

use plastica_tasks::{ImageQuery, ImageSet, Split};
use support::Data;

impl Data {
    /// Opens all of a set, which has to fail with all these parts in the message.
    #[track_caller]
    pub fn refuses(&self, set: &str, parts: &[&str]) {
        let message = self.open(&ImageQuery::new(set, Split::All)).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "{part:?} is missing from\n{message}");
        }
    }
}

/// The first value of each image of each class.
pub fn first_values(set: &ImageSet) -> Vec<(String, Vec<u8>)> {
    let class = |class: &plastica_tasks::ImageClass| {
        let name = format!("{}/{}", class.group, class.name);
        (name, class.images.clone().map(|index| set.image(index)[0]).collect())
    };
    set.classes().iter().map(class).collect()
}
