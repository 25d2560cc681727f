//! The account of an epoch: every sample that was visited, how often, and in which order.
//!
//! Each member keeps the whole epoch's, not only its own shards': the ids follow from the recipe, so all members
//! must arrive at the same digest, and an interrupted epoch goes on with the account of its checkpoint.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

const FORMAT: [u8; 4] = *b"led1";

/// Visits of one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochLedger {
    /// The expected ones, by id: every step visits a few hundred of tens of thousands.
    expected: Vec<(u32, Sample)>,
    /// The others that were visited.
    strangers: BTreeMap<u32, Sample>,
    dropped: u64,
    chain: [u8; 32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    expected: bool,
    visits: u32,
}

/// What became of an epoch's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Samples that the epoch's steps should visit.
    pub expected: u64,
    /// Distinct samples visited.
    pub seen: u64,
    /// Expected, not visited.
    pub lost: u64,
    /// Visits beyond the first.
    pub repeated: u64,
    /// Samples of a last short batch that was too small for the shards.
    pub dropped: u64,
    /// sha256 chained over the steps: `d' = sha256(d || the step's ids as little-endian u32)`, from 32 zeros.
    pub digest: [u8; 32],
}

/// Why a stored ledger could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    #[error("not an epoch's ledger, or one of another version")]
    Format,
    #[error("an epoch's ledger of {found} bytes where {expected} were due")]
    Length { expected: u64, found: u64 },
}

impl EpochLedger {
    /// An account of an epoch that is to visit `expected`, and `dropped` samples fewer than there are.
    #[must_use]
    pub fn new(expected: &[u32], dropped: u32) -> Self {
        let unseen = Sample { expected: true, visits: 0 };
        let mut expected: Vec<(u32, Sample)> = expected.iter().map(|id| (*id, unseen)).collect();
        expected.sort_unstable_by_key(|(id, _)| *id);
        expected.dedup_by_key(|(id, _)| *id);
        Self { expected, strangers: BTreeMap::new(), dropped: u64::from(dropped), chain: [0; 32] }
    }

    /// Enters a finished step: the ids of all its samples, in shard order.
    pub fn record(&mut self, ids: &[u32]) {
        let mut chain = Sha256::new();
        chain.update(self.chain);
        for id in ids {
            chain.update(id.to_le_bytes());
            let sample = match self.find(*id) {
                Some(place) => &mut self.expected[place].1,
                None => self.strangers.entry(*id).or_insert(Sample { expected: false, visits: 0 }),
            };
            sample.visits = sample.visits.saturating_add(1);
        }
        self.chain = chain.finalize().into();
    }

    /// Where an expected sample is: mostly at its own number, as few are held back.
    fn find(&self, id: u32) -> Option<usize> {
        let guess = id as usize;
        match self.expected.get(guess) {
            Some((found, _)) if *found == id => Some(guess),
            _ => self.expected.binary_search_by_key(&id, |(id, _)| *id).ok(),
        }
    }

    #[must_use]
    pub fn summary(&self) -> Summary {
        let count = |of: fn(&Sample) -> u32| {
            let samples = self.expected.iter().map(|(_, sample)| sample).chain(self.strangers.values());
            samples.map(|sample| u64::from(of(sample))).sum()
        };
        Summary {
            expected: count(|sample| u32::from(sample.expected)),
            seen: count(|sample| u32::from(sample.visits > 0)),
            lost: count(|sample| u32::from(sample.expected && sample.visits == 0)),
            repeated: count(|sample| sample.visits.saturating_sub(1)),
            dropped: self.dropped,
            digest: self.chain,
        }
    }

