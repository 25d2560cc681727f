//! What is trained when: the plan's phases, as functions of the epoch alone, so that a run resumed anywhere is in the
//! right one without anything saved.

use std::collections::BTreeSet;

use super::error::TrainerError;
use super::optimizer::Birth;
use crate::model::{ModelError, ModelSpec, ResNet};
use crate::plan::{PhasePlan, Plan};

/// The index of the phase that `epoch` belongs to.
pub(super) fn at(plan: &Plan, epoch: u32) -> Result<usize, TrainerError> {
    let begun = |phase: &PhasePlan| phase.epoch <= epoch;
    plan.train.phases.iter().rposition(begun).ok_or(TrainerError::NothingTrained { epoch })
}

/// Makes sure that every phase trains something that there is: a later one's mistake should not wait for its epoch.
pub(super) fn check(plan: &Plan, spec: ModelSpec) -> Result<(), TrainerError> {
    let known: BTreeSet<String> = spec.parameter_names().into_iter().collect();
    for phase in &plan.train.phases {
        let mut names = names(phase).peekable();
        if names.peek().is_none() {
            return Err(TrainerError::NothingTrained { epoch: phase.epoch });
        }
        if let Some(name) = names.find(|name| !known.contains(*name)) {
            let (name, model) = (name.to_owned(), spec.name.to_string());
            return Err(TrainerError::Model(ModelError::UnknownParameter { name, model }));
        }
    }
    Ok(())
}

/// The parameters that a phase trains.
pub(super) fn names(phase: &PhasePlan) -> impl Iterator<Item = &str> {
    phase.groups.iter().flat_map(|group| group.parameters.iter().map(String::as_str))
}

/// Since when the parameters that `model` trains in the phase of that index have been trained without a pause;
/// neighbours of one age joined.
pub(super) fn births(plan: &Plan, index: usize, model: &ResNet) -> Vec<Birth> {
    let trained: Vec<BTreeSet<&str>> = plan.train.phases.iter().map(|phase| names(phase).collect()).collect();
    let mut births: Vec<Birth> = Vec::new();
    for (name, range) in model.trainable_ranges() {
        let paused = trained[..index].iter().rposition(|names| !names.contains(name));
        let since = paused.map_or(0, |phase| phase + 1);
        let step = plan.start_of(plan.train.phases[since].epoch).step;
        match births.last_mut() {
            Some(last) if last.step == step => last.range.end = range.end,
            _ => births.push(Birth { range, step }),
        }
    }
    births
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::model::{Freezing, FrozenBatchNorm, ModelName, Trainable};
    use crate::plan::{self, GroupPlan};

    const SPEC: ModelSpec = ModelSpec::new(ModelName::Resnet18, 3);

    fn phase(epoch: u32, names: &[&str]) -> PhasePlan {
        let parameters = names.iter().map(|&name| name.to_owned()).collect();
        PhasePlan { epoch, groups: vec![GroupPlan { parameters, lr: 0.1, weight_decay: 0.0 }] }
    }

    fn plan(phases: Vec<PhasePlan>) -> Plan {
        let mut plan = Plan { steps_per_epoch: 10, ..plan::sample() };
        plan.train.phases = phases;
        plan
    }

    #[test]
    fn an_epoch_belongs_to_the_last_phase_that_has_begun() {
        let plan = plan(vec![phase(0, &["fc.bias"]), phase(3, &["fc.weight"]), phase(5, &["fc.bias"])]);
        let phases: Vec<usize> = (0..8).map(|epoch| at(&plan, epoch).unwrap()).collect();
        assert_eq!(phases, [0, 0, 0, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn a_parameter_is_born_when_it_was_last_freed() {
        let all = ["layer4.1.bn2.weight", "layer4.1.bn2.bias", "fc.weight", "fc.bias"];
        // fc.weight throughout, fc.bias with a pause, the norm from the second phase on.
        let phases = vec![phase(0, &["fc.weight", "fc.bias"]), phase(2, &all[..3]), phase(5, &all)];
        let plan = plan(phases);
        let births_at = |index: usize| {
            let trained = names(&plan.train.phases[index]).map(str::to_owned).collect();
            let trainable = Trainable::Named(trained);
            let freezing = Freezing { trainable, frozen_batch_norm: FrozenBatchNorm::Eval };
            let births = births(&plan, index, &ResNet::new(SPEC, &freezing, Device::Cpu).unwrap());
            births.into_iter().map(|birth| (birth.range, birth.step)).collect::<Vec<_>>()
        };
        let head = 512 * 3;
        assert_eq!(births_at(0), [(0..head + 3, 0)]);
        assert_eq!(births_at(1), [(0..1024, 20), (1024..1024 + head, 0)]);
        let bias = 1024 + head;
        assert_eq!(births_at(2), [(0..1024, 20), (1024..bias, 0), (bias..bias + 3, 50)]);
    }

    #[test]
    fn a_phase_that_trains_nothing_or_nothing_known_is_refused_from_the_start() {
        assert!(check(&plan(vec![phase(0, &["fc.bias"]), phase(3, &["fc.weight"])]), SPEC).is_ok());
        let empty = check(&plan(vec![phase(0, &["fc.bias"]), phase(3, &[])]), SPEC).unwrap_err();
        assert_eq!(empty.to_string(), "every parameter is frozen from epoch 3 on: there is nothing to train");
        let unknown = check(&plan(vec![phase(0, &["fc.bias"]), phase(3, &["fc"])]), SPEC).unwrap_err();
        assert!(unknown.to_string().contains("resnet18 has no parameter \"fc\""), "{unknown}");
        assert!(at(&plan(vec![]), 0).is_err());
    }
}
