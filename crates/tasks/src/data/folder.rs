//! The data folder, from which image sets are opened.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::collection::{Collection, Decoded, PartClass};
use super::error::Flaw;
use super::manifest::{Archive, BUILT_IN, Format, MAX_ARCHIVE, Manifest};
use super::packed::{self, Recipe};
use super::selection::{self, Plan};
use super::{ArchiveIdentity, DataError, ImageQuery, Lock, cifar, omniglot, places, query};
use crate::ImageSet;
use crate::suggest::nearest;

/// The environment's variable that names the data folder.
pub const PLASTICA_DATASETS: &str = "PLASTICA_DATASETS";
/// The environment's variable that names the folder of the packed cache.
pub const PLASTICA_CACHE: &str = "PLASTICA_CACHE";

/// A folder with image sets: `FOLDER/ARCHIVE` for each, and manifests of sets of one's own as `*.toml`.
///
/// Opening a set decodes its archives once and keeps the pixels in the packed cache, if there is one that can be
/// written. What has been opened stays in memory for as long as the data folder does, and is shared.
#[derive(Debug)]
pub struct DataFolder {
    root: PathBuf,
    cache: Option<PathBuf>,
    sets: Mutex<HashMap<ImageQuery, Arc<ImageSet>>>,
    /// Whole sets, where nothing could be written to the cache.
    collections: Mutex<HashMap<String, (Recipe, Arc<Collection>)>>,
}

impl DataFolder {
    /// The folder that [`PLASTICA_DATASETS`] names, else `datasets/data` of the nearest folder upwards from the current
    /// one that has `datasets`. The cache is where [`PLASTICA_CACHE`] says, else in the user's folder of caches.
    pub fn from_env() -> Self {
        let folder = Self::at(places::data_folder());
        Self { cache: places::cache_folder(), ..folder }
    }

