//! Gradients that do not depend on the cuts, statistics that move by PyTorch's rule, frozen parts that keep every bit.

use super::*;

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
