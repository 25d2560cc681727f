//! One training, started from each form in which PyTorch keeps weights.

use crate::job::Job;
use crate::lockstep::Run;
use crate::reference::reference;

#[test]
fn every_form_of_the_same_weights_starts_the_same_training() {
    let Some(reference) = reference() else { return };
    let losses = |end| {
        let job =
            Job { weights: Some(end), epochs: 1, train: 56, trainable: &["fc.*"], ..Job::full("resnet50") };
        Run::of(&job, reference).losses
    };
    let expected = losses(".safetensors");
    assert_eq!(expected.len(), 2);
    // The last two are nested, and say `module.` before every name.
    for end in [".pth", "-legacy.pth", "-checkpoint.pth", "-checkpoint-legacy.pth"] {
        assert_eq!(losses(end), expected, "{end}");
    }
}
