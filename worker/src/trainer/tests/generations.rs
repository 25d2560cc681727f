//! Members die, lag, come and pause in the middle of an epoch: it ends as if nothing had been.

use super::*;

/// Four steps, so that something is left after an interruption.
fn plan() -> Plan {
    Plan { batch: NonZeroU32::new(4).unwrap(), steps_per_epoch: 4, ..plan::sample() }
}

fn undisturbed(plan: &Plan, dataset: &Path) -> ([u8; 32], Metrics, Ledger, Vec<(u32, Metrics)>) {
    let mut alone = begin(plan, dataset, &[2], None);
    let essence = essence(&mut alone);
    alone.into_iter().for_each(|member| member.end().unwrap());
    essence
}

fn at(step: u64) -> Position {
    Position { epoch: 0, step }
}

#[test]
fn a_member_that_is_lost_in_a_step_costs_that_step_and_changes_nothing() {
    let (_dir, path) = dataset();
    let expected = undisturbed(&plan(), &path);
    let [mut first, mut second] = ["first", "second"].map(|name| spawn(&plan(), &path, name));
    let formation = Formation { generation: 1, shards: &[1, 1], ..Formation::default() };
    second.lie_in_wait(Moment::FirstStep);
    form(&mut [&mut first, &mut second], formation);
    let lost = second.idle(1);
    // It was called off, which is nobody's fault.
    assert_eq!((lost.position, lost.broken), (Some(at(1)), None));
    let left = first.idle(1);
    let broken = left.broken.unwrap();
    assert_eq!((left.position, broken.blames.as_slice()), (Some(at(1)), ["second".to_owned()].as_slice()));
    assert!(broken.reason.starts_with("lost second: "), "{}", broken.reason);
    second.end().unwrap();

    first.prepare(2);
    let formation = Formation { generation: 2, shards: &[2], position: at(1), ..Formation::default() };
    form(&mut [&mut first], formation);
    assert_eq!(first.until(|state| state.generation == 2).broken, None);
    let mut members = [first];
    assert_eq!(essence(&mut members), expected);
    let generations: Vec<u64> = members[0].started.iter().map(|started| started.generation).collect();
    assert_eq!(generations, [1, 2]);
    members.into_iter().for_each(|member| member.end().unwrap());
}

#[test]
fn whoever_lags_or_is_new_gets_the_state_of_the_one_that_is_ahead() {
    let (_dir, path) = dataset();
    let expected = undisturbed(&plan(), &path);
    let [mut ahead, mut lagging, mut newcomer] =
        ["ahead", "lagging", "newcomer"].map(|name| spawn(&plan(), &path, name));
    let formation = Formation { generation: 1, shards: &[1, 1], pause: true, ..Formation::default() };
    form(&mut [&mut ahead, &mut lagging], formation);
    for member in [&ahead, &lagging] {
        assert_eq!(member.idle(1).position, Some(at(1)));
    }
    let alone = Formation { generation: 2, shards: &[2], position: at(1), pause: true, ..formation };
    form(&mut [&mut ahead], alone);
    assert_eq!(ahead.idle(2).position, Some(at(2)));

    let together = Formation { generation: 3, shards: &[1, 0, 1], position: at(2), ..Formation::default() };
    form(&mut [&mut newcomer, &mut lagging, &mut ahead], together);
    let mut members = [newcomer, lagging, ahead];
    assert_eq!(essence(&mut members), expected);
    members.into_iter().for_each(|member| member.end().unwrap());
}

#[test]
fn one_raised_flag_pauses_all_after_the_same_step() {
    let (_dir, path) = dataset();
    let expected = undisturbed(&plan(), &path);
    let [mut first, mut second] = ["first", "second"].map(|name| spawn(&plan(), &path, name));
    let mut position = Position::default();
    for generation in 1..=3 {
        let shards = if generation == 2 { &[0, 2] } else { &[1, 1] };
        let formation = Formation { generation, shards, position, pause: true, ..Formation::default() };
        form(&mut [&mut first, &mut second], formation);
        position = first.idle(generation).position.unwrap();
        assert_eq!(second.idle(generation).position, Some(position));
        for member in [&first, &second] {
            // Twice, as orders are repeated.
            member.prepare(generation + 1);
            member.prepare(generation + 1);
        }
    }
    assert_eq!(position, at(3));
    let last = Formation { generation: 4, shards: &[1, 1], position, ..Formation::default() };
    form(&mut [&mut first, &mut second], last);
    let mut members = [first, second];
    assert_eq!(essence(&mut members), expected);
    members.into_iter().for_each(|member| member.end().unwrap());
}

#[test]
fn what_is_held_survives_a_generation_that_does_not_come_about() {
    let (_dir, path) = dataset();
    let expected = undisturbed(&plan(), &path);
    let mut first = spawn(&plan(), &path, "first");
    let formation = Formation { generation: 1, shards: &[2], pause: true, ..Formation::default() };
    form(&mut [&mut first], formation);
    first.idle(1);

    // The source of the state is dead before it sends any; the next one is there but stands elsewhere.
    let mut dead = spawn(&plan(), &path, "dead");
    dead.pulse.stands_at(at(3));
    let broken = Formation { generation: 2, shards: &[1, 1], position: at(3), ..Formation::default() };
    form(&mut [&mut dead, &mut first], broken);
    let state = first.idle(2);
    assert_eq!(state.broken.unwrap().blames, ["dead"]);
    assert_eq!(state.position, Some(at(1)));
    let state = dead.idle(2);
    assert_eq!(
        state.broken.unwrap().reason,
        "this member was said to stand at step 3 of epoch 0, but it stands nowhere"
    );
    dead.end().unwrap();

    // Called off while it waits for a member that does not come.
    let mut silent = spawn(&plan(), &path, "silent");
    let waiting = Formation { generation: 3, position: at(1), absent: true, ..broken };
    form(&mut [&mut first, &mut silent], waiting);
    first.until(|state| state.generation == 3 && state.activity == Activity::Forming);
    first.cancel.cancel();
    let state = first.idle(3);
    assert_eq!((state.position, state.broken), (Some(at(1)), None));
    silent.end().unwrap();

    let formation = Formation { generation: 5, shards: &[2], position: at(1), ..Formation::default() };
    form(&mut [&mut first], formation);
    let mut members = [first];
    assert_eq!(essence(&mut members), expected);
    members.into_iter().for_each(|member| member.end().unwrap());
}

#[test]
fn orders_from_before_are_ignored() {
    let (_dir, path) = dataset();
    let mut member = spawn(&plan(), &path, "member");
    member.prepare(3);
    // From before what it has paused for, then twice the same.
    form(&mut [&mut member], Formation { generation: 2, shards: &[2], ..Formation::default() });
    let paused = Formation { generation: 3, shards: &[2], pause: true, ..Formation::default() };
    form(&mut [&mut member], paused);
    assert_eq!(member.idle(3).position, Some(at(1)));
    form(&mut [&mut member], Formation { position: at(1), ..paused });
    member.order(verdict(true, true, None));
    member.order(Command::Evaluate(Evaluate { generation: 3, split: Split::Test, weights: vec![] }));
    member.prepare(4);
    assert_eq!(member.pulse.state().position, Some(at(1)), "the second one was not begun");
    let snapshots = member.finish();
    assert!(snapshots.is_empty());
}
