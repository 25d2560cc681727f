//! Who takes part in a run, and the lines that tell how that changes.

use lockstep_core::{Entry, Generation, MemberEntry, Position, Receipt, WorkerName};

use super::words::counted;

/// Lines of a lost worker's log that are shown.
const LOG_LINES: usize = 5;

#[derive(Debug)]
pub(super) struct Membership {
    run: String,
    /// By rank, without those that are gone.
    members: Vec<WorkerName>,
    devices: Vec<String>,
    /// The first generation of this coordinator's life, told of when it began.
    first: Option<Generation>,
}

impl Membership {
    pub(super) fn new(run: &str, members: &[MemberEntry]) -> Self {
        let mut membership =
            Self { run: run.to_owned(), members: Vec::new(), devices: Vec::new(), first: None };
        membership.take(members);
        membership
    }

    /// The lowest rank that is there.
    pub(super) fn speaks(&self, worker: &WorkerName) -> bool {
        self.members.first().is_none_or(|first| first == worker)
    }

    /// What an entry changes, in words.
    pub(super) fn lines(&mut self, entry: &Entry) -> Vec<String> {
        match entry {
            Entry::TakenOver { term, .. } => vec![format!("run {} is taken over, in term {term}", self.run)],
            Entry::Resumed { position, damaged } => self.resumed(*position, !damaged.is_empty()),
            Entry::GenerationBegan { generation, members, .. } => self.began(*generation, members),
            Entry::GenerationStarted(receipt) => self.started(receipt),
            Entry::WorkerLost { worker, reason, log, .. } => {
                self.members.retain(|member| member != worker);
                let mut lines = vec![format!("{worker} lost: {reason}")];
                let log = &log[log.len().saturating_sub(LOG_LINES)..];
                lines.extend(log.iter().map(|line| format!("  | {line}")));
                lines
            }
            Entry::WorkerLeft { worker, .. } => {
                self.members.retain(|member| member != worker);
                vec![format!("{worker} left")]
            }
            Entry::PrefixTold { line } => vec![line.clone()],
            Entry::Straggler { worker, shard_ms, others_ms, .. } => vec![format!(
                "{worker} is slow: {shard_ms:.0} ms for a shard of a step, the others take {others_ms:.0} ms and wait"
            )],
            _ => Vec::new(),
        }
    }

    fn resumed(&self, Position { epoch, step }: Position, damaged: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if damaged && step.0 == 0 {
            lines.push(
                "warning: no checkpoint is whole; the run starts again, which gives the same weights".into(),
            );
        }
        lines.push(format!("run {} goes on from epoch {}, step {step}", self.run, epoch.0 + 1));
        lines
    }

    fn began(&mut self, generation: Generation, members: &[MemberEntry]) -> Vec<String> {
        let newcomers = members.iter().filter(|member| !self.members.contains(&member.worker));
        let joined = newcomers.map(|member| format!("{} joined", member.worker)).collect();
        self.take(members);
        if self.first.is_some() {
            // Its receipt tells of it.
            return joined;
        }
        self.first = Some(generation);
        vec![format!("generation {generation}: {}", self.who())]
    }

    fn started(&self, receipt: &Receipt) -> Vec<String> {
        let Receipt { generation, total_ms, steps_lost, .. } = receipt;
        if self.first == Some(*generation) {
            return Vec::new();
        }
        let who = self.who();
        let lost = counted(*steps_lost, "step");
        vec![format!("generation {generation} after {total_ms} ms: {who}; {lost} again")]
    }

    fn take(&mut self, members: &[MemberEntry]) {
        self.members = members.iter().map(|member| member.worker.clone()).collect();
        self.devices = members.iter().map(|member| member.device.clone()).collect();
    }

