//! Which picture belongs to which split, and in which order each is stored.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::FolderRequest;
use super::broken::Broken;
use super::layout::Layout;
use crate::data::{DataError, SplitName};

/// Changes with how test pictures are drawn.
const DRAW_TAG: &[u8] = b"test split 1";

/// Pictures of both splits, as their places in the layout.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) train: Vec<usize>,
    pub(super) test: Vec<usize>,
}

impl Rows {
    pub(super) fn of(&self, split: SplitName) -> &[usize] {
        match split {
            SplitName::Train => &self.train,
            SplitName::Test => &self.test,
        }
    }
}

/// Deals out the pictures that are not broken. A class must keep at least one in each split that it lies in.
pub(super) fn rows(
    request: &FolderRequest<'_>,
    layout: &Layout,
    broken: &[Broken],
) -> Result<Rows, DataError> {
    let is_broken: BTreeSet<usize> = broken.iter().map(|broken| broken.picture).collect();
    let mut train = vec![Vec::new(); layout.classes.len()];
    let mut test = train.clone();
    for (row, picture) in layout.pictures.iter().enumerate().filter(|(row, _)| !is_broken.contains(row)) {
        let split = if picture.split == Some(SplitName::Test) { &mut test } else { &mut train };
        split[usize::from(picture.class)].push(row);
    }
    let mut kept = vec![(SplitName::Train, &train)];
    if layout.test_folder.is_some() {
        kept.push((SplitName::Test, &test));
    }
    for (split, by_class) in kept {
        if let Some(class) = by_class.iter().position(Vec::is_empty) {
            let folder = layout.class_folder(split, class);
            let is_of = |broken: &&Broken| {
                let picture = &layout.pictures[broken.picture];
                usize::from(picture.class) == class && picture.split.is_none_or(|its| its == split)
            };
            return Err(DataError::AllBroken { folder, broken: broken.iter().filter(is_of).count() });
        }
    }
    if layout.test_folder.is_none() {
        test = train.iter_mut().map(|class| draw(request, layout, class)).collect();
    }
    Ok(Rows { train: interleaved(&train), test: interleaved(&test) })
}

/// Takes a class's share for the test split out of it: at least one picture, and not the last.
///
/// Each picture's lot is a digest of the seed and its name, so one more picture in a class changes the split of few
/// others.
fn draw(request: &FolderRequest<'_>, layout: &Layout, class: &mut Vec<usize>) -> Vec<usize> {
    let Some(most) = class.len().checked_sub(1).filter(|most| *most > 0) else { return Vec::new() };
    let share = (class.len() as f64 * request.test_fraction).round() as usize;
    let lot = |row: &usize| {
        let name = layout.pictures[*row].file.as_os_str().as_encoded_bytes();
        let seed = request.seed.to_le_bytes();
        Sha256::new().chain_update(DRAW_TAG).chain_update(seed).chain_update(name).finalize()
    };
    let mut by_lot = class.clone();
    by_lot.sort_by_cached_key(lot);
    by_lot.truncate(share.clamp(1, most));
    let drawn: BTreeSet<usize> = by_lot.into_iter().collect();
    class.retain(|row| !drawn.contains(row));
    drawn.into_iter().collect()
}

/// One list in which every class is spread evenly from the front to the end, so that the first so many samples
/// (`data.train = 1000`, a sheet of samples) are of all classes. Within a class the order is kept.
fn interleaved(by_class: &[Vec<usize>]) -> Vec<usize> {
    let mut places: Vec<(usize, usize, usize)> = by_class
        .iter()
        .enumerate()
        .flat_map(|(class, rows)| (0..rows.len()).map(move |at| (class, at, rows.len())))
        .collect();
    // Sample `at` of `count` has its middle at (2 · at + 1) / (2 · count) of the whole; fractions are compared exactly.
    places.sort_by(|&(class, at, count), &(other_class, other_at, other_count)| -> Ordering {
        let (place, other) = ((2 * at + 1) as u128, (2 * other_at + 1) as u128);
        let by_place = (place * other_count as u128).cmp(&(other * count as u128));
        by_place.then(class.cmp(&other_class))
    });
    places.into_iter().map(|(class, at, _)| by_class[class][at]).collect()
}
