//! Verbs answer as the trainer's own code would, and say in one line why they cannot.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use super::*;
use crate::data::{Look, PictureFile, Tensors};
use crate::model::{Freezing, ModelName, ModelSpec, ResNet};

const SAMPLES: usize = 7;
const SIDE: usize = 10;
const CLASSES: i64 = 4;

/// A folder with a small data set and the weights of a small model.
struct Place {
    folder: TempDir,
    model: ResNet,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pixels: Vec<u8> = (0..SAMPLES * 3 * SIDE * SIDE).map(|at| (at * at % 251) as u8).collect();
        let labels: Vec<u8> = (0..SAMPLES as i64).flat_map(|row| (row % CLASSES).to_le_bytes()).collect();
        let tensors = [
            ("test.images", TensorView::new(Dtype::U8, vec![SAMPLES, 3, SIDE, SIDE], &pixels).unwrap()),
            ("test.labels", TensorView::new(Dtype::I64, vec![SAMPLES], &labels).unwrap()),
        ];
        fs::write(folder.path().join("data"), safetensors::serialize(tensors, None).unwrap()).unwrap();
        let spec = ModelSpec::new(ModelName::Resnet18, CLASSES);
        let mut model = ResNet::new(spec, &Freezing::none(), Device::Cpu).unwrap();
        model.init(7);
        fs::write(folder.path().join("weights"), model.state_to_safetensors(None).unwrap()).unwrap();
        Self { folder, model }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn infer_job(&self) -> Value {
        json!({
            "model": "resnet18", "classes": CLASSES, "weights": self.path("weights"), "device": "cpu", "threads": 1,
            "image_size": 16, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "block": 3,
            "images": self.path("data"), "tensor": "test.images", "labels": "test.labels", "rows": null,
            "out": self.path("out"),
        })
    }

    fn augment_job(&self) -> Value {
        json!({
            "images": self.path("data"), "tensor": "test.images", "labels": null, "rows": [5, 1], "classes": CLASSES,
            "seed": 7, "epoch": 2, "image_size": 16, "threads": 1, "augment": {"flip": 1.0}, "out": self.path("out"),
        })
    }

    fn run(&self, verb: impl Fn(&Path) -> Result<(), VerbError>, job: &Value) -> Result<(), VerbError> {
        let path = self.path("job.json");
        fs::write(&path, job.to_string()).unwrap();
        verb(&path)
    }

