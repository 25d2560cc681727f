//! What a simulated worker knows of its run, and what it says to an order. It computes nothing: every member has the same
//! numbers, made from the position alone.

use lockstep_proto::v1 as pb;
use lockstep_proto::v1::session_request::Message as Say;
use lockstep_proto::v1::session_response::Message as Told;
use sha2::{Digest, Sha256};

use crate::worker::Simulated;

/// The files of its checkpoints.
pub(crate) const FILE_BYTES: usize = 1 << 10;

#[derive(Debug)]
pub(crate) struct Replica {
    name: String,
    incarnation: u64,
    sequence: u64,
    term: u64,
    plan: Option<pb::Plan>,
    generation: u64,
    prepared: u64,
    rank: u32,
    world: u32,
    position: Option<pb::Position>,
    activity: pb::Activity,
    /// It has told of an epoch's end, and knows of no verdict.
    reported: bool,
    /// To be sent beside the session.
    pub(crate) upload: Option<Vec<pb::UploadCheckpointRequest>>,
}

impl Replica {
    pub(crate) fn new(name: &str, incarnation: u64) -> Self {
        Self {
            name: name.to_owned(),
            incarnation,
            sequence: 0,
            term: 0,
            plan: None,
            generation: 0,
            prepared: 0,
            rank: 0,
            world: 0,
            position: None,
            activity: pb::Activity::Unspecified,
            reported: false,
            upload: None,
        }
    }

    pub(crate) fn join(&self, simulated: &Simulated) -> pb::Join {
        pb::Join {
            protocol_version: 3,
            name: simulated.name.clone(),
            device: simulated.device.clone(),
            host: "here".to_owned(),
            pid: self.incarnation as u32,
            libtorch_version: "2.11.0".to_owned(),
            incarnation: self.incarnation,
            term: self.term,
            run: self.plan.as_ref().map(|plan| plan.run.clone()).unwrap_or_default(),
            memory_bytes: simulated.memory_bytes,
        }
    }

    pub(crate) fn steps(&self) -> bool {
        self.activity == pb::Activity::Computing
    }

    /// What it says from time to time. A report is said again until there is a verdict: the coordinator that was told may be
    /// gone, and the next one may not have listened yet.
    pub(crate) fn beat(&mut self) -> Vec<Say> {
        if self.reported { self.report() } else { vec![self.heartbeat()] }
    }

    fn heartbeat(&mut self) -> Say {
        self.sequence += 1;
        Say::Heartbeat(pb::Heartbeat {
            sequence: self.sequence,
            address: "127.0.0.1:1".to_owned(),
            generation: self.generation,
            prepared: self.prepared,
            position: self.position,
            activity: self.activity.into(),
            ..pb::Heartbeat::default()
        })
    }

    /// What it says to what it is told.
    pub(crate) fn follow(&mut self, told: Told) -> Vec<Say> {
        let mut said = Vec::new();
        match told {
            Told::Welcome(welcome) => {
                if welcome.keep_logs {
                    let lines = format!("{} is welcome to run {}\n", self.name, welcome.run);
                    said.push(Say::Logged(pb::Logged { lines }));
                }
                self.term = welcome.term;
                self.plan = welcome.plan;
            }
            Told::Prepare(prepare) if prepare.generation > self.prepared.max(self.generation) => {
                self.prepared = prepare.generation;
                self.activity = pb::Activity::Unspecified;
            }
            Told::Begin(begin) if begin.generation > self.generation => said.push(self.begin(begin)),
            Told::Verdict(verdict) if verdict.generation == self.generation => self.obey(verdict),
            Told::Evaluate(evaluate) if evaluate.generation == self.generation => {
                let split = evaluate.split();
                said.push(Say::EvalReport(pb::EvalReport {
                    generation: self.generation,
                    split: split.into(),
                    blocks: self.blocks(split),
                    eval_ms: 1,
                }));
            }
            _ => return said,
        }
        said.push(self.heartbeat());
        said
    }

    fn begin(&mut self, begin: pb::Begin) -> Say {
        self.generation = begin.generation;
        self.prepared = begin.generation;
        (self.rank, self.world) = (begin.rank, begin.peers.len() as u32);
        self.position = begin.position;
        self.reported = false;
        self.activity = match (begin.hold, begin.judged) {
            (true, _) => pb::Activity::Holding,
            (false, true) => pb::Activity::AwaitingVerdict,
            (false, false) => pb::Activity::Computing,
        };
        if begin.save {
            self.save();
        }
        Say::Started(pb::Started { generation: self.generation, ..pb::Started::default() })
    }

