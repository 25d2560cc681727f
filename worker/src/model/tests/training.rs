//! Gradients that do not depend on the cuts, statistics that move by PyTorch's rule, frozen parts that keep every bit.

use std::convert::Infallible;

use super::*;

/// Of backward, where nothing can stop it.
const GO_ON: Result<(), Infallible> = Ok(());

fn gradient(model: &ResNet, x: &Tensor) -> Tensor {
    let gradient = model.new_gradient();
    let (logits, tape) = model.forward_train(x);
    model.backward(tape, &loss(&logits), &gradient, |_| GO_ON).expect("nothing stops it");
    gradient
}

fn leaves(model: &ResNet) -> &[Tensor] {
    match &model.runner {
        Runner::Autograd { leaves, .. } => leaves,
        Runner::Cpu(_) => panic!("asked for a model with autograd"),
    }
}

#[test]
fn the_cuts_do_not_change_a_bit_of_the_gradient() {
    let model = resnet18(&Freezing::none()).with_autograd();
    let x = images(1);
    let staged = gradient(&model, &x);

    let (logits, _) = model.forward_cut((&x).into(), false);
    let whole = Tensor::run_backward(&[loss(&logits)], leaves(&model), false, false);
    let pieces: Vec<Tensor> =
        model.layout.slots.iter().zip(&whole).map(|(slot, gradient)| slot.flatten(gradient)).collect();
    assert!(same_bits(&staged, &Tensor::cat(&pieces, 0)));
}

#[test]
fn buckets_come_in_order_and_are_complete_when_they_come() {
    let model = resnet18(&Freezing::none());
    let buckets = model.buckets();
    assert_eq!(buckets.len(), 3);
    assert_eq!((buckets[2].start, buckets[2].end), (0, buckets[1].start));
    assert_eq!((buckets[1].end, buckets[0].end), (buckets[0].start, model.trainable().numel()));

    let x = images(1);
    let expected = gradient(&model, &x);
    let gradient = Tensor::full_like(&expected, f64::NAN);
    let (logits, tape) = model.forward_train(&x);
    let mut seen = Vec::new();
    let result = model.backward(tape, &loss(&logits), &gradient, |bucket| {
        let part = |flat: &Tensor| flat.slice(0, buckets[bucket].start as i64, buckets[bucket].end as i64, 1);
        assert!(same_bits(&part(&gradient), &part(&expected)));
        let below = gradient.slice(0, 0, buckets[bucket].start as i64, 1);
        assert_eq!(below.isnan().sum(Kind::Int64).int64_value(&[]), buckets[bucket].start as i64);
        seen.push(bucket);
        GO_ON
    });
    assert_eq!((result, seen), (Ok(()), vec![0, 1, 2]));
}

#[test]
fn forward_ends_with_the_stage_that_was_refused() {
    let model = resnet18(&Freezing::none());
    let mut asked = 0;
    let result = model.try_forward_train(&images(1), || {
        asked += 1;
        if asked == 2 { Err(asked) } else { Ok(()) }
    });
    assert_eq!((result.unwrap_err(), asked), (2, 2));
}

#[test]
fn backward_ends_with_the_bucket_that_was_refused() {
    let model = resnet18(&Freezing::none());
    let (logits, tape) = model.forward_train(&images(1));
    let gradient = Tensor::full_like(&model.new_gradient(), f64::NAN);
    let refuse = |bucket| if bucket == 1 { Err(bucket) } else { Ok(()) };
    assert_eq!(model.backward(tape, &loss(&logits), &gradient, refuse), Err(1));
    let rest = model.buckets()[2].len() as i64;
    assert_eq!(gradient.isnan().sum(Kind::Int64).int64_value(&[]), rest);
}

#[test]
fn resnet50_buckets_have_the_known_sizes() {
    let spec = spec(ModelName::Resnet50, 10);
    let layout = Layout::new(spec, &Architecture::new(spec), &Freezing::none()).unwrap();
    let sizes = Stage::BACKWARD.map(|stage| layout.bucket(stage).len());
    assert_eq!(sizes, [14_985_226, 7_098_368, 1_219_584 + 225_344]);
}

#[test]
fn a_frozen_prefix_leaves_empty_buckets() {
    let head = resnet18(&freezing(&["fc."], FrozenBatchNorm::Eval));
    assert_eq!(head.buckets(), [0..5130, 0..0, 0..0]);
    let middle = resnet18(&freezing(&["layer3."], FrozenBatchNorm::Eval));
    let len = middle.trainable().numel();
    assert_eq!(middle.buckets(), [len..len, 0..len, 0..0]);
}

