//! What a manifest has to be before anything believes it.

use std::collections::BTreeSet;

use super::{Format, Manifest, Selection};

/// Largest side of a stored image, in pixels.
const MAX_SIDE: usize = 1024;
/// Most classes of a part, and most images of a class.
const MAX_COUNT: usize = 100_000;
/// Most bytes of a set's pixels as stored.
const MAX_PIXELS: usize = 1 << 33;
/// Most bytes of an archive.
pub(in crate::data) const MAX_ARCHIVE: u64 = 1 << 32;

impl Manifest {
    /// Reads a manifest.
    pub(in crate::data) fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        let name_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(name_char) {
            return Err(format!("name = {:?}, expected lower-case letters, digits and `-`", self.name));
        }
        file_name("folder", &self.folder)?;
        self.check_images()?;
        self.check_archives()?;
        self.check_parts()?;
        unique("scheme", self.schemes.iter().map(|scheme| &scheme.name))?;
        for scheme in &self.schemes {
            if scheme.splits().is_empty() {
                return Err(format!(
                    "scheme {}: no split, expected some of train, validation, test",
                    scheme.name
                ));
            }
            for (split, selection) in scheme.splits() {
                self.check_selection(selection)
                    .map_err(|problem| format!("scheme {}: {}: {problem}", scheme.name, split.name()))?;
            }
        }
        Ok(())
    }

    fn check_images(&self) -> Result<(), String> {
        let images = &self.images;
        for (field, side) in [("height", images.height), ("width", images.width)] {
            if !(1..=MAX_SIDE).contains(&side) {
                return Err(format!("images.{field} = {side}, expected 1 to {MAX_SIDE}"));
            }
        }
        let names = [("group_names", &images.group_names), ("class_names", &images.class_names)];
        for (field, value) in names {
            match (images.format, value) {
                (Format::Omniglot, Some(_)) => {
                    return Err(format!("images.{field}: format omniglot has no such entry, expected none"));
                }
                (Format::Cifar100, None) => {
                    return Err(format!("images.{field}: missing, expected an entry of the archive"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_archives(&self) -> Result<(), String> {
        unique("archive", self.archives.iter().map(|archive| &archive.file))?;
        for archive in &self.archives {
            let field = |name: &str| format!("archive {}: {name}", archive.file);
            file_name("archive.file", &archive.file)?;
            if let Some(url) = archive.url.as_ref().filter(|url| !url.starts_with("https://")) {
                return Err(format!("{} = {url:?}, expected an https address", field("url")));
            }
            if let Some(size) = archive.size.filter(|size| !(1..=MAX_ARCHIVE).contains(size)) {
                return Err(format!("{} = {size}, expected 1 to {MAX_ARCHIVE}", field("size")));
            }
            for (name, value, digits) in [("sha256", &archive.sha256, 64), ("md5", &archive.md5, 32)] {
                let hexadecimal = |c: char| matches!(c, '0'..='9' | 'a'..='f');
                if let Some(value) =
                    value.as_ref().filter(|v| v.len() != digits || !v.chars().all(hexadecimal))
                {
                    let expected = format!("{digits} lower-case hexadecimal digits");
                    return Err(format!("{} = {value:?}, expected {expected}", field(name)));
                }
            }
        }
        Ok(())
    }

    fn check_parts(&self) -> Result<(), String> {
        unique("part", self.parts.iter().map(|part| &part.name))?;
        let mut places = BTreeSet::new();
        for part in &self.parts {
            let field = |name: &str| format!("part {}: {name}", part.name);
            self.known("archive", self.archives.iter().map(|a| &a.file), &part.archive)
                .map_err(|problem| field(&problem))?;
            match (self.images.format, &part.member) {
                (Format::Omniglot, Some(_)) => {
                    return Err(field("member: format omniglot has none, expected none"));
                }
                (Format::Cifar100, None) => {
                    return Err(field("member: missing, expected an entry of the archive"));
                }
                _ => {}
            }
            if !places.insert((&part.archive, &part.member)) {
                return Err(field("another part has the same images, expected each part to have its own"));
            }
            let most = if self.images.format == Format::Cifar100 { 256 } else { MAX_COUNT };
            for (name, count, most) in
                [("classes", part.classes, most), ("images_per_class", part.images_per_class, MAX_COUNT)]
            {
                if !(1..=most).contains(&count) {
                    return Err(format!("{} = {count}, expected 1 to {most}", field(name)));
                }
            }
        }
        let pixels = self.parts.iter().try_fold(0usize, |sum, part| {
            let images = part.classes.checked_mul(part.images_per_class)?;
            let pixels = images.checked_mul(3 * self.images.height * self.images.width)?;
            sum.checked_add(pixels)
        });
        match pixels {
            Some(pixels) if pixels <= MAX_PIXELS => Ok(()),
            _ => Err(format!("the parts' images are larger together than {MAX_PIXELS} bytes, expected less")),
        }
    }

    fn check_selection(&self, selection: &Selection) -> Result<(), String> {
        let named = selection.parts.iter().flatten().chain(&selection.without_groups_of);
        for part in named {
            self.known("part", self.parts.iter().map(|p| &p.name), part)?;
        }
        let spans = [
            ("labels", selection.labels.map(|span| (span.first, span.last))),
            ("shuffled", selection.shuffled.map(|span| (span.first, span.last))),
        ];
        for (field, span) in spans {
            if let Some((first, last)) = span.filter(|(first, last)| first > last) {
                return Err(format!(
                    "{field}: first = {first} is after last = {last}, expected it before or equal"
                ));
            }
        }
        for (field, empty) in [
            ("parts", selection.parts.as_ref().is_some_and(Vec::is_empty)),
            ("classes", selection.classes.as_ref().is_some_and(Vec::is_empty)),
        ] {
            if empty {
                return Err(format!("{field}: empty, expected at least one name"));
            }
        }
        Ok(())
    }

    fn known<'a>(
        &self,
        kind: &str,
        mut names: impl Iterator<Item = &'a String> + Clone,
        name: &String,
    ) -> Result<(), String> {
        if names.clone().any(|known| known == name) {
            return Ok(());
        }
        let list = names.by_ref().map(String::as_str).collect::<Vec<_>>().join(", ");
        Err(format!("there is no {kind} {name:?}, expected one of {list}"))
    }
}

/// Refuses what is not the plain name of one file or folder on every system.
fn file_name(field: &str, name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(fine) {
        return Err(format!(
            "{field} = {name:?}, expected a plain name of letters, digits, `.`, `_` and `-`"
        ));
    }
    Ok(())
}

/// Refuses an empty list and one that has a name twice.
fn unique<'a>(kind: &str, names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(format!("{kind} {name:?} occurs twice, expected each once"));
        }
    }
    if seen.is_empty() {
        return Err(format!("no {kind}, expected at least one"));
    }
    Ok(())
}
