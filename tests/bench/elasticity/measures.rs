//! The measurements. Each does one thing many times and gives medians.

use std::fs;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::account::{Step, events, intervals, membership, millis, number, steps};
use crate::figures::{median, quantile, summary};
use crate::run::{Binaries, Run, in_generation, send};

/// Every step in the workers' logs.
const LOG: &str = "info,lockstep_worker=debug";

/// A whole ResNet18 on small pictures: steps of about 100 ms with two workers on two cores, 45 MB of gradient, 90 MB of state.
const RECIPE: [&str; 9] = [
    "data.name=shapes",
    "data.train=2000",
    "data.validation=16",
    "data.test=20",
    "model.name=resnet18",
    "batch=16",
    "shards=4",
    "optimizer.lr=0.0001",
    "optimizer.momentum=0.9",
];

/// Steps that a generation makes before something is done to it: its median is known by then.
const STEADY: usize = 8;

#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) binaries: &'a Binaries,
    pub(crate) workers: u32,
    pub(crate) settings: &'a [String],
}

impl<'a> Setting<'a> {
    fn train(&self, binaries: &'a Binaries, log: &str, more: &[&str]) -> Run<'a> {
        let mut settings: Vec<String> =
            RECIPE.iter().chain(more).map(|&setting| setting.to_owned()).collect();
        settings.extend_from_slice(self.settings);
        Run::train(binaries, &self.workers.to_string(), log, &settings)
    }
}

/// Takes a worker away by `signal`, each time another one, and times the way to the others' next step.
pub(crate) fn loss(setting: &Setting<'_>, signal: &str, trials: usize) -> Value {
    let mut run = setting.train(setting.binaries, LOG, &["epochs=1000", "max_restarts=1000"]);
    let workers = setting.workers as usize;
    let (mut gaps, mut steps_ms, mut receipts, mut found_ms) = (vec![], vec![], vec![], vec![]);
    let mut newest = 0;
    for trial in 0..trials {
        let (generation, members) = run.until_steady(newest, workers, STEADY);
        let (victim, pid) = &members[trial % workers];
        let at = Timestamp::now();
        send(signal, *pid);
        // Its successor waits a little before it is started, so that the others get to work in between.
        let receipt = run.until("the receipt of the next generation", |run| {
            events(run, "generation_started")
                .into_iter()
                .find(|receipt| number(receipt, "generation") > generation)
        });
        newest = number(&receipt, "generation");
        assert_eq!(receipt["culprit"], victim.as_str(), "{receipt:#}");
        let survivors = members.iter().filter(|(name, _)| name != victim);
        let folder = run.folder();
        let firsts: Vec<Step> = survivors
            .filter_map(|(name, _)| in_generation(&steps(&folder, name), newest).first().copied())
            .collect();
        let first = firsts.iter().map(|step| step.at).max().unwrap();
        let step_ms = number(&receipt, "first_step_ms") as f64;
        gaps.push(millis(at, first) - step_ms);
        found_ms.push(number(&receipt, "detect_ms") as f64);
        steps_ms.push(step_ms);
        receipts.push(number(&receipt, "total_ms") as f64 - step_ms);
    }
    let ordinary = ordinary_steps(&run, setting.workers);
    json!({
        "from the signal to the first step, less it, ms": summary(&gaps),
        "the same by the receipts, ms": summary(&receipts),
        "of which until it was found, ms": summary(&found_ms),
        "the first step, ms": summary(&steps_ms),
        "steps with all members, ms": summary(&ordinary),
    })
}

/// Milliseconds of the steps in generations of all workers.
fn ordinary_steps(run: &Run<'_>, workers: u32) -> Vec<f64> {
    let folder = run.folder();
    let full = |event: &&Value| event["members"].as_array().unwrap().len() == workers as usize;
    let began = events(&folder, "generation_began");
    let generations: Vec<u64> = began.iter().filter(full).map(|event| number(event, "generation")).collect();
    let made = steps(&folder, "worker-0");
    generations.iter().flat_map(|generation| intervals(&in_generation(&made, *generation))).collect()
}

/// Takes the coordinator away in mid-epoch, and compares the workers' steps while it is away with those before.
pub(crate) fn away(setting: &Setting<'_>) -> Value {
    const STEPS: usize = 50;
    let mut run = setting.train(setting.binaries, LOG, &["epochs=2"]);
    let (generation, _) = run.until_steady(0, setting.workers as usize, STEPS);
    let (_, members) = membership(&run.folder()).unwrap();
    let killed = Timestamp::now();
    run.kill_coordinator();
    let folder = run.folder();
    let started = Instant::now();
    let made_alone = |name: &str| steps(&folder, name).iter().filter(|step| step.at > killed).count();
    while members.iter().any(|(name, _)| made_alone(name) < STEPS) {
        assert!(started.elapsed().as_secs() < 120, "the workers do not step on");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let back = Timestamp::now();
    run.resume(LOG);
    run.until("the coordinator to have taken over", |run| events(run, "taken_over").pop());
    run.end();
    let began = events(&folder, "generation_began");
    let (mut before, mut while_away) = (vec![], vec![]);
    for (name, _) in &members {
        let made = in_generation(&steps(&folder, name), generation);
        let (early, late): (Vec<Step>, Vec<Step>) =
            made.iter().filter(|step| step.at < back).partition(|step| step.at < killed);
        // The first steps of a process are slower.
        before.extend(intervals(&early[early.len() / 4..]));
        while_away.extend(intervals(&[&early[early.len() - 1..], &late].concat()));
    }
    let usual = median(&before);
    json!({
        "steps before, ms": summary(&before),
        "steps while it was away, ms": summary(&while_away),
        "slowest before, to the median": quantile(&before, 1.0) / usual,
        "slowest while away, to the median": quantile(&while_away, 1.0) / usual,
        "generations in all": began.len(),
    })
}

/// Undisturbed runs in turns with an older build's: what they take of the processors and of time.
pub(crate) fn cost(setting: &Setting<'_>, base: &Binaries, trials: usize) -> Value {
    let (mut cpu, mut wall) = (vec![], vec![]);
    for trial in 0..trials {
        // Whatever warms up or slows down meets both in turn.
        let pair = if trial % 2 == 0 { [base, setting.binaries] } else { [setting.binaries, base] };
        let mut figures = pair.map(|binaries| undisturbed(setting, binaries));
        if trial % 2 == 1 {
            figures.reverse();
        }
        let [(base_cpu, base_wall), (new_cpu, new_wall)] = figures;
        eprintln!(
            "cost {trial}: base {base_cpu:.2} s cpu, {base_wall:.2} ms a step; new {new_cpu:.2} s, {new_wall:.2} ms"
        );
        cpu.push([base_cpu, new_cpu]);
        wall.push([base_wall, new_wall]);
    }
    let column = |pairs: &[[f64; 2]], which: usize| pairs.iter().map(|pair| pair[which]).collect::<Vec<_>>();
    let ratios =
        |pairs: &[[f64; 2]]| pairs.iter().map(|pair| 100.0 * (pair[1] / pair[0] - 1.0)).collect::<Vec<_>>();
    json!({
        "older: processor time of a run, s": summary(&column(&cpu, 0)),
        "this: processor time of a run, s": summary(&column(&cpu, 1)),
        "processor time, per cent more by pair": summary(&ratios(&cpu)),
        "older: step, ms": summary(&column(&wall, 0)),
        "this: step, ms": summary(&column(&wall, 1)),
        "step, per cent more by pair": summary(&ratios(&wall)),
    })
}

/// Seconds of processor time of all processes, and milliseconds of a step.
fn undisturbed<'a>(setting: &Setting<'a>, binaries: &'a Binaries) -> (f64, f64) {
    let before = children_seconds();
    let mut run = setting.train(binaries, "info", &["epochs=2"]);
    run.end();
    let epochs = events(&run.folder(), "epoch_ended");
    let steps = number(epochs.last().unwrap(), "step") as f64 / epochs.len() as f64;
    let step_ms: Vec<f64> = epochs.iter().map(|epoch| number(epoch, "train_ms") as f64 / steps).collect();
    (children_seconds() - before, quantile(&step_ms, 0.0))
}

/// Processor time of this process's children that have ended, and of theirs.
fn children_seconds() -> f64 {
    /// Linux gives times to user space in hundredths of a second, whatever the kernel's own tick.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The third field follows the name in parentheses; children's user and system time are the 16th and 17th.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |at: usize| fields[at - 3].parse::<f64>().unwrap();
    (ticks(16) + ticks(17)) / TICKS_PER_SECOND
}
