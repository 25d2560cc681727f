//! The table of layers, output shapes and parameters that the Python package `torchsummary` prints, without a network.
//!
//! People know that table and compare against it, so its text is reproduced with its ways: modules are numbered in the
//! order in which they finish, a ReLU appears once per call, a block has a line of its own after its layers, sizes called MB
//! are in units of 2^20 bytes, and a layer's bias counts as trained where its weight is. Fields tell the exact counts.

use std::fmt::Write as _;

use serde::Serialize;

use super::network::{Block, Network, Unit};
use super::{ModelName, Parameter, grouped, parameters};

/// Bytes of a value, and bytes of what the table calls MB.
const VALUE_BYTES: f64 = 4.0;
const MIB: f64 = 1_048_576.0;

/// A network's layers and what they take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub model: &'static str,
    pub classes: u32,
    /// Pixels per side.
    pub image_size: u32,
    /// In the order in which they finish.
    pub layers: Vec<SummaryLayer>,
    pub params: u64,
    pub trainable_params: u64,
    pub non_trainable_params: u64,
    /// One picture.
    pub input_mib: f64,
    /// All outputs for one picture, twice, for their gradients.
    pub forward_backward_mib: f64,
    pub params_mib: f64,
    pub total_mib: f64,
}

/// A call of a module.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SummaryLayer {
    /// The class in PyTorch and the number of the call: `Conv2d-1`.
    pub name: String,
    /// Torchvision's name: `layer1.0.conv1`.
    pub module: String,
    /// `[-1, channels, height, width]`, or `[-1, classes]`; -1 stands for the batch.
    pub output_shape: Vec<i64>,
    pub params: u64,
    pub trainable_params: u64,
    /// Whether the table counts all of its parameters as trained: its weight is.
    #[serde(skip)]
    weight_is_trained: bool,
}

impl Summary {
    /// Summarises `model` for square pictures of `image_size` pixels per side, at least 1, with the parameters named in
    /// `trainable` to be trained.
    #[must_use]
    pub fn new(model: ModelName, classes: u32, image_size: u32, trainable: &[String]) -> Self {
        let network = Network::new(model);
        let parameters = parameters(model, classes);
        let mut walk = Walk { parameters: &parameters, trainable, layers: Vec::new() };
        walk.network(&network, image_size as usize, classes as usize);
        let layers = walk.layers;

        let sum = |count: fn(&SummaryLayer) -> u64| layers.iter().map(count).sum::<u64>();
        let (params, trainable_params) = (sum(|layer| layer.params), sum(|layer| layer.trainable_params));
        let pixels = f64::from(image_size) * f64::from(image_size);
        let input_mib = 3.0 * pixels * VALUE_BYTES / MIB;
        let forward_backward_mib = 2.0 * sum(SummaryLayer::outputs) as f64 * VALUE_BYTES / MIB;
        let params_mib = params as f64 * VALUE_BYTES / MIB;
        Self {
            model: model.as_str(),
            classes,
            image_size,
            params,
            trainable_params,
            non_trainable_params: params - trainable_params,
            input_mib,
            forward_backward_mib,
            params_mib,
            // The order of torchsummary's sum, for the same last digit.
            total_mib: params_mib + forward_backward_mib + input_mib,
            layers,
        }
    }

    /// What the table counts as trained: all of a layer whose weight is. Differs from `trainable_params` where a layer's
    /// weight and bias are not trained alike.
    #[must_use]
    pub fn table_trainable_params(&self) -> u64 {
        self.layers.iter().filter(|layer| layer.weight_is_trained).map(|layer| layer.params).sum()
    }

