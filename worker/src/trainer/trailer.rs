//! What members tell each other at the end of every step, beside the gradient: whether to pause, and what each of
//! their shards saw. From it all members know the same metrics and the same ledger, and pause after the same step.
//!
//! Little-endian: a flag byte, then per shard its index (u32), loss sum (f64), correct (u64), samples (u32) and their
//! ids (u32 each).

use super::metrics::Metrics;

/// One member's account of a step.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Trailer {
    /// This member asks all to pause after this step.
    pub(super) pause: bool,
    pub(super) shards: Vec<ShardAccount>,
}

/// One shard of one step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ShardAccount {
    pub(super) shard: u32,
    pub(super) loss_sum: f64,
    pub(super) correct: u64,
    pub(super) samples: Vec<u32>,
}

impl ShardAccount {
    pub(super) fn metrics(&self) -> Metrics {
        Metrics { loss_sum: self.loss_sum, correct: self.correct, count: self.samples.len() as u64 }
    }
}

/// Bytes that are no trailer: a member of another version, or a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a member's account of a step is malformed")]
pub struct MalformedTrailer;

impl Trailer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.pause)];
        for account in &self.shards {
            bytes.extend(account.shard.to_le_bytes());
            bytes.extend(account.loss_sum.to_le_bytes());
            bytes.extend(account.correct.to_le_bytes());
            let samples = u32::try_from(account.samples.len()).expect("a step has a u32 of samples");
            bytes.extend(samples.to_le_bytes());
            bytes.extend(account.samples.iter().flat_map(|id| id.to_le_bytes()));
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, MalformedTrailer> {
        let mut rest = Reader(bytes);
        let pause = match rest.take::<1>()? {
            [0] => false,
            [1] => true,
            _ => return Err(MalformedTrailer),
        };
        let mut shards = Vec::new();
        while !rest.0.is_empty() {
            let shard = u32::from_le_bytes(rest.take()?);
            let loss_sum = f64::from_le_bytes(rest.take()?);
            let correct = u64::from_le_bytes(rest.take()?);
            let count = u32::from_le_bytes(rest.take()?) as usize;
            if count > rest.0.len() / 4 {
                return Err(MalformedTrailer);
            }
            let samples =
                (0..count).map(|_| rest.take().map(u32::from_le_bytes)).collect::<Result<_, _>>()?;
            shards.push(ShardAccount { shard, loss_sum, correct, samples });
        }
        Ok(Self { pause, shards })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], MalformedTrailer> {
        let (head, rest) = self.0.split_first_chunk().ok_or(MalformedTrailer)?;
        self.0 = rest;
        Ok(*head)
    }
}

/// All members' accounts as one, which are to cover `shards` shards in order.
pub(super) fn merge(payloads: &[Vec<u8>], shards: u32) -> Result<Trailer, MalformedTrailer> {
    let mut all = Trailer::default();
    for payload in payloads {
        let trailer = Trailer::decode(payload)?;
        all.pause |= trailer.pause;
        all.shards.extend(trailer.shards);
    }
    let in_order = all.shards.iter().map(|account| account.shard).eq(0..shards);
    in_order.then_some(all).ok_or(MalformedTrailer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(shard: u32, samples: &[u32]) -> ShardAccount {
        ShardAccount { shard, loss_sum: 0.1 * f64::from(shard + 1), correct: 1, samples: samples.to_vec() }
    }

    #[test]
    fn accounts_survive_the_wire() {
        for pause in [false, true] {
            for shards in [vec![], vec![account(3, &[])], vec![account(0, &[7, u32::MAX]), account(1, &[0])]]
            {
                let trailer = Trailer { pause, shards };
                assert_eq!(Trailer::decode(&trailer.encode()), Ok(trailer));
            }
        }
    }

    #[test]
    fn one_raised_flag_is_everybodys() {
        let payloads = [
            Trailer { pause: false, shards: vec![account(0, &[1])] }.encode(),
            Trailer { pause: true, shards: vec![] }.encode(),
            Trailer { pause: false, shards: vec![account(1, &[2])] }.encode(),
        ];
        let merged = merge(&payloads, 2).unwrap();
        assert!(merged.pause);
        assert_eq!(merged.shards, [account(0, &[1]), account(1, &[2])]);
    }

    #[test]
    fn what_is_cut_off_or_out_of_order_is_refused() {
        let bytes = Trailer { pause: false, shards: vec![account(0, &[1, 2])] }.encode();
        for length in [0, 2, 9, bytes.len() - 1] {
            assert_eq!(Trailer::decode(&bytes[..length]), Err(MalformedTrailer), "{length}");
        }
        assert_eq!(Trailer::decode(&[2]), Err(MalformedTrailer));
        assert_eq!(merge(std::slice::from_ref(&bytes), 2), Err(MalformedTrailer), "shard 1 is missing");
        assert_eq!(merge(&[bytes.clone(), bytes], 2), Err(MalformedTrailer), "shard 0 came twice");
    }
}
