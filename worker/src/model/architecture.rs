//! Torchvision's ResNets (v1.5: in a bottleneck the 3x3 convolution strides) as plain data: names, shapes and order.
//! No tensor here, so that a network can be counted and named without building it.

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

    /// Every unit in forward order, which is also `state_dict` order.
    pub(crate) fn units(&self) -> impl Iterator<Item = (Stage, &UnitSpec)> {
        let layers = self.layers.iter().zip([Stage::Trunk, Stage::Trunk, Stage::Layer3, Stage::Head]);
        let blocks = layers.flat_map(|(blocks, stage)| blocks.iter().map(move |block| (stage, block)));
        std::iter::once((Stage::Trunk, &self.stem))
            .chain(blocks.flat_map(|(stage, block)| block.all_units().map(move |unit| (stage, unit))))
    }

    /// Every parameter in forward order.
    pub(crate) fn parameters(&self) -> Vec<ParameterSpec> {
        let mut parameters = Vec::new();
        for (index, (stage, unit)) in self.units().enumerate() {
            let weight = vec![unit.outputs, unit.inputs, unit.kernel, unit.kernel];
            let mut add = |name, shape, norm| parameters.push(ParameterSpec { name, shape, stage, norm });
            add(format!("{}.weight", unit.conv), weight, None);
            add(format!("{}.weight", unit.norm), vec![unit.outputs], Some(index));
            add(format!("{}.bias", unit.norm), vec![unit.outputs], Some(index));
        }
        let head = [("fc.weight", vec![self.classes, self.features]), ("fc.bias", vec![self.classes])];
        for (name, shape) in head {
            parameters.push(ParameterSpec { name: name.to_owned(), shape, stage: Stage::Head, norm: None });
        }
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
