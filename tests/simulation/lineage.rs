//! Who computed what, over all lives: generations as they began, and the shards of each step by generation.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_core::{Begin, Generation, Position, Step, WorkerName};

use crate::checks::ensure;
use crate::replica::State;
use crate::world::Going;

#[derive(Debug, Default)]
pub(crate) struct Lineage {
    /// Generations that began, in the journal's order, and where.
    began: Vec<(Generation, Position)>,
    /// The newest one's.
    pub(crate) members: Vec<WorkerName>,
    /// The same as workers were told: `began` may be forgotten, this is not.
    told: BTreeMap<Generation, Begin>,
    /// How often each shard of the step after this one was computed.
    computed: BTreeMap<(Generation, Step), Vec<u8>>,
}

impl Lineage {
    /// Takes in that a generation began, as the journal has it.
    pub(crate) fn record(
        &mut self,
        generation: Generation,
        position: Position,
        members: Vec<WorkerName>,
    ) -> Going {
        let rises = self.began.last().is_none_or(|(newest, _)| generation > *newest);
        self.began.push((generation, position));
        self.members = members;
        ensure(rises, || format!("generation {generation} began again"))
    }

    /// How many generations began.
    pub(crate) fn generations(&self) -> usize {
        self.began.len()
    }

    /// Takes in what a member is told: all the same, ranks dense, shards dealt without gap or overlap; what is told
    /// again is what was told before.
    pub(crate) fn begin(&mut self, begin: &Begin, shards: u32) -> Going {
        let Begin { generation, rank, peers, .. } = begin;
        ensure((*rank as usize) < peers.len(), || format!("rank {rank} of {}", peers.len()))?;
        if let Some(first) = self.told.get(generation) {
            let same = Arc::ptr_eq(&first.peers, peers) || first.peers == *peers;
            let first = Begin { rank: *rank, peers: Arc::clone(peers), ..first.clone() };
            return ensure(same && first == *begin, || {
                format!("rank {rank} is told another story: {begin:?}")
            });
        }
        let newest = self.told.keys().next_back();
        ensure(newest.is_none_or(|newest| generation > newest), || {
            format!("generation {generation} was told to members before")
        })?;
        let recorded = self.began.last().map(|(newest, _)| *newest);
        ensure(recorded == Some(*generation), || {
            format!("generation {generation} is told, and {recorded:?} is recorded")
        })?;
        let bounds = [0].into_iter().chain(peers.iter().map(|peer| peer.shards.1));
        let contiguous = bounds.clone().zip(peers.iter()).all(|(start, peer)| peer.shards.0 == start);
        ensure(contiguous && bounds.last() == Some(shards), || format!("shards are dealt as {peers:?}"))?;
        self.told.insert(*generation, begin.clone());
        Ok(())
    }

    pub(crate) fn computed(
        &mut self,
        generation: Generation,
        step: Step,
        shards: (u32, u32),
        all_shards: u32,
    ) {
        let counts = self.computed.entry((generation, step)).or_insert_with(|| vec![0; all_shards as usize]);
        (shards.0..shards.1).for_each(|shard| counts[shard as usize] += 1);
    }

    /// Somebody makes the step: all of its shards were computed once, in the same generation.
    pub(crate) fn updated(&self, generation: Generation, step: Step) -> Going {
        let counts = self.computed.get(&(generation, step));
        ensure(counts.is_some_and(|counts| counts.iter().all(|count| *count == 1)), || {
            format!("step {step} was made in generation {generation}, its shards computed as {counts:?}")
        })
    }

    /// Every step that counts was made in one generation, which computed each of its shards once.
    pub(crate) fn is_complete(&self, end: &State) -> Going {
        ensure(end.makers.len() as u64 == end.position.step.0, || {
            format!("{:?} was made in {:?}", end.position, end.makers)
        })?;
        let mut steps = (0..).map(Step).zip(end.makers.iter());
        steps.try_for_each(|(step, generation)| self.updated(*generation, step))?;
        ensure(end.makers.is_sorted(), || format!("steps were made in generations {:?}", end.makers))
    }
}
