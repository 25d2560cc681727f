//! What members tell each other while they fill their tables, and what follows from it: the same for all of them.

use super::key::Key;
use crate::data::evaluation::blocks_of;

/// Sent at once: enough to fill a line, little to keep in memory besides.
const SENT_BYTES: u64 = 64 << 20;
/// As many parts may be sent as one state.
const SENT_BLOCKS: usize = 32;

/// One member's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    /// Members with other keys (another kind of device) have other bits: they keep to their like.
    pub(super) key: Key,
    pub(super) pause: bool,
    /// It has looked for all blocks that it lacks since anybody has computed one, and found no more of them.
    pub(super) settled: bool,
    pub(super) block_bytes: u64,
    /// By block.
    pub(super) has: Vec<bool>,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Pause,
    Done,
    Look,
    /// These blocks, which nobody has, fall to this member.
    Compute(Vec<usize>),
    /// What some have not found where others have put it.
    Send {
        source: usize,
        receivers: Vec<usize>,
        blocks: Vec<usize>,
    },
}

impl Status {
    /// Little-endian: the key, a byte of flags, the size of a block (u64), a bit per block.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.key.to_vec();
        bytes.push(u8::from(self.pause) | u8::from(self.settled) << 1);
        bytes.extend(self.block_bytes.to_le_bytes());
        let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
        bytes.extend(self.has.chunks(8).map(byte));
        bytes
    }

    /// Of `blocks` blocks; none for anything else.
    pub(super) fn decode(bytes: &[u8], blocks: usize) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk()?;
        let (flags, rest) = rest.split_first()?;
        let (block_bytes, rest) = rest.split_first_chunk()?;
        if *flags > 3 || rest.len() != blocks.div_ceil(8) {
            return None;
        }
        let bit = |at: usize| rest[at / 8] >> (at % 8) & 1 == 1;
        Some(Self {
            key: *key,
            pause: flags & 1 == 1,
            settled: flags & 2 == 2,
            block_bytes: u64::from_le_bytes(*block_bytes),
            has: (0..blocks).map(bit).collect(),
        })
    }

    fn is_complete(&self) -> bool {
        self.has.iter().all(|has| *has)
    }
}

/// `statuses` by rank.
pub(super) fn next(statuses: &[Status], rank: usize) -> Next {
    if statuses.iter().any(|status| status.pause) {
        return Next::Pause;
    }
    if statuses.iter().all(Status::is_complete) {
        return Next::Done;
    }
    if !statuses.iter().all(|status| status.settled || status.is_complete()) {
        return Next::Look;
    }
    let missing = |key: &Key| -> Vec<usize> {
        let like: Vec<&Status> = statuses.iter().filter(|status| status.key == *key).collect();
        (0..like[0].has.len()).filter(|block| !like.iter().any(|status| status.has[*block])).collect()
    };
    if statuses.iter().all(|status| missing(&status.key).is_empty()) {
        return send(statuses);
    }
    let own = &statuses[rank].key;
    let like: Vec<usize> = (0..statuses.len()).filter(|other| statuses[*other].key == *own).collect();
    let place = like.iter().position(|other| *other == rank).unwrap_or_default();
    let missing = missing(own);
    let dealt = blocks_of(place, like.len(), u32::try_from(missing.len()).unwrap_or(u32::MAX));
    Next::Compute(missing[dealt.start as usize..dealt.end as usize].to_vec())
}

/// The first blocks that one of them lacks, which others have.
fn send(statuses: &[Status]) -> Next {
    let lacking = |block: usize, key: &Key| -> Vec<usize> {
        let lacks = |status: &Status| status.key == *key && !status.has[block];
        (0..statuses.len()).filter(|rank| lacks(&statuses[*rank])).collect()
    };
    let Some(first) = statuses.iter().find(|status| !status.is_complete()) else { return Next::Done };
    let key = &first.key;
    let start = first.has.iter().position(|has| !has).unwrap_or_default();
    let source = statuses.iter().position(|status| status.key == *key && status.has[start]);
    let source = source.expect("somebody has every block by now");
    let receivers = lacking(start, key);
    let most = usize::try_from(SENT_BYTES / first.block_bytes.max(1)).unwrap_or(SENT_BLOCKS);
    let blocks = (start..first.has.len())
        .filter(|block| statuses[source].has[*block] && lacking(*block, key) == receivers)
        .take(most.clamp(1, SENT_BLOCKS))
        .collect();
    Next::Send { source, receivers, blocks }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(key: u8, settled: bool, has: &[u8]) -> Status {
        let has = has.iter().map(|has| *has == 1).collect();
        Status { key: [key; 32], pause: false, settled, block_bytes: 30 << 20, has }
    }

    #[test]
    fn statuses_survive_the_wire_and_others_are_refused() {
        for (pause, settled) in [(false, true), (true, false)] {
            let status = Status { pause, ..status(3, settled, &[1, 0, 0, 1, 1, 0, 1, 0, 1, 1]) };
            let bytes = status.encode();
            assert_eq!(Status::decode(&bytes, 10).as_ref(), Some(&status));
            assert_eq!(Status::decode(&bytes, 20), None);
            assert_eq!(Status::decode(&bytes[..40], 10), None);
        }
    }

    #[test]
    fn blocks_are_looked_for_then_dealt_then_sent() {
        let look = [status(1, false, &[0, 0, 0]), status(1, true, &[0, 0, 0])];
        assert_eq!(next(&look, 0), Next::Look);
        let deal = [status(1, true, &[0, 1, 0, 0]), status(1, true, &[0, 0, 0, 0])];
        assert_eq!(next(&deal, 0), Next::Compute(vec![0]));
        assert_eq!(next(&deal, 1), Next::Compute(vec![2, 3]));
        let sent = [status(1, true, &[1, 1, 0, 1]), status(1, true, &[0, 1, 1, 0]), status(1, true, &[1; 4])];
        let expected = |source, receivers: &[usize], blocks: &[usize]| Next::Send {
            source,
            receivers: receivers.to_vec(),
            blocks: blocks.to_vec(),
        };
        assert_eq!(next(&sent, 2), expected(1, &[0], &[2]));
        let late = [status(1, true, &[1; 4]), status(1, true, &[0; 4]), status(1, true, &[0; 4])];
        assert_eq!(next(&late, 1), expected(0, &[1, 2], &[0, 1]), "no more than the memory is for");
        assert_eq!(next(&[status(1, true, &[1]), status(1, false, &[1])], 1), Next::Done);
        let mut paused = look;
        paused[1].pause = true;
        assert_eq!(next(&paused, 0), Next::Pause);
    }

    #[test]
    fn members_of_another_kind_keep_to_themselves() {
        let mixed = [status(1, true, &[1, 1]), status(2, true, &[0, 0]), status(2, true, &[0, 0])];
        assert_eq!(next(&mixed, 0), Next::Compute(vec![]));
        assert_eq!(next(&mixed, 1), Next::Compute(vec![0]));
        assert_eq!(next(&mixed, 2), Next::Compute(vec![1]));
    }
}
