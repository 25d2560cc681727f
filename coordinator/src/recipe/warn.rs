//! Settings that are allowed and probably not meant. The tutorial's own recipe has two of them, so they
//! are told and never changed.

use std::f64::consts::PI;

use super::choice::{Normalize, ScheduleName, SelectSplit};
use super::{Recipe, Weights, parameter_names};

impl Recipe {
    /// What the user should know before waiting for this run, a sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.select.split == SelectSplit::Test {
            warnings.push(
                "select.split = \"test\": the model is selected on the test set: its test accuracy will be too good"
                    .to_owned(),
            );
        }
        warnings.extend(self.schedule_warning());
        warnings.extend(self.frozen_warning());
        if let Some(unfreeze) = &self.train.unfreeze_at
            && unfreeze.epoch >= self.epochs
        {
            warnings.push(format!(
                "train.unfreeze_at.epoch = {} but epochs = {}: nothing is ever unfrozen",
                unfreeze.epoch, self.epochs
            ));
        }
        if self.model.weights != Weights::None && self.data.normalize != Normalize::Imagenet {
            warnings.push(format!(
                "data.normalize = \"{}\" with model.weights: torchvision's weights were trained with \"imagenet\"",
                self.data.normalize
            ));
        }
        if self.select.patience >= self.epochs {
            warnings.push(format!(
                "select.patience = {} but epochs = {}: the run never stops early",
                self.select.patience, self.epochs
            ));
        }
        warnings
    }

    /// The share of its start that the learning rate has after the last epoch, in 0..=1.
    fn final_lr_share(&self) -> f64 {
        let epochs = self.epochs - self.schedule.warmup_epochs;
        (1.0 + (PI * f64::from(epochs) / f64::from(self.schedule.t_max)).cos()) / 2.0
    }

    fn schedule_warning(&self) -> Option<String> {
        let (t_max, epochs) = (self.schedule.t_max, self.epochs - self.schedule.warmup_epochs);
        if self.schedule.name != ScheduleName::Cosine || t_max == epochs {
            return None;
        }
        let per_cent = 100.0 * self.final_lr_share();
        let course = if epochs < t_max {
            format!("the learning rate ends at {per_cent:.0} % of its start")
        } else {
            format!(
                "the learning rate reaches 0 after {t_max} epochs, rises again and ends at {per_cent:.0} % of its start"
            )
        };
        let left = match self.schedule.warmup_epochs {
            0 => format!("epochs = {epochs}"),
            _ => format!("{epochs} epochs follow the warm-up"),
        };
        Some(format!("schedule.t_max = {t_max} but {left}: {course}"))
    }

    fn frozen_warning(&self) -> Option<String> {
        // Those of the last phase: what is unfrozen later does not stay random.
        let phases = self.phases();
        let trainable: Vec<&str> = phases.iter().next_back()?.parameters().collect();
        let all = parameter_names(self.model.name).len();
        if self.model.weights != Weights::None || trainable.len() == all {
            return None;
        }
        let what = if trainable.iter().all(|name| name.starts_with("fc.")) {
            "all but the head is frozen: its features are random and stay so".to_owned()
        } else {
            format!("{} of {all} parameter tensors are frozen at random values", all - trainable.len())
        };
        Some(format!("model.weights = \"none\" and {what}"))
    }
}
