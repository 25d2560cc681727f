//! Gradients that go from device to device: the same results as through the host, also when members are lost.

use super::members::spawn_linked;
use super::*;
use crate::collective::device::Opener;
use crate::collective::device::rehearsal::Rehearsal;

/// Two steps over three shards; four samples are left over.
fn plan() -> Plan {
    let positive = |value| NonZeroU32::new(value).unwrap();
    Plan { shards: positive(3), batch: positive(6), steps_per_epoch: 2, ..plan::sample() }
}

fn opener(meeting: &Rehearsal) -> Option<Result<Box<dyn Opener>, String>> {
    Some(Ok(Box::new(meeting.clone())))
}

fn spawn_all(plan: &Plan, dataset: &Path, meeting: &Rehearsal, count: usize) -> Vec<Member> {
    let names = (0..count).map(|rank| format!("worker-{rank}"));
    names.map(|name| spawn_linked(plan, dataset, &name, opener(meeting))).collect()
}

fn form_first(members: &mut [Member], shards: &[u32]) {
    let formation = Formation { generation: 1, shards, ..Formation::default() };
    form(&mut members.iter_mut().collect::<Vec<_>>(), formation);
}

fn end(members: Vec<Member>) {
    members.into_iter().for_each(|member| member.end().unwrap());
}

#[test]
fn results_are_those_of_the_hosts_way() {
    let (_dir, path) = dataset();
    let mut alone = begin(&plan(), &path, &[3], None);
    let expected = essence(&mut alone);
    end(alone);
    for shards in [&[3][..], &[1, 2], &[1, 1, 1], &[2, 0, 1]] {
        let meeting = Rehearsal::default();
        let mut members = spawn_all(&plan(), &path, &meeting, shards.len());
        form_first(&mut members, shards);
        assert_eq!(essence(&mut members), expected, "{shards:?}");
        assert_eq!(meeting.operations() > 0, shards.len() > 1, "{shards:?}");
        end(members);
    }
}

#[test]
fn without_exactness_the_members_still_agree() {
    let (_dir, path) = dataset();
    let plan = Plan { exact: false, ..plan() };
    let meeting = Rehearsal::default();
    let mut members = spawn_all(&plan, &path, &meeting, 2);
    form_first(&mut members, &[1, 2]);
    // Weights, metrics and ledger are compared there.
    let found = essence(&mut members);
    assert_eq!((found.1.count, found.2.seen), (12, 12));
    assert!(meeting.operations() > 0);
    end(members);
}

#[test]
fn a_group_with_one_that_cannot_goes_through_the_host() {
    let (_dir, path) = dataset();
    let mut alone = begin(&plan(), &path, &[3], None);
    let expected = essence(&mut alone);
    end(alone);
    let meeting = Rehearsal::default();
    let old = Some(Err("NCCL is too old".to_owned()));
    let mut members = vec![
        spawn_linked(&plan(), &path, "able", opener(&meeting)),
        spawn_linked(&plan(), &path, "unable", old),
    ];
    form_first(&mut members, &[2, 1]);
    assert_eq!(essence(&mut members), expected);
    assert_eq!(meeting.operations(), 0);
    end(members);
}

#[test]
fn a_member_that_is_lost_costs_one_step_and_the_rest_goes_on() {
    let (_dir, path) = dataset();
    let mut alone = begin(&plan(), &path, &[3], None);
    let expected = essence(&mut alone);
    end(alone);
    let meeting = Rehearsal::default();
    let mut members = spawn_all(&plan(), &path, &meeting, 3);
    members[2].lie_in_wait(Moment::FirstStep);
    form_first(&mut members, &[1, 1, 1]);
    let lost = members.pop().unwrap();
    assert_eq!(lost.idle(1).broken, None);
    lost.end().unwrap();
    for member in &members {
        let state = member.idle(1);
        assert_eq!(state.position, Some(Position { epoch: 0, step: 1 }));
        assert!(state.broken.is_some(), "{state:?}");
        member.prepare(2);
    }
    let position = Position { epoch: 0, step: 1 };
    let formation = Formation { generation: 2, shards: &[2, 1], position, ..Formation::default() };
    form(&mut members.iter_mut().collect::<Vec<_>>(), formation);
    assert_eq!(essence(&mut members), expected);
    end(members);
}
