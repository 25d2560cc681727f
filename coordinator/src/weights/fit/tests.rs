//! Names, shapes and types against the networks; the numbers are zeros throughout.

use super::super::file::Elements;
use super::*;

const PATH: &str = "weights.pth";

/// Which ResNet, under which name, with how many classes.
fn add(file: &mut WeightsFile, prefix: &str, model: ModelName, classes: u32) {
    for tensor in model::state(model, classes) {
        let elements = match tensor.dtype {
            StateDtype::F32 => Elements::F32,
            StateDtype::I64 => Elements::I64,
        };
        file.tensors.insert(format!("{prefix}{}", tensor.name), FileTensor::zeros(elements, &tensor.shape));
    }
}

fn file(prefix: &str, model: ModelName) -> WeightsFile {
    let mut file = empty();
    add(&mut file, prefix, model, 10);
    file
}

fn empty() -> WeightsFile {
    WeightsFile { tensors: BTreeMap::new(), description: None, is_model: false }
}

fn find(file: &WeightsFile) -> Fit<'_> {
    Fit::find(Path::new(PATH), file).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(file: &WeightsFile, model: ModelName) -> WeightsError {
    find(file).read(model).unwrap_err()
}

#[test]
fn weights_are_found_wherever_programs_keep_them() {
    for prefix in ["", "module.", "state_dict.", "state_dict.module.", "model.", "_orig_mod.", "x.backbone."]
    {
        let mut file = file(prefix, ModelName::Resnet18);
        // What lies beside them, as optimizers' states and counts do.
        if !prefix.is_empty() {
            file.tensors
                .insert("optimizer.state.0.momentum".to_owned(), FileTensor::zeros(Elements::F32, &[3]));
        }
        let fit = find(&file);
        assert_eq!(fit.prefix, prefix);
        let (state, notes) = fit.read(ModelName::Resnet18).unwrap();
        let names: Vec<&str> = state.entries.iter().map(|entry| &*entry.tensor.name).collect();
        let expected = model::state(ModelName::Resnet18, 10);
        assert_eq!(names, expected.iter().map(|tensor| &*tensor.name).collect::<Vec<_>>());
        assert_eq!(notes, [""; 0]);
    }
}

#[test]
fn of_weights_and_their_average_the_weights_are_taken_and_of_two_equals_none() {
    let mut both = file("state_dict_ema.", ModelName::Resnet18);
    add(&mut both, "state_dict.", ModelName::Resnet18, 10);
    assert_eq!(find(&both).prefix, "state_dict.");

    let mut twins = file("student.", ModelName::Resnet18);
    add(&mut twins, "teacher.", ModelName::Resnet18, 10);
    let error = Fit::find(Path::new(PATH), &twins).unwrap_err();
    assert!(error.to_string().contains("(student, teacher)"), "{error}");
    let mut alike = file("model.a.", ModelName::Resnet18);
    add(&mut alike, "model.b.", ModelName::Resnet18, 10);
    assert!(matches!(Fit::find(Path::new(PATH), &alike), Err(WeightsError::Ambiguous { .. })));
}

#[test]
fn every_resnet_is_recognised_and_another_one_is_named_in_the_hint() {
    for model in model::ALL {
        assert_eq!(find(&file("", model)).nearest(), model);
    }
    for (found, asked) in [
        (ModelName::Resnet34, ModelName::Resnet18),
        (ModelName::Resnet18, ModelName::Resnet34),
        (ModelName::Resnet50, ModelName::Resnet101),
        (ModelName::Resnet152, ModelName::Resnet50),
    ] {
        let error = refusal(&file("", found), asked);
        assert_eq!(
            error.hint().unwrap(),
            format!("these are weights of a {found}: set model.name = \"{found}\"")
        );
    }
}

