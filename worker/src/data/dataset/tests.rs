//! A data set is opened only when all of it fits, and its batches are what torchvision would make of the bytes.

use std::collections::HashMap;
use std::fs;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use sha2::{Digest, Sha256};
use tch::Kind;

use super::*;
use crate::data::{Augment, Look};

const SIDE: usize = 3;
const IMAGE: usize = 3 * SIDE * SIDE;

struct Content {
    description: Option<&'static str>,
    train_labels: Vec<i64>,
    images: usize,
    dtype: Dtype,
}

fn content() -> Content {
    Content {
        description: Some(r#"{"name": "tiny", "classes": ["a", "b", "c"]}"#),
        train_labels: vec![0, 1, 2, 1],
        images: 4,
        dtype: Dtype::U8,
    }
}

fn pixel(at: usize) -> u8 {
    (at * 37 % 256) as u8
}

fn file(content: &Content) -> Vec<u8> {
    let pixels: Vec<u8> = (0..content.images * IMAGE).map(pixel).collect();
    let labels = |labels: &[i64]| labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<_>>();
    let (train_labels, test_labels) = (labels(&content.train_labels), labels(&[2, 0]));
    let shape = |samples| vec![samples, 3, SIDE, SIDE];
    let view = |dtype, shape, data| TensorView::new(dtype, shape, data).unwrap();
    let tensors = [
        ("train.images", view(content.dtype, shape(content.images), &pixels)),
        ("train.labels", view(Dtype::I64, vec![content.train_labels.len()], &train_labels)),
        ("test.images", view(Dtype::U8, shape(2), &pixels[..2 * IMAGE])),
        ("test.labels", view(Dtype::I64, vec![2], &test_labels)),
    ];
    let description = content.description.map(|text| HashMap::from([("lockstep".into(), text.into())]));
    serialize(tensors, description).unwrap()
}

fn needs() -> Needs {
    Needs {
        train_samples: 3,
        test_samples: 2,
        classes: 3,
        look: Look { size: 3, mean: vec![0.4914, 0.4822, 0.4465], std: vec![0.247, 0.2435, 0.2616] },
    }
}

fn open(bytes: &[u8], digest: Option<&str>, needs: &Needs) -> Result<Dataset, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.safetensors");
    fs::write(&path, bytes).unwrap();
    Dataset::open(&path, digest, needs, Device::Cpu)
}

#[test]
fn batches_are_what_torchvision_makes_of_the_bytes() {
    let dataset = open(&file(&content()), None, &needs()).unwrap();
    assert_eq!((dataset.name(), dataset.image_size()), ("tiny", (3, 3)));
    let (images, labels) = dataset.batch(Split::Train, &[2, 0]).unwrap();
    assert_eq!(Vec::<i64>::try_from(&labels).unwrap(), [2, 0]);
    assert_eq!(images.size(), [2, 3, 3, 3]);
    assert_eq!(images.stride(), [27, 1, 9, 3], "channels last");
    let values = Vec::<f32>::try_from(images.contiguous().view(-1)).unwrap();
    let look = needs().look;
    for (at, value) in values.iter().enumerate() {
        let channel = at % IMAGE / (SIDE * SIDE);
        let row = if at < IMAGE { 2 } else { 0 };
        let x = f32::from(pixel(row * IMAGE + at % IMAGE)) / 255.0;
        let expected = (x - look.mean[channel]) / look.std[channel];
        assert_eq!(value.to_bits(), expected.to_bits(), "element {at}");
    }
    let (images, labels) = dataset.batch(Split::Test, &[1]).unwrap();
    assert_eq!((images.size()[0], labels.int64_value(&[0])), (1, 0));
    assert_eq!(dataset.batch(Split::Validation, &[]).unwrap().0.size(), [0, 3, 3, 3]);
}

#[test]
fn pictures_of_another_size_are_fitted_and_keep_their_layout() {
    let mut resized = needs();
    resized.look.size = 8;
    let (images, _) = open(&file(&content()), None, &resized).unwrap().batch(Split::Train, &[2, 0]).unwrap();
    assert_eq!((images.size(), images.stride()), (vec![2, 3, 8, 8], vec![192, 1, 24, 3]));
    // Mean and std are those of the fitted picture: its values lie between the stored ones.
    let (stored, _) = open(&file(&content()), None, &needs()).unwrap().batch(Split::Train, &[2, 0]).unwrap();
    let range = |images: &Tensor| (images.min().double_value(&[]), images.max().double_value(&[]));
    let ((low, high), (least, most)) = (range(&images), range(&stored));
    assert!(low >= least && high <= most && high - low > 0.5 * (most - least));
}

#[test]
fn a_training_batch_without_augmentation_is_the_plain_one() {
    for size in [SIDE as u32, 8] {
        let mut needs = needs();
        needs.look.size = size;
        let dataset = open(&file(&content()), None, &needs).unwrap();
        let augmenter = Augmenter::new(Augment::default(), 7, size).unwrap();
        let batch = dataset.train_batch(&augmenter, 5, &[2, 0, 1]).unwrap();
        let (images, labels) = dataset.batch(Split::Train, &[2, 0, 1]).unwrap();
        assert_eq!((&batch.images, &batch.labels), (&images, &labels));
        assert_eq!(batch.images.stride(), images.stride());
        assert!(batch.mixed.is_none());
    }
}

