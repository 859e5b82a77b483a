//! Small archives of both formats, and folders with manifests of them.

use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::sync::Arc;

use flate2::{Compression, Crc, write::GzEncoder, write::ZlibEncoder};
use plastica_tasks::{DataError, DataFolder, ImageQuery, ImageSet};
use zip::{ZipWriter, write::SimpleFileOptions};

/// Height and width of the drawings.
pub const SIDE: usize = 8;

/// Two characters of two alphabets in each of two zips; `Greek` is in both.
pub const DRAWINGS: &str = r#"
name = "drawings"
about = "drawings"
licence = "MIT"
homepage = "https://example.org"
folder = "drawings"
[images]
format = "omniglot"
height = 8
width = 8
[[archive]]
file = "one.zip"
[[archive]]
file = "two.zip"
[[part]]
name = "one"
archive = "one.zip"
classes = 2
images_per_class = 2
[[part]]
name = "two"
archive = "two.zip"
classes = 2
images_per_class = 2
[[scheme]]
name = "alphabets"
about = "as omniglot-minimal"
train = { parts = ["one"] }
test = { parts = ["two"], without_groups_of = "one" }
[[scheme]]
name = "shuffled"
about = "as omniglot"
train = { shuffled = { seed = 0, first = 0, last = 1 } }
test = { shuffled = { seed = 0, first = 2, last = 2 } }
"#;

/// Three classes of colour images of 2 by 2.
pub const PHOTOS: &str = r#"
name = "photos"
about = "photos"
licence = "MIT"
homepage = "https://example.org"
folder = "photos"
[images]
format = "cifar-100"
height = 2
width = 2
group_names = "photos/coarse.txt"
class_names = "photos/fine.txt"
[[archive]]
file = "photos.tar.gz"
[[part]]
name = "train"
archive = "photos.tar.gz"
member = "photos/train.bin"
classes = 3
images_per_class = 2
[[part]]
name = "test"
archive = "photos.tar.gz"
member = "photos/test.bin"
classes = 3
images_per_class = 1
[[scheme]]
name = "disjoint"
about = "by name and by label"
train = { classes = ["rose", "wolf"] }
test = { labels = { first = 1, last = 1 } }
[[scheme]]
name = "same"
about = "by file"
train = { parts = ["train"] }
test = { parts = ["test"] }
"#;

/// A PNG chunk with its checksum.
pub fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    [&(data.len() as u32).to_be_bytes(), &kind[..], data, &crc.sum().to_be_bytes()].concat()
}

/// A greyscale PNG of `depth` bits, with every byte of every row `fill`.
pub fn png_of([height, width]: [u32; 2], depth: u8, colour: u8, row: usize, fill: u8) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, colour, 0, 0, 0]].concat();
    let mut rows = ZlibEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..height {
        rows.write_all(&[0]).unwrap();
        rows.write_all(&vec![fill; row]).unwrap();
    }
    let data = rows.finish().unwrap();
    [b"\x89PNG\r\n\x1a\n", &chunk(b"IHDR", &header)[..], &chunk(b"IDAT", &data), &chunk(b"IEND", &[])]
        .concat()
}

/// A drawing whose rows are all these bits.
pub fn drawing(bits: u8) -> Vec<u8> {
    png_of([SIDE as u32; 2], 1, 0, 1, bits)
}

/// A zip of these entries.
pub fn zip(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The entries of a zip with two drawings each of two characters.
pub fn drawings(characters: [&str; 2], bits: u8) -> Vec<(String, Vec<u8>)> {
    let names = characters.into_iter().flat_map(|name| [1, 2].map(|n| format!("set/{name}/000{n}.png")));
    names.zip(bits..).map(|(name, bits)| (name, drawing(bits))).collect()
}

/// The zips of [`DRAWINGS`].
pub fn drawing_zips() -> [(&'static str, Vec<u8>); 2] {
    let whole = |entries: Vec<(String, Vec<u8>)>| {
        zip(&entries.iter().map(|(name, png)| (name.as_str(), png.clone())).collect::<Vec<_>>())
    };
    [
        ("drawings/one.zip", whole(drawings(["Greek/character01", "Latin/character01"], 0x10))),
        ("drawings/two.zip", whole(drawings(["Greek/character01", "Tagalog/character02"], 0x20))),
    ]
}

/// A tar of these entries.
pub fn tar(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // Written as given: a test may want a name that the builder refuses.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, content.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A gzip stream.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(content).unwrap();
    gzip.finish().unwrap()
}

/// A record of 2 by 2 pixels, all of one value.
pub fn record(coarse: u8, fine: u8, value: u8) -> Vec<u8> {
    [vec![coarse, fine], vec![value; 12]].concat()
}

/// The entries of the archive of [`PHOTOS`].
pub fn photo_entries() -> Vec<(&'static str, Vec<u8>)> {
    let train = [(0, 2, 1), (0, 0, 2), (1, 1, 3), (0, 0, 4), (1, 1, 5), (0, 2, 6)];
    let test = [(1, 1, 7), (0, 2, 8), (0, 0, 9)];
    let records = |of: &[(u8, u8, u8)]| of.iter().flat_map(|&(c, f, v)| record(c, f, v)).collect();
    vec![
        ("photos/train.bin", records(&train)),
        ("photos/test.bin", records(&test)),
        ("photos/coarse.txt", b"living\nmade\n".to_vec()),
        ("photos/fine.txt", b"rose\nlamp\nwolf\n".to_vec()),
        ("photos/readme.txt", b"nothing".to_vec()),
    ]
}

/// The archive of [`PHOTOS`].
pub fn photo_archive() -> (&'static str, Vec<u8>) {
    ("photos/photos.tar.gz", gzip(&tar(&photo_entries())))
}

/// A data folder and a cache that go with the test.
pub struct Data(tempfile::TempDir);

impl Data {
    /// With both small sets.
    pub fn new() -> Self {
        let data = Self(tempfile::tempdir().unwrap());
        data.write("drawings.toml", DRAWINGS);
        data.write("photos.toml", PHOTOS);
        for (file, content) in drawing_zips().into_iter().chain([photo_archive()]) {
            data.write(file, content);
        }
        data
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// A folder that has opened nothing yet, without a cache.
    pub fn folder(&self) -> DataFolder {
        DataFolder::at(self.0.path())
    }

    pub fn open(&self, query: &ImageQuery) -> Result<Arc<ImageSet>, DataError> {
        self.folder().open(query)
    }
}