    /// `torchsummary`'s text, lines ended.
    #[must_use]
    pub fn text(&self) -> String {
        let thin = "-".repeat(64);
        let thick = "=".repeat(64);
        let mut text = format!("{thin}\n{}\n{thick}\n", row("Layer (type)", "Output Shape", "Param #"));
        for layer in &self.layers {
            // Rust prints a list of numbers as Python does.
            let shape = format!("{:?}", layer.output_shape);
            text.push_str(&row(&layer.name, &shape, &grouped(layer.params)));
            text.push('\n');
        }
        let trained = self.table_trainable_params();
        let _ = writeln!(text, "{thick}");
        let _ = writeln!(text, "Total params: {}", grouped(self.params));
        let _ = writeln!(text, "Trainable params: {}", grouped(trained));
        let _ = writeln!(text, "Non-trainable params: {}", grouped(self.params - trained));
        let _ = writeln!(text, "{thin}");
        for (what, size) in [
            ("Input size", self.input_mib),
            ("Forward/backward pass size", self.forward_backward_mib),
            ("Params size", self.params_mib),
            ("Estimated Total Size", self.total_mib),
        ] {
            let _ = writeln!(text, "{what} (MB): {size:.2}");
        }
        let _ = writeln!(text, "{thin}");
        text
    }
}

impl SummaryLayer {
    /// Values that come out for one picture.
    fn outputs(&self) -> u64 {
        self.output_shape.iter().map(|size| size.unsigned_abs()).product()
    }
}

fn row(layer: &str, shape: &str, params: &str) -> String {
    format!("{layer:>20}  {shape:>25} {params:>15}")
}

/// A picture's way through the network.
struct Walk<'a> {
    parameters: &'a [Parameter],
    trainable: &'a [String],
    layers: Vec<SummaryLayer>,
}

impl Walk<'_> {
    fn network(&mut self, network: &Network, image_size: usize, classes: usize) {
        let stem = &network.stem;
        let mut side = self.unit(stem, image_size);
        self.call("ReLU", "relu", &[stem.outputs, side, side]);
        side = strided(side, 3, 2);
        self.call("MaxPool2d", "maxpool", &[stem.outputs, side, side]);
        for block in &network.blocks {
            side = self.block(block, side, if network.bottleneck { "Bottleneck" } else { "BasicBlock" });
        }
        self.call("AdaptiveAvgPool2d", "avgpool", &[network.features, 1, 1]);
        self.call("Linear", "fc", &[classes]);
    }

    /// Returns the side of what comes out, in pixels, as the next two do.
    fn block(&mut self, block: &Block, input: usize, kind: &str) -> usize {
        let relu = format!("{}.relu", block.name);
        let (mut side, mut channels) = (input, 0);
        for (index, unit) in block.units.iter().enumerate() {
            if index > 0 {
                self.call("ReLU", &relu, &[channels, side, side]);
            }
            side = self.unit(unit, side);
            channels = unit.outputs;
        }
        if let Some(unit) = &block.downsample {
            self.unit(unit, input);
        }
        self.call("ReLU", &relu, &[channels, side, side]);
        self.call(kind, &block.name, &[channels, side, side]);
        side
    }

    fn unit(&mut self, unit: &Unit, input: usize) -> usize {
        let side = strided(input, unit.kernel, unit.stride);
        let output = [unit.outputs, side, side];
        self.call("Conv2d", &unit.conv, &output);
        self.call("BatchNorm2d", &unit.norm, &output);
        side
    }

    fn call(&mut self, kind: &str, module: &str, output: &[usize]) {
        let own = self.parameters.iter().filter(|parameter| parameter.module() == module);
        let (mut params, mut trainable_params, mut weight_is_trained) = (0, 0, false);
        for parameter in own {
            let is_trained = self.trainable.contains(&parameter.name);
            params += parameter.values();
            trainable_params += if is_trained { parameter.values() } else { 0 };
            weight_is_trained |= is_trained && !parameter.is_bias();
        }
        self.layers.push(SummaryLayer {
            name: format!("{kind}-{}", self.layers.len() + 1),
            module: module.to_owned(),
            output_shape: std::iter::once(-1).chain(output.iter().map(|size| *size as i64)).collect(),
            params,
            trainable_params,
            weight_is_trained,
        });
    }
}

/// Pixels per side after a convolution or pooling that is padded by half its kernel: PyTorch's formula.
fn strided(side: usize, kernel: usize, stride: usize) -> usize {
    (side + 2 * (kernel / 2) - kernel) / stride + 1
}

#[cfg(test)]
mod tests;
