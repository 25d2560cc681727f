//! Calls of a worker that is a shell script.

use std::os::unix::fs::PermissionsExt as _;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};

use super::*;
use crate::local::WorkerBinary;
use crate::recipe::Precision;

/// A worker that does what `body` says, with the job's path in `$5` and its folder in `$folder`.
fn worker(folder: &Path, body: &str) -> Calls {
    let path = folder.join("worker");
    std::fs::write(&path, format!("#!/bin/sh\nfolder=$(dirname \"$5\")\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = WorkerBinary { path, libtorch_version: String::new(), devices: vec![], no_gpu: None };
    Calls::new(&binary).unwrap()
}

fn network() -> Network {
    Network {
        model: "resnet18".to_owned(),
        classes: 2,
        weights: "weights.safetensors".into(),
        device: "cpu".to_owned(),
        threads: 3,
        precision: Precision::Bf16,
        image_size: 32,
        mean: [0.485, 0.456, 0.406],
        std: [0.5; 3],
        block: 250,
    }
}

fn samples(rows: Option<Vec<usize>>, labels: bool) -> Samples {
    Samples {
        images: "data".into(),
        tensor: "test.images".to_owned(),
        labels: labels.then(|| "test.labels".to_owned()),
        rows,
    }
}

/// An answer with logits of `[count, 2]` and as many losses.
fn write_answer(path: &Path, count: usize) {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let logits = bytes(&(0..2 * count).map(|value| value as f32).collect::<Vec<_>>());
    let losses = bytes(&vec![0.5; count]);
    let view = |shape, bytes| TensorView::new(Dtype::F32, shape, bytes).unwrap();
    let tensors = [("logits", view(vec![count, 2], &logits)), ("losses", view(vec![count], &losses))];
    serialize_to_file(tensors, None, path).unwrap();
}

#[test]
fn a_worker_reads_the_job_and_its_answer_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (answer, job) = (folder.path().join("answer"), folder.path().join("job"));
    write_answer(&answer, 2);
    let (answer, kept) = (answer.display(), job.display());
    let body = format!(
        "cp \"$5\" {kept}; echo \"$1 $OMP_NUM_THREADS\" > {kept}.said; cp {answer} $folder/out.safetensors"
    );
    let calls = worker(folder.path(), &body);
    let logits = calls.infer(&network(), &samples(Some(vec![4, 1]), true)).unwrap();
    assert_eq!(logits, Logits { values: vec![0.0, 1.0, 2.0, 3.0], losses: Some(vec![0.5; 2]) });
    assert_eq!(std::fs::read_to_string(job.with_extension("said")).unwrap(), "infer 3\n");
    let mut job: serde_json::Value = serde_json::from_slice(&std::fs::read(&job).unwrap()).unwrap();
    let out = PathBuf::from(job["out"].take().as_str().unwrap());
    assert!(!out.parent().unwrap().exists(), "the job's folder is gone");
    assert_eq!(job["mean"][0].as_f64().unwrap() as f32, 0.485);
    job["mean"].take();
    let wanted = serde_json::json!({
        "model": "resnet18", "classes": 2, "weights": "weights.safetensors", "device": "cpu", "threads": 3,
        "precision": "bf16",        "image_size": 32, "mean": null, "std": [0.5, 0.5, 0.5], "block": 250, "images": "data",
        "tensor": "test.images", "labels": "test.labels", "rows": [4, 1], "out": null,
    });
    assert_eq!(job, wanted);
}

#[test]
fn an_answer_to_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let answer = folder.path().join("answer");
    write_answer(&answer, 2);
    let calls = worker(folder.path(), &format!("cp {} $folder/out.safetensors", answer.display()));
    let infer = |network: &Network, samples: &Samples| calls.infer(network, samples);
    assert!(infer(&network(), &samples(None, false)).unwrap().losses.is_none());
    for (network, samples) in [
        (network(), samples(Some(vec![1, 2, 3]), true)),
        (Network { classes: 3, ..network() }, samples(None, true)),
    ] {
        assert!(matches!(infer(&network, &samples), Err(InferError::Answer(_))));
    }
    let augment = AugmentSettings::from(&crate::recipe::Augment {
        crop_padding: 0,
        resized_crop: 1.0,
        flip: 0.5,
        brightness: 0.0,
        contrast: 0.0,
        saturation: 0.0,
        hue: 0.0,
        erasing: 0.0,
        mixup: 0.0,
        cutmix: 0.0,
    });
    assert!(!augment.is_off() && AugmentSettings { flip: 0.0, ..augment }.is_off());
    let augmentation = Augmentation { seed: 1, epoch: 0, classes: 2, image_size: 32, threads: 1, augment };
    let pictures = calls.augment(&augmentation, &samples(None, true));
    assert!(matches!(pictures, Err(InferError::Answer(_))), "there are none in the answer");
}

#[test]
fn what_a_worker_says_of_its_failure_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let fail = |body: &str| worker(folder.path(), body).infer(&network(), &samples(None, true)).unwrap_err();
    let error = fail("echo noise >&2; echo 'lockstep-worker: the weights are odd' >&2; exit 3");
    assert!(matches!(&error, InferError::Refused { code: 3, reason } if reason == "the weights are odd"));
    let error = fail("echo 'it broke' >&2; exit 1");
    assert_eq!(error.to_string(), "the worker's process ended (exit code 1)\n  | it broke");
    let error = fail("kill -9 $$").to_string();
    assert!(error.contains("memory"), "{error}");
    let error = fail("exit 0");
    assert!(matches!(error, InferError::Io { .. }), "no answer: {error}");
    let calls = worker(folder.path(), "");
    std::fs::remove_file(folder.path().join("worker")).unwrap();
    let error = calls.infer(&network(), &samples(None, true)).unwrap_err().to_string();
    assert!(error.starts_with("cannot start"), "{error}");
}

#[test]
fn losses_are_summed_in_f64_block_by_block() {
    let losses: Vec<f32> = (0..600).map(|sample| 1e-7 + sample as f32 * 1.7).collect();
    let logits = Logits { values: vec![], losses: Some(losses.clone()) };
    let block =
        |range: std::ops::Range<usize>| losses[range].iter().fold(0.0, |sum, it| sum + f64::from(*it));
    let wanted: f64 = 0.0 + block(0..250) + block(250..500) + block(500..600);
    assert_eq!(logits.loss_sum(250).unwrap().to_bits(), wanted.to_bits());
    assert_eq!(Logits { values: vec![], losses: None }.loss_sum(250), None);
}
