//! What is written out for CPUs against what autograd makes of the same network.

use super::*;

fn largest(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).abs().max().double_value(&[])
}

/// Initial values under which no ReLU stands on its kink, where the last bit of a sum would decide: inside the blocks half
/// of the channels pass whole and half do not at all, and the sum of the blocks passes without growing beyond its own
/// spread. With running statistics that fit.
fn tame(spec: ModelSpec, freezing: &Freezing) -> ResNet {
    let mut whole = ResNet::new(spec, &Freezing::none(), Device::Cpu).unwrap();
    whole.init(SEED);
    let last = if spec.name == ModelName::Resnet18 { "bn2" } else { "bn3" };
    for slot in whole.layout.slots.iter().filter(|slot| slot.shape.len() == 1 && !slot.name.starts_with("fc"))
    {
        let (layer, _) = slot.name.rsplit_once('.').expect("a layer and its parameter");
        let (weight, bias, both_signs) = match layer {
            "bn1" if last == "bn2" => (1.0, 4.0, false),
            _ if layer.contains("downsample") => (1.0, 4.0, false),
            _ if layer.starts_with("layer") && layer.ends_with(last) => (0.1, 0.02, true),
            _ => (1.0, 3.2, true),
        };
        let channel = Tensor::arange(slot.shape[0], (Kind::Float, Device::Cpu));
        let spread = (&channel * 0.7).sin() * 0.1 + 1.0;
        let sign = if both_signs { (&channel * 2.3).sin().sign() } else { channel.ones_like() };
        let values = if slot.name.ends_with("weight") { spread * weight } else { spread * sign * bias };
        tch::no_grad(|| slot.view(&whole.buffers.trainable).copy_(&values));
    }
    whole.buffers.changed();
    let _ = whole.forward_train(&noise(16, 32));
    let seen = whole.shard_statistics().copy();
    whole.move_statistics(&seen, 1.0);
    let mut model = ResNet::new(spec, freezing, Device::Cpu).unwrap();
    model.load_state(&whole.state(), HeadPolicy::Strict).unwrap();
    model
}

/// What a step sees of a network.
struct Seen {
    logits: Tensor,
    gradient: Vec<(String, Tensor)>,
    statistics: Tensor,
    evaluated: Tensor,
}

fn see(model: &ResNet, size: i64) -> Seen {
    let x = noise(16, size);
    let labels = Tensor::arange(16, (Kind::Int64, Device::Cpu)).remainder(10);
    let (logits, tape) = model.forward_train(&x);
    let gradient = Tensor::full_like(&model.new_gradient(), f64::NAN);
    let loss = logits.cross_entropy_for_logits(&labels);
    model.backward(tape, &loss, &gradient, |_| GO_ON).expect("nothing stops it");
    Seen {
        logits: logits.detach(),
        gradient: model.named_from_flat(&gradient),
        statistics: model.shard_statistics().copy(),
        evaluated: model.forward_eval(&x),
    }
}

/// What is written out for CPUs, and what autograd makes of the same network.
fn assert_engine_follows_autograd(name: ModelName, freezing: &Freezing, size: i64) {
    let model = || tame(spec(name, 10), freezing);
    let (found, expected) = (see(&model(), size), see(&model().with_autograd(), size));
    let check = |what: &str, found: &Tensor, expected: &Tensor, scale: f64| {
        let apart = largest(&(found - expected));
        assert!(apart <= 1e-3 * scale, "{name} at {size} px: {what} {apart} apart of {scale}");
    };
    let whole = [
        ("logits", &found.logits, &expected.logits),
        ("statistics", &found.statistics, &expected.statistics),
        ("evaluation", &found.evaluated, &expected.evaluated),
    ];
    for (what, found, expected) in whole {
        check(what, found, expected, largest(expected));
    }
    // A layer has one scale: the gradient of a bias before another BatchNorm is nothing but rounding.
    let layer = |name: &str| name.rsplit_once('.').expect("a layer and its parameter").0.to_owned();
    for ((name, found), (_, gradient)) in found.gradient.iter().zip(&expected.gradient) {
        let layers = expected.gradient.iter().filter(|(other, _)| layer(other) == layer(name));
        let scale = layers.map(|(_, gradient)| largest(gradient)).fold(0.0, f64::max);
        check(name, found, gradient, scale);
    }
}

#[test]
fn the_cpu_engine_follows_autograd() {
    for name in [ModelName::Resnet18, ModelName::Resnet50] {
        for size in [16, 32, 64] {
            assert_engine_follows_autograd(name, &Freezing::none(), size);
        }
    }
}

#[test]
fn the_cpu_engine_follows_autograd_whatever_is_frozen() {
    for patterns in [
        &["fc."][..],
        &["layer4.", "fc."],
        &["layer3.1.conv2.weight"],
        &["conv1.weight"],
        &["bn1.bias", "layer2.0.downsample"],
    ] {
        for policy in [FrozenBatchNorm::Eval, FrozenBatchNorm::Train] {
            assert_engine_follows_autograd(ModelName::Resnet18, &freezing(patterns, policy), 32);
        }
    }
}

/// Both round otherwise; the engine, which rounds less often, must not stray farther from f32 than autograd.
#[test]
fn the_cpu_engine_strays_no_farther_than_autograd_in_bfloat16() {
    for name in [ModelName::Resnet18, ModelName::Resnet50] {
        let exact = see(&tame(spec(name, 10), &Freezing::none()), 32);
        let half = || tame(ModelSpec { precision: Precision::Bf16, ..spec(name, 10) }, &Freezing::none());
        let [engine, autograd] = [half(), half().with_autograd()].map(|model| see(&model, 32));
        let norm = |tensor: &Tensor| tensor.to_kind(Kind::Double).norm().double_value(&[]);
        let check = |what: &str, [exact, engine, autograd]: [&Tensor; 3]| {
            let [engine, autograd] = [engine, autograd].map(|found| norm(&(found - exact)) / norm(exact));
            assert!(engine < 1.1 * autograd, "{name} {what}: {engine} and {autograd} apart");
            assert!(engine < 0.1, "{name} {what}: {engine} apart");
        };
        let flat = |seen: &Seen| {
            let parts: Vec<Tensor> = seen.gradient.iter().map(|(_, part)| part.flatten(0, -1)).collect();
            Tensor::cat(&parts, 0)
        };
        check("logits", [&exact.logits, &engine.logits, &autograd.logits]);
        check("statistics", [&exact.statistics, &engine.statistics, &autograd.statistics]);
        check("evaluation", [&exact.evaluated, &engine.evaluated, &autograd.evaluated]);
        check("gradient", [&exact, &engine, &autograd].map(flat).each_ref());
    }
}