    /// Shape and bytes of a tensor of the answer.
    fn answer(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let bytes = fs::read(self.path("out")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let view = tensors.tensor(name).unwrap();
        (view.shape().to_vec(), view.data().to_vec())
    }

    fn names(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.folder.path()).unwrap();
        names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    fn pictures(&self, mean: f32, std: f32) -> PictureFile {
        let tensors = Tensors {
            images: "test.images".into(),
            labels: Some("test.labels".into()),
            classes: CLASSES as u32,
        };
        let look = Look { size: 16, mean: vec![mean; 3], std: vec![std; 3] };
        PictureFile::open(&self.path("data"), &tensors, &look, Device::Cpu).unwrap()
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn logits_and_losses_are_those_of_the_blocks() {
    let place = Place::new();
    place.run(infer, &place.infer_job()).unwrap();
    let (mut logits, mut losses) = (Vec::new(), Vec::new());
    for block in [vec![0, 1, 2], vec![3, 4, 5], vec![6]] {
        let (images, labels) = place.pictures(0.5, 0.25).batch(&block).unwrap();
        let outputs = place.model.forward_eval(&images);
        logits.extend(Vec::<f32>::try_from(outputs.view(-1)).unwrap());
        let surprise = -outputs.log_softmax(-1, Kind::Float).gather(1, &labels.unwrap().unsqueeze(-1), false);
        losses.extend(Vec::<f32>::try_from(surprise.view(-1)).unwrap());
    }
    let (shape, found) = place.answer("logits");
    assert_eq!((shape, floats(&found)), (vec![SAMPLES, CLASSES as usize], logits));
    let (shape, found) = place.answer("losses");
    assert_eq!(shape, [SAMPLES]);
    assert!(floats(&found).iter().zip(&losses).all(|(found, loss)| (found - loss).abs() < 1e-5));
    assert_eq!(place.names(), ["data", "job.json", "out", "weights"].map(str::to_owned).into());
}

#[test]
fn named_rows_are_answered_in_their_order_and_without_labels_there_are_no_losses() {
    let place = Place::new();
    place.run(infer, &place.infer_job()).unwrap();
    let all = floats(&place.answer("logits").1);
    let mut job = place.infer_job();
    job["rows"] = json!([6, 0, 6]);
    job["labels"] = Value::Null;
    place.run(infer, &job).unwrap();
    let (shape, found) = place.answer("logits");
    assert_eq!(shape, [3, CLASSES as usize]);
    let classes = CLASSES as usize;
    let expected: Vec<f32> =
        [6, 0, 6].iter().flat_map(|row| all[row * classes..(row + 1) * classes].to_vec()).collect();
    let near = |(found, expected): (&f32, &f32)| (found - expected).abs() < 1e-5;
    assert!(floats(&found).iter().zip(&expected).all(near));
    let bytes = fs::read(place.path("out")).unwrap();
    assert_eq!(SafeTensors::deserialize(&bytes).unwrap().names(), ["logits"]);

    job["rows"] = json!([]);
    place.run(infer, &job).unwrap();
    assert_eq!(place.answer("logits"), (vec![0, classes], vec![]));
}

#[test]
fn augmented_pictures_are_bytes_of_what_training_sees() {
    let place = Place::new();
    place.run(augment, &place.augment_job()).unwrap();
    let (shape, found) = place.answer("images");
    assert_eq!(shape, [2, 3, 16, 16]);
    let (images, _) = place.pictures(0.0, 1.0).batch(&[5, 1]).unwrap();
    let expected = (images.flip([3]) * 255.0).round().to_kind(Kind::Uint8).contiguous();
    let found = Tensor::from_data_size(&found, &[2, 3, 16, 16], Kind::Uint8);
    assert_eq!(found, expected);

    let mut job = place.augment_job();
    job["augment"] = json!({"crop_padding": 2, "resized_crop": null, "erasing": 1.0, "mixup": 0.0});
    job["rows"] = Value::Null;
    place.run(augment, &job).unwrap();
    assert_eq!(place.answer("images").0, [SAMPLES, 3, 16, 16]);
}

#[test]
fn what_cannot_be_done_is_said_in_one_line_and_nothing_is_left_behind() {
    let place = Place::new();
    fs::write(place.path("torn"), &fs::read(place.path("weights")).unwrap()[..5000]).unwrap();
    let before: BTreeSet<String> = place.names().into_iter().chain(["job.json".to_owned()]).collect();
    let cases: [(&str, Value, u8, &str); 13] = [
        ("model", json!("resnet19"), 2, "unknown model"),
        ("device", json!("gpu"), 2, "unknown device"),
        ("threads", json!(0), 2, "is not what this worker understands: invalid value"),
        ("surprise", json!(1), 2, "unknown field `surprise`"),
        ("std", json!([0.0, 1.0, 1.0]), 2, "std above zero"),
        ("tensor", json!("train.images"), 2, "no tensor \"train.images\""),
        ("tensor", json!("test.labels"), 3, "not U8 [N, 3, H, W]"),
        ("rows", json!([7]), 2, "sample 7 is beyond the 7"),
        ("classes", json!(3), 3, "the weights"),
        ("weights", json!(place.path("absent")), 3, "cannot read the weights"),
        ("weights", json!(place.path("torn")), 3, "not a readable safetensors file"),
        ("images", json!(place.path("absent")), 3, "cannot read the data set"),
        ("out", json!(place.path("absent/out")), 1, "cannot write"),
    ];
    for (key, value, code, words) in cases {
        let mut job = place.infer_job();
        job[key] = value;
        let error = place.run(infer, &job).unwrap_err();
        let line = error.line();
        assert!(line.contains(words) && !line.contains('\n'), "{key}: {line}");
        assert_eq!(error.exit_code(), code, "{line}");
        assert_eq!(place.names(), before, "{line}");
    }
    let mut job = place.augment_job();
    job["augment"] = json!({"hue": 0.7});
    let error = place.run(augment, &job).unwrap_err();
    assert_eq!(
        (error.line().as_str(), error.exit_code()),
        ("augment.hue is 0.7, but must be from 0 to 0.5", 2)
    );
    let error = infer(&place.path("absent")).unwrap_err();
    assert!(error.line().starts_with("cannot read the job") && error.exit_code() == 2);
}
