//! What is trained when, and how fast: a recipe's patterns turned into exact parameter names.
//!
//! Everything is resolved before a worker has started. A pattern that misses is then an error with the nearest right
//! name instead of a run that trains something else, workers get plain lists, and what stays frozen can be shown to
//! the person who asked for it.

mod error;
mod pattern;
mod table;

use crate::model::{self, LayerKind, Parameter};
use crate::recipe::{FrozenBatchNorm, Group, ModelName, Recipe, Unfreeze};

pub use error::PatternError;
pub use table::table;

use pattern::Pattern;

/// The settings of a recipe that say what is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct FreezingSettings {
    pub model: ModelName,
    /// Patterns; every other parameter is frozen. Takes precedence over `frozen`; a recipe has one of them.
    pub trainable: Option<Vec<String>>,
    /// Patterns; every other parameter is trained.
    pub frozen: Option<Vec<String>>,
    pub frozen_batch_norm: FrozenBatchNorm,
    pub unfreeze_at: Option<Unfreeze>,
    /// The first that matches a parameter wins.
    pub groups: Vec<Group>,
    /// Of parameters in no group.
    pub lr: f64,
    /// Of parameters in no group, and of groups that have none of their own.
    pub weight_decay: f64,
    /// Whether weight decay also pulls at biases and BatchNorm's weights.
    pub decay_norm_and_bias: bool,
}

impl From<&Recipe> for FreezingSettings {
    fn from(recipe: &Recipe) -> Self {
        Self {
            model: recipe.model.name,
            trainable: recipe.train.trainable.clone(),
            frozen: recipe.train.frozen.clone(),
            frozen_batch_norm: recipe.train.frozen_batch_norm,
            unfreeze_at: recipe.train.unfreeze_at.clone(),
            groups: recipe.train.group.clone(),
            lr: recipe.optimizer.lr,
            weight_decay: recipe.optimizer.weight_decay,
            decay_norm_and_bias: recipe.optimizer.decay_norm_and_bias,
        }
    }
}

/// What is trained from an epoch on.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// 0-based.
    pub epoch: u32,
    /// Disjoint; whatever is in none of them is frozen.
    pub groups: Vec<ResolvedGroup>,
}

impl Phase {
    /// The group that trains a parameter; none: it is frozen.
    #[must_use]
    pub fn group_of(&self, parameter: &str) -> Option<&ResolvedGroup> {
        self.groups.iter().find(|group| group.parameters.iter().any(|name| name == parameter))
    }

    /// Names of all that is trained, group by group.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().flat_map(|group| group.parameters.iter().map(String::as_str))
    }
}

/// Parameters with settings in common.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedGroup {
    /// Exact names in forward order.
    pub parameters: Vec<String>,
    /// Before the schedule's factor.
    pub lr: f64,
    pub weight_decay: f64,
}

/// What is trained when: one phase from epoch 0, and with `unfreeze_at` a second one.
///
/// Parameters with equal rate and decay are in one group; groups come in the forward order of their first parameters.
///
/// # Errors
///
/// A pattern that is no glob or matches nothing, settings that train nothing at first, an `unfreeze_at` that adds
/// nothing, a group that no trained parameter ends up in.
pub fn resolve(settings: &FreezingSettings) -> Result<Vec<Phase>, PatternError> {
    let Resolver { parameters, trained, unfrozen, group_of } = Resolver::new(settings)?;
    let phase = |epoch, trained: &[bool]| {
        let mut groups: Vec<ResolvedGroup> = Vec::new();
        let chosen = parameters.iter().zip(&group_of).zip(trained).filter(|(_, trained)| **trained);
        for ((parameter, group), _) in chosen {
            let (lr, weight_decay) = rates(settings, parameter, group.map(|index| &settings.groups[index]));
            let same = |group: &&mut ResolvedGroup| {
                group.lr.to_bits() == lr.to_bits() && group.weight_decay.to_bits() == weight_decay.to_bits()
            };
            let name = parameter.name.clone();
            match groups.iter_mut().find(same) {
                Some(group) => group.parameters.push(name),
                None => groups.push(ResolvedGroup { parameters: vec![name], lr, weight_decay }),
            }
        }
        Phase { epoch, groups }
    };
    let mut phases = vec![phase(0, &trained)];
    if let (Some(unfreeze), Some(unfrozen)) = (&settings.unfreeze_at, &unfrozen) {
        phases.push(phase(unfreeze.epoch, unfrozen));
    }
    Ok(phases)
}

