//! The model by itself: torchvision's weights, of every depth and at several sizes, give torchvision's logits,
//! gradients and statistics.
//!
//! Two sets of weights. *Plain* ones are as torchvision draws them. In training mode they answer to rounding alone with
//! whatever differs from depth to depth (PyTorch's f32 logits of a resnet152 are 1e-3 off its own in f64), and their
//! gradients hang on which side of ReLU's kink an activation falls. *Tame* ones, the same but for BatchNorm's weights
//! and biases, keep clear of that (`reference/models.py`), so that a comparison tells right from wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lockstep_coordinator::weights;
use lockstep_worker::model::{
    Freezing, HeadPolicy, ModelName, ModelSpec, ResNet, tensors_from_safetensors,
};
use serde_json::{Value, json};
use tch::{Device, Reduction, Tensor};

use crate::reference::reference;

/// Pixels and batch. Small maps need many pictures for BatchNorm's statistics, large ones are slow.
const SIZES: [(i64, i64); 3] = [(32, 16), (64, 8), (224, 2)];

/// PyTorch's.
const MOMENTUM: f64 = 0.1;

const EVAL_TOLERANCE: f64 = 1e-5;
const TRAIN_TOLERANCE: f64 = 1e-4;
/// Relative to the layer's largest.
const GRADIENT_TOLERANCE: f64 = 1e-4;
const STATISTICS_TOLERANCE: f64 = 1e-5;

/// Of plain weights in training mode, where rounding costs more than [`TRAIN_TOLERANCE`]: times what it costs PyTorch.
/// Two roundings differ by more than one does from the truth; measured: up to 2.5.
const ROUNDINGS: f64 = 5.0;

type Tensors = BTreeMap<String, Tensor>;

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn tensors(path: &Path) -> Tensors {
    tensors_from_safetensors(&read(path)).expect("the reference's files are whole").into_iter().collect()
}

fn largest(tensor: &Tensor) -> f64 {
    tensor.abs().max().double_value(&[])
}

/// The largest difference, relative to the largest value.
fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    largest(&(found - expected)) / largest(expected)
}

/// A NaN is larger than all.
fn worse(a: (f64, String), b: (f64, String)) -> (f64, String) {
    if a.0.is_nan() || a.0 > b.0 { a } else { b }
}

fn model(name: ModelName, weights: &[u8]) -> ResNet {
    let spec = ModelSpec { name, classes: 10 };
    let mut model = ResNet::new(spec, &Freezing::none(), Device::Cpu).expect("a model");
    model.init(1);
    let report = model.load_safetensors(weights, HeadPolicy::Strict).expect("torchvision's state dict");
    assert!(!report.replaced_head);
    model
}

/// One step of plain gradient descent; the logits and the gradient that it went down.
fn step(model: &mut ResNet, pictures: &Tensor, labels: &Tensor, lr: f64) -> (Tensor, Tensor) {
    let (logits, tape) = model.forward_train(pictures);
    let loss = logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, -100, 0.0);
    let gradient = model.new_gradient();
    model.backward(tape, &loss, &gradient, |_| {});
    let statistics = model.shard_statistics().copy();
    model.move_statistics(&statistics, MOMENTUM);
    tch::no_grad(|| {
        let _ = model.trainable_mut().g_sub_(&gradient.g_mul_scalar(lr));
    });
    (logits.detach(), gradient)
}

/// Of the gradient in `model`'s layout: the worst parameter, relative to the largest value of its layer.
///
/// The layer's and not its own, for BatchNorm's bias: where another BatchNorm follows that takes a constant out again, its
/// gradient is a sum of which nothing is left but rounding.
fn worst_gradient(model: &ResNet, gradient: &Tensor, known: &Tensors) -> (f64, String) {
    let named = model.named_from_flat(gradient);
    let layer = |name: &str| name.rsplit_once('.').expect("layer.parameter").0.to_owned();
    let mut scales = BTreeMap::<String, f64>::new();
    for (name, _) in &named {
        let scale = scales.entry(layer(name)).or_default();
        *scale = scale.max(largest(&known[&format!("gradient.{name}")]));
    }
    let of = |(name, found): (String, Tensor)| {
        let expected = &known[&format!("gradient.{name}")];
        assert_eq!(found.size(), expected.size(), "{name}");
        (largest(&(found - expected)) / scales[&layer(&name)], name)
    };
    assert_eq!(named.len(), known.keys().filter(|name| name.starts_with("gradient.")).count());
    named.into_iter().map(of).fold((0.0, String::new()), worse)
}