    fn who(&self) -> String {
        format!("{} ({})", counted(self.devices.len() as u64, "worker"), self.devices.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::{Cause, Epoch, Step, Term, WorkerBounds};

    use super::*;

    fn members(names: &[&str]) -> Vec<MemberEntry> {
        let member = |name: &&str| MemberEntry {
            worker: WorkerName::from(*name),
            device: "cpu".into(),
            host: "here".into(),
            pid: 1,
            shards: (0, 1),
        };
        names.iter().map(member).collect()
    }

    fn began(generation: u64, names: &[&str]) -> Entry {
        let generation = Generation(generation);
        Entry::GenerationBegan { generation, members: members(names), position: Position::default() }
    }

    fn started(generation: u64, cause: Cause, steps_lost: u64) -> Entry {
        Entry::GenerationStarted(Receipt {
            generation: Generation(generation),
            cause,
            culprit: None,
            reason: String::new(),
            position: Position::default(),
            detect_ms: 1,
            halt_ms: 2,
            agree_ms: 3,
            connect_ms: 4,
            state_ms: 5,
            first_step_ms: 6,
            total_ms: 83,
            steps_lost,
        })
    }

    fn lost(worker: &str, log: &[&str]) -> Entry {
        Entry::WorkerLost {
            worker: worker.into(),
            generation: Generation(1),
            reason: "its process ended (exit code 1)".into(),
            log: log.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    #[test]
    fn a_change_is_told_with_its_cause_and_its_cost() {
        let mut membership = Membership::new("a", &[]);
        let mut lines = Vec::new();
        for entry in [
            began(1, &["worker-0", "worker-1", "worker-2"]),
            started(1, Cause::Start, 0),
            lost("worker-1", &["out of luck"]),
            began(2, &["worker-0", "worker-2"]),
            started(2, Cause::Loss, 1),
            began(3, &["worker-0", "worker-1", "worker-2"]),
            started(3, Cause::Join, 0),
            Entry::WorkerLeft { worker: "worker-0".into(), generation: Generation(3) },
        ] {
            lines.extend(membership.lines(&entry));
        }
        assert_eq!(
            lines,
            [
                "generation 1: 3 workers (cpu, cpu, cpu)",
                "worker-1 lost: its process ended (exit code 1)",
                "  | out of luck",
                "generation 2 after 83 ms: 2 workers (cpu, cpu); 1 step again",
                "worker-1 joined",
                "generation 3 after 83 ms: 3 workers (cpu, cpu, cpu); 0 steps again",
                "worker-0 left",
            ]
        );
    }

    #[test]
    fn the_lowest_rank_that_is_there_speaks() {
        let mut membership = Membership::new("a", &members(&["worker-0", "worker-1"]));
        assert!(membership.speaks(&"worker-0".into()) && !membership.speaks(&"worker-1".into()));
        membership.lines(&lost("worker-0", &[]));
        assert!(membership.speaks(&"worker-1".into()));
        membership.lines(&lost("worker-1", &[]));
        assert!(membership.speaks(&"worker-2".into()), "anybody, when nobody is known");
    }

    #[test]
    fn only_the_end_of_a_lost_workers_log_is_shown() {
        let log = ["1", "2", "3", "4", "5", "6", "7"];
        let lines = Membership::new("a", &[]).lines(&lost("worker-1", &log));
        assert_eq!(lines[1..], ["3", "4", "5", "6", "7"].map(|line| format!("  | {line}")));
    }

    #[test]
    fn a_take_over_and_where_it_goes_on_are_told() {
        let mut membership = Membership::new("a", &[]);
        let workers = WorkerBounds::fixed(2);
        let taken = Entry::TakenOver { term: Term(2), workers, epochs: 3 };
        assert_eq!(membership.lines(&taken), ["run a is taken over, in term 2"]);
        let at = |epoch, step| Position { epoch: Epoch(epoch), step: Step(step) };
        let resumed = Entry::Resumed { position: at(1, 7), damaged: Vec::new() };
        assert_eq!(membership.lines(&resumed), ["run a goes on from epoch 2, step 7"]);
        let again = Entry::Resumed { position: at(0, 0), damaged: vec![Step(4)] };
        assert!(membership.lines(&again)[0].starts_with("warning: no checkpoint is whole"));
    }
}
