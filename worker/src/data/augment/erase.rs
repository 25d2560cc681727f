//! Torchvision's `RandomErasing`, with its defaults but for the probability.

use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::Augment;
use super::draws::{self, Keys, Stream};
use crate::data::DataError;
use crate::data::keyed::{below, between};
use crate::data::rectangle::Rectangle;

/// Share of the picture's area.
const AREA: (f64, f64) = (0.02, 0.33);
/// Height to width, uniform in the logarithm.
const RATIO: (f64, f64) = (0.3, 3.3);
/// After so many rectangles that do not fit, a picture stays whole.
const TRIES: usize = 10;

/// Each sample's rectangle, empty where nothing is erased; none where it is off.
pub(super) fn draw(settings: &Augment, keys: Keys<'_>, size: u32) -> Option<Vec<Rectangle>> {
    let rectangle = |rng: &mut ChaCha8Rng| match draws::chance(rng, settings.erasing) {
        true => erased(rng, size),
        false => Rectangle::default(),
    };
    (settings.erasing > 0.0).then(|| keys.draw(Stream::Erasing, rectangle))
}

fn erased(rng: &mut ChaCha8Rng, size: u32) -> Rectangle {
    let side = f64::from(size);
    for _ in 0..TRIES {
        let area = side * side * between(rng, AREA.0, AREA.1);
        let (height, width) = draws::sides(area, draws::log_between(rng, RATIO.0, RATIO.1));
        if height < side && width < side {
            let (height, width) = (height as u32, width as u32);
            let (top, left) = (below(rng, size - height + 1), below(rng, size - width + 1));
            return Rectangle { top, left, height, width };
        }
    }
    Rectangle::default()
}

/// Sets normalised pictures `[N, S, S, 3]` to 0, the data set's mean, where the rectangles lie.
pub(super) fn apply(rectangles: &[Rectangle], pictures: &mut Tensor) -> Result<(), DataError> {
    let mask = Rectangle::mask(rectangles, pictures.size()[1], pictures.device())?;
    let _ = pictures.f_masked_fill_(&mask, 0.0)?;
    Ok(())
}
