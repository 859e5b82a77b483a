//! The Omniglot one-shot classification challenge, from its authors' files.

use std::{
    fs::File,
    io::{self, Cursor, ErrorKind, Read},
    path::{Component, Path, PathBuf},
};

use image::{
    ImageFormat, ImageReader,
    imageops::{self, FilterType},
};
use zip::ZipArchive;

use super::{Dataset, FewShot, MAX_IMAGE_SIZE, layout::EpisodeLayout};
use crate::{EpisodeBatch, TaskError, bounds::Bounds};

/// Runs of the challenge.
const RUNS: usize = 20;
/// Characters of a run, each with one training and one test image.
const CHARACTERS: usize = 20;
/// Height and width of the images.
const DRAWN_SIZE: u32 = 105;
/// The folder that the files may be in.
const FOLDER: &str = "all_runs";
/// What has to be where the runs are read from.
const EXPECTED: &str = "a folder or a zip archive of run01 to run20 was expected";
/// Far more than any of the files has.
const MAX_FILE: u64 = 1 << 20;

/// The 20 runs of Omniglot's one-shot classification challenge (Lake et al., 2015), each a 20-way 1-shot episode.
///
/// A run is a folder, `run01` to `run20`, of `training/class01.png` to `class20.png`, `test/item01.png` to
/// `item20.png`, and `class_labels.txt`, with a line `run01/test/item01.png run01/training/class08.png` for every item.
#[derive(Debug, Clone, PartialEq)]
pub struct OneShotRuns {
    batch: EpisodeBatch,
}

impl OneShotRuns {
    /// Reads the runs from a folder or a zip archive; they, or a folder `all_runs` of them, are at its top.
    ///
    /// The images are resized to `size`, 1 to [`MAX_IMAGE_SIZE`], by a filter that takes every pixel into account.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a file that is missing, is not an image of 105 by 105 pixels, or labels what is not
    /// there; [`TaskError::InvalidField`] for a size out of its range.
    pub fn open(path: impl AsRef<Path>, size: usize) -> Result<Self, TaskError> {
        let task = FewShot::OMNIGLOT;
        Bounds(task).within("image_size", size, 1..=MAX_IMAGE_SIZE)?;
        let mut files = Files::open(path.as_ref())?;
        let layout = EpisodeLayout { ways: CHARACTERS, support: CHARACTERS, queries: CHARACTERS };
        let table = Dataset::Omniglot.normalisation().tables(1)[0];
        let mut runs = Vec::with_capacity(RUNS);
        for run in 1..=RUNS {
            let answers = files.answers(run)?;
            let mut images = Vec::with_capacity(layout.steps());
            for name in names(run, "training/class").chain(names(run, "test/item")) {
                images.push(files.image(&name, size)?);
            }
            runs.push((answers, images));
        }
        let mut runs = runs.into_iter();
        let batch = layout.sample(task, RUNS, [1, size, size], |labels, pixels| {
            for (answers, images) in runs.by_ref().take(1) {
                labels
                    .iter_mut()
                    .zip((0..CHARACTERS as u32).chain(answers))
                    .for_each(|(to, label)| *to = label);
                let bytes = images.iter().flatten();
                pixels.iter_mut().zip(bytes).for_each(|(to, &byte)| *to = table[usize::from(byte)]);
            }
        })?;
        Ok(Self { batch })
    }

    /// All runs, 20 episodes of 40 steps; labels are those of the files, counted from 0.
    #[must_use]
    pub fn batch(&self) -> &EpisodeBatch {
        &self.batch
    }

    /// Each run by itself, in order.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = EpisodeBatch> {
        (0..RUNS).map(|run| self.batch.select(run..run + 1))
    }
}

/// The files of a run that begin so, numbered.
fn names(run: usize, begin: &'static str) -> impl Iterator<Item = String> {
    (1..=CHARACTERS).map(move |number| format!("run{run:02}/{begin}{number:02}.png"))
}

/// Where the files are.
struct Files {
    path: PathBuf,
    archive: Option<ZipArchive<File>>,
    /// `""`, or the folder that the runs are in with a slash.
    prefix: String,
}

impl Files {
    fn open(path: &Path) -> Result<Self, TaskError> {
        let mut files = Self { path: path.to_owned(), archive: None, prefix: String::new() };
        if !path.is_dir() {
            let file = File::open(path).map_err(|error| files.fail(format!("{error}; {EXPECTED}")))?;
            let archive =
                ZipArchive::new(file).map_err(|error| files.fail(format!("{error}; {EXPECTED}")))?;
            files.archive = Some(archive);
        }
        let folder = format!("{FOLDER}/");
        let nested = match &files.archive {
            Some(archive) => archive.file_names().flatten().any(|name| name.starts_with(&folder)),
            None => path.join(FOLDER).is_dir(),
        };
        if nested {
            files.prefix = folder;
        }
        Ok(files)
    }

