//! Erasing, mixup and cutmix: pictures and targets say the same.

use super::*;

fn applied(settings: Augment, ids: &[u32]) -> Augmented {
    let augmenter = Augmenter::new(settings, SEED, SIZE).unwrap();
    augmenter.apply(EPOCH, ids, bytes_of(ids, 12, 12), &plain(SIZE)).unwrap()
}

fn shares(augmented: &Augmented) -> Vec<f32> {
    Vec::try_from(augmented.share.as_ref().unwrap()).unwrap()
}

#[test]
fn erased_pixels_are_zero_after_normalising_and_no_others_change() {
    let ids: Vec<u32> = (0..20).collect();
    let settings = Augment { erasing: 0.5, ..Augment::default() };
    let whole = augmented(Augment::default(), EPOCH, &ids, (12, 12));
    let found = augmented(settings, EPOCH, &ids, (12, 12));
    let rectangles = erase::draw(&settings, keys(&ids), SIZE).unwrap();
    for (place, each) in rectangles.iter().enumerate() {
        let expected = whole.select(0, place as i64).copy();
        let mut hole = expected.narrow(0, each.top.into(), each.height.into());
        hole = hole.narrow(1, each.left.into(), each.width.into());
        let _ = hole.zero_();
        assert!(same(&found.select(0, place as i64), &expected), "{each:?}");
    }
}

#[test]
fn a_mixed_up_picture_is_its_share_of_both() {
    let ids = [4, 9, 2, 7];
    let plainly = applied(Augment::default(), &ids);
    assert!(plainly.share.is_none());
    let mixed = applied(Augment { mixup: 1.0, ..Augment::default() }, &ids);
    let shares = shares(&mixed);
    for place in 0..4 {
        // Torchvision's pairs: the one before, the last for the first.
        let neighbour = (place + 3) % 4;
        let share = f64::from(shares[place as usize]);
        let expected =
            plainly.pictures.select(0, place) * share + plainly.pictures.select(0, neighbour) * (1.0 - share);
        let difference = (mixed.pictures.select(0, place) - expected).abs().max().double_value(&[]);
        assert!(difference < 1e-6, "{difference} at {place}");
    }
    let labels = neighbours(&Tensor::from_slice(&[40_i64, 90, 20, 70])).unwrap();
    assert_eq!(Vec::<i64>::try_from(&labels).unwrap(), [70, 40, 90, 20]);
}

#[test]
fn a_cut_pictures_share_is_its_own_pixels() {
    let ids: Vec<u32> = (0..200).collect();
    let plainly = applied(Augment::default(), &ids).pictures;
    let mixed = applied(Augment { cutmix: 1.0, ..Augment::default() }, &ids);
    let theirs = neighbours(&plainly).unwrap();
    let is = |of: &Tensor| mixed.pictures.eq_tensor(of).all_dim(-1, false);
    let (own, other) = (is(&plainly), is(&theirs));
    assert!(own.logical_or(&other).all().int64_value(&[]) == 1, "every pixel is one's or the other's");
    let mut kinds = std::collections::BTreeSet::new();
    for (place, share) in shares(&mixed).into_iter().enumerate() {
        // Pixels that both have alike are counted where they were not cut.
        let cut = own.select(0, place as i64).logical_not().sum(Kind::Int64).int64_value(&[]) as f32 / 144.0;
        assert!(
            (1.0 - share - cut).abs() < 0.015,
            "share {share}, but {cut} of sample {place} came from outside"
        );
        kinds.insert((share * 10.0) as i32);
    }
    assert!(kinds.len() >= 8, "cuts of all sizes: {kinds:?}");
}

#[test]
fn a_samples_share_is_its_own_whoever_the_neighbour_is() {
    for settings in
        [Augment { mixup: 0.4, ..Augment::default() }, Augment { cutmix: 0.4, ..Augment::default() }]
    {
        let all = shares(&applied(settings, &[4, 9, 2, 7]));
        assert_eq!(
            shares(&applied(settings, &[2, 7, 5])),
            [all[2], all[3], shares(&applied(settings, &[5]))[0]]
        );
        let other = Augmenter::new(settings, SEED, SIZE).unwrap();
        let other =
            other.apply(EPOCH + 1, &[4, 9, 2, 7], bytes_of(&[4, 9, 2, 7], 12, 12), &plain(SIZE)).unwrap();
        assert_ne!(shares(&other), all);
    }
}

#[test]
fn the_same_slice_is_mixed_to_the_same_bits() {
    let settings = Augment { mixup: 0.4, cutmix: 1.0, flip: 0.5, hue: 0.1, ..Augment::default() };
    for first in 0..8 {
        let ids = [first, 100, 50, 3];
        let (one, again) = (applied(settings, &ids), applied(settings, &ids));
        assert!(same(&one.pictures, &again.pictures));
        assert_eq!(shares(&one), shares(&again));
    }
}
