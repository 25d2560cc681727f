//! What the model promises: torchvision's network, names and initial values. Gradients and frozen layers, the engine
//! for CPUs, the frozen prefix, and weights in and out, have their own files.

mod engine;
mod prefix;
mod training;
mod weights;

use std::convert::Infallible;

use tch::{Device, Kind, Tensor, nn};

use super::*;

const SEED: u64 = 7;
/// Of backward, where nothing can stop it.
const GO_ON: Result<(), Infallible> = Ok(());

fn spec(name: ModelName, classes: i64) -> ModelSpec {
    ModelSpec::new(name, classes)
}

/// Trains the parameters whose names start with one of `prefixes`.
fn freezing(prefixes: &[&str], frozen_batch_norm: FrozenBatchNorm) -> Freezing {
    let mut names = spec(ModelName::Resnet18, 10).parameter_names();
    names.retain(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    Freezing { trainable: Trainable::Named(names), frozen_batch_norm }
}

fn resnet18(freezing: &Freezing) -> ResNet {
    let mut model = ResNet::new(spec(ModelName::Resnet18, 10), freezing, Device::Cpu).unwrap();
    model.init(SEED);
    model
}

/// Four images of 32 px with channels-last strides, each a function of `number`.
fn images(number: i64) -> Tensor {
    let len = 4 * 32 * 32 * 3;
    let ramp = Tensor::arange(len, (Kind::Float, Device::Cpu)) + number as f64;
    (ramp * 0.37).sin().view([4, 32, 32, 3]).permute([0, 3, 1, 2])
}

/// No two pictures alike, so that BatchNorm finds a spread.
fn noise(samples: i64, size: i64) -> Tensor {
    let ramp = Tensor::arange(samples * size * size * 3, (Kind::Double, Device::Cpu));
    let noise = ((&ramp * 12.9898 + &ramp * &ramp * 0.618_034).sin() * 43_758.545_3).frac() * 2.0 - 1.0;
    noise.to_kind(Kind::Float).view([samples, size, size, 3]).permute([0, 3, 1, 2])
}

fn loss(logits: &Tensor) -> Tensor {
    logits.cross_entropy_for_logits(&Tensor::from_slice(&[1i64, 0, 3, 9]))
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = Vec::<f32>::try_from(tensor.reshape([-1])).unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn same_bits(left: &Tensor, right: &Tensor) -> bool {
    left.size() == right.size() && bits(left) == bits(right)
}

fn parameters_total(name: ModelName, classes: i64) -> i64 {
    let parameters = Architecture::new(spec(name, classes)).parameters();
    parameters.iter().map(|parameter| parameter.shape.iter().product::<i64>()).sum()
}

#[test]
fn every_depth_counts_like_torchvision() {
    let totals = ModelName::ALL.map(|name| parameters_total(name, 1000));
    assert_eq!(totals, [11_689_512, 21_797_672, 25_557_032, 44_549_160, 60_192_808]);
    assert_eq!(parameters_total(ModelName::Resnet50, 10), 23_528_522);
}

#[test]
fn model_names_are_torchvisions() {
    for name in ModelName::ALL {
        assert_eq!(name.to_string().parse::<ModelName>().unwrap(), name);
    }
    assert!(matches!("resnet51".parse::<ModelName>(), Err(ModelError::UnknownName(_))));
}

/// tch's own ResNets are torchvision's, written independently.
#[test]
fn the_network_computes_what_tchs_does() {
    for name in [ModelName::Resnet18, ModelName::Resnet50] {
        let mut model = ResNet::new(spec(name, 10), &Freezing::none(), Device::Cpu).unwrap();
        model.init(SEED);
        let reference = nn::VarStore::new(Device::Cpu);
        let net: Box<dyn nn::ModuleT> = match name {
            ModelName::Resnet18 => Box::new(tch::vision::resnet::resnet18(&reference.root(), 10)),
            _ => Box::new(tch::vision::resnet::resnet50(&reference.root(), 10)),
        };
        let mut variables = reference.variables();
        for (name, value) in model.state() {
            if let Some(variable) = variables.get_mut(&name) {
                tch::no_grad(|| variable.copy_(&value));
            }
        }
        let x = noise(16, 32);
        let close = |ours: &Tensor, theirs: &Tensor| ours.allclose(theirs, 1e-3, 1e-3, false);
        assert!(close(&model.forward_eval(&x), &net.forward_t(&x, false)), "{name} eval");
        assert!(close(&model.forward_train(&x).0, &net.forward_t(&x, true)), "{name} train");
    }
}

#[test]
fn initial_values_follow_torchvisions_rules() {
    let model = resnet18(&Freezing::none());
    let state = model.state();
    let tensor = |wanted: &str| &state.iter().find(|(name, _)| name == wanted).unwrap().1;
    let conv = tensor("layer4.1.conv2.weight");
    let std = (2.0f64 / (512.0 * 9.0)).sqrt();
    assert!((conv.std(false).double_value(&[]) / std - 1.0).abs() < 0.01);
    assert!(conv.mean(Kind::Float).double_value(&[]).abs() < std * 0.01);
    let bound = 1.0 / 512f64.sqrt();
    let largest = tensor("fc.weight").abs().max().double_value(&[]);
    assert!(largest <= bound && largest > 0.99 * bound);
    assert!(tensor("fc.bias").abs().max().double_value(&[]) <= bound);
    assert!(same_bits(tensor("bn1.weight"), &Tensor::ones([64], (Kind::Float, Device::Cpu))));
    assert!(same_bits(tensor("bn1.running_var"), &Tensor::ones([64], (Kind::Float, Device::Cpu))));
}

#[test]
fn initial_values_depend_on_the_seed_and_not_on_what_is_frozen() {
    let whole = resnet18(&Freezing::none());
    let head = resnet18(&freezing(&["fc.*"], FrozenBatchNorm::Eval));
    let same = |left: &ResNet, right: &ResNet| {
        left.state().iter().zip(right.state()).all(|((_, a), (_, b))| a.equal(&b))
    };
    assert!(same(&whole, &head));
    let mut other = resnet18(&Freezing::none());
    other.init(SEED + 1);
    assert!(!same(&whole, &other));
}

#[test]
fn a_name_that_is_no_parameters_is_a_mistake() {
    let build = |name: &str| {
        let trainable = Trainable::Named(vec!["fc.bias".to_owned(), name.to_owned()]);
        let freezing = Freezing { trainable, frozen_batch_norm: FrozenBatchNorm::Eval };
        ResNet::new(spec(ModelName::Resnet18, 10), &freezing, Device::Cpu)
    };
    let trained = build("layer4.0.conv1.weight").unwrap().parameters();
    let names = trained.iter().filter(|parameter| parameter.trainable).map(|parameter| &*parameter.name);
    assert!(names.eq(["layer4.0.conv1.weight", "fc.bias"]));
    for name in ["layer4.*", "layer4", "layer4.2.conv1.weight"] {
        let Err(error) = build(name) else { panic!("{name}") };
        let expected = format!("resnet18 has no parameter {name:?} to train");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}
