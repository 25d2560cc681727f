//! A replica's state as one member sends it to others: the checkpoint of where it stands, and the best model's checkpoint
//! where that is not stored yet, so that whoever dies next, it is not lost.
//!
//! In parts that are sent from where they lie: a head, then the files. The head, little-endian: a format (4 bytes), the
//! position (epoch u32, step u64), whether a checkpoint is kept (u8), and that one's position. The collective checks
//! lengths and digests.

use std::sync::Arc;

use super::message::{CheckpointFiles, Snapshot};
use crate::plan::Position;

const FORMAT: [u8; 4] = *b"sta1";

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) position: Position,
    pub(super) files: CheckpointFiles,
    pub(super) kept: Option<Snapshot>,
}

/// Parts that are no state: a member of another version, or a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sent a state that is malformed")]
pub(super) struct MalformedState;

impl State {
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = FORMAT.to_vec();
        put(&mut head, self.position);
        head.push(u8::from(self.kept.is_some()));
        if let Some(kept) = &self.kept {
            put(&mut head, kept.position);
        }
        head
    }

    /// With `head` from [`Self::head`].
    pub(super) fn parts<'a>(&'a self, head: &'a [u8]) -> Vec<&'a [u8]> {
        let mut parts = vec![head, &self.files.model, &self.files.optimizer];
        if let Some(kept) = &self.kept {
            parts.extend([kept.files.model.as_slice(), &kept.files.optimizer]);
        }
        parts
    }

    /// The state that arrived as `parts`.
    pub(super) fn from_parts(parts: Vec<Vec<u8>>) -> Result<Self, MalformedState> {
        let mut parts = parts.into_iter();
        let mut part = || parts.next().ok_or(MalformedState);
        let head = part()?;
        let mut rest = head.as_slice();
        if take(&mut rest)? != FORMAT {
            return Err(MalformedState);
        }
        let position = take_position(&mut rest)?;
        let files = CheckpointFiles { model: part()?, optimizer: part()? };
        let kept = match take(&mut rest)? {
            [0] => None,
            [1] => {
                let position = take_position(&mut rest)?;
                let files = Arc::new(CheckpointFiles { model: part()?, optimizer: part()? });
                Some(Snapshot { position, files })
            }
            _ => return Err(MalformedState),
        };
        if !rest.is_empty() || parts.next().is_some() {
            return Err(MalformedState);
        }
        Ok(Self { position, files, kept })
    }
}

fn put(head: &mut Vec<u8>, position: Position) {
    head.extend(position.epoch.to_le_bytes());
    head.extend(position.step.to_le_bytes());
}

fn take_position(rest: &mut &[u8]) -> Result<Position, MalformedState> {
    Ok(Position { epoch: u32::from_le_bytes(take(rest)?), step: u64::from_le_bytes(take(rest)?) })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], MalformedState> {
    let (field, after) = rest.split_first_chunk().ok_or(MalformedState)?;
    *rest = after;
    Ok(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(kept: bool) -> State {
        let files =
            |byte: u8| CheckpointFiles { model: vec![byte; 5], optimizer: vec![byte + 1; usize::from(byte)] };
        let position = Position { epoch: u32::MAX, step: 7 };
        let best = Position { epoch: 3, step: u64::MAX };
        let kept = kept.then(|| Snapshot { position: best, files: Arc::new(files(9)) });
        State { position, files: files(0), kept }
    }

    fn sent(state: &State) -> Vec<Vec<u8>> {
        state.parts(&state.head()).into_iter().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn a_state_survives_the_way() {
        for kept in [false, true] {
            assert_eq!(State::from_parts(sent(&state(kept))), Ok(state(kept)));
        }
    }

    #[test]
    fn what_is_cut_off_too_long_or_garbage_is_refused() {
        for kept in [false, true] {
            let parts = sent(&state(kept));
            for count in 0..parts.len() {
                assert_eq!(State::from_parts(parts[..count].to_vec()), Err(MalformedState));
            }
            assert_eq!(State::from_parts([parts.clone(), vec![vec![]]].concat()), Err(MalformedState));
            let with_head = |head: Vec<u8>| State::from_parts([vec![head], parts[1..].to_vec()].concat());
            for length in 0..parts[0].len() {
                assert_eq!(with_head(parts[0][..length].to_vec()), Err(MalformedState), "{length}");
            }
            assert_eq!(with_head([parts[0].clone(), vec![0]].concat()), Err(MalformedState));
            // The format, and whether something is kept.
            for at in [0, 1, 2, 3, 16] {
                let mut head = parts[0].clone();
                head[at] ^= 0x15;
                assert_eq!(with_head(head), Err(MalformedState), "{at}");
            }
        }
    }
}
