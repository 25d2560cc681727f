//! Held to `torchsummary`: its text for torchvision's models, character for character, and its sums.

use std::path::PathBuf;

use super::*;
use crate::model::{ALL, parameter_names};

fn head_of(model: ModelName, classes: u32, image_size: u32) -> Summary {
    Summary::new(model, classes, image_size, &["fc.weight".to_owned(), "fc.bias".to_owned()])
}

fn full(model: ModelName, classes: u32, image_size: u32) -> Summary {
    Summary::new(model, classes, image_size, &parameter_names(model))
}

/// What `torchsummary` printed for the tutorial's model, kept beside the repository.
fn reference() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("LOCKSTEP_SHARED").map_or_else(beside, PathBuf::from);
    shared.join("reference/summary-resnet50-32px.txt")
}

#[test]
fn the_tutorials_model_is_summarised_character_for_character() {
    let path = reference();
    let Ok(expected) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: {} is not there", path.display());
        return;
    };
    let lines =
        |text: &str| text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(lines(&head_of(ModelName::Resnet50, 10, 32).text()), lines(&expected));
}

#[test]
fn the_table_starts_and_ends_as_torchsummarys() {
    let text = head_of(ModelName::Resnet50, 10, 32).text();
    assert!(text.starts_with(
        "\
----------------------------------------------------------------
        Layer (type)               Output Shape         Param #
================================================================
            Conv2d-1           [-1, 64, 16, 16]           9,408
       BatchNorm2d-2           [-1, 64, 16, 16]             128
              ReLU-3           [-1, 64, 16, 16]               0
         MaxPool2d-4             [-1, 64, 8, 8]               0
            Conv2d-5             [-1, 64, 8, 8]           4,096
"
    ));
    assert!(text.ends_with(
        "\
      Bottleneck-172           [-1, 2048, 1, 1]               0
AdaptiveAvgPool2d-173           [-1, 2048, 1, 1]               0
          Linear-174                   [-1, 10]          20,490
================================================================
Total params: 23,528,522
Trainable params: 20,490
Non-trainable params: 23,508,032
----------------------------------------------------------------
Input size (MB): 0.01
Forward/backward pass size (MB): 5.86
Params size (MB): 89.75
Estimated Total Size (MB): 95.63
----------------------------------------------------------------
"
    ));
}

/// Calls, parameters, and the sizes of the input, forward and backward, the parameters and the total, as `torchsummary` 1.5.1
/// printed them for torchvision's models.
#[test]
fn every_depth_size_and_class_count_is_summed_up_as_torchsummary_does() {
    for (model, classes, size, calls, params, sizes) in [
        (ModelName::Resnet18, 1000, 224, 68, 11_689_512, ["0.57", "62.79", "44.59", "107.96"]),
        (ModelName::Resnet34, 2, 33, 124, 21_285_698, ["0.01", "3.16", "81.20", "84.37"]),
        (ModelName::Resnet50, 1000, 97, 174, 25_557_032, ["0.11", "62.72", "97.49", "160.32"]),
        (ModelName::Resnet101, 10, 64, 344, 42_520_650, ["0.05", "35.09", "162.20", "197.34"]),
        (ModelName::Resnet152, 10, 128, 514, 58_164_298, ["0.19", "198.08", "221.88", "420.14"]),
        (ModelName::Resnet18, 1, 1, 68, 11_177_025, ["0.00", "0.12", "42.64", "42.76"]),
    ] {
        let summary = full(model, classes, size);
        assert_eq!((summary.layers.len(), summary.params), (calls, params), "{model} at {size}");
        assert_eq!(summary.trainable_params, params, "{model} at {size}");
        let text = summary.text();
        let found: Vec<&str> =
            text.lines().filter_map(|line| line.split_once(" (MB): ")).map(|(_, size)| size).collect();
        assert_eq!(found, sizes, "{model} at {size}");
    }
}

#[test]
fn odd_sizes_round_as_convolutions_do() {
    let sides = |size| {
        let summary = full(ModelName::Resnet18, 10, size);
        let blocks = summary.layers.iter().filter(|layer| layer.name.starts_with("BasicBlock"));
        blocks.map(|layer| layer.output_shape[3]).step_by(2).collect::<Vec<_>>()
    };
    assert_eq!(sides(224), [56, 28, 14, 7]);
    assert_eq!(sides(97), [25, 13, 7, 4]);
    assert_eq!(sides(33), [9, 5, 3, 2]);
    assert_eq!(sides(1), [1, 1, 1, 1]);
}

#[test]
fn parameters_are_counted_once_and_none_is_left_out() {
    for model in ALL {
        let summary = full(model, 7, 32);
        let counted: u64 = parameters(model, 7).iter().map(Parameter::values).sum();
        assert_eq!(summary.params, counted, "{model}");
        assert_eq!(summary.params, summary.table_trainable_params(), "{model}");
    }
}

#[test]
fn the_table_counts_a_bias_with_its_weight_and_the_fields_count_exactly() {
    let biases = Summary::new(ModelName::Resnet18, 10, 32, &["fc.bias".to_owned(), "bn1.weight".to_owned()]);
    assert_eq!((biases.trainable_params, biases.table_trainable_params()), (10 + 64, 128));
    assert!(biases.text().contains("\nTrainable params: 128\nNon-trainable params: 11,181,514\n"));
}

#[test]
fn json_has_every_layer_under_torchvisions_name() {
    let value = serde_json::to_value(head_of(ModelName::Resnet50, 10, 32)).unwrap();
    assert_eq!(value["layers"].as_array().unwrap().len(), 174);
    assert_eq!(
        value["layers"][4],
        serde_json::json!({
            "name": "Conv2d-5", "module": "layer1.0.conv1", "output_shape": [-1, 64, 8, 8],
            "params": 4096, "trainable_params": 0,
        })
    );
    assert_eq!(value["layers"][173]["module"], "fc");
    assert_eq!(value["layers"][173]["output_shape"], serde_json::json!([-1, 10]));
    assert_eq!((&value["params"], &value["trainable_params"]), (&23_528_522.into(), &20_490.into()));
}
