//! Held to torchvision: the counts, names, shapes and order of its ResNets' tensors.

use std::collections::BTreeSet;

use super::*;

/// Parameter tensors, values at 1,000 classes, `state_dict` entries: as torchvision has them.
const TORCHVISION: [(ModelName, usize, u64, usize); 5] = [
    (ModelName::Resnet18, 62, 11_689_512, 122),
    (ModelName::Resnet34, 110, 21_797_672, 218),
    (ModelName::Resnet50, 161, 25_557_032, 320),
    (ModelName::Resnet101, 314, 44_549_160, 626),
    (ModelName::Resnet152, 467, 60_192_808, 932),
];

#[test]
fn every_resnet_counts_as_torchvisions() {
    for (model, tensors, values, entries) in TORCHVISION {
        let parameters = parameters(model, 1000);
        assert_eq!(parameters.len(), tensors, "{model}");
        assert_eq!(parameters.iter().map(Parameter::values).sum::<u64>(), values, "{model}");
        let distinct: BTreeSet<_> = parameters.iter().map(|parameter| &parameter.name).collect();
        assert_eq!(distinct.len(), tensors, "{model}");
        assert_eq!(state(model, 1000).len(), entries, "{model}");
    }
}

#[test]
fn names_and_shapes_are_torchvisions() {
    let shape = |model, name: &str| {
        let found = parameters(model, 10).into_iter().find(|parameter| parameter.name == name);
        found.map(|parameter| parameter.shape)
    };
    let small = |name| shape(ModelName::Resnet18, name);
    assert_eq!(small("conv1.weight"), Some(vec![64, 3, 7, 7]));
    assert_eq!(small("layer1.0.downsample.0.weight"), None);
    assert_eq!(small("layer1.0.conv3.weight"), None);
    assert_eq!(small("layer2.0.conv1.weight"), Some(vec![128, 64, 3, 3]));
    assert_eq!(small("layer2.0.downsample.1.bias"), Some(vec![128]));
    assert_eq!(small("fc.weight"), Some(vec![10, 512]));
    let large = |name| shape(ModelName::Resnet50, name);
    assert_eq!(large("layer1.0.downsample.0.weight"), Some(vec![256, 64, 1, 1]));
    assert_eq!(large("layer3.5.conv2.weight"), Some(vec![256, 256, 3, 3]));
    assert_eq!(large("layer4.0.conv1.weight"), Some(vec![512, 1024, 1, 1]));
    assert_eq!(large("layer4.2.bn3.bias"), Some(vec![2048]));
    assert_eq!(large("fc.weight"), Some(vec![10, 2048]));
    assert_eq!(large("fc.bias"), Some(vec![10]));
}

#[test]
fn a_state_dict_has_batch_norms_statistics_after_its_parameters() {
    let state = state(ModelName::Resnet50, 10);
    let entry = |index: usize| {
        let tensor = &state[index];
        (tensor.name.as_str(), tensor.shape.clone(), tensor.dtype)
    };
    assert_eq!(entry(0), ("conv1.weight", vec![64, 3, 7, 7], StateDtype::F32));
    assert_eq!(entry(1), ("bn1.weight", vec![64], StateDtype::F32));
    assert_eq!(entry(2), ("bn1.bias", vec![64], StateDtype::F32));
    assert_eq!(entry(3), ("bn1.running_mean", vec![64], StateDtype::F32));
    assert_eq!(entry(4), ("bn1.running_var", vec![64], StateDtype::F32));
    assert_eq!(entry(5), ("bn1.num_batches_tracked", vec![], StateDtype::I64));
    assert_eq!(entry(6).0, "layer1.0.conv1.weight");
    assert_eq!(entry(319), ("fc.bias", vec![10], StateDtype::F32));
    let names: BTreeSet<_> = state.iter().map(|tensor| &tensor.name).collect();
    assert_eq!(names.len(), state.len());
}

#[test]
fn parameters_come_in_forward_order() {
    for model in ALL {
        let parameters = parameters(model, 10);
        assert!(parameters.is_sorted_by_key(|parameter| parameter.stage), "{model}");
        for stage in Stage::ALL {
            assert!(parameters.iter().any(|parameter| parameter.stage == stage), "{model}");
        }
    }
}

#[test]
fn models_are_found_by_their_names() {
    for model in ALL {
        assert_eq!(by_name(model.as_str()), Some(model));
    }
    assert_eq!(by_name("resnet5"), None);
    assert_eq!(by_name("ResNet50"), None);
}
