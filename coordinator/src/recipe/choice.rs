//! The settings that are one of a few words. One macro keeps the word, the variant and the list of all
//! in one place, so that an error can name every right word.

use std::fmt;

use serde::Serialize;

pub use crate::data::DataName;

/// A setting with a closed set of words.
pub(crate) trait Choice: Copy + 'static {
    const ALL: &'static [Self];
    fn word(self) -> &'static str;
}

macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub enum $name { $($(#[$variant_meta])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// The word in the TOML file.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl Choice for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            fn word(self) -> &'static str {
                self.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

choice! {
    Precision {
        Fp32 = "fp32",
        /// Activations and convolutions in bfloat16; weights, BatchNorm's parameters and loss in fp32.
        Bf16 = "bf16",
    }
}

impl Choice for DataName {
    const ALL: &'static [Self] = &Self::ALL;
    fn word(self) -> &'static str {
        self.as_str()
    }
}

choice! {
    /// What pixels in 0..1 are shifted and scaled by.
    Normalize {
        Half = "half",
        Imagenet = "imagenet",
        Cifar10 = "cifar10",
    }
}

impl Normalize {
    /// Mean and standard deviation per channel (red, green, blue) of pixels in 0..1.
    ///
    /// `imagenet` is torchvision's; `cifar10` is measured over the 50,000 training pictures.
    #[must_use]
    pub const fn mean_std(self) -> ([f32; 3], [f32; 3]) {
        match self {
            Self::Half => ([0.5; 3], [0.5; 3]),
            Self::Imagenet => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            Self::Cifar10 => ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        }
    }
}

choice! {
    ModelName {
        Resnet18 = "resnet18",
        Resnet34 = "resnet34",
        Resnet50 = "resnet50",
        Resnet101 = "resnet101",
        Resnet152 = "resnet152",
    }
}

choice! {
    /// What BatchNorm layers with frozen parameters normalise with.
    FrozenBatchNorm {
        /// Their running statistics, which stay unchanged.
        Eval = "eval",
        /// The batch's statistics; the running ones move.
        Train = "train",
    }
}

choice! {
    /// Whether the outputs of layers that never change are computed once and kept.
    PrefixCache {
        /// Where nothing random comes before them.
        Auto = "auto",
        Off = "off",
    }
}

choice! {
    OptimizerName {
        Sgd = "sgd",
        /// With decoupled weight decay.
        AdamW = "adamw",
    }
}

choice! {
    ScheduleName {
        /// PyTorch's `CosineAnnealingLR`, down to 0 and up again.
        Cosine = "cosine",
        /// Half a cosine from the full rate to 0 over the run.
        CosineToZero = "cosine-to-zero",
        /// PyTorch's `StepLR`.
        Step = "step",
        /// PyTorch's `OneCycleLR` over the run.
        OneCycle = "one-cycle",
        Constant = "constant",
    }
}

choice! {
    /// How often the learning rate moves.
    SchedulePer {
        Epoch = "epoch",
        Step = "step",
    }
}

choice! {
    /// The split that the best model is selected on.
    SelectSplit {
        Val = "val",
        Test = "test",
    }
}

choice! {
    /// What the best model is best in.
    Metric {
        AccTop1 = "acc_top1",
    }
}

choice! {
    /// When the weights go back to the best ones.
    Restore {
        Never = "never",
        /// Once, after the last epoch.
        End = "end",
        /// After every epoch that was not the best.
        Epoch = "epoch",
    }
}
