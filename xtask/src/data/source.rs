//! Where archives are taken from.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, anyhow, bail};
use plastica_tasks::{Archive, Manifest};

/// Where archives are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The manifest's address.
    Published,
    /// A folder: `FOLDER/SET_FOLDER/FILE` or `FOLDER/FILE`.
    Folder(PathBuf),
    /// Another address: `ADDRESS/FILE`.
    Address(String),
}

/// Where one archive is.
#[derive(Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// An address.
    Address(String),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let address = text.starts_with("http://") || text.starts_with("https://");
        Ok(if address { Self::Address(text.to_owned()) } else { Self::Folder(text.into()) })
    }
}

impl Source {
    /// Where an archive of a set is.
    pub fn origin(&self, manifest: &Manifest, archive: &Archive) -> Result<Origin> {
        let Archive { file, url, .. } = archive;
        match self {
            Self::Published => match url {
                Some(url) => Ok(Origin::Address(url.clone())),
                None => Err(anyhow!(
                    "image set {}: {file} has no public address; --mirror DIR_OR_URL takes it from somebody who \
                     has it",
                    manifest.name
                )),
            },
            Self::Address(base) => Ok(Origin::Address(format!("{}/{file}", base.trim_end_matches('/')))),
            Self::Folder(folder) => {
                let places = [folder.join(&manifest.folder).join(file), folder.join(file)];
                match places.iter().find(|place| place.is_file()) {
                    Some(place) => Ok(Origin::File(place.clone())),
                    None => bail!(
                        "mirror {}: there is no {}/{file} and no {file}, expected one of them",
                        folder.display(),
                        manifest.folder
                    ),
                }
            }
        }
    }
}
