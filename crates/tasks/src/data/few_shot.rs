//! The data folder as what few-shot tasks draw their images from.

use std::sync::Arc;

use super::{DataFolder, ImageQuery, Split};
use crate::{BuiltIn, DataSplit, Dataset, ImageData, ImageSet, SplitProtocol, TaskError, Usage};

/// The scheme of the set's manifest that divides it so; the set's first where `None`.
fn scheme(data: &str, protocol: SplitProtocol) -> Option<&'static str> {
    let photographs = [Dataset::Cifar100, Dataset::Natural100].map(Dataset::name).contains(&data);
    (protocol == SplitProtocol::Published && photographs).then_some("same-classes")
}

/// Where a scheme has no split to validate on, that of the test stands for it.
fn splits(usage: Usage) -> &'static [Split] {
    match usage {
        Usage::Training => &[Split::Train],
        Usage::Validation => &[Split::Validation, Split::Test],
        Usage::Test => &[Split::Test],
    }
}

impl ImageData for DataFolder {
    fn open(&self, data: &str, split: DataSplit, size: usize) -> Result<Arc<ImageSet>, TaskError> {
        if data == Dataset::Glyphs.name() {
            return BuiltIn.open(data, split, size);
        }
        let fail = |error: super::DataError| TaskError::Data {
            place: format!("data {data}"),
            problem: error.to_string(),
        };
        let scheme = scheme(data, split.protocol).map(str::to_owned);
        let query =
            |split| ImageQuery { set: data.to_owned(), scheme: scheme.clone(), split, size: Some(size) };
        let mut last = None;
        for &split in splits(split.usage) {
            match DataFolder::open(self, &query(split)) {
                Err(error @ super::DataError::UnknownSplit { .. }) => last = Some(error),
                opened => return opened.map_err(fail),
            }
        }
        Err(last.map_or_else(|| unreachable!("every usage has a split"), fail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a data folder with real sets is at hand.
    fn folder() -> Option<DataFolder> {
        if std::env::var_os(super::super::PLASTICA_DATASETS).is_none() {
            println!("skipped: {} names no folder", super::super::PLASTICA_DATASETS);
            return None;
        }
        Some(DataFolder::from_env())
    }

    #[test]
    fn what_the_folder_lacks_is_said_with_the_remedy() {
        let empty = tempfile::tempdir().unwrap();
        let split = DataSplit { protocol: SplitProtocol::Published, usage: Usage::Test };
        let folder = DataFolder::at(empty.path());
        let error = ImageData::open(&folder, "omniglot", split, 28).unwrap_err().to_string();
        assert!(error.starts_with("data omniglot: "), "{error}");
        assert!(error.contains("cargo xtask data fetch omniglot"), "{error}");
        assert!(ImageData::open(&folder, "glyphs", split, 4).is_ok());
    }

    #[test]
    fn disjoint_splits_of_real_sets_share_no_class() {
        let Some(folder) = folder() else { return };
        for (data, size, classes) in
            [("natural-100", 32, [64, 16, 20]), ("omniglot-minimal", 28, [136, 0, 0])]
        {
            let open = |usage| {
                let split = DataSplit { protocol: SplitProtocol::Disjoint, usage };
                ImageData::open(&folder, data, split, size).unwrap()
            };
            let [train, validation, test] = [Usage::Training, Usage::Validation, Usage::Test].map(open);
            assert_eq!(train.classes().len(), classes[0]);
            let key = |set: &ImageSet| -> Vec<(String, String)> {
                set.classes().iter().map(|c| (c.group.clone(), c.name.clone())).collect()
            };
            let seen = key(&train);
            assert!(key(&test).iter().chain(&key(&validation)).all(|class| !seen.contains(class)), "{data}");
        }
    }
}