/// Of running means and variances; the counters must be equal.
fn worst_statistic(model: &ResNet, known: &Tensors) -> (f64, String) {
    let mut worst = (0.0, String::new());
    let mut compared = 0;
    for (name, found) in model.state() {
        let Some(expected) = known.get(&format!("after.{name}")) else { continue };
        compared += 1;
        if name.ends_with("num_batches_tracked") {
            assert_eq!(found, *expected, "{name}");
        } else {
            worst = worse((difference(&found, expected), name), worst);
        }
    }
    assert_eq!(compared, known.keys().filter(|name| name.starts_with("after.")).count());
    worst
}

/// The three files of one state dict are one to the coordinator, to the last bit.
fn assert_files_agree(name: ModelName, folder: &Path) {
    let load = |file: &str| {
        weights::load(&folder.join(file), None).unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    let expected = load("plain.safetensors");
    assert_eq!((expected.model.as_str(), expected.classes), (name.as_str(), 10));
    for file in ["plain.pth", "plain-legacy.pth"] {
        assert!(load(file).state == expected.state, "{file} of {name} is read differently");
    }
}

fn compare(name: ModelName) {
    let Some(reference) = reference() else { return };
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let job = json!({ "model": name.as_str(), "folder": folder.path(), "sizes": SIZES });
    let answer = reference.ask("passes", &job);
    assert_files_agree(name, folder.path());
    let number = |value: &Value| value.as_f64().expect("reference answers with numbers");
    let lr = number(&answer["lr"]);
    let plain = model(name, &read(&folder.path().join("plain.safetensors")));
    let tame = read(&folder.path().join("tame.safetensors"));
    let mut table = format!(
        "{name}\n  px  plain: eval   train  (PyTorch's own)  tame: train  gradients  statistics    eval\n"
    );
    let mut failures = Vec::new();
    for ((size, _), own) in SIZES.into_iter().zip(answer["sizes"].as_array().expect("a list")) {
        let known = tensors(&folder.path().join(format!("{size}.safetensors")));
        let own = number(&own["own"]);
        let pictures = |step: i64| known["pictures"].get(step);
        let plain_eval = difference(&plain.forward_eval(&pictures(0)), &known["plain.eval"]);
        let plain_train = difference(&plain.forward_train(&pictures(0)).0.detach(), &known["plain.train"]);

        let mut tamed = model(name, &tame);
        let (logits, gradient) = step(&mut tamed, &pictures(0), &known["labels"].get(0), lr);
        let tame_train = difference(&logits, &known["tame.train"]);
        let (worst, layer) = worst_gradient(&tamed, &gradient, &known);
        for number in 1..known["pictures"].size()[0] {
            step(&mut tamed, &pictures(number), &known["labels"].get(number), lr);
        }
        let (statistic, norm) = worst_statistic(&tamed, &known);
        let tame_eval = difference(&tamed.forward_eval(&pictures(0)), &known["tame.eval"]);
        table += &format!(
            "{size:4}  {plain_eval:11.1e} {plain_train:7.1e}  {own:16.1e}  {tame_train:11.1e}  {worst:9.1e}  \
             {statistic:10.1e} {tame_eval:7.1e}  {layer}, {norm}\n"
        );
        let mut hold = |what: &str, found: f64, allowed: f64| {
            if found.is_nan() || found > allowed {
                failures.push(format!("{name} at {size} px: {what} differ by {found:.1e}, allowed are {allowed:.1e}"));
            }
        };
        hold("logits of plain weights in eval mode", plain_eval, EVAL_TOLERANCE);
        hold("logits of plain weights in train mode", plain_train, TRAIN_TOLERANCE.max(ROUNDINGS * own));
        hold("logits in train mode", tame_train, TRAIN_TOLERANCE);
        hold(&format!("gradients of {layer}"), worst, GRADIENT_TOLERANCE);
        hold(&format!("statistics of {norm}"), statistic, STATISTICS_TOLERANCE);
        hold("logits in eval mode after five steps", tame_eval, EVAL_TOLERANCE);
        assert!(difference(&known["plain.eval"].get(0), &known["plain.eval"].get(1)) > 1e-3, "all pictures are alike");
    }
    println!("{table}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_resnet18_computes_as_torchvisions() {
    compare(ModelName::Resnet18);
}

#[test]
fn a_resnet34_computes_as_torchvisions() {
    compare(ModelName::Resnet34);
}

#[test]
fn a_resnet50_computes_as_torchvisions() {
    compare(ModelName::Resnet50);
}

#[test]
fn a_resnet101_computes_as_torchvisions() {
    compare(ModelName::Resnet101);
}

#[test]
fn a_resnet152_computes_as_torchvisions() {
    compare(ModelName::Resnet152);
}
