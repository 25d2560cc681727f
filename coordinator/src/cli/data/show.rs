//! Samples as pictures: each as it is stored and, where the recipe augments, as training would see it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::cli::compute;
use crate::cli::home::HomeArgs;
use crate::cli::sources::SourceArgs;
use crate::cli::stdout::print;
use crate::cli::{CliError, code, inputs};
use crate::data::{ResolvedData, SplitName};
use crate::infer::{AugmentSettings, Augmentation, Samples};
use crate::local::WorkerBinary;
use crate::plot::{self, Picture, Tile};
use crate::recipe::Recipe;

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    home: HomeArgs,
    /// So many training samples, from all over the data set
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    count: u32,
    /// Augmented as in this epoch, the first one being 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    epoch: u32,
    /// The PNG file to write; one that is there is replaced
    #[arg(long, value_name = "PATH", default_value = "samples.png")]
    out: PathBuf,
    /// For programs: which samples, and how they are augmented
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: ShowArgs) -> Result<u8, CliError> {
    check_out(&args.out)?;
    let recipe = super::recipe(args.source)?;
    let home = args.home.open()?;
    let data = inputs::resolve_data(&recipe, &home)?;
    let rows = spread(data.train, args.count as usize);
    let (images, labels) = data.pictures(SplitName::Train, &rows)?;
    let augment = AugmentSettings::from(&recipe.augment);
    let augmented = if augment.is_off() { None } else { Some(augmented(&recipe, &data, &rows, args.epoch)?) };
    let after = augmented.as_deref().map(|planes| (planes, recipe.data.image_size));
    let tiles = tiles(&data, &images, &labels, after);
    let how = if augment.is_off() { "no augmentation" } else { "before and after augmentation" };
    let title = match augment.is_off() {
        true => format!("{}: {} samples, {how}", data.name, rows.len()),
        false => format!("{}: {} samples, {how}, epoch {}", data.name, rows.len(), args.epoch),
    };
    plot::write_gallery(&args.out, &title, &tiles)?;
    if args.json {
        let sample = |(row, label): (&usize, &usize)| json!({ "row": row, "label": label, "class": data.classes[*label] });
        let samples: Vec<_> = rows.iter().zip(&labels).map(sample).collect();
        let report = json!({
            "out": args.out,
            "data": data.name,
            "digest": data.digest,
            "epoch": args.epoch,
            "augment": if augment.is_off() { None } else { Some(augment) },
            "samples": samples,
        });
        print(&format!("{report:#}\n"))?;
    } else {
        print(&format!("{}: {} samples of {}, {how}\n", args.out.display(), rows.len(), data.name))?;
    }
    Ok(0)
}

/// A name that a picture would not bear is a slip, and might be a recipe's.
fn check_out(out: &Path) -> Result<(), CliError> {
    let is_png = out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    if !is_png || out.is_dir() {
        return Err(CliError::new(code::USAGE, format!("--out {} is no name for a PNG file", out.display()))
            .hint("let it end in .png"));
    }
    match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            Err(CliError::new(code::USAGE, format!("there is no folder {}", folder.display()))
                .hint("make it first, or choose another --out"))
        }
        _ => Ok(()),
    }
}

/// One row from each of `count` equal stretches of `total` rows: folders lie class by class, and the first rows would show
/// one of them. Within its stretch a row lies anywhere: at equal distances, classes that take turns would be missed.
fn spread(total: usize, count: usize) -> Vec<usize> {
    // Knuth's multiplicative hash.
    const FACTOR: usize = 2_654_435_761;
    let count = count.min(total);
    let start = |index: usize| index * total / count;
    (0..count)
        .map(|index| start(index) + index.wrapping_mul(FACTOR) % (start(index + 1) - start(index)))
        .collect()
}

/// The pictures as training sees them, before normalisation.
fn augmented(recipe: &Recipe, data: &ResolvedData, rows: &[usize], epoch: u32) -> Result<Vec<u8>, CliError> {
    let calls = compute::calls(&WorkerBinary::find()?)?;
    let augmentation = Augmentation {
        seed: recipe.seed,
        epoch,
        classes: data.classes.len(),
        image_size: recipe.data.image_size,
        threads: recipe.threads,
        augment: AugmentSettings::from(&recipe.augment),
    };
    let samples = Samples {
        images: data.file.clone(),
        tensor: "train.images".to_owned(),
        labels: Some("train.labels".to_owned()),
        rows: Some(rows.to_vec()),
    };
    Ok(compute::busy("augmenting".to_owned(), || calls.augment(&augmentation, &samples))?)
}

/// A tile for each sample: stored, and beside it augmented.
fn tiles(data: &ResolvedData, images: &[u8], labels: &[usize], after: Option<(&[u8], u32)>) -> Vec<Tile> {
    let mut after = after.map(|(planes, side)| Picture::all(side, planes).into_iter());
    let tile = |(stored, label): (Picture, &usize)| {
        let augmented = after.as_mut().and_then(Iterator::next);
        Tile::named(std::iter::once(stored).chain(augmented).collect(), &data.classes[*label])
    };
    Picture::all(data.image_size, images).into_iter().zip(labels).map(tile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_taken_from_all_over() {
        assert_eq!(spread(3, 32), [0, 1, 2]);
        assert_eq!(spread(0, 32), [0; 0]);
        for (total, count) in [(100, 4), (7, 3), (50_000, 32), (400, 40), (1_281_167, 1024)] {
            let rows = spread(total, count);
            let is_in_turn = |(index, row): (usize, &usize)| {
                (index * total / count..(index + 1) * total / count).contains(row)
            };
            assert!(rows.len() == count && rows.iter().enumerate().all(is_in_turn), "{rows:?}");
        }
        // Ten classes that take turns, as in the drawn shapes.
        let classes: std::collections::BTreeSet<usize> = spread(400, 40).iter().map(|row| row % 10).collect();
        assert_eq!(classes.len(), 10);
    }

    #[test]
    fn only_a_png_in_a_folder_that_exists_is_written() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_out(&folder.path().join("a.PNG")).is_ok());
        assert!(check_out(Path::new("a.png")).is_ok());
        for wrong in ["recipe.toml", "none/a.png", "plain", ""] {
            let error = check_out(&folder.path().join(wrong)).unwrap_err();
            assert!(error.code == 2 && error.hint.is_some(), "{wrong}");
        }
    }
}
