//! The image set of a split, from all images of the set.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::collection::{Collection, PartClass};
use super::manifest::{Manifest, Scheme, Selection, Shuffled, Span, Split};
use crate::ImageClass;

/// The classes of `split`, as places in the collection's classes, or why there are none such.
pub(super) fn places(
    manifest: &Manifest,
    scheme: &Scheme,
    split: Split,
    classes: &[PartClass],
) -> Result<BTreeSet<usize>, String> {
    let mut places = BTreeSet::new();
    for (of, selection) in scheme.splits() {
        if split == of || split == Split::All {
            let chosen = chosen(manifest, selection, classes)
                .map_err(|problem| format!("{}: {problem}", of.name()))?;
            places.extend(chosen);
        }
    }
    Ok(places)
}

fn chosen(
    manifest: &Manifest,
    selection: &Selection,
    classes: &[PartClass],
) -> Result<BTreeSet<usize>, String> {
    let part_name = |class: &PartClass| &manifest.parts[class.part].name;
    let mut places: BTreeSet<usize> = (0..classes.len()).collect();
    if let Some(parts) = &selection.parts {
        places.retain(|&place| parts.contains(part_name(&classes[place])));
    }
    if let Some(part) = &selection.without_groups_of {
        let groups: BTreeSet<&String> =
            classes.iter().filter(|class| part_name(class) == part).map(|class| &class.group).collect();
        places.retain(|&place| !groups.contains(&classes[place].group));
    }
    if let Some(names) = &selection.classes {
        let there: BTreeSet<&String> = places.iter().map(|&place| &classes[place].name).collect();
        if let Some(missing) = names.iter().find(|&name| !there.contains(name)) {
            return Err(format!("there is no class {missing:?}"));
        }
        let names: BTreeSet<&String> = names.iter().collect();
        places.retain(|&place| names.contains(&classes[place].name));
    }
    if let Some(Span { first, last }) = selection.labels {
        within("labels", last, classes.iter().map(|class| class.label + 1).max().unwrap_or(0))?;
        places.retain(|&place| (first..=last).contains(&classes[place].label));
    }
    if let Some(Shuffled { seed, first, last }) = selection.shuffled {
        let ordered: BTreeSet<([u8; 32], &str, &str)> = places
            .iter()
            .map(|&place| {
                let PartClass { group, name, .. } = &classes[place];
                (Sha256::digest(format!("{seed}/{group}/{name}")).into(), group.as_str(), name.as_str())
            })
            .collect();
        within("shuffled", last, ordered.len())?;
        let taken: BTreeSet<(&str, &str)> = ordered
            .iter()
            .skip(first)
            .take(last - first + 1)
            .map(|&(_, group, name)| (group, name))
            .collect();
        places.retain(|&place| {
            let PartClass { group, name, .. } = &classes[place];
            taken.contains(&(group.as_str(), name.as_str()))
        });
    }
    if places.is_empty() { Err("no class meets all its conditions".to_owned()) } else { Ok(places) }
}

fn within(field: &str, last: usize, classes: usize) -> Result<(), String> {
    if last < classes {
        return Ok(());
    }
    Err(format!("{field}.last = {last}, expected less than the {classes} classes there are"))
}

/// Which image of a set comes from where in the collection.
#[derive(Debug)]
pub(super) struct Plan {
    /// The set's classes.
    pub classes: Vec<ImageClass>,
    /// For each class of the collection, the set's image that its first image becomes.
    firsts: Vec<Option<usize>>,
}

impl Plan {
    /// The plan of a set of these places. Classes of one group and name are one class, wherever they come from, with
    /// the images in the order of the places; classes are in the order of their first.
    pub fn new(all: &[PartClass], places: &BTreeSet<usize>) -> Self {
        let mut merged: Vec<(&PartClass, Vec<usize>)> = Vec::new();
        let mut known = BTreeMap::new();
        for &place in places {
            let class = &all[place];
            let at = *known.entry((&class.group, &class.name)).or_insert(merged.len());
            if at == merged.len() {
                merged.push((class, Vec::new()));
            }
            merged[at].1.push(place);
        }
        let (mut classes, mut firsts, mut images) = (Vec::new(), vec![None; all.len()], 0);
        for (class, places) in merged {
            let first = images;
            for place in places {
                firsts[place] = Some(images);
                images += all[place].images;
            }
            classes.push(ImageClass {
                name: class.name.clone(),
                group: class.group.clone(),
                images: first..images,
            });
        }
        Self { classes, firsts }
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.classes.last().map_or(0, |class| class.images.end)
    }

    /// The set's image that the first image of the collection's class at `place` becomes, if it is in the set.
    pub fn first_image(&self, place: usize) -> Option<usize> {
        self.firsts[place]
    }

    /// The pixels of the plan's images.
    pub fn pixels(&self, collection: &Collection) -> Vec<u8> {
        let image = collection.shape.iter().product::<usize>();
        let mut pixels = vec![0; self.images() * image];
        let mut from = collection.pixels.as_slice();
        for (class, first) in collection.classes.iter().zip(&self.firsts) {
            let (images, rest) = from.split_at(class.images * image);
            if let Some(first) = first {
                pixels[first * image..][..images.len()].copy_from_slice(images);
            }
            from = rest;
        }
        pixels
    }
}