#[test]
fn a_tensor_that_is_missing_misshapen_or_a_stranger_is_named() {
    let whole = || file("module.", ModelName::Resnet18);
    let mut missing = whole();
    missing.tensors.remove("module.layer2.0.bn1.bias");
    let error = refusal(&missing, ModelName::Resnet18).to_string();
    assert_eq!(
        error,
        "weights.pth has no tensor module.layer2.0.bn1.bias, which resnet18 has with shape [128]"
    );
    assert_eq!(find(&missing).nearest(), ModelName::Resnet18, "one gap does not make it another network");

    let mut headless = whole();
    headless.tensors.retain(|name, _| !name.starts_with("module.fc."));
    let error = refusal(&headless, ModelName::Resnet18).to_string();
    assert_eq!(error, "weights.pth has no tensor module.fc.weight: it is a network without a head");

    let mut misshapen = whole();
    misshapen.tensors.insert("module.conv1.weight".into(), FileTensor::zeros(Elements::F32, &[64, 3, 3, 3]));
    let error = refusal(&misshapen, ModelName::Resnet18);
    assert_eq!(
        error.to_string(),
        "tensor module.conv1.weight has shape [64, 3, 3, 3] in weights.pth and [64, 3, 7, 7] in resnet18"
    );
    assert!(error.hint().unwrap().contains("changed first layers"));

    let mut stranger = whole();
    stranger.tensors.insert("module.aux.weight".into(), FileTensor::zeros(Elements::F32, &[1]));
    let error = refusal(&stranger, ModelName::Resnet18).to_string();
    assert_eq!(error, "weights.pth has a tensor module.aux.weight, and resnet18 has none of that name");

    let error = Fit::find(Path::new(PATH), &empty()).unwrap_err();
    assert!(matches!(error, WeightsError::NoResNet { tensors: 0, .. }), "{error}");
}

#[test]
fn counters_may_be_missing_and_then_are_zero() {
    let mut old = file("", ModelName::Resnet18);
    old.tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
    let (state, _) = find(&old).read(ModelName::Resnet18).unwrap();
    assert_eq!(state.entries.len(), 122);
    let counter = state.entries.iter().find(|entry| entry.tensor.name == "bn1.num_batches_tracked").unwrap();
    assert_eq!(counter.bytes, [0; 8]);
}

#[test]
fn other_floats_are_converted_and_it_is_said_and_integers_are_refused() {
    let mut half = file("", ModelName::Resnet18);
    half.tensors.insert("bn1.weight".into(), FileTensor::zeros(Elements::F16, &[64]));
    half.tensors.insert("bn1.bias".into(), FileTensor::zeros(Elements::F64, &[64]));
    let (state, notes) = find(&half).read(ModelName::Resnet18).unwrap();
    assert_eq!(
        notes,
        [
            "1 tensors are float16 in the file and become float32",
            "1 tensors are float64 in the file and become float32"
        ]
    );
    assert!(state.entries.iter().all(|entry| entry.tensor.name != "bn1.weight" || entry.bytes.len() == 256));

    half.tensors.insert("bn1.weight".into(), FileTensor::zeros(Elements::Other("int8".into()), &[64]));
    let error = refusal(&half, ModelName::Resnet18);
    assert!(error.to_string().contains("tensor bn1.weight") && error.to_string().contains("int8"), "{error}");
}

#[test]
fn the_number_of_classes_is_the_heads_and_has_a_bound() {
    let mut many = file("", ModelName::Resnet18);
    assert_eq!(find(&many).classes(), Some(10));
    for classes in [0, 1_000_000] {
        many.tensors.insert("fc.bias".into(), FileTensor::zeros(Elements::F32, &[classes]));
        assert!(matches!(refusal(&many, ModelName::Resnet18), WeightsError::Classes { .. }), "{classes}");
    }
    // A weight and a bias that do not agree.
    many.tensors.insert("fc.bias".into(), FileTensor::zeros(Elements::F32, &[11]));
    assert!(matches!(refusal(&many, ModelName::Resnet18), WeightsError::Misshapen { .. }));
}
