//! Why somebody waits must be true, and told of everybody who does.

use lockstep_core::{Awaited, DeviceKind, Pool, RunName, Waits};

use super::mirror::{At, Mirror};
use super::promises::ensure;

pub(super) fn all_are_true(pool: &Pool, mirror: &Mirror) -> Result<(), String> {
    for run in mirror.runs.keys() {
        let waits = pool.waits_for(run);
        let lacks = mirror.lacks(run);
        ensure(waits.is_some() == (lacks > 0), || format!("{run} lacks {lacks}, and is told {waits:?}"))?;
        if let Some(waits) = waits {
            let what = || format!("{run} lacks {lacks}, and is told {waits:?}");
            ensure(is_true(waits, run, mirror), what)?;
        }
    }
    Ok(())
}

/// The queue is in order, and everybody is where it is.
pub(super) fn places_are_true(pool: &Pool, mirror: &Mirror) -> Result<(), String> {
    let mut waiting: Vec<&RunName> = mirror.runs.keys().filter(|run| !mirror.runs[*run].running).collect();
    waiting.sort_by_key(|run| mirror.runs[*run].turn);
    let queue: Vec<&RunName> = pool.queue().collect();
    ensure(queue == waiting, || format!("the queue is {queue:?} instead of {waiting:?}"))?;
    for (name, worker) in &mirror.workers {
        let place = pool.worker(name).map(|worker| worker.place.run());
        let expected = match &worker.at {
            At::In { run, .. } | At::Returning { from: run } => Some(run),
            At::Free | At::Dismissed => None,
        };
        ensure(place == Some(expected), || {
            format!("{name} is {:?}, and said to be at {place:?}", worker.at)
        })?;
    }
    let count = pool.workers().count();
    ensure(count == mirror.workers.len(), || format!("{count} workers are known"))
}

fn is_true(waits: &Waits, run: &RunName, mirror: &Mirror) -> bool {
    let (known, lacks, possible) = (&mirror.runs[run], mirror.lacks(run), mirror.possible(run));
    let before = || {
        let wanting = mirror.wanting();
        let earlier = wanting.into_iter().take_while(|other| *other != run);
        earlier.filter(|other| mirror.possible(other).iter().any(|device| possible.contains(device))).count()
    };
    let kinds = [DeviceKind::Cpu, DeviceKind::Cuda];
    match waits {
        Waits::Never { needs, has, asked } => {
            let reach = kinds.map(|device| mirror.within_reach(run, device)).into_iter().max();
            let most = mirror.held(run).count() + reach.unwrap_or_default();
            let told = (*needs, *has, asked.device, asked.memory_bytes);
            possible.is_empty() && told == (known.least(), most, known.device(), known.needs.memory_bytes)
        }
        Waits::Workers { needs, free, .. } => {
            let most = possible.iter().map(|device| mirror.soon(run, *device).0).max();
            !possible.is_empty() && *needs == lacks && Some(*free) == most && before() == 0
        }
        Waits::Behind { runs } => !possible.is_empty() && *runs > 0 && *runs == before(),
        Waits::GivenBack { workers } => {
            let enough = possible.iter().any(|device| {
                let (free, coming) = mirror.soon(run, *device);
                free + coming >= lacks
            });
            enough && !workers.is_empty() && workers.iter().all(|awaited| is_coming(awaited, run, mirror))
        }
    }
}

/// It is on its way, and of use to the run: or it leaves the run itself, and makes room for another.
fn is_coming(awaited: &Awaited, by: &RunName, mirror: &Mirror) -> bool {
    let Awaited { worker, run, over } = awaited;
    let Ok(known) = mirror.worker(worker) else { return false };
    let expected = match over {
        true => At::Returning { from: run.clone() },
        false => At::In { run: run.clone(), reclaimed: true },
    };
    known.at == expected && (run == by || !known.draining && mirror.could_use(by, known.resources))
}
