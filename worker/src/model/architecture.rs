//! Torchvision's ResNets (v1.5: in a bottleneck the 3x3 convolution strides) as plain data: names, shapes and order.
//! No tensor here, so that a network can be counted and named without building it.
//!
//! A network is a list of parts, run one after another: the stem with its max pooling, each residual block, the mean
//! pooling, fc. Stages are runs of parts.

use std::ops::Range;

use super::{ModelName, ModelSpec};

/// The three parts between which backward may pause to hand out gradients.
///
/// Head holds 64 % of a ResNet50's gradient bytes and is ready after a fifth of backward; Layer3 holds 30 %.
/// Cut there, nearly all of the exchange hides behind the rest of backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Stem, layer1, layer2.
    Trunk,
    Layer3,
    /// layer4, pooling, fc.
    Head,
}

impl Stage {
    pub(crate) const FORWARD: [Self; 3] = [Self::Trunk, Self::Layer3, Self::Head];
    /// The order in which backward finishes them, which is that of the buckets.
    pub(crate) const BACKWARD: [Self; 3] = [Self::Head, Self::Layer3, Self::Trunk];
}

/// A convolution without bias, followed by BatchNorm.
#[derive(Debug, Clone)]
pub(crate) struct UnitSpec {
    pub(crate) conv: String,
    pub(crate) norm: String,
    pub(crate) inputs: i64,
    pub(crate) outputs: i64,
    pub(crate) kernel: i64,
    pub(crate) stride: i64,
}

/// A residual block: units with ReLU between them, plus the identity or its projection.
#[derive(Debug, Clone)]
pub(crate) struct BlockSpec {
    pub(crate) units: Vec<UnitSpec>,
    pub(crate) downsample: Option<UnitSpec>,
}

/// A parameter under torchvision's name, in torchvision's shape.
#[derive(Debug, Clone)]
pub(crate) struct ParameterSpec {
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) stage: Stage,
    /// Number of the part that it belongs to.
    pub(crate) part: usize,
    /// The BatchNorm layer, by its number in forward order, whose weight or bias this is.
    pub(crate) norm: Option<usize>,
}

/// A whole network.
#[derive(Debug, Clone)]
pub(crate) struct Architecture {
    pub(crate) stem: UnitSpec,
    /// layer1 to layer4.
    pub(crate) layers: Vec<Vec<BlockSpec>>,
    /// Inputs of fc.
    pub(crate) features: i64,
    pub(crate) classes: i64,
}

impl Architecture {
    pub(crate) fn new(spec: ModelSpec) -> Self {
        let (bottleneck, depths) = match spec.name {
            ModelName::Resnet18 => (false, [2, 2, 2, 2]),
            ModelName::Resnet34 => (false, [3, 4, 6, 3]),
            ModelName::Resnet50 => (true, [3, 4, 6, 3]),
            ModelName::Resnet101 => (true, [3, 4, 23, 3]),
            ModelName::Resnet152 => (true, [3, 8, 36, 3]),
        };
        let stem = unit("conv1", "bn1", (3, 64), 7, 2);
        let mut inputs = stem.outputs;
        let mut layers = Vec::with_capacity(depths.len());
        for (number, (depth, width)) in (1..).zip(depths.into_iter().zip([64, 128, 256, 512])) {
            let mut blocks = Vec::with_capacity(depth);
            for index in 0..depth {
                let stride = if number > 1 && index == 0 { 2 } else { 1 };
                let block = block(&format!("layer{number}.{index}"), inputs, width, stride, bottleneck);
                inputs = block.units.last().expect("a block has units").outputs;
                blocks.push(block);
            }
            layers.push(blocks);
        }
        Self { stem, layers, features: inputs, classes: spec.classes }
    }

    /// How many parts there are; the last one is fc, the one before it the mean pooling.
    pub(crate) fn parts(&self) -> usize {
        self.layers.iter().map(Vec::len).sum::<usize>() + 3
    }