#[test]
fn a_mixed_batch_names_its_neighbours_labels() {
    let dataset = open(&file(&content()), None, &needs()).unwrap();
    for settings in [Augment { mixup: 1.0, ..off() }, Augment { cutmix: 1.0, ..off() }] {
        let augmenter = Augmenter::new(settings, 7, 3).unwrap();
        let batch = dataset.train_batch(&augmenter, 0, &[2, 0, 1]).unwrap();
        let mixed = batch.mixed.unwrap();
        assert_eq!(Vec::<i64>::try_from(&batch.labels).unwrap(), [2, 0, 1]);
        assert_eq!(Vec::<i64>::try_from(&mixed.labels).unwrap(), [1, 2, 0]);
        assert_eq!((mixed.share.size(), mixed.share.kind()), (vec![3], Kind::Float));
        assert_eq!((batch.images.size(), batch.images.stride()), (vec![3, 3, 3, 3], vec![27, 1, 9, 3]));
    }
    let beyond = dataset.train_batch(&Augmenter::new(off(), 7, 3).unwrap(), 0, &[3]);
    assert!(matches!(beyond, Err(DataError::Sample { id: 3, .. })));
}

fn off() -> Augment {
    Augment::default()
}

#[test]
fn rows_that_the_run_does_not_use_are_out_of_reach() {
    let dataset = open(&file(&content()), None, &needs()).unwrap();
    let beyond = dataset.batch(Split::Train, &[0, 3]);
    assert!(matches!(beyond, Err(DataError::Sample { id: 3, samples: 3, .. })));
}

#[test]
fn only_the_file_with_the_digest_is_opened() {
    let bytes = file(&content());
    let digest = hex::encode(Sha256::digest(&bytes));
    assert!(open(&bytes, Some(&digest), &needs()).is_ok());
    let mut damaged = bytes;
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(open(&damaged, Some(&digest), &needs()), Err(DataError::Digest { .. })));
}

#[test]
fn what_does_not_fit_the_run_is_refused() {
    let refusal = |content: Content, needs: Needs| open(&file(&content), None, &needs).unwrap_err();
    let more = refusal(content(), Needs { train_samples: 5, ..needs() });
    assert!(matches!(more, DataError::TooFew { needed: 5, found: 4, .. }));
    let classes = refusal(content(), Needs { classes: 10, ..needs() });
    assert!(matches!(classes, DataError::Classes { needed: 10, found: 3 }));
    let std =
        refusal(content(), Needs { look: Look { std: vec![1.0, 0.0, 1.0], ..needs().look }, ..needs() });
    assert!(matches!(std, DataError::Normalisation));
    let label = refusal(Content { train_labels: vec![0, 3, 1, 1], ..content() }, needs());
    assert!(matches!(label, DataError::Label { row: 1, label: 3, .. }));
    let uneven = refusal(Content { train_labels: vec![0, 1, 1], ..content() }, needs());
    assert!(matches!(uneven, DataError::Uneven { images: 4, labels: 3, .. }));
    let signed = refusal(Content { dtype: Dtype::I8, ..content() }, needs());
    assert!(matches!(signed, DataError::Layout { .. }));
    let nameless = refusal(Content { description: None, ..content() }, needs());
    assert!(matches!(nameless, DataError::Description(None)));
    let size = refusal(content(), Needs { look: Look { size: 0, ..needs().look }, ..needs() });
    assert!(matches!(size, DataError::Size));
    let unclear = refusal(Content { description: Some("{}"), ..content() }, needs());
    assert!(matches!(unclear, DataError::Description(Some(_))));
}

#[test]
fn files_that_are_no_data_sets_are_refused() {
    assert!(matches!(open(b"hello", None, &needs()), Err(DataError::Format(_))));
    let whole = file(&content());
    assert!(matches!(open(&whole[..whole.len() - 1], None, &needs()), Err(DataError::Format(_))));
    let missing = Dataset::open(Path::new("/nonexistent/file"), None, &needs(), Device::Cpu);
    assert!(matches!(missing, Err(DataError::Read { .. })));
}

#[test]
fn the_number_of_classes_may_stand_for_their_names() {
    let content = Content { description: Some(r#"{"name": "tiny", "classes": 3}"#), ..content() };
    assert!(open(&file(&content), None, &needs()).is_ok());
}

#[test]
fn views_are_what_training_sees_with_nothing_but_flips() {
    for size in [3, 5] {
        let needs = Needs { look: Look { size, ..needs().look }, ..needs() };
        let dataset = open(&file(&content()), None, &needs).unwrap();
        for (flip, mirrored) in [(0.0, false), (1.0, true)] {
            let augmenter = Augmenter::new(Augment { flip, ..off() }, 7, size).unwrap();
            let ids = [2, 0, 1];
            assert_eq!(augmenter.mirrored(5, &ids), [mirrored; 3]);
            let batch = dataset.train_batch(&augmenter, 5, &ids).unwrap();
            assert_eq!(dataset.view(Split::Train, &ids, mirrored).unwrap(), batch.images);
            assert_eq!(dataset.labels(Split::Train, &ids).unwrap(), batch.labels);
        }
    }
}
