//! The model by itself: torchvision's weights give torchvision's logits.

use std::collections::BTreeMap;
use std::fs;

use lockstep_worker::model::{Freezing, HeadPolicy, ModelSpec, ResNet, tensors_from_safetensors};
use tch::{Device, Tensor};

use crate::reference::reference;

fn compare(model: &str) {
    let Some(reference) = reference() else { return };
    tch::set_num_threads(1);
    let read = |name: String| fs::read(reference.fixtures.join(name)).expect("the fixtures are complete");
    let tensors = tensors_from_safetensors(&read(format!("{model}-logits.safetensors")));
    let known: BTreeMap<String, Tensor> = tensors.expect("the fixtures are whole").into_iter().collect();
    let (images, expected) = (&known["images"], &known["logits"]);

    let spec = ModelSpec { name: model.parse().expect("a model's name"), classes: expected.size()[1] };
    let mut ours = ResNet::new(spec, &Freezing::none(), Device::Cpu).expect("a model");
    ours.init(1);
    let report = ours
        .load_safetensors(&read(format!("{model}.safetensors")), HeadPolicy::Strict)
        .expect("torchvision's state dict");
    assert!(!report.replaced_head);
    let logits = ours.forward_eval(images);

    let largest = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
    let difference = largest(&(&logits - expected)) / largest(expected);
    println!("{model}: logits differ by {difference:.2e} of the largest\n");
    assert!(difference <= 1e-5, "logits of {model} differ by {difference:.2e}");
    assert!(largest(&(expected.get(0) - expected.get(1))) > 0.1, "the pictures' logits are alike");
}

#[test]
fn resnet18_has_torchvisions_logits() {
    compare("resnet18");
}

#[test]
fn resnet50_has_torchvisions_logits() {
    compare("resnet50");
}