    /// A stage's parts.
    pub(crate) fn parts_of(&self, stage: Stage) -> Range<usize> {
        let trunk = 1 + self.layers[0].len() + self.layers[1].len();
        let layer3 = trunk + self.layers[2].len();
        match stage {
            Stage::Trunk => 0..trunk,
            Stage::Layer3 => trunk..layer3,
            Stage::Head => layer3..self.parts(),
        }
    }

    /// The stage that a part belongs to.
    pub(crate) fn stage_of(&self, part: usize) -> Stage {
        let holds = |stage: &Stage| self.parts_of(*stage).contains(&part);
        Stage::FORWARD.into_iter().find(holds).unwrap_or(Stage::Head)
    }

    /// What comes out of the first `count` parts, as people call it; nothing where that is the pictures themselves.
    pub(crate) fn output_name(&self, count: usize) -> Option<String> {
        if count < 2 {
            return (count == 1).then(|| "the stem".to_owned());
        }
        let mut block = count - 2;
        for (number, blocks) in (1..).zip(&self.layers) {
            if block + 1 == blocks.len() {
                return Some(format!("layer{number}"));
            }
            if block < blocks.len() {
                return Some(format!("layer{number}.{block}"));
            }
            block -= blocks.len();
        }
        Some("the pooled features".to_owned())
    }

    /// Every unit in forward order, which is also `state_dict` order, with the number of its part.
    pub(crate) fn units(&self) -> impl Iterator<Item = (usize, &UnitSpec)> {
        let blocks = (1..).zip(self.layers.iter().flatten());
        let blocks = blocks.flat_map(|(part, block)| block.all_units().map(move |unit| (part, unit)));
        std::iter::once((0, &self.stem)).chain(blocks)
    }

    /// Every parameter in forward order.
    pub(crate) fn parameters(&self) -> Vec<ParameterSpec> {
        let mut parameters = Vec::new();
        let mut add = |name, shape, part, norm| {
            parameters.push(ParameterSpec { name, shape, stage: self.stage_of(part), part, norm });
        };
        for (index, (part, unit)) in self.units().enumerate() {
            let weight = vec![unit.outputs, unit.inputs, unit.kernel, unit.kernel];
            add(format!("{}.weight", unit.conv), weight, part, None);
            add(format!("{}.weight", unit.norm), vec![unit.outputs], part, Some(index));
            add(format!("{}.bias", unit.norm), vec![unit.outputs], part, Some(index));
        }
        let fc = self.parts() - 1;
        add("fc.weight".to_owned(), vec![self.classes, self.features], fc, None);
        add("fc.bias".to_owned(), vec![self.classes], fc, None);
        parameters
    }
}

impl BlockSpec {
    fn all_units(&self) -> impl Iterator<Item = &UnitSpec> {
        self.units.iter().chain(&self.downsample)
    }
}

fn block(name: &str, inputs: i64, width: i64, stride: i64, bottleneck: bool) -> BlockSpec {
    let part = |number: i64, channels, kernel, stride| {
        unit(&format!("{name}.conv{number}"), &format!("{name}.bn{number}"), channels, kernel, stride)
    };
    let (outputs, units) = if bottleneck {
        let outputs = 4 * width;
        let units = vec![
            part(1, (inputs, width), 1, 1),
            part(2, (width, width), 3, stride),
            part(3, (width, outputs), 1, 1),
        ];
        (outputs, units)
    } else {
        (width, vec![part(1, (inputs, width), 3, stride), part(2, (width, width), 3, 1)])
    };
    let downsample = (stride != 1 || inputs != outputs).then(|| {
        let (conv, norm) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
        unit(&conv, &norm, (inputs, outputs), 1, stride)
    });
    BlockSpec { units, downsample }
}

fn unit(conv: &str, norm: &str, (inputs, outputs): (i64, i64), kernel: i64, stride: i64) -> UnitSpec {
    UnitSpec { conv: conv.to_owned(), norm: norm.to_owned(), inputs, outputs, kernel, stride }
}
