//! Weights in and out: torchvision's names, every bit back, and nothing taken over that does not fit.

use super::*;

#[test]
fn the_state_is_torchvisions_state_dict() {
    let model = ResNet::new(spec(ModelName::Resnet50, 10), &Freezing::none(), Device::Cpu).unwrap();
    let state = model.state();
    assert_eq!(state.len(), 320);
    let names: Vec<&str> = state.iter().map(|(name, _)| name.as_str()).collect();
    let bn1 = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
        .map(|part| format!("bn1.{part}"));
    assert_eq!(names[0], "conv1.weight");
    assert_eq!(names[1..6], bn1);
    assert_eq!(names[6], "layer1.0.conv1.weight");
    assert_eq!(names[24], "layer1.0.downsample.0.weight");
    assert_eq!(names[30], "layer1.1.conv1.weight");
    assert_eq!(names[318..], ["fc.weight", "fc.bias"]);

    let shape = |wanted: &str| state.iter().find(|(name, _)| name == wanted).unwrap().1.size();
    assert_eq!(shape("conv1.weight"), [64, 3, 7, 7]);
    assert_eq!(shape("layer4.0.downsample.0.weight"), [2048, 1024, 1, 1]);
    assert_eq!(shape("layer1.0.bn2.running_mean"), [64]);
    assert!(shape("bn1.num_batches_tracked").is_empty());
    assert_eq!(shape("fc.weight"), [10, 2048]);
    assert!(state.iter().all(|(_, tensor)| tensor.is_contiguous()));
}

#[test]
fn a_state_comes_back_bit_for_bit_under_any_freezing() {
    let mut model = resnet18(&Freezing::none());
    let _ = model.forward_train(&images(1));
    let shard = model.shard_statistics().copy();
    model.move_statistics(&shard, 0.1);
    let bytes = model.state_to_safetensors(Some(("step", "1"))).unwrap();
    let digest = model.weights_digest();

    let mut same = resnet18(&Freezing::none());
    assert_ne!(same.weights_digest(), digest);
    same.load_safetensors(&bytes, HeadPolicy::Strict).unwrap();
    assert_eq!(same.weights_digest(), digest);

    let mut other =
        ResNet::new(model.spec(), &freezing(&["layer3."], FrozenBatchNorm::Eval), Device::Cpu).unwrap();
    other.load_safetensors(&bytes, HeadPolicy::Strict).unwrap();
    assert_eq!(other.state_to_safetensors(Some(("step", "1"))).unwrap(), bytes);
}

#[test]
fn weights_that_do_not_fit_are_refused_and_change_nothing() {
    let mut model = resnet18(&Freezing::none());
    let digest = model.weights_digest();
    let state = || resnet18(&Freezing::none()).state();
    let strict = HeadPolicy::Strict;

    let missing: Vec<_> = state().into_iter().filter(|(name, _)| name != "layer2.0.conv1.weight").collect();
    let error = model.load_state(&missing, strict).unwrap_err().to_string();
    assert_eq!(error, "tensor \"layer2.0.conv1.weight\" is missing; [128, 64, 3, 3] was expected");

    let mut misshapen = state();
    misshapen[0].1 = Tensor::zeros([64, 3, 3, 3], (Kind::Float, Device::Cpu));
    let error = model.load_state(&misshapen, strict).unwrap_err().to_string();
    assert_eq!(error, "tensor \"conv1.weight\" has shape [64, 3, 3, 3]; [64, 3, 7, 7] was expected");

    let mut wrong = state();
    wrong[0].1 = wrong[0].1.to_kind(Kind::Double);
    assert!(matches!(model.load_state(&wrong, strict), Err(ModelError::WrongKind { .. })));

    let deeper = ResNet::new(spec(ModelName::Resnet34, 10), &Freezing::none(), Device::Cpu).unwrap().state();
    assert!(matches!(model.load_state(&deeper, strict), Err(ModelError::Unexpected { .. })));
    assert!(matches!(model.load_safetensors(b"{}", strict), Err(ModelError::Safetensors(_))));
    assert_eq!(model.weights_digest(), digest);
}

#[test]
fn a_head_for_other_classes_is_kept_out_on_request_only() {
    let mut source = ResNet::new(spec(ModelName::Resnet18, 1000), &Freezing::none(), Device::Cpu).unwrap();
    source.init(SEED + 1);
    let mut state = source.state();
    // Older weight files have no counters.
    state.retain(|(name, _)| !name.ends_with("num_batches_tracked"));
    let mut model = resnet18(&Freezing::none());
    assert!(matches!(model.load_state(&state, HeadPolicy::Strict), Err(ModelError::Misshapen { .. })));
    let head = model.state().pop().unwrap().1;
    let report = model.load_state(&state, HeadPolicy::ReplaceIfClassesDiffer).unwrap();
    assert!(report.replaced_head);
    let loaded = model.state();
    assert!(same_bits(&loaded.last().unwrap().1, &head));
    assert!(same_bits(&loaded[0].1, &state[0].1));
}

#[test]
fn a_flat_tensor_survives_being_named() {
    let model = resnet18(&freezing(&["layer4.", "fc."], FrozenBatchNorm::Eval));
    let flat = model.trainable();
    let named = model.named_from_flat(flat);
    assert!(same_bits(&model.flat_from_named(&named).unwrap(), flat));

    let wider = resnet18(&Freezing::none());
    let back = wider.named_from_flat(&wider.flat_from_named(&named).unwrap());
    assert_eq!(back[0].1.abs().sum(Kind::Float).double_value(&[]), 0.0);
    assert!(same_bits(&back.last().unwrap().1, &named.last().unwrap().1));
}