    /// The whole state, for a checkpoint: format, dropped, chain, count, then (id, expected, visits), the
    /// expected ones by id and then the others by id.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = self.expected.len() + self.strangers.len();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + count * SAMPLE_BYTES);
        bytes.extend(FORMAT);
        bytes.extend(self.dropped.to_le_bytes());
        bytes.extend(self.chain);
        bytes.extend((count as u64).to_le_bytes());
        let expected = self.expected.iter().map(|(id, sample)| (id, sample));
        for (id, sample) in expected.chain(&self.strangers) {
            bytes.extend(id.to_le_bytes());
            bytes.push(u8::from(sample.expected));
            bytes.extend(sample.visits.to_le_bytes());
        }
        bytes
    }

    /// The state that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// When `bytes` are something else or cut short.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut rest = bytes;
        if take(&mut rest)? != FORMAT {
            return Err(LedgerError::Format);
        }
        let dropped = u64::from_le_bytes(take(&mut rest)?);
        let chain = take(&mut rest)?;
        let count = u64::from_le_bytes(take(&mut rest)?);
        let (expected, found) = (count.saturating_mul(SAMPLE_BYTES as u64), rest.len() as u64);
        if expected != found {
            return Err(LedgerError::Length { expected, found });
        }
        let mut ledger = Self { dropped, chain, ..Self::new(&[], 0) };
        while !rest.is_empty() {
            let id = u32::from_le_bytes(take(&mut rest)?);
            let is_expected = take::<1>(&mut rest)? != [0];
            let sample = Sample { expected: is_expected, visits: u32::from_le_bytes(take(&mut rest)?) };
            if is_expected {
                ledger.expected.push((id, sample));
            } else {
                ledger.strangers.insert(id, sample);
            }
        }
        // As it was written, unless somebody has changed it.
        ledger.expected.sort_unstable_by_key(|(id, _)| *id);
        Ok(ledger)
    }
}

const HEAD_BYTES: usize = 4 + 8 + 32 + 8;
const SAMPLE_BYTES: usize = 4 + 1 + 4;

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], LedgerError> {
    let Some((field, after)) = rest.split_first_chunk() else {
        return Err(LedgerError::Length { expected: N as u64, found: rest.len() as u64 });
    };
    *rest = after;
    Ok(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_repetitions_and_strangers_show() {
        let mut ledger = EpochLedger::new(&[5, 3, 1, 9], 2);
        assert_eq!(ledger.summary().lost, 4);
        ledger.record(&[3, 5]);
        ledger.record(&[5, 5, 7]);
        let summary = ledger.summary();
        assert_eq!(
            (summary.expected, summary.seen, summary.lost, summary.repeated, summary.dropped),
            (4, 3, 2, 2, 2)
        );
    }

    #[test]
    fn the_digest_is_chained_over_the_steps() {
        let mut ledger = EpochLedger::new(&[1, 2, 3], 0);
        assert_eq!(ledger.summary().digest, [0; 32]);
        ledger.record(&[2, 3]);
        let step = |before: [u8; 32], ids: &[u8]| -> [u8; 32] {
            Sha256::digest([before.as_slice(), ids].concat()).into()
        };
        let first = step([0; 32], &[2, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(ledger.summary().digest, first);
        ledger.record(&[1]);
        assert_eq!(ledger.summary().digest, step(first, &[1, 0, 0, 0]));
    }

    #[test]
    fn an_interrupted_account_goes_on_as_if_nothing_had_been() {
        let ids: Vec<u32> = (0..100).rev().collect();
        let mut whole = EpochLedger::new(&ids, 1);
        let mut half = whole.clone();
        for step in ids.chunks(10) {
            whole.record(step);
            half = EpochLedger::from_bytes(&half.to_bytes()).unwrap();
            half.record(step);
        }
        assert_eq!(half, whole);
        assert_eq!(half.summary().lost, 0);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = EpochLedger::new(&[1, 2], 0).to_bytes();
        assert_eq!(bytes.len(), HEAD_BYTES + 2 * SAMPLE_BYTES);
        for length in 0..bytes.len() {
            assert!(EpochLedger::from_bytes(&bytes[..length]).is_err());
        }
        assert!(EpochLedger::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
        assert_eq!(EpochLedger::from_bytes(&[7; 100]), Err(LedgerError::Format));
    }
}
