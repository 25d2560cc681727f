//! Whether a file's tensors are those of a ResNet: under which name they lie in it, of which depth, with which head.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::WeightsError;
use super::elements::has_non_finite;
use super::file::{FileTensor, WeightsFile};
use super::state_dict::{Entry, StateDict};
use crate::model::{self, StateDtype, StateTensor};
use crate::recipe::ModelName;

/// More than ImageNet-21k's 21,841. A tensor of few numbers can claim any shape (by a stride of 0), and the memory for
/// it is taken only within this.
const CLASSES_MAX: usize = 100_000;

/// Where training programs keep a `state_dict`, the likeliest first: of several places that hold the same names, the
/// first is taken. What stands last keeps a running average beside the weights.
const PLACES: [&str; 15] = [
    "",
    "module",
    "state_dict",
    "model_state_dict",
    "model",
    "model_state",
    "net",
    "network",
    "weights",
    "params",
    "_orig_mod",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
];

/// The tensors that lie under one name in the file, by the rest of their names.
#[derive(Debug)]
pub(super) struct Fit<'a> {
    path: &'a Path,
    /// What stands before the names, e.g. `state_dict.module.`.
    pub(super) prefix: String,
    tensors: BTreeMap<&'a str, &'a FileTensor>,
}

/// What is not as it should be; the error without the file and the hint.
#[derive(Debug)]
enum Misfit {
    Missing(StateTensor),
    Misshapen { tensor: StateTensor, found: Vec<usize> },
    Unexpected(String),
}

impl<'a> Fit<'a> {
    /// Finds the place in the file that has most of a ResNet's names.
    pub(super) fn find(path: &'a Path, file: &'a WeightsFile) -> Result<Self, WeightsError> {
        let known: BTreeSet<String> = model::ALL
            .into_iter()
            .flat_map(|model| model::state(model, 1))
            .map(|tensor| tensor.name)
            .collect();
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        for name in file.tensors.keys() {
            let starts = std::iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
            for start in starts.filter(|start| known.contains(&name[*start..])) {
                *found.entry(&name[..start]).or_default() += 1;
            }
        }
        let most = found.values().copied().max();
        let rank = |prefix: &str| {
            let place = prefix.split('.').next().unwrap_or_default();
            PLACES.iter().position(|known| *known == place).unwrap_or(PLACES.len())
        };
        let fullest = found.iter().filter(|(_, count)| Some(**count) == most).map(|(prefix, _)| *prefix);
        let mut prefixes: Vec<&str> = fullest.collect();
        let best = prefixes.iter().map(|prefix| rank(prefix)).min();
        prefixes.retain(|prefix| Some(rank(prefix)) == best);
        match prefixes[..] {
            [] => Err(WeightsError::NoResNet { path: path.to_owned(), tensors: file.tensors.len() }),
            [prefix] => {
                let under = |(name, tensor)| Some((str::strip_prefix(name, prefix)?, tensor));
                let all = file.tensors.iter().map(|(name, tensor)| (&**name, tensor));
                Ok(Self { path, prefix: prefix.to_owned(), tensors: all.filter_map(under).collect() })
            }
            _ => {
                let prefixes =
                    prefixes.iter().map(|prefix| prefix.trim_end_matches('.').to_owned()).collect();
                Err(WeightsError::Ambiguous { path: path.to_owned(), prefixes })
            }
        }
    }

    /// The ResNet whose names and shapes these are, whatever the number of classes.
    fn recognise(&self) -> Option<ModelName> {
        model::ALL.into_iter().find(|model| self.misfit(&self.expected(*model)).is_none())
    }

    /// The ResNet that most of the names and shapes are of: the one to measure by when nobody says which it should be.
    pub(super) fn nearest(&self) -> ModelName {
        let fitting = |expected: &[StateTensor]| {
            expected
                .iter()
                .filter(|t| self.tensors.get(&*t.name).is_some_and(|found| found.shape == t.shape))
                .count()
        };
        // Those that fit, less those that do not, so that a small network in a large one's file is not taken for it.
        let score = |model: &ModelName| {
            let expected = self.expected(*model);
            2 * fitting(&expected) as i64 - expected.len() as i64 - self.tensors.len() as i64
        };
        model::ALL.into_iter().max_by_key(score).unwrap_or(ModelName::Resnet50)
    }

    /// The number of outputs of the file's head, if it has one.
    pub(super) fn classes(&self) -> Option<usize> {
        self.tensors.get("fc.bias").and_then(|bias| bias.shape.first().copied())
    }

