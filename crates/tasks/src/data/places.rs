//! Where data lies and where the packed cache goes.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use super::{PLASTICA_CACHE, PLASTICA_DATASETS};

/// The data folder: the environment's, else `datasets/data` of the nearest folder upwards from here that has
/// `datasets`, else of this one.
pub(super) fn data_folder() -> PathBuf {
    if let Some(folder) = variable(PLASTICA_DATASETS) {
        return folder;
    }
    let here = env::current_dir().unwrap_or_default();
    nearest(&here).join("datasets").join("data")
}

fn nearest(here: &Path) -> &Path {
    here.ancestors().find(|folder| folder.join("datasets").is_dir()).unwrap_or(here)
}

/// The folder of the packed cache: the environment's, else that of the user's caches; `None` where there is neither.
/// It is never the data folder, which may be shared or read-only.
pub(super) fn cache_folder() -> Option<PathBuf> {
    variable(PLASTICA_CACHE)
        .or_else(|| Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("plastica")))
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_datasets_folder_upwards_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::create_dir(folder.path().join("a/datasets")).unwrap();
        assert_eq!(nearest(&deep), folder.path().join("a"));
        assert_eq!(nearest(Path::new("/nowhere/at/all")), Path::new("/nowhere/at/all"));
    }
}
