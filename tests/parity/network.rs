//! The model by itself: torchvision's weights, of every depth and at several sizes, give torchvision's logits,
//! gradients and statistics.
//!
//! Two sets of weights. *Plain* ones are as torchvision draws them. In training mode they answer to rounding alone with
//! whatever differs from depth to depth (PyTorch's f32 logits of a resnet152 are 1e-3 off its own in f64), and their
//! gradients hang on which side of ReLU's kink an activation falls. *Tame* ones, the same but for BatchNorm's weights
//! and biases, keep clear of that (`reference/models.py`), so that a comparison tells right from wrong.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::Path;

use lockstep_coordinator::weights;
use lockstep_worker::model::{Freezing, HeadPolicy, ModelName, ModelSpec, ResNet, tensors_from_safetensors};
use serde_json::{Value, json};
use tch::{Device, Reduction, Tensor};

use crate::reference::reference;

/// Pixels and batch. Small maps need many pictures for BatchNorm's statistics, large ones are slow.
type Sizes = &'static [(i64, i64)];
const ALL_SIZES: Sizes = &[(32, 16), (64, 8), (224, 2)];
/// Enough for a network that has more of the blocks that another one is compared with at all sizes.
const SMALL: Sizes = &[(32, 16)];

/// PyTorch's.
const MOMENTUM: f64 = 0.1;

const EVAL_TOLERANCE: f64 = 1e-5;
const TRAIN_TOLERANCE: f64 = 1e-4;
/// Relative to the layer's largest.
const GRADIENT_TOLERANCE: f64 = 1e-4;
const STATISTICS_TOLERANCE: f64 = 1e-5;

/// Where rounding costs more than the tolerance, so many times what it costs PyTorch itself, f32 from f64, is allowed. Of
/// plain weights in training mode up to 4 were measured, as a difference grows from layer to layer; of gradients up to 2.
const LOGITS_ROUNDINGS: f64 = 10.0;
const GRADIENT_ROUNDINGS: f64 = 3.0;

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
    let spec = ModelSpec::new(name, 10);
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
    let Ok(()) = model.backward(tape, &loss, &gradient, |_| Ok::<(), Infallible>(()));
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

/// How far both sides differ at one size.
struct Figures {
    plain_eval: f64,
    plain_train: f64,
    tame_train: f64,
    gradient: (f64, String),
    statistic: (f64, String),
    /// After the steps.
    tame_eval: f64,
    own: Own,
}

/// PyTorch's f32 from its f64.
#[derive(Clone, Copy)]
struct Own {
    /// Of plain weights in training mode.
    logits: f64,
    gradient: f64,
}

impl Figures {
    fn measure(plain: &ResNet, mut tame: ResNet, known: &Tensors, lr: f64, own: Own) -> Self {
        let (pictures, labels) = (&known["pictures"], &known["labels"]);
        let first = pictures.get(0);
        let plain_eval = difference(&plain.forward_eval(&first), &known["plain.eval"]);
        let plain_train = difference(&plain.forward_train(&first).0.detach(), &known["plain.train"]);
        let (logits, gradient) = step(&mut tame, &first, &labels.get(0), lr);
        let tame_train = difference(&logits, &known["tame.train"]);
        let gradient = worst_gradient(&tame, &gradient, known);
        for number in 1..pictures.size()[0] {
            let _ = step(&mut tame, &pictures.get(number), &labels.get(number), lr);
        }
        let statistic = worst_statistic(&tame, known);
        let tame_eval = difference(&tame.forward_eval(&first), &known["tame.eval"]);
        Self { plain_eval, plain_train, tame_train, gradient, statistic, tame_eval, own }
    }

    const HEAD: &str = "  px  plain: eval   train  (PyTorch's own)  tame: train  gradients  (PyTorch's own)  \
                        statistics    eval  worst\n";

    fn row(&self, size: i64) -> String {
        let Self { plain_eval, plain_train, tame_train, gradient, statistic, tame_eval, own } = self;
        format!(
            "{size:4}  {plain_eval:11.1e} {plain_train:7.1e}  {:16.1e}  {tame_train:11.1e}  {:9.1e}  {:16.1e}  {:10.1e} \
             {tame_eval:7.1e}  {}, {}\n",
            own.logits, gradient.0, own.gradient, statistic.0, gradient.1, statistic.1
        )
    }

    /// What is beyond what is allowed.
    fn failures(&self, size: i64) -> Vec<String> {
        let held = [
            ("plain logits in eval mode", self.plain_eval, EVAL_TOLERANCE),
            (
                "plain logits in train mode",
                self.plain_train,
                TRAIN_TOLERANCE.max(LOGITS_ROUNDINGS * self.own.logits),
            ),
            ("logits in train mode", self.tame_train, TRAIN_TOLERANCE),
            ("gradients", self.gradient.0, GRADIENT_TOLERANCE.max(GRADIENT_ROUNDINGS * self.own.gradient)),
            ("statistics after five steps", self.statistic.0, STATISTICS_TOLERANCE),
            ("logits in eval mode after five steps", self.tame_eval, EVAL_TOLERANCE),
        ];
        // No NaN is allowed.
        let beyond = held.into_iter().filter(|(_, found, allowed)| found.is_nan() || found > allowed);
        let told = |(what, found, allowed)| {
            format!("{size} px: {what} differ by {found:.1e}, more than {allowed:.0e}")
        };
        beyond.map(told).collect()
    }
}

fn compare(name: ModelName, sizes: Sizes) {
    let Some(reference) = reference() else { return };
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let job = json!({ "model": name.as_str(), "folder": folder.path(), "sizes": sizes });
    let answer = reference.ask("passes", &job);
    assert_files_agree(name, folder.path());
    let number = |value: &Value| value.as_f64().expect("the reference answers with numbers");
    let plain = model(name, &read(&folder.path().join("plain.safetensors")));
    let tame = read(&folder.path().join("tame.safetensors"));
    let (mut table, mut failures) = (format!("{name}\n{}", Figures::HEAD), Vec::new());
    let own = answer["own"].as_array().expect("a list by size");
    assert_eq!(own.len(), sizes.len());
    for (&(size, _), own) in sizes.iter().zip(own) {
        let known = tensors(&folder.path().join(format!("{size}.safetensors")));
        let own = Own { logits: number(&own["logits"]), gradient: number(&own["gradient"]) };
        let figures = Figures::measure(&plain, model(name, &tame), &known, number(&answer["lr"]), own);
        table += &figures.row(size);
        failures.extend(figures.failures(size));
        for logits in ["plain.eval", "tame.train"] {
            let spread = difference(&known[logits].get(0), &known[logits].get(1));
            assert!(spread > 100.0 * TRAIN_TOLERANCE, "{size} px: {logits} says the same of two pictures");
        }
    }
    println!("{table}");
    assert!(failures.is_empty(), "{name}:\n{}", failures.join("\n"));
}

#[test]
fn a_resnet18_computes_as_torchvisions() {
    compare(ModelName::Resnet18, ALL_SIZES);
}

#[test]
fn a_resnet34_computes_as_torchvisions() {
    compare(ModelName::Resnet34, SMALL);
}

#[test]
fn a_resnet50_computes_as_torchvisions() {
    compare(ModelName::Resnet50, ALL_SIZES);
}

#[test]
fn a_resnet101_computes_as_torchvisions() {
    compare(ModelName::Resnet101, SMALL);
}

#[test]
fn a_resnet152_computes_as_torchvisions() {
    compare(ModelName::Resnet152, SMALL);
}