/// Whatever is frozen, the gradient of the rest is the same number: checked against the model that trains all.
#[test]
fn partial_training_gets_the_same_gradient_for_what_it_trains() {
    let x = images(1);
    let whole = resnet18(&Freezing::none());
    let expected = whole.named_from_flat(&gradient(&whole, &x));
    for patterns in
        [&["fc."][..], &["layer4.", "fc."], &["layer3.1.conv2.weight"], &["conv1.weight", "fc.bias"]]
    {
        // Batch statistics everywhere, as in the model that trains all.
        let model = resnet18(&freezing(patterns, FrozenBatchNorm::Train));
        let found = model.named_from_flat(&gradient(&model, &x));
        assert!(!found.is_empty());
        for (name, tensor) in found {
            let (_, expected) = expected.iter().find(|(other, _)| *other == name).unwrap();
            assert!(tensor.allclose(expected, 1e-4, 1e-6, false), "{name} of {patterns:?}");
        }
    }
}

#[test]
fn steps_move_what_is_trained_and_nothing_else() {
    let mut model = resnet18(&freezing(&["layer4.", "fc."], FrozenBatchNorm::Eval));
    let before = model.state();
    for step in 0..2 {
        let gradient = gradient(&model, &images(step));
        // In place under autograd's eyes: the leaves must stay usable in the next step.
        let _ = model.trainable_mut().g_sub_(&(gradient * 0.01));
        let shard = model.shard_statistics().copy();
        model.move_statistics(&shard, 0.1);
    }
    for ((name, before), (_, after)) in before.iter().zip(model.state()) {
        let moves = name.starts_with("layer4.") || name.starts_with("fc.");
        assert_eq!(!before.equal(&after), moves, "{name}");
    }
}

#[test]
fn policy_train_moves_the_statistics_of_frozen_layers() {
    let mut model = resnet18(&freezing(&["fc."], FrozenBatchNorm::Train));
    let _ = model.forward_train(&images(1));
    let shard = model.shard_statistics().copy();
    model.move_statistics(&shard, 0.1);
    let state = model.state();
    let count = |wanted: &str| state.iter().find(|(name, _)| name == wanted).unwrap().1.int64_value(&[]);
    assert_eq!(count("bn1.num_batches_tracked"), 1);
    assert!(!same_bits(model.statistics(), resnet18(&Freezing::none()).statistics()));
}

#[test]
fn running_statistics_move_as_pytorchs_do() {
    let mut model = resnet18(&Freezing::none());
    let weight = &model.layout.slots[0].view(&model.buffers.trainable);
    let mean = Tensor::zeros([64], (Kind::Float, Device::Cpu));
    let variance = mean.ones_like();
    for number in 0..3 {
        let x = images(number);
        let none = None::<&Tensor>;
        let y = tch::no_grad(|| x.conv2d(weight, none, [2, 2], [3, 3], [1, 1], 1));
        let _ = y.batch_norm(none, none, Some(&mean), Some(&variance), true, 0.1, 1e-5, true);
    }
    for number in 0..3 {
        let _ = model.forward_train(&images(number));
        let shard = model.shard_statistics().copy();
        model.move_statistics(&shard, 0.1);
    }
    let bn1 = &model.layout.norms[0];
    assert!(bn1.mean(model.statistics()).allclose(&mean, 1e-5, 1e-7, false));
    assert!(bn1.variance(model.statistics()).allclose(&variance, 1e-5, 1e-7, false));
    assert_eq!(model.batches_tracked, [3; 20]);
}

#[test]
fn layers_in_eval_mode_note_no_statistics() {
    let model = resnet18(&freezing(&["layer4.1.bn2.bias"], FrozenBatchNorm::Eval));
    let _ = model.forward_train(&images(1));
    let last = model.layout.norms.last().unwrap();
    let noted = bits(model.shard_statistics());
    let (before, own) = noted.split_at(last.start);
    assert!(before.iter().all(|&bits| bits == 0));
    assert!(own.iter().any(|&bits| bits != 0));
}

#[test]
fn a_model_that_trains_nothing_still_goes_through_the_motions() {
    let model = resnet18(&freezing(&[], FrozenBatchNorm::Eval));
    let (logits, tape) = model.forward_train(&images(1));
    assert!(same_bits(&logits, &model.forward_eval(&images(1))));
    let mut seen = Vec::new();
    let result = model.backward(tape, &loss(&logits), &model.new_gradient(), |bucket| {
        seen.push(bucket);
        GO_ON
    });
    assert_eq!((result, seen), (Ok(()), vec![0, 1, 2]));
}

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
    for slot in whole.layout.slots.iter().filter(|slot| slot.shape.len() == 1 && !slot.name.starts_with("fc")) {
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
        for size in [16, 32, 48, 64] {
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
