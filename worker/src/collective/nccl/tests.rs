//! The link over the stand-in for NCCL: what is called when, and what becomes of members that do not come.

use std::ops::Range;
use std::sync::mpsc::channel;
use std::thread;

use tch::{Device, Kind, Tensor};

use super::fake::{ALIVE, Deeds, FATE, Fate, REMOTE_ERROR, api};
use super::*;
use crate::collective::Group;
use crate::collective::device::DeviceSum;

const LENGTH: usize = 41;
const PARTS: [Range<usize>; 2] = [16..41, 0..16];

fn opener() -> Nccl {
    Nccl { api: api(), index: 0 }
}

/// Runs `act` on all members of a group; the results by rank.
fn on_links<T: Send>(world_size: usize, act: impl Fn(&mut dyn DeviceLink, usize) -> T + Sync) -> Vec<T> {
    let id = opener().identify().unwrap();
    thread::scope(|scope| {
        let (act, id) = (&act, &id);
        let members = (0..world_size).map(|rank| {
            scope.spawn(move || {
                let mut link = opener().open(id, rank, world_size, &mut || Ok(())).unwrap();
                act(&mut *link, rank)
            })
        });
        let members: Vec<_> = members.collect();
        members.into_iter().map(|member| member.join().unwrap()).collect()
    })
}

fn values(shard: u32) -> Tensor {
    let value =
        |at: usize| (at as f32 + 0.1).powi(shard as i32 % 5) * if at.is_multiple_of(2) { -1e3 } else { 0.3 };
    Tensor::from_slice(&(0..LENGTH).map(value).collect::<Vec<_>>())
}

fn sum(group: &Group, link: &mut dyn DeviceLink, exact: bool) -> Result<Vec<u32>, CollectiveError> {
    let mut check = || Ok(());
    let like = Tensor::zeros([LENGTH as i64], (Kind::Float, Device::Cpu));
    let mut sum = DeviceSum::new(&like, PARTS.to_vec(), group, exact)?;
    for shard in group.block() {
        for part in 0..PARTS.len() {
            sum.add(part, shard, &values(shard), link, &mut check)?;
        }
    }
    let found = Vec::<f32>::try_from(&*sum.finish(link, &mut check)?).unwrap();
    Ok(found.into_iter().map(f32::to_bits).collect())
}

#[test]
fn nccl_moves_what_the_schedule_says() {
    let blocks = [0..2, 2..2, 2..5];
    let group = |rank| Group::new(rank, 5, blocks.to_vec()).unwrap();
    let alone = Group::new(0, 5, std::iter::once(0..5).collect()).unwrap();
    let expected = sum(&alone, &mut super::super::device::Alone, true).unwrap();
    let found = on_links(3, |link, rank| sum(&group(rank), link, true).unwrap());
    assert!(found.iter().all(|found| *found == expected));
    let found = on_links(3, |link, rank| sum(&group(rank), link, false).unwrap());
    for (found, exact) in found[0].iter().zip(&expected) {
        let (found, exact) = (f32::from_bits(*found), f32::from_bits(*exact));
        assert!((found - exact).abs() <= exact.abs() * 1e-5, "{found} {exact}");
    }
}

#[test]
fn everything_is_given_back_and_the_communicator_aborted_once() {
    let deeds = thread::spawn(|| {
        let id = opener().identify().unwrap();
        let mut link = opener().open(&id, 0, 1, &mut || Ok(())).unwrap();
        let group = Group::new(0, 1, std::iter::once(0..1).collect()).unwrap();
        sum(&group, &mut *link, true).unwrap();
        drop(link);
        ALIVE.get()
    });
    assert_eq!(deeds.join().unwrap(), Deeds { aborts: 1, guards: 0, streams: 0, events: 0 });
}

#[test]
fn a_peer_that_does_not_come_is_waited_for_as_long_as_it_is_of_use() {
    let blocks = [0..1, 1..2];
    // The other one lives until this one has given up.
    let (gave_up, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let ends = on_links(2, |link, rank| {
        if rank == 1 {
            let _ = wait.lock().unwrap().recv();
            return None;
        }
        let group = Group::new(rank, 2, blocks.to_vec()).unwrap();
        let mut sum = DeviceSum::new(&values(0), PARTS.to_vec(), &group, true).unwrap();
        let mut looks = 0;
        let mut check = || {
            looks += 1;
            if looks < 3 { Ok(()) } else { Err(CollectiveError::Cancelled) }
        };
        let end = sum.add(0, 0, &values(0), link, &mut check).unwrap_err();
        let later = sum.add(1, 0, &values(0), link, &mut check).unwrap_err();
        let aborted = ALIVE.get();
        gave_up.send(()).unwrap();
        Some((end, later, aborted))
    });
    let Some((end, later, deeds)) = &ends[0] else { panic!("{ends:?}") };
    assert!(
        matches!(end, CollectiveError::Cancelled) && matches!(later, CollectiveError::Closed),
        "{ends:?}"
    );
    assert_eq!((deeds.aborts, deeds.guards), (1, 0), "and libtorch's stream is its own again");
}

#[test]
fn a_device_that_is_never_done_is_left_when_that_is_said() {
    let ends = on_links(1, |link, _| {
        let group = Group::new(0, 1, std::iter::once(0..1).collect()).unwrap();
        let mut sum = DeviceSum::new(&values(0), PARTS.to_vec(), &group, true).unwrap();
        for part in 0..PARTS.len() {
            sum.add(part, 0, &values(0), link, &mut || Ok(())).unwrap();
        }
        FATE.set(Fate { is_stuck: true, ..Fate::default() });
        let cancelled = sum.finish(link, &mut || Err(CollectiveError::Cancelled)).map(|_| ()).unwrap_err();
        (cancelled, ALIVE.get().aborts)
    });
    assert!(matches!(ends[0], (CollectiveError::Cancelled, 1)), "{ends:?}");
}

#[test]
fn what_nccl_notices_is_told_in_its_words() {
    let ends = on_links(1, |link, _| {
        let group = Group::new(0, 1, std::iter::once(0..1).collect()).unwrap();
        let last_error = Some(c"old\nsocket closed by 10.0.0.7");
        FATE.set(Fate { status: REMOTE_ERROR, last_error, is_stuck: true });
        let mut sum = DeviceSum::new(&values(0), PARTS.to_vec(), &group, false).unwrap();
        sum.add(0, 0, &values(0), link, &mut || Ok(())).unwrap_err()
    });
    let said = ends[0].to_string();
    let expected = "an exchange failed on the device: NCCL: an error as planned: socket closed by 10.0.0.7";
    assert_eq!(said, expected);
}

#[test]
fn a_shared_gpu_is_told_with_a_hint() {
    let refused = thread::spawn(|| {
        let last_error = Some(c"Duplicate GPU detected : rank 0 and rank 1 both on CUDA device 1b000");
        FATE.set(Fate { status: 5, last_error, is_stuck: false });
        let id = opener().identify().unwrap();
        opener().open(&id, 0, 2, &mut || Ok(())).map(|_| ()).unwrap_err().to_string()
    });
    let said = refused.join().unwrap();
    assert!(
        said.contains("Duplicate GPU") && said.contains("hint: ") && said.contains("NCCL_HOSTID"),
        "{said}"
    );
}

#[test]
fn an_identity_of_another_length_is_refused() {
    let error = opener().open(&[1, 2, 3], 0, 2, &mut || Ok(())).map(|_| ()).unwrap_err();
    assert!(matches!(error, CollectiveError::Device { what: "meeting", .. }));
}
