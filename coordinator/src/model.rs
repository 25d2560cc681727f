//! Torchvision's ResNets as plain data: every tensor's name, shape and place, without libtorch.
//!
//! What a person wrote about layers, and what a file of weights holds, is checked against this before a worker has
//! started. The worker has its own words for the same networks; tests against torchvision hold both to it.

mod digits;
mod network;
mod summary;

use crate::recipe::ModelName;
use network::Network;

pub use digits::grouped;
pub use summary::{Summary, SummaryLayer};

/// Every network, the smallest first.
pub const ALL: [ModelName; 5] = [
    ModelName::Resnet18,
    ModelName::Resnet34,
    ModelName::Resnet50,
    ModelName::Resnet101,
    ModelName::Resnet152,
];

/// The network of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<ModelName> {
    ALL.into_iter().find(|model| model.as_str() == name)
}

/// A part of the network, as torchvision cuts it; `Ord` is forward order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// `conv1` and `bn1`.
    Stem,
    Layer1,
    Layer2,
    Layer3,
    Layer4,
    Fc,
}

impl Stage {
    /// In forward order.
    pub const ALL: [Self; 6] = [Self::Stem, Self::Layer1, Self::Layer2, Self::Layer3, Self::Layer4, Self::Fc];

    /// Torchvision's name, or the field's for what has none there.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stem => "stem",
            Self::Layer1 => "layer1",
            Self::Layer2 => "layer2",
            Self::Layer3 => "layer3",
            Self::Layer4 => "layer4",
            Self::Fc => "fc",
        }
    }
}

/// What kind of layer a tensor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// Without a bias.
    Convolution,
    BatchNorm,
    Linear,
}

/// A tensor that training may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Torchvision's.
    pub name: String,
    /// Convolutions: `[outputs, inputs, height, width]`; BatchNorm: `[channels]`; fc: `[classes, features]`, `[classes]`.
    pub shape: Vec<usize>,
    pub stage: Stage,
    pub kind: LayerKind,
}

impl Parameter {
    /// The number of values.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.shape.iter().map(|size| *size as u64).product()
    }

    /// The module that it is of: its name up to the last dot.
    #[must_use]
    pub fn module(&self) -> &str {
        self.name.rsplit_once('.').map_or("", |(module, _)| module)
    }

    /// Whether it is added, not multiplied.
    #[must_use]
    pub fn is_bias(&self) -> bool {
        self.name.ends_with(".bias")
    }
}

/// The type of a tensor's values in a `state_dict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateDtype {
    F32,
    /// Of `num_batches_tracked` alone.
    I64,
}

/// An entry of torchvision's `state_dict`: a parameter, or one of BatchNorm's statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateTensor {
    pub name: String,
    /// Empty for `num_batches_tracked`, which is a scalar.
    pub shape: Vec<usize>,
    pub dtype: StateDtype,
}

/// All parameters in torchvision's order, which is forward order.
#[must_use]
pub fn parameters(model: ModelName, classes: u32) -> Vec<Parameter> {
    let network = Network::new(model);
    let mut parameters = Vec::new();
    for (stage, unit) in network.units() {
        let mut add = |name, shape, kind| parameters.push(Parameter { name, shape, stage, kind });
        let kernel = vec![unit.outputs, unit.inputs, unit.kernel, unit.kernel];
        add(format!("{}.weight", unit.conv), kernel, LayerKind::Convolution);
        add(format!("{}.weight", unit.norm), vec![unit.outputs], LayerKind::BatchNorm);
        add(format!("{}.bias", unit.norm), vec![unit.outputs], LayerKind::BatchNorm);
    }
    let classes = classes as usize;
    for (name, shape) in [("fc.weight", vec![classes, network.features]), ("fc.bias", vec![classes])] {
        parameters.push(Parameter {
            name: name.to_owned(),
            shape,
            stage: Stage::Fc,
            kind: LayerKind::Linear,
        });
    }
    parameters
}

/// The names of all parameters in torchvision's order; they do not depend on the number of classes.
#[must_use]
pub fn parameter_names(model: ModelName) -> Vec<String> {
    parameters(model, 1).into_iter().map(|parameter| parameter.name).collect()
}

/// All entries of torchvision's `state_dict`, in its order.
#[must_use]
pub fn state(model: ModelName, classes: u32) -> Vec<StateTensor> {
    let mut state = Vec::new();
    for parameter in parameters(model, classes) {
        let ends_norm = parameter.kind == LayerKind::BatchNorm && parameter.is_bias();
        let module = parameter.module().to_owned();
        let shape = parameter.shape.clone();
        state.push(StateTensor { name: parameter.name, shape: parameter.shape, dtype: StateDtype::F32 });
        if ends_norm {
            let mut add = |kind, shape, dtype| {
                state.push(StateTensor { name: format!("{module}.{kind}"), shape, dtype });
            };
            add("running_mean", shape.clone(), StateDtype::F32);
            add("running_var", shape, StateDtype::F32);
            add("num_batches_tracked", Vec::new(), StateDtype::I64);
        }
    }
    state
}

#[cfg(test)]
mod tests;
