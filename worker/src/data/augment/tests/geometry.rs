//! Crops and flips move the right pixels.

use super::*;
use crate::data::augment::geometry::resized_crop;
use crate::data::rectangle::Rectangle;
use crate::data::resize;

#[test]
fn a_flip_is_a_mirror_to_the_bit() {
    let ids: Vec<u32> = (0..16).collect();
    let bytes = bytes_of(&ids, 12, 12);
    let windows = Windows::draw(&Augment { flip: 0.5, ..Augment::default() }, keys(&ids)).unwrap();
    let flipped = windows.crop(&bytes).unwrap();
    let each = (0..16).map(|place| (flipped.select(0, place), bytes.select(0, place)));
    for ((found, picture), mirrored) in each.zip(&windows.mirrored) {
        assert_eq!(found, if *mirrored { picture.flip([1]) } else { picture });
    }
    let mirrored = windows.mirrored.iter().filter(|mirrored| **mirrored).count();
    assert!((3..14).contains(&mirrored), "both kinds were seen, {mirrored} mirrored");
}

#[test]
fn a_padded_crop_shows_the_very_pixels_and_zeros_around_them() {
    let settings = Augment { crop_padding: 4, flip: 0.5, ..Augment::default() };
    let ids: Vec<u32> = (0..64).collect();
    // No zeros inside, so that those outside are told apart.
    let bytes = bytes_of(&ids, 12, 12).clamp_min(1);
    let windows = Windows::draw(&settings, keys(&ids)).unwrap();
    let cropped = windows.crop(&bytes).unwrap();
    let padded = bytes.permute([0, 3, 1, 2]).constant_pad_nd([4, 4, 4, 4]).permute([0, 2, 3, 1]);
    for (id, (down, right)) in windows.corners.iter().enumerate() {
        let window =
            padded.select(0, id as i64).narrow(0, i64::from(*down), 12).narrow(1, i64::from(*right), 12);
        let expected = if windows.mirrored[id] { window.flip([1]) } else { window };
        assert_eq!(cropped.select(0, id as i64), expected, "{down} down, {right} right");
    }
    let floats = windows.crop(&bytes.to_kind(Kind::Float)).unwrap();
    assert_eq!(floats, cropped.to_kind(Kind::Float), "floats move as bytes do");
}

#[test]
fn resampling_the_whole_picture_at_its_own_size_changes_no_bit() {
    let bytes = bytes_of(&[1, 2], 12, 12);
    let whole = [Rectangle { top: 0, left: 0, height: 12, width: 12 }; 2];
    assert!(same(&resample::crop(&bytes, &whole, 12).unwrap(), &bytes.to_kind(Kind::Float)));
}

/// Against libtorch's resizing of the crop that was cut out, up and down, square and not.
#[test]
fn a_crop_is_resampled_as_if_it_were_the_picture() {
    let crops = [
        Rectangle { top: 3, left: 5, height: 20, width: 20 },
        Rectangle { top: 0, left: 0, height: 37, width: 29 },
        Rectangle { top: 30, left: 2, height: 7, width: 27 },
        Rectangle { top: 36, left: 28, height: 1, width: 1 },
        Rectangle { top: 1, left: 1, height: 12, width: 9 },
    ];
    let bytes = bytes_of(&[0, 1, 2, 3, 4], 37, 29);
    for size in [12, 29, 40] {
        let resampled = resample::crop(&bytes, &crops, size).unwrap();
        for (index, crop) in crops.iter().enumerate() {
            let cut = bytes.narrow(0, index as i64, 1).narrow(1, crop.top.into(), crop.height.into());
            let cut = cut.narrow(2, crop.left.into(), crop.width.into()).to_kind(Kind::Float);
            let planes = cut.permute([0, 3, 1, 2]);
            let expected = planes.internal_upsample_bilinear2d_aa([size, size], false, None, None);
            let found = resampled.narrow(0, index as i64, 1).permute([0, 3, 1, 2]);
            let difference = (found - expected).abs().max().double_value(&[]);
            assert!(difference < 255.0 * 2e-6, "{difference} at {size} for {crop:?}");
        }
    }
}

#[test]
fn a_square_picture_is_cropped_from_as_it_would_be_resized() {
    let bytes = bytes_of(&[5], 31, 31);
    let whole = [Rectangle { top: 0, left: 0, height: 31, width: 31 }];
    let crop = resample::crop(&bytes, &whole, 12).unwrap();
    let fitted = resize::fit(&bytes.to_kind(Kind::Float), 12).unwrap();
    assert!((crop - fitted).abs().max().double_value(&[]) < 255.0 * 2e-6);
}

#[test]
fn a_picture_too_oblong_for_any_crop_is_shown_from_its_middle() {
    let ids: Vec<u32> = (0..50).collect();
    let crops = keys(&ids).draw(Stream::ResizedCrop, |rng| resized_crop(rng, 0.9, 100, 10));
    assert!(
        crops.iter().all(|crop| *crop == Rectangle { top: 43, left: 0, height: 13, width: 10 }),
        "{crops:?}"
    );
    let crops = keys(&ids).draw(Stream::ResizedCrop, |rng| resized_crop(rng, 0.9, 10, 100));
    assert!(
        crops.iter().all(|crop| *crop == Rectangle { top: 0, left: 43, height: 10, width: 13 }),
        "{crops:?}"
    );
}
