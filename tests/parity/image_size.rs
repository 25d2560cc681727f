//! `data.image_size`: pictures grow or shrink on the device as `interpolate(bilinear, antialias=True)` makes them.

use crate::job::Job;
use crate::losses::compare;

#[test]
fn larger_pictures_are_pytorchs() {
    let job = Job { image_size: 64, ..Job::full("resnet18") };
    compare("resnet18, pictures of 32 px at 64", &job);
}

#[test]
fn smaller_pictures_are_pytorchs() {
    // No whole ratio, and the one where antialiasing shows.
    let job = Job { image_size: 18, normalize: "imagenet", ..Job::full("resnet18") };
    compare("resnet18, pictures of 32 px at 18", &job);
}
