//! The structure that all names, shapes and counts follow from: torchvision's ResNet v1.5, where a bottleneck's 3x3
//! convolution strides.

use super::Stage;
use crate::recipe::ModelName;

/// A convolution without bias and with "same" padding, followed by BatchNorm.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub(super) conv: String,
    pub(super) norm: String,
    /// Channels.
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Pixels per side; padded by half of it.
    pub(super) kernel: usize,
    pub(super) stride: usize,
}

/// A residual block: units with ReLU between them, plus the identity or its projection.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) name: String,
    pub(super) stage: Stage,
    pub(super) units: Vec<Unit>,
    pub(super) downsample: Option<Unit>,
}

/// A network but for its number of classes.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) stem: Unit,
    pub(super) blocks: Vec<Block>,
    /// Inputs of fc.
    pub(super) features: usize,
    /// Blocks of three convolutions, the last of which widens, instead of two.
    pub(super) bottleneck: bool,
}

impl Network {
    pub(super) fn new(model: ModelName) -> Self {
        // "Deep Residual Learning for Image Recognition", table 1.
        let (bottleneck, depths) = match model {
            ModelName::Resnet18 => (false, [2, 2, 2, 2]),
            ModelName::Resnet34 => (false, [3, 4, 6, 3]),
            ModelName::Resnet50 => (true, [3, 4, 6, 3]),
            ModelName::Resnet101 => (true, [3, 4, 23, 3]),
            ModelName::Resnet152 => (true, [3, 8, 36, 3]),
        };
        let stem = unit("conv1", "bn1", (3, 64), 7, 2);
        let mut features = stem.outputs;
        let mut blocks = Vec::new();
        let stages = [Stage::Layer1, Stage::Layer2, Stage::Layer3, Stage::Layer4];
        for ((stage, depth), width) in stages.into_iter().zip(depths).zip([64, 128, 256, 512]) {
            for index in 0..depth {
                let stride = if stage > Stage::Layer1 && index == 0 { 2 } else { 1 };
                let outputs = if bottleneck { 4 * width } else { width };
                blocks.push(block(stage, index, (features, width, outputs), stride));
                features = outputs;
            }
        }
        Self { stem, blocks, features, bottleneck }
    }

    /// Every unit in forward order, which is also the order of `state_dict`.
    pub(super) fn units(&self) -> impl Iterator<Item = (Stage, &Unit)> {
        let blocks = self
            .blocks
            .iter()
            .flat_map(|block| block.units.iter().chain(&block.downsample).map(|unit| (block.stage, unit)));
        std::iter::once((Stage::Stem, &self.stem)).chain(blocks)
    }
}

fn block(
    stage: Stage,
    index: usize,
    (inputs, width, outputs): (usize, usize, usize),
    stride: usize,
) -> Block {
    let name = format!("{}.{index}", stage.as_str());
    let part = |number: usize, channels, kernel, stride| {
        unit(&format!("{name}.conv{number}"), &format!("{name}.bn{number}"), channels, kernel, stride)
    };
    let units = if outputs == width {
        vec![part(1, (inputs, width), 3, stride), part(2, (width, width), 3, 1)]
    } else {
        vec![
            part(1, (inputs, width), 1, 1),
            part(2, (width, width), 3, stride),
            part(3, (width, outputs), 1, 1),
        ]
    };
    let downsample = (stride != 1 || inputs != outputs).then(|| {
        let (conv, norm) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
        unit(&conv, &norm, (inputs, outputs), 1, stride)
    });
    Block { name, stage, units, downsample }
}

fn unit(conv: &str, norm: &str, (inputs, outputs): (usize, usize), kernel: usize, stride: usize) -> Unit {
    Unit { conv: conv.to_owned(), norm: norm.to_owned(), inputs, outputs, kernel, stride }
}