    /// One step, or what comes after an epoch's last one.
    pub(crate) fn step(&mut self) -> Vec<Say> {
        let Some(plan) = &self.plan else { return Vec::new() };
        let last = |epoch: u32| u64::from(epoch + 1) * plan.steps_per_epoch;
        let Some(position) = &mut self.position else { return Vec::new() };
        if position.step < last(position.epoch) {
            position.step += 1;
        }
        if position.step == last(position.epoch) {
            return self.report();
        }
        let position = Some(*position);
        let progress =
            pb::Progress { generation: self.generation, position, step_ms: 5.0, ..pb::Progress::default() };
        if self.rank == 0 { vec![Say::Progress(progress)] } else { Vec::new() }
    }

    fn report(&mut self) -> Vec<Say> {
        let (Some(plan), Some(position)) = (&self.plan, self.position) else { return Vec::new() };
        let samples = u64::from(plan.batch) * plan.steps_per_epoch;
        let split = plan.eval_split();
        let report = pb::EpochReport {
            generation: self.generation,
            epoch: position.epoch,
            position: Some(pb::Position { epoch: position.epoch + 1, step: position.step }),
            learning_rate: 0.1,
            train: Some(pb::Metrics { loss_sum: 1.0, correct: 1, count: samples }),
            ledger: Some(pb::Ledger { expected: samples, seen: samples, ..pb::Ledger::default() }),
            split: split.into(),
            blocks: self.blocks(split),
            weights_digest: vec![position.epoch as u8; 32],
            train_ms: 1,
            eval_ms: 1,
            ..pb::EpochReport::default()
        };
        self.activity = pb::Activity::AwaitingVerdict;
        self.reported = true;
        vec![Say::EpochReport(report), self.heartbeat()]
    }

    fn obey(&mut self, verdict: pb::Verdict) {
        let Some(position) = &mut self.position else { return };
        // Told again.
        if position.epoch != verdict.epoch {
            return;
        }
        position.epoch += 1;
        self.reported = false;
        self.activity = if verdict.hold { pb::Activity::Holding } else { pb::Activity::Computing };
        if verdict.save {
            self.save();
        }
    }

    /// This member's blocks of a split.
    fn blocks(&self, split: pb::Split) -> Vec<pb::BlockMetrics> {
        let Some(plan) = &self.plan else { return Vec::new() };
        let data = plan.data.as_ref().unwrap();
        let samples = match split {
            pb::Split::Test => data.test_samples,
            _ => data.validation_samples,
        };
        let blocks = (0..samples.div_ceil(plan.eval_block)).filter(|block| block % self.world == self.rank);
        let metrics = |block: u32| {
            let count = u64::from(plan.eval_block.min(samples - block * plan.eval_block));
            Some(pb::Metrics { loss_sum: 1.0, correct: count / 2, count })
        };
        blocks.map(|block| pb::BlockMetrics { block, metrics: metrics(block) }).collect()
    }

    fn save(&mut self) {
        use pb::upload_checkpoint_request::Message;
        let (Some(plan), Some(position), 0) = (&self.plan, self.position, self.rank) else { return };
        let file = |name: &str| {
            let bytes = vec![position.step as u8; FILE_BYTES];
            let sha256 = Sha256::digest(&bytes).to_vec();
            (pb::CheckpointFile { name: name.into(), size_bytes: bytes.len() as u64, sha256 }, bytes)
        };
        let files = ["model.safetensors", "optimizer.safetensors"].map(file);
        let header = pb::CheckpointHeader {
            run: plan.run.clone(),
            worker: self.name.clone(),
            position: Some(position),
            files: files.iter().map(|(file, _)| file.clone()).collect(),
        };
        let chunks = files.into_iter().map(|(_, bytes)| Message::Chunk(pb::Chunk { data: bytes.into() }));
        let messages = std::iter::once(Message::Header(header)).chain(chunks);
        let request = |message| pb::UploadCheckpointRequest { message: Some(message) };
        self.upload = Some(messages.map(request).collect());
    }
}