    fn fail(&self, problem: impl ToString) -> TaskError {
        TaskError::Data {
            place: format!("one-shot runs {}", self.path.display()),
            problem: problem.to_string(),
        }
    }

    fn fail_in(&self, name: &str, problem: impl std::fmt::Display) -> TaskError {
        self.fail(format!("{}{name}: {problem}", self.prefix))
    }

    /// The bytes of a file.
    fn read(&mut self, name: &str) -> Result<Vec<u8>, TaskError> {
        let full = format!("{}{name}", self.prefix);
        let mut bytes = Vec::new();
        let mut read_all = |file: &mut dyn Read| file.take(MAX_FILE + 1).read_to_end(&mut bytes);
        let read = match &mut self.archive {
            Some(archive) => {
                archive.by_name(&full).map_err(io::Error::from).and_then(|mut file| read_all(&mut file))
            }
            None => File::open(self.path.join(&full)).and_then(|mut file| read_all(&mut file)),
        };
        match read {
            Ok(length) if length as u64 <= MAX_FILE => Ok(bytes),
            Ok(_) => {
                Err(self
                    .fail_in(name, format_args!("it is larger than the {MAX_FILE} bytes expected at most")))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(self.fail_in(name, "it is missing, expected with all of run01 to run20"))
            }
            Err(error) => Err(self.fail_in(name, error)),
        }
    }

    /// An image's bytes, `[size, size]`.
    fn image(&mut self, name: &str, size: usize) -> Result<Vec<u8>, TaskError> {
        let bytes = self.read(name)?;
        let reader = || ImageReader::with_format(Cursor::new(&bytes), ImageFormat::Png);
        // Before it is decoded, because a header alone can promise more pixels than memory holds.
        let fail = |error| self.fail_in(name, format_args!("it cannot be read as a PNG: {error}"));
        let found = reader().into_dimensions().map_err(fail)?;
        if found != (DRAWN_SIZE, DRAWN_SIZE) {
            let (wide, high) = found;
            let problem =
                format!("it is {wide} pixels wide and {high} high, expected {DRAWN_SIZE} by {DRAWN_SIZE}");
            return Err(self.fail_in(name, problem));
        }
        let drawn = reader().decode().map_err(fail)?.to_luma8();
        if size == DRAWN_SIZE as usize {
            return Ok(drawn.into_raw());
        }
        // Triangle: plain arithmetic, the same bits everywhere.
        Ok(imageops::resize(&drawn, size as u32, size as u32, FilterType::Triangle).into_raw())
    }

    /// The class, counted from 0, of every test item of a run, in the items' order.
    fn answers(&mut self, run: usize) -> Result<Vec<u32>, TaskError> {
        let file = format!("run{run:02}/class_labels.txt");
        let text = String::from_utf8(self.read(&file)?).map_err(|error| self.fail_in(&file, error))?;
        let (items, classes): (Vec<_>, Vec<_>) =
            (names(run, "test/item").collect(), names(run, "training/class").collect());
        let mut answers = vec![None; CHARACTERS];
        for (line, pair) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let fail = |problem: String| self.fail_in(&file, format_args!("line {line}: {problem}"));
            let &[item, class] = &pair.split_whitespace().collect::<Vec<_>>()[..] else {
                return Err(fail(format!(
                    "`{pair}`, expected a test item and its class, as `{} {}`",
                    items[0], classes[0]
                )));
            };
            let place = |name: &str, names: &[String]| {
                if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
                    return Err(fail(format!("`{name}` leaves the folder")));
                }
                names.iter().position(|known| known == name).ok_or_else(|| {
                    fail(format!(
                        "unknown file `{name}`, expected one of {} to {}",
                        names[0],
                        names[CHARACTERS - 1]
                    ))
                })
            };
            let (item_place, class) = (place(item, &items)?, place(class, &classes)?);
            if answers[item_place].replace(class as u32).is_some() {
                return Err(fail(format!("`{item}` has a label already, expected one each")));
            }
        }
        let labelled = answers.iter().flatten().count();
        answers.into_iter().collect::<Option<Vec<u32>>>().ok_or_else(|| {
            self.fail_in(&file, format_args!("{labelled} items have labels, expected all {CHARACTERS}"))
        })
    }
}
