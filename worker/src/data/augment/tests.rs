//! What augmentations promise: they depend on (seed, epoch, sample) alone, follow their distributions, and are nothing when
//! they are off.

mod colour;
mod distributions;
mod geometry;
mod overlays;

use tch::{Device, Kind};

use super::*;
use crate::data::transform::Look;

const SEED: u64 = 7;
const EPOCH: u32 = 3;
const SIZE: u32 = 12;

fn keys(ids: &[u32]) -> Keys<'_> {
    Keys { seed: SEED, epoch: EPOCH, ids }
}

/// Pictures as they are between cropping and normalising.
fn plain(size: u32) -> Transform {
    transform(size, [0.0; 3], [1.0; 3])
}

fn transform(size: u32, mean: [f32; 3], std: [f32; 3]) -> Transform {
    Transform::new(&Look { size, mean: mean.to_vec(), std: std.to_vec() }, Device::Cpu).unwrap()
}

/// Bytes `[ids, height, width, 3]` that look like noise, a function of the sample alone.
fn bytes_of(ids: &[u32], height: i64, width: i64) -> Tensor {
    let pictures: Vec<Tensor> = ids
        .iter()
        .map(|id| {
            let at = Tensor::arange(height * width * 3, (Kind::Int64, Device::Cpu)) + i64::from(*id) * 7919;
            ((&at * &at * 31 + at * 17).remainder(8191)).remainder(256).to_kind(Kind::Uint8)
        })
        .collect();
    Tensor::stack(&pictures, 0).view([-1, height, width, 3])
}

/// What becomes of the samples `ids`, stored at `height` x `width`.
fn augmented(settings: Augment, epoch: u32, ids: &[u32], (height, width): (i64, i64)) -> Tensor {
    let augmenter = Augmenter::new(settings, SEED, SIZE).unwrap();
    let transform = transform(SIZE, [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]);
    augmenter.apply(epoch, ids, bytes_of(ids, height, width), &transform).unwrap().pictures
}

/// Bit for bit.
fn same(one: &Tensor, other: &Tensor) -> bool {
    let bits = |tensor: &Tensor| Vec::<f32>::try_from(tensor.contiguous().view(-1)).unwrap();
    let equal = |(one, other): (&f32, &f32)| one.to_bits() == other.to_bits();
    one.size() == other.size() && bits(one).iter().zip(&bits(other)).all(equal)
}

/// Every augmentation that works on single samples, alone, and all of them together.
fn settings_of_single_samples() -> Vec<Augment> {
    let off = Augment::default();
    vec![
        Augment { crop_padding: 4, ..off },
        Augment { resized_crop: Some(0.08), ..off },
        Augment { flip: 0.5, ..off },
        Augment { brightness: 0.4, ..off },
        Augment { contrast: 0.4, ..off },
        Augment { saturation: 0.4, ..off },
        Augment { hue: 0.3, ..off },
        Augment { erasing: 0.7, ..off },
        Augment {
            crop_padding: 2,
            resized_crop: Some(0.3),
            flip: 0.5,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.1,
            erasing: 0.5,
            ..off
        },
    ]
}

/// At the network's size, larger and oblong, smaller.
const STORED: [(i64, i64); 3] = [(12, 12), (20, 31), (7, 7)];

#[test]
fn a_sample_becomes_the_same_bits_in_any_company() {
    let batch = [11, 4, 1_000_000, 9, 5, 0, 8];
    for (settings, stored) in
        settings_of_single_samples().into_iter().flat_map(|each| STORED.map(|at| (each, at)))
    {
        let together = augmented(settings, EPOCH, &batch, stored);
        assert_eq!(together.size(), [7, 12, 12, 3]);
        let elsewhere = augmented(settings, EPOCH, &[5, 0, 11], stored);
        for (place, id) in batch.into_iter().enumerate() {
            let alone = augmented(settings, EPOCH, &[id], stored);
            let context = format!("sample {id} of {stored:?} under {settings:?}");
            assert!(same(&together.narrow(0, place as i64, 1), &alone), "{context}");
        }
        assert!(same(&together.narrow(0, 4, 2), &elsewhere.narrow(0, 0, 2)), "{stored:?} under {settings:?}");
    }
}