    /// The folder of the environment, as it was when first asked for. Everything in a program that opens sets here
    /// shares them.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<DataFolder> = LazyLock::new(DataFolder::from_env);
        &SHARED
    }

    /// A folder, without a packed cache.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), cache: None, sets: Mutex::default(), collections: Mutex::default() }
    }

    /// The same with a packed cache in `folder`, which is made when it is needed.
    pub fn with_cache(self, folder: impl Into<PathBuf>) -> Self {
        Self { cache: Some(folder.into()), ..self }
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Where the packed cache is.
    pub fn cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// All sets: those that come with this crate, then those of manifests in the folder, by file name.
    ///
    /// # Errors
    /// [`DataError::Manifest`] and [`DataError::Io`] for a manifest in the folder that won't do.
    pub fn manifests(&self) -> Result<Vec<Manifest>, DataError> {
        let mut manifests = built_in()?;
        for (file, text) in self.own_manifests()? {
            let fail = |problem| DataError::Manifest { file: file.clone(), problem };
            let manifest = Manifest::parse(&text).map_err(fail)?;
            if manifests.iter().any(|other| other.name == manifest.name) {
                let problem = format!("name = {:?}, expected one that no other set has", manifest.name);
                return Err(fail(problem));
            }
            manifests.push(manifest);
        }
        Ok(manifests)
    }

    /// Files and texts of the manifests in the folder.
    fn own_manifests(&self) -> Result<Vec<(String, String)>, DataError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(DataError::reading(&self.root)(error)),
        };
        let mut texts = Vec::new();
        for entry in entries {
            let path = entry.map_err(DataError::reading(&self.root))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(&path).map_err(DataError::reading(&path))?;
                texts.push((path.display().to_string(), text));
            }
        }
        texts.sort();
        Ok(texts)
    }

    /// The manifest of a set.
    ///
    /// # Errors
    /// [`DataError::UnknownSet`], and those of [`manifests`](Self::manifests).
    pub fn manifest(&self, name: &str) -> Result<Manifest, DataError> {
        let manifests = self.manifests()?;
        let names: Vec<&str> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
        match names.iter().position(|&known| known == name) {
            Some(at) => Ok(manifests[at].clone()),
            None => Err(DataError::UnknownSet {
                name: name.to_owned(),
                suggestion: nearest(name, &names).map(str::to_owned),
                known: names.join(", "),
            }),
        }
    }

    /// The folder of a set's archives.
    pub fn set_folder(&self, manifest: &Manifest) -> PathBuf {
        self.root.join(&manifest.folder)
    }

    /// Where an archive lies, or is to be put.
    pub fn archive_path(&self, manifest: &Manifest, archive: &Archive) -> PathBuf {
        self.set_folder(manifest).join(&archive.file)
    }

    /// Whether there is a set of this name and all of its archives are in the folder. Whether they are the right ones
    /// shows when it is opened.
    pub fn available(&self, name: &str) -> bool {
        self.manifest(name).is_ok_and(|manifest| {
            manifest.archives.iter().all(|archive| self.archive_path(&manifest, archive).is_file())
        })
    }

    /// The images of a split, `[images, channels, height, width]`; the same ones each time, in the same order.
    ///
    /// Classes of format `omniglot` are ordered by part, alphabet and character, images by file name; of format
    /// `cifar-100` by fine label, and images by part and record.
    ///
    /// # Errors
    /// [`DataError`] when the query names what there is not, or the archives are not there or not what they should be.
    pub fn open(&self, query: &ImageQuery) -> Result<Arc<ImageSet>, DataError> {
        let manifest = self.manifest(&query.set)?;
        let scheme = query::scheme(&manifest, query)?;
        let shape = query::shape(&manifest, query.size)?;
        let key = ImageQuery {
            set: manifest.name.clone(),
            scheme: Some(scheme.name.clone()),
            split: query.split,
            size: Some(shape[1]).filter(|_| query.size.is_some()),
        };
        let lock = || self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = lock().get(&key) {
            return Ok(Arc::clone(set));
        }
        // Not under the lock: decoding waits for other threads, and one of them may want the lock.
        let plan = |classes: &[PartClass]| {
            let places = selection::places(&manifest, scheme, query.split, classes);
            places.map(|places| Plan::new(classes, &places)).map_err(|problem| DataError::Scheme {
                set: manifest.name.clone(),
                scheme: scheme.name.clone(),
                problem,
            })
        };
        let (plan, pixels) = self.pixels(&manifest, shape, &plan)?;
        let set = Arc::new(ImageSet::new(&manifest.name, shape, plan.classes, pixels)?);
        Ok(Arc::clone(lock().entry(key).or_insert(set)))
    }

    /// The pixels that `plan` selects, from memory, the cache or the archives.
    fn pixels(
        &self,
        manifest: &Manifest,
        shape: [usize; 3],
        plan: &dyn Fn(&[PartClass]) -> Result<Plan, DataError>,
    ) -> Result<(Plan, Vec<u8>), DataError> {
        let recipe = Recipe::new(manifest, self.identities(manifest)?, shape);
        let lock = || self.collections.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&recipe.file_name()).filter(|(known, _)| *known == recipe).cloned();
        if let Some((_, collection)) = known {
            let plan = plan(&collection.classes)?;
            let pixels = plan.pixels(&collection);
            return Ok((plan, pixels));
        }
        // A packed set that cannot be used for whatever reason is made anew.
        if let Some(cache) = &self.cache
            && let Ok(packed) = packed::open(cache, manifest, &recipe)
        {
            let plan = plan(&packed.classes)?;
            if let Ok(pixels) = packed.read(&plan) {
                return Ok((plan, pixels));
            }
        }
        let (identities, collection) = self.decode(manifest, shape)?;
        // From what was decoded, in case a file was replaced meanwhile.
        let recipe = Recipe::new(manifest, identities, shape);
        let plan = plan(&collection.classes)?;
        let pixels = plan.pixels(&collection);
        let written =
            self.cache.as_ref().is_some_and(|cache| packed::write(cache, &recipe, &collection).is_ok());
        if !written {
            lock().insert(recipe.file_name(), (recipe, Arc::new(collection)));
        }
        Ok((plan, pixels))
    }

    /// What the archives in the folder are, held against what they should be.
    fn identities(&self, manifest: &Manifest) -> Result<Vec<ArchiveIdentity>, DataError> {
        let lock = Lock::read(&self.set_folder(manifest))?;
        let identity = |archive: &Archive| {
            let path = self.archive_path(manifest, archive);
            let file = open_archive(manifest, &path)?;
            let identity = ArchiveIdentity::of(file, md5_needed(archive), &mut |_| {})
                .map_err(DataError::reading(&path))?;
            identity.check(manifest, archive, &lock, &path)?;
            Ok(identity)
        };
        manifest.archives.iter().map(identity).collect()
    }

    fn decode(
        &self,
        manifest: &Manifest,
        shape: [usize; 3],
    ) -> Result<(Vec<ArchiveIdentity>, Collection), DataError> {
        let lock = Lock::read(&self.set_folder(manifest))?;
        let mut identities = Vec::new();
        let mut parts: Vec<Option<_>> = manifest.parts.iter().map(|_| None).collect();
        for archive in &manifest.archives {
            let path = self.archive_path(manifest, archive);
            let mut bytes = Vec::new();
            let limit = archive.size.unwrap_or(MAX_ARCHIVE);
            let file = open_archive(manifest, &path)?;
            file.take(limit + 1).read_to_end(&mut bytes).map_err(DataError::reading(&path))?;
            let identity = ArchiveIdentity::of(bytes.as_slice(), md5_needed(archive), &mut |_| {})
                .map_err(DataError::reading(&path))?;
            identity.check(manifest, archive, &lock, &path)?;
            identities.push(identity);
            let places = (0..manifest.parts.len()).filter(|&at| manifest.parts[at].archive == archive.file);
            let blame = |Flaw { entry, problem }| DataError::Archive {
                set: manifest.name.clone(),
                file: path.clone(),
                entry,
                problem,
            };
            match manifest.images.format {
                Format::Omniglot => {
                    for at in places {
                        let part = omniglot::read(manifest, at, &bytes, [shape[1], shape[2]]);
                        parts[at] = Some(part.map_err(blame)?);
                    }
                }
                Format::Cifar100 => {
                    let read = cifar::read(manifest, &archive.file, &bytes).map_err(blame)?;
                    places.zip(read).for_each(|(at, part)| parts[at] = Some(part));
                }
            }
        }
        let mut collection = Collection { shape, classes: Vec::new(), pixels: Vec::new() };
        for Decoded { classes, pixels } in parts.into_iter().flatten() {
            collection.classes.extend(classes);
            if collection.pixels.is_empty() {
                collection.pixels = pixels;
            } else {
                collection.pixels.extend_from_slice(&pixels);
            }
        }
        Ok((identities, collection))
    }
}

/// The manifests that come with this crate, read once.
fn built_in() -> Result<Vec<Manifest>, DataError> {
    static PARSED: LazyLock<Result<Vec<Manifest>, (&str, String)>> = LazyLock::new(|| {
        BUILT_IN
            .iter()
            .map(|&(file, text)| Manifest::parse(text).map_err(|problem| (file, problem)))
            .collect()
    });
    PARSED.clone().map_err(|(file, problem)| DataError::Manifest { file: file.to_owned(), problem })
}

/// Opening needs one checksum that holds; verifying looks at all.
fn md5_needed(archive: &Archive) -> bool {
    archive.sha256.is_none() && archive.md5.is_some()
}

fn open_archive(manifest: &Manifest, path: &Path) -> Result<File, DataError> {
    File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            DataError::Missing { set: manifest.name.clone(), file: path.to_owned() }
        }
        _ => DataError::reading(path)(error),
    })
}
