//! How the members of a generation agree on the way that their sums take.
//!
//! A link takes all of them. So each says over the host's collective whether its device has one to offer; where all do,
//! each opens its own, and says whether that worked. One that cannot is no reason to stop: the host's way is always there.

use std::fmt::Debug;

use super::super::error::CollectiveError;
use super::super::exchange::Collective;
use super::{Check, DeviceLink};

/// What a member can open a link with.
pub trait Opener: Send + Sync + Debug {
    /// What rank 0 has to tell all members first; at most 255 bytes.
    ///
    /// # Errors
    /// Why there is none, for people.
    fn identify(&self) -> Result<Vec<u8>, String>;

    /// Meets the other members, who do the same with the same `id`.
    ///
    /// # Errors
    /// [`CollectiveError::Device`] where the members can do without; others end the generation.
    fn open(
        &self,
        id: &[u8],
        rank: usize,
        world_size: usize,
        check: Check<'_>,
    ) -> Result<Box<dyn DeviceLink>, CollectiveError>;
}

/// The way that all members' sums take.
#[derive(Debug)]
pub enum Agreement {
    Device(Box<dyn DeviceLink>),
    /// Through the host. Who stood in the way where some had a GPU, and why, by rank; none where nobody had.
    Host {
        reasons: Vec<(usize, String)>,
    },
}

/// A member's word, as it crosses the wire: a byte for its kind, then its text.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// It computes on the CPU.
    NoDevice,
    /// With the id, where it is rank 0.
    Ready(Vec<u8>),
    Unable(String),
}

const NO_DEVICE: u8 = 0;
const READY: u8 = 1;
const UNABLE: u8 = 2;

impl Word {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::NoDevice => vec![NO_DEVICE],
            Self::Ready(id) => [&[READY], id.as_slice()].concat(),
            Self::Unable(reason) => [&[UNABLE], reason.as_bytes()].concat(),
        }
    }

    fn decode(bytes: &[u8]) -> Self {
        match bytes.split_first() {
            Some((&NO_DEVICE, _)) => Self::NoDevice,
            Some((&READY, id)) => Self::Ready(id.to_vec()),
            Some((&UNABLE, reason)) => Self::Unable(String::from_utf8_lossy(reason).into_owned()),
            _ => Self::Unable("it speaks another version".to_owned()),
        }
    }
}

/// Finds out, the same on every member. `opener` is what this member could open a link with, or why it cannot; none on
/// the CPU.
///
/// # Errors
/// [`CollectiveError`], of the host's collective or of what ends the generation.
pub fn agree(
    collective: &mut dyn Collective,
    opener: Option<Result<&dyn Opener, String>>,
) -> Result<Agreement, CollectiveError> {
    let (rank, world_size) = (collective.rank(), collective.world_size());
    let offer = match &opener {
        None => Word::NoDevice,
        Some(Err(reason)) => Word::Unable(reason.clone()),
        Some(Ok(_)) if rank != 0 => Word::Ready(Vec::new()),
        Some(Ok(opener)) => opener.identify().map_or_else(Word::Unable, Word::Ready),
    };
    let words = said(collective, &offer)?;
    let (Some(Ok(opener)), Some(Word::Ready(id))) = (opener, words.first()) else {
        return Ok(Agreement::Host { reasons: reasons(&words) });
    };
    if !words.iter().all(|word| matches!(word, Word::Ready(_))) {
        return Ok(Agreement::Host { reasons: reasons(&words) });
    }
    let opened = match opener.open(id, rank, world_size, &mut || collective.check()) {
        Err(error @ CollectiveError::Device { .. }) => Err(error.to_string()),
        opened => Ok(opened?),
    };
    let outcome = match &opened {
        Ok(_) => Word::Ready(Vec::new()),
        Err(reason) => Word::Unable(reason.clone()),
    };
    let words = said(collective, &outcome)?;
    match opened {
        Ok(link) if words.iter().all(|word| matches!(word, Word::Ready(_))) => Ok(Agreement::Device(link)),
        _ => Ok(Agreement::Host { reasons: reasons(&words) }),
    }
}

fn said(collective: &mut dyn Collective, word: &Word) -> Result<Vec<Word>, CollectiveError> {
    Ok(collective.all_gather(&word.encode())?.iter().map(|bytes| Word::decode(bytes)).collect())
}

/// Why the members go through the host, where that is not what they were made for.
fn reasons(words: &[Word]) -> Vec<(usize, String)> {
    if words.iter().all(|word| *word == Word::NoDevice) {
        return Vec::new();
    }
    let reason = |(rank, word): (usize, &Word)| match word {
        Word::Ready(_) => None,
        Word::NoDevice => Some((rank, "it computes on the CPU".to_owned())),
        Word::Unable(reason) => Some((rank, reason.clone())),
    };
    words.iter().enumerate().filter_map(reason).collect()
}
