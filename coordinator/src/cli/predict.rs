//! `lockstep predict`: what a model sees in pictures.
//!
//! Pictures are taken in chunks: decoded, computed, told, forgotten. So a folder may hold any number of them, and a broken
//! one costs nothing but itself.

mod find;
mod output;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};

use super::compute::{self, DeviceArgs, WeightsArgs, Worker};
use super::home::HomeArgs;
use super::stdout::print;
use super::{CliError, code};
use crate::convert::EVAL_BLOCK;
use crate::data::{self, pictures};
use crate::infer::{Network, Samples};
use crate::recipe::{IMAGE_SIZES, Normalize};

use find::Found;
use output::{Format, Predicted};

/// Pictures of one call of the worker, at most: its start takes a second or two, which is little beside so many.
const CHUNK_PICTURES: usize = 512;

/// Bytes of decoded pictures of one call, at most.
const CHUNK_BYTES: usize = 256 << 20;

/// [`IMAGE_SIZES`] as the parser of arguments takes it.
const SIDES: RangeInclusive<i64> = *IMAGE_SIZES.start() as i64..=*IMAGE_SIZES.end() as i64;

#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    /// A run's name, or a file of weights (.safetensors, .pth, .pt)
    #[arg(value_name = "RUN|FILE")]
    model: String,
    /// Pictures, or folders of them
    #[arg(required = true, value_name = "IMAGE|FOLDER")]
    images: Vec<PathBuf>,
    /// So many guesses for each picture, the likeliest first
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// For programs: an array with the guesses and all logits of each picture
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// A line for each guess
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    weights: WeightsArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Pixels per side that the model sees, of a file that does not say
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(SIDES))]
    image_size: Option<u32>,
    /// Statistics that pixels are normalised by, of a file that does not say: half, imagenet or cifar10
    #[arg(long, value_name = "NAME", value_parser = normalize)]
    normalize: Option<Normalize>,
    #[command(flatten)]
    home: HomeArgs,
}

fn normalize(text: &str) -> Result<Normalize, String> {
    let all = [Normalize::Half, Normalize::Imagenet, Normalize::Cifar10];
    all.into_iter()
        .find(|it| it.as_str() == text)
        .ok_or_else(|| "expected half, imagenet or cifar10".to_owned())
}

pub(super) fn run(args: &PredictArgs) -> Result<u8, CliError> {
    let Found { files, complaints } = find::all(&args.images);
    complaints.iter().for_each(|complaint| eprintln!("{complaint}"));
    if files.is_empty() {
        return Err(CliError::new(code::DATA, "there is no picture to look at").hint(format!(
            "name pictures, or folders with files ending in {}",
            pictures::EXTENSIONS.join(", ")
        )));
    }
    let mut model = args.weights.find(&args.model, &args.home.open()?)?;
    if let Some(image_size) = args.image_size {
        model.image_size = image_size;
    }
    if let Some(normalize) = args.normalize {
        (model.mean, model.std) = normalize.mean_std();
    }
    let worker = args.device.open()?;
    let network = worker.network(&model, EVAL_BLOCK);

    let top = (args.top as usize).min(model.classes.len());
    let format = Format::of(args.json, args.csv);
    let image_bytes = 3 * model.image_size as usize * model.image_size as usize;
    let chunk = CHUNK_PICTURES.min(CHUNK_BYTES / image_bytes).max(1);
    let (mut done, mut broken) = (0, complaints.len());
    print(format.head())?;
    for files in files.chunks(chunk) {
        let (good, planes) = decoded(files, model.image_size, &worker)?;
        broken += files.len() - good.len();
        if good.is_empty() {
            continue;
        }
        let what = format!("looking at {} pictures on {}", good.len(), worker.device);
        let logits = compute::busy(what, || infer(&worker, &network, &planes, good.len()))?;
        for (file, logits) in good.iter().zip(logits.chunks_exact(model.classes.len())) {
            let predicted = Predicted { file, logits, classes: &model.classes, top };
            print(&format.picture(&predicted, done == 0))?;
            done += 1;
        }
    }
    print(format.foot(done))?;
    if broken == 0 {
        return Ok(0);
    }
    let others = if done == 0 {
        "nothing could be predicted".to_owned()
    } else {
        format!("{done} others were predicted")
    };
    Err(CliError::new(code::DATA, format!("{broken} could not be read; {others}")))
}

/// The files that could be decoded, and their pictures one after another; the others are named.
fn decoded<'a>(
    files: &'a [PathBuf],
    side: u32,
    worker: &Worker,
) -> Result<(Vec<&'a PathBuf>, Vec<u8>), CliError> {
    let mut pictures: Vec<_> = files.iter().map(|_| None).collect();
    data::decode_all(files, side, |number, picture| {
        pictures[number] = Some(picture);
        worker.calls.check_stopped()
    })?;
    let (mut good, mut planes) = (Vec::new(), Vec::new());
    for (file, picture) in files.iter().zip(pictures) {
        match picture {
            Some(Ok(picture)) => {
                good.push(file);
                planes.extend_from_slice(&picture);
            }
            Some(Err(error)) => eprintln!("{}: {error}", file.display()),
            None => {}
        }
    }
    Ok((good, planes))
}

/// Logits of `count` pictures, `[count, classes]`.
fn infer(worker: &Worker, network: &Network, planes: &[u8], count: usize) -> Result<Vec<f32>, CliError> {
    let file = tempfile::Builder::new().prefix("lockstep-").suffix(".safetensors").tempfile();
    let file = file.map_err(|error| anyhow::Error::from(error).context("a file for the pictures"))?;
    let side = network.image_size as usize;
    let images = TensorView::new(Dtype::U8, vec![count, 3, side, side], planes);
    let written = images.and_then(|images| serialize_to_file([("images", images)], None, file.path()));
    written.map_err(|error| anyhow::Error::from(error).context("writing the pictures aside"))?;
    let samples =
        Samples { images: file.path().to_owned(), tensor: "images".to_owned(), labels: None, rows: None };
    Ok(worker.calls.infer(network, &samples)?.values)
}
