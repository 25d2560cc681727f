//! A training's choices that have other names on each side: recipe keys on ours, classes of `torch.optim` on the other.

use serde_json::{Value, json};

const MOMENTUM: f64 = 0.9;
const BETAS: (f64, f64) = (0.8, 0.99);
/// More than rounding leaves of a gradient that is zero, of a BatchNorm's bias before another one: AdamW divides by its size,
/// and the parameter would walk at random.
const EPS: f64 = 1e-4;

/// Momentum, betas and eps are the same in all jobs, and PyTorch's defaults in none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Optimizer {
    Sgd { nesterov: bool },
    AdamW,
}

impl Optimizer {
    /// As `--set` arguments.
    pub(crate) fn recipe(self) -> Vec<String> {
        match self {
            Self::Sgd { nesterov } => vec![
                "optimizer.name=\"sgd\"".to_owned(),
                format!("optimizer.momentum={MOMENTUM:?}"),
                format!("optimizer.nesterov={nesterov}"),
            ],
            Self::AdamW => vec![
                "optimizer.name=\"adamw\"".to_owned(),
                format!("optimizer.beta1={:?}", BETAS.0),
                format!("optimizer.beta2={:?}", BETAS.1),
                format!("optimizer.eps={EPS:?}"),
            ],
        }
    }

    /// The class, and its arguments besides rate and decay.
    pub(crate) fn reference(self) -> (&'static str, Value) {
        match self {
            Self::Sgd { nesterov } => ("SGD", json!({ "momentum": MOMENTUM, "nesterov": nesterov })),
            Self::AdamW => ("AdamW", json!({ "betas": [BETAS.0, BETAS.1], "eps": EPS })),
        }
    }
}

/// The curve of the learning rate; lengths are in epochs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Schedule {
    Constant,
    Cosine { t_max: u32 },
    CosineToZero,
    Step { size: u32, gamma: f64 },
    OneCycle { pct_start: f64, div_factor: f64, final_div_factor: f64 },
}

/// What the reference's schedules count: epochs or steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Units {
    pub(crate) per_epoch: usize,
    /// Of the run, warm-up included.
    pub(crate) total: usize,
    pub(crate) warmup: usize,
}

impl Schedule {
    /// As `--set` arguments.
    pub(crate) fn recipe(self) -> Vec<String> {
        let name = |name: &str| format!("schedule.name=\"{name}\"");
        match self {
            Self::Constant => vec![name("constant")],
            Self::Cosine { t_max } => vec![name("cosine"), format!("schedule.t_max={t_max}")],
            Self::CosineToZero => vec![name("cosine-to-zero")],
            Self::Step { size, gamma } => {
                vec![name("step"), format!("schedule.step_size={size}"), format!("schedule.gamma={gamma:?}")]
            }
            Self::OneCycle { pct_start, div_factor, final_div_factor } => vec![
                name("one-cycle"),
                format!("schedule.pct_start={pct_start:?}"),
                format!("schedule.div_factor={div_factor:?}"),
                format!("schedule.final_div_factor={final_div_factor:?}"),
            ],
        }
    }

    /// The class, and its arguments besides the one cycle's rates and length.
    pub(crate) fn reference(self, units: &Units) -> (&'static str, Value) {
        match self {
            Self::Constant => ("ConstantLR", json!({ "factor": 1.0 })),
            Self::Cosine { t_max } => {
                ("CosineAnnealingLR", json!({ "T_max": t_max as usize * units.per_epoch }))
            }
            Self::CosineToZero => ("CosineAnnealingLR", json!({ "T_max": units.total - units.warmup })),
            Self::Step { size, gamma } => {
                ("StepLR", json!({ "step_size": size as usize * units.per_epoch, "gamma": gamma }))
            }
            // Momentum would move too, by default.
            Self::OneCycle { pct_start, div_factor, final_div_factor } => {
                let settings = json!({
                    "pct_start": pct_start,
                    "div_factor": div_factor,
                    "final_div_factor": final_div_factor,
                    "cycle_momentum": false,
                });
                ("OneCycleLR", settings)
            }
        }
    }
}

/// Parameters with a rate of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) pattern: &'static str,
    pub(crate) lr: f64,
    pub(crate) weight_decay: Option<f64>,
}

impl Group {
    /// As an inline table.
    pub(crate) fn recipe(&self) -> String {
        let Self { pattern, lr, weight_decay } = self;
        let decay = weight_decay.map(|decay| format!(", weight_decay = {decay:?}")).unwrap_or_default();
        format!("{{ match = {pattern:?}, lr = {lr:?}{decay} }}")
    }

    pub(crate) fn reference(&self) -> Value {
        let mut group = json!({ "match": self.pattern, "lr": self.lr });
        if let Some(decay) = self.weight_decay {
            group["weight_decay"] = json!(decay);
        }
        group
    }
}