#[test]
fn other_epochs_and_other_seeds_bring_other_pictures() {
    let ids: Vec<u32> = (0..16).collect();
    for settings in settings_of_single_samples() {
        let now = augmented(settings, EPOCH, &ids, (12, 12));
        assert!(!same(&now, &augmented(settings, EPOCH + 1, &ids, (12, 12))), "{settings:?}");
        let reseeded = Augmenter::new(settings, SEED + 1, SIZE).unwrap();
        let look = transform(SIZE, [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]);
        let reseeded = reseeded.apply(EPOCH, &ids, bytes_of(&ids, 12, 12), &look).unwrap();
        assert!(!same(&now, &reseeded.pictures), "{settings:?}");
    }
}

#[test]
fn what_is_off_changes_no_bit() {
    let ids = [3, 1, 2];
    let look = transform(SIZE, [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]);
    let whole = Augment { resized_crop: Some(1.0), ..Augment::default() };
    for (settings, stored) in
        [Augment::default(), whole].into_iter().flat_map(|each| STORED.map(|at| (each, at)))
    {
        let mut expected = look.fit(bytes_of(&ids, stored.0, stored.1)).unwrap();
        look.normalise(&mut expected).unwrap();
        assert!(same(&augmented(settings, EPOCH, &ids, stored), &expected), "{stored:?} under {settings:?}");
    }
}

#[test]
fn switching_one_on_leaves_the_others_draws_alone() {
    let ids: Vec<u32> = (0..32).collect();
    let few = Augment { flip: 0.5, hue: 0.1, crop_padding: 2, ..Augment::default() };
    let many = Augment { erasing: 1.0, resized_crop: Some(0.1), contrast: 0.3, mixup: 0.2, ..few };
    assert_eq!(Windows::draw(&few, keys(&ids)), Windows::draw(&many, keys(&ids)));
    let erasing = Augment { erasing: 1.0, ..Augment::default() };
    assert_eq!(erase::draw(&erasing, keys(&ids), SIZE), erase::draw(&many, keys(&ids), SIZE));
    let mixup = Augment { mixup: 0.2, ..Augment::default() };
    assert_eq!(Mix::draw(&mixup, keys(&ids), SIZE), Mix::draw(&many, keys(&ids), SIZE));
}

#[test]
fn pictures_of_no_sample_are_no_trouble() {
    let mixed = Augment { mixup: 1.0, cutmix: 1.0, ..Augment::default() };
    for settings in settings_of_single_samples().into_iter().chain([mixed]) {
        let none = augmented_of_none(settings);
        assert_eq!(none.size(), [0, 12, 12, 3], "{settings:?}");
    }
}

fn augmented_of_none(settings: Augment) -> Tensor {
    let bytes = Tensor::zeros([0, 12, 12, 3], (Kind::Uint8, Device::Cpu));
    Augmenter::new(settings, SEED, SIZE).unwrap().apply(EPOCH, &[], bytes, &plain(SIZE)).unwrap().pictures
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let off = Augment::default();
    let bad = [
        ("crop_padding", Augment { crop_padding: SIZE, ..off }),
        ("resized_crop", Augment { resized_crop: Some(0.0), ..off }),
        ("resized_crop", Augment { resized_crop: Some(1.5), ..off }),
        ("resized_crop", Augment { resized_crop: Some(f64::NAN), ..off }),
        ("flip", Augment { flip: 1.1, ..off }),
        ("flip", Augment { flip: f64::NAN, ..off }),
        ("brightness", Augment { brightness: -0.1, ..off }),
        ("contrast", Augment { contrast: f64::INFINITY, ..off }),
        ("saturation", Augment { saturation: f64::NAN, ..off }),
        ("hue", Augment { hue: 0.6, ..off }),
        ("erasing", Augment { erasing: -1.0, ..off }),
        ("mixup", Augment { mixup: 1e-9, ..off }),
        ("cutmix", Augment { cutmix: f64::INFINITY, ..off }),
    ];
    for (key, settings) in bad {
        let error = Augmenter::new(settings, SEED, SIZE).unwrap_err();
        assert!(matches!(error, DataError::Augmentation { name, .. } if name == key), "{error}");
    }
    for settings in settings_of_single_samples() {
        assert!(Augmenter::new(settings, SEED, SIZE).is_ok());
    }
}