    /// Checks names, shapes and types, and reads all numbers as `model`'s.
    pub(super) fn read(&self, model: ModelName) -> Result<(StateDict, Vec<String>), WeightsError> {
        if let Some(classes) = self.classes().filter(|classes| !(1..=CLASSES_MAX).contains(classes)) {
            return Err(WeightsError::Classes { path: self.path.to_owned(), classes, limit: CLASSES_MAX });
        }
        let expected = self.expected(model);
        if let Some(misfit) = self.misfit(&expected) {
            return Err(self.error(misfit, model));
        }
        let mut converted = BTreeMap::<&str, usize>::new();
        let mut strange = None;
        let mut entries = Vec::new();
        for tensor in expected {
            let bytes = match self.tensors.get(&*tensor.name) {
                None => 0i64.to_le_bytes().to_vec(), // a counter, which older files lack
                Some(found) => self.elements(&tensor, found)?,
            };
            if let Some(found) = self.tensors.get(&*tensor.name).filter(|found| found.elements.is_converted())
            {
                *converted.entry(found.elements.name()).or_default() += 1;
            }
            if tensor.dtype == StateDtype::F32 && strange.is_none() && has_non_finite(&bytes) {
                strange = Some(tensor.name.clone());
            }
            entries.push(Entry { tensor, bytes });
        }
        let mut notes: Vec<String> = converted
            .into_iter()
            .map(|(name, count)| format!("{count} tensors are {name} in the file and become float32"))
            .collect();
        notes.extend(
            strange.map(|name| format!("tensor {name} holds values that are infinite or no numbers")),
        );
        Ok((StateDict { entries }, notes))
    }

    fn elements(&self, tensor: &StateTensor, found: &FileTensor) -> Result<Vec<u8>, WeightsError> {
        if !found.elements.can_be(tensor.dtype) {
            return Err(WeightsError::WrongType {
                path: self.path.to_owned(),
                name: tensor.name.clone(),
                expected: tensor.dtype,
                found: found.elements.name().to_owned(),
            });
        }
        let damaged = |reason| WeightsError::Damaged { path: self.path.to_owned(), reason };
        let bytes = found.read().map_err(|error| match error.raw_os_error() {
            Some(_) => WeightsError::io(self.path)(error),
            None => damaged(error.to_string()),
        })?;
        let count = tensor.shape.iter().product();
        let converted = found.elements.convert(bytes, count);
        converted.ok_or_else(|| damaged(format!("tensor {} has not the size of its shape", tensor.name)))
    }

    /// `model`'s tensors with as many classes as the file's head has.
    fn expected(&self, model: ModelName) -> Vec<StateTensor> {
        let classes = self.classes().and_then(|classes| u32::try_from(classes).ok()).unwrap_or(1);
        model::state(model, classes)
    }

    fn misfit(&self, expected: &[StateTensor]) -> Option<Misfit> {
        for tensor in expected {
            match self.tensors.get(&*tensor.name) {
                Some(found) if found.shape == tensor.shape => {}
                Some(found) => {
                    return Some(Misfit::Misshapen { tensor: tensor.clone(), found: found.shape.clone() });
                }
                None if tensor.dtype == StateDtype::I64 => {}
                None => return Some(Misfit::Missing(tensor.clone())),
            }
        }
        let known: BTreeSet<&str> = expected.iter().map(|tensor| &*tensor.name).collect();
        let stranger = self.tensors.keys().find(|name| !known.contains(**name));
        stranger.map(|name| Misfit::Unexpected((*name).to_owned()))
    }

    fn error(&self, misfit: Misfit, model: ModelName) -> WeightsError {
        let path = self.path.to_owned();
        let whole = |name: String| format!("{}{name}", self.prefix);
        let other = self.recognise();
        match misfit {
            Misfit::Missing(tensor) if self.classes().is_none() && tensor.name.starts_with("fc.") => {
                WeightsError::NoHead { path, name: whole(tensor.name) }
            }
            Misfit::Missing(tensor) => {
                WeightsError::Missing { path, name: whole(tensor.name), shape: tensor.shape, model, other }
            }
            Misfit::Misshapen { tensor, found } => {
                let (name, expected) = (whole(tensor.name), tensor.shape);
                WeightsError::Misshapen { path, name, expected, found, model, other }
            }
            Misfit::Unexpected(name) => WeightsError::Unexpected { path, name: whole(name), model, other },
        }
    }
}

#[cfg(test)]
mod tests;