/// Which parameters of `model` are trained, in forward order: those that one of the patterns matches.
///
/// # Errors
///
/// A pattern that is no glob or matches nothing. `key` names the patterns' place in errors.
pub fn matching(
    model: ModelName,
    key: &'static str,
    patterns: &[String],
) -> Result<Vec<String>, PatternError> {
    let names = model::parameter_names(model);
    let matched = any_of(model, &names, key, patterns)?;
    Ok(names.into_iter().zip(matched).filter(|(_, matched)| *matched).map(|(name, _)| name).collect())
}

/// Learning rate and weight decay of a trained parameter.
fn rates(settings: &FreezingSettings, parameter: &Parameter, group: Option<&Group>) -> (f64, f64) {
    let lr = group.map_or(settings.lr, |group| group.lr);
    let decay = group.and_then(|group| group.weight_decay).unwrap_or(settings.weight_decay);
    let is_spared = parameter.is_bias() || parameter.kind == LayerKind::BatchNorm;
    (lr, if is_spared && !settings.decay_norm_and_bias { 0.0 } else { decay })
}

/// Every pattern carried out: flags by parameter, in forward order.
struct Resolver {
    parameters: Vec<Parameter>,
    /// At the start.
    trained: Vec<bool>,
    /// From `unfreeze_at` on.
    unfrozen: Option<Vec<bool>>,
    /// By number in the settings.
    group_of: Vec<Option<usize>>,
}

impl Resolver {
    fn new(settings: &FreezingSettings) -> Result<Self, PatternError> {
        // Names and kinds, which do not depend on the number of classes.
        let parameters = model::parameters(settings.model, 1);
        let names: Vec<String> = parameters.iter().map(|parameter| parameter.name.clone()).collect();
        let any_of = |key, patterns: &[String]| any_of(settings.model, &names, key, patterns);

        let trained = match (&settings.trainable, &settings.frozen) {
            (Some(patterns), _) => any_of("train.trainable", patterns)?,
            (None, Some(patterns)) => {
                any_of("train.frozen", patterns)?.into_iter().map(|frozen| !frozen).collect()
            }
            (None, None) => vec![true; names.len()],
        };
        if !trained.contains(&true) {
            let key = if settings.trainable.is_some() { "train.trainable" } else { "train.frozen" };
            return Err(PatternError::NothingTrained { key });
        }
        let unfrozen = match &settings.unfreeze_at {
            None => None,
            Some(unfreeze) => {
                let added = any_of("train.unfreeze_at", &unfreeze.patterns)?;
                let all: Vec<bool> =
                    trained.iter().zip(added).map(|(before, added)| *before || added).collect();
                if all == trained {
                    return Err(PatternError::NothingUnfrozen { patterns: unfreeze.patterns.clone() });
                }
                Some(all)
            }
        };
        let group_of = groups(settings, &names, unfrozen.as_ref().unwrap_or(&trained))?;
        Ok(Self { parameters, trained, unfrozen, group_of })
    }
}

/// For each parameter the first group that matches it. Every group must be the first for one that is `ever_trained`.
fn groups(
    settings: &FreezingSettings,
    names: &[String],
    ever_trained: &[bool],
) -> Result<Vec<Option<usize>>, PatternError> {
    let mut group_of = vec![None; names.len()];
    for (index, group) in settings.groups.iter().enumerate() {
        let pattern = group.pattern.clone();
        let matched = any_of(settings.model, names, "train.group", std::slice::from_ref(&pattern))?;
        let trained = |at: &usize| matched[*at] && ever_trained[*at];
        if !(0..names.len()).any(|at| trained(&at)) {
            return Err(PatternError::GroupFrozen { pattern });
        }
        let free: Vec<usize> =
            (0..names.len()).filter(|at| matched[*at] && group_of[*at].is_none()).collect();
        if !free.iter().any(trained) {
            return Err(PatternError::GroupShadowed { pattern });
        }
        free.into_iter().for_each(|at| group_of[at] = Some(index));
    }
    Ok(group_of)
}

/// Which names one of the patterns matches; each pattern must match one.
fn any_of(
    model: ModelName,
    names: &[String],
    key: &'static str,
    patterns: &[String],
) -> Result<Vec<bool>, PatternError> {
    let mut any = vec![false; names.len()];
    for text in patterns {
        let pattern = Pattern::parse(text).map_err(|error| PatternError::Glob {
            pattern: text.clone(),
            key,
            message: error.kind().to_string(),
        })?;
        let matched = pattern.matches(names);
        if !matched.contains(&true) {
            let near = pattern::nearest(names, text);
            return Err(PatternError::Unmatched { pattern: text.clone(), key, model, near });
        }
        any.iter_mut().zip(matched).for_each(|(any, matched)| *any |= matched);
    }
    Ok(any)
}

#[cfg(test)]
mod tests;
