//! Generations that end around an epoch's end: in the evaluation, while the verdict is awaited, when only some have
//! followed it, and in the hold after the last.

use super::*;

/// Two epochs of two steps.
fn plan() -> Plan {
    Plan { epochs: 2, ..plan::sample() }
}

/// What must not depend on the members, by epoch.
type Essences = Vec<([u8; 32], Metrics, Ledger, Vec<(u32, Metrics)>)>;

fn undisturbed(dataset: &Path) -> Essences {
    let mut alone = begin(&plan(), dataset, &[2], None);
    let first = essence(&mut alone);
    alone[0].order(verdict(false, false, None));
    let second = essence(&mut alone);
    alone.into_iter().for_each(|member| member.end().unwrap());
    vec![first, second]
}

fn verdict_in(generation: u64, epoch: u32, keep: bool, hold: bool) -> Command {
    Command::Verdict(Verdict { generation, epoch, restore: None, save: keep, keep, hold })
}

/// Trained, and not decided on.
fn unjudged(epoch: u32) -> Position {
    Position { epoch, step: plan().start_of(epoch + 1).step }
}

#[test]
fn a_death_in_the_evaluation_or_after_it_has_the_others_evaluate_again() {
    let (_dir, path) = dataset();
    let expected = undisturbed(&path);
    let [mut first, mut second] = ["first", "second"].map(|name| spawn(&plan(), &path, name));
    let formation = Formation { generation: 1, shards: &[1, 1], ..Formation::default() };
    second.lie_in_wait(Moment::Evaluation);
    form(&mut [&mut first, &mut second], formation);
    assert_eq!(second.idle(1).position, Some(unjudged(0)));
    // The first one's half, which says nothing of the whole.
    assert_eq!(first.epoch().blocks.len(), 1);
    second.end().unwrap();

    first.until(|state| state.activity == Activity::AwaitingVerdict);
    let formation = Formation { generation: 2, shards: &[2], position: unjudged(0), ..formation };
    form(&mut [&mut first], formation);
    let mut members = [first];
    assert_eq!(essence(&mut members), expected[0]);
    // What the lost generation was told comes too late; a repeated order is followed once.
    members[0].order(verdict_in(1, 0, false, true));
    members[0].order(verdict_in(2, 0, false, false));
    members[0].order(verdict_in(2, 0, false, true));
    assert_eq!(essence(&mut members), expected[1]);
    members.into_iter().for_each(|member| member.end().unwrap());
}

#[test]
fn an_epoch_that_is_decided_on_is_not_evaluated_again() {
    let (_dir, path) = dataset();
    let expected = undisturbed(&path);
    let mut members = begin(&plan(), &path, &[1, 1], None);
    assert_eq!(essence(&mut members), expected[0]);
    let [first, second] = members.as_mut_slice() else { unreachable!() };
    second.prepare(2);
    // Without a preparation: the next generation supersedes this one.
    let position = unjudged(0);
    let judged = Formation { generation: 2, shards: &[1, 1], position, judged: true, ..Formation::default() };
    form(&mut [second, first], judged);
    for member in &members {
        member.until(|state| state.generation == 2 && state.activity == Activity::AwaitingVerdict);
        member.order(verdict_in(2, 0, false, false));
    }
    members.reverse();
    assert_eq!(essence(&mut members), expected[1]);
    members.into_iter().for_each(|member| member.end().unwrap());
}

#[test]
fn a_verdict_that_only_some_have_followed_reaches_the_others_as_state() {
    let (_dir, path) = dataset();
    let expected = undisturbed(&path);
    let mut members = begin(&plan(), &path, &[1, 1], None);
    assert_eq!(essence(&mut members), expected[0]);
    let [ahead, behind] = members.as_mut_slice() else { unreachable!() };
    ahead.order(verdict_in(1, 0, true, false));
    let next = plan().start_of(1);
    ahead.until(|state| state.position == Some(next));
    behind.prepare(2);
    let broken = ahead.idle(1).broken.unwrap();
    assert_eq!(broken.blames, ["worker-1"]);
    let saved = ahead.snapshot();
    assert_eq!(saved.position, next);
    assert_eq!((ahead.kept.get(), behind.kept.get()), (Some(saved.clone()), None));

    // The one that was behind has the best model's checkpoint then too, and sees to it that it is stored.
    let formation = Formation { generation: 2, shards: &[1, 1], position: next, ..Formation::default() };
    form(&mut [behind, ahead], formation);
    assert!(behind.snapshot() == saved);
    members.reverse();
    assert_eq!(essence(&mut members), expected[1]);
    assert_eq!(members[0].kept.get(), Some(saved));
    members[0].kept.release(next.step);
    assert_eq!(members[0].kept.get(), None);
    members.into_iter().for_each(|member| member.end().unwrap());
}

#[test]
fn a_newcomer_at_an_epochs_end_evaluates_with_the_others() {
    let (_dir, path) = dataset();
    let expected = undisturbed(&path);
    let mut first = spawn(&plan(), &path, "first");
    let mut position = Position::default();
    for generation in 1..=2 {
        let shards = &[2];
        form(
            &mut [&mut first],
            Formation { generation, shards, position, pause: true, ..Formation::default() },
        );
        position = first.idle(generation).position.unwrap();
    }
    assert_eq!(position, unjudged(0), "a pause needs no verdict");
    let mut second = spawn(&plan(), &path, "second");
    form(
        &mut [&mut second, &mut first],
        Formation { generation: 3, shards: &[1, 1], position, ..Formation::default() },
    );
    let mut members = [second, first];
    assert_eq!(essence(&mut members), expected[0]);
    members.iter().for_each(|member| member.order(verdict_in(3, 0, false, false)));
    assert_eq!(essence(&mut members), expected[1]);
    members.into_iter().for_each(|member| member.end().unwrap());
}

#[test]
fn a_held_member_saves_first_and_keeps_its_state_whatever_it_evaluates() {
    let (_dir, path) = dataset();
    let expected = undisturbed(&path);
    let mut member = spawn(&plan(), &path, "member");
    let paused = Formation { generation: 1, shards: &[2], pause: true, ..Formation::default() };
    form(&mut [&mut member], paused);
    let position = member.idle(1).position.unwrap();
    let held = Formation { generation: 2, position, save: true, hold: true, pause: false, ..paused };
    member.lie_in_wait(Moment::Evaluation);
    form(&mut [&mut member], held);
    let saved = member.snapshot();
    assert_eq!(saved.position, position);
    member.until(|state| state.activity == Activity::Holding);

    // Other weights: those of the start.
    let initial = initial_weights(&path);
    let evaluate =
        |generation| Command::Evaluate(Evaluate { generation, split: Split::Test, weights: initial.clone() });
    member.order(evaluate(2));
    assert_eq!(member.idle(2).broken, None);
    form(&mut [&mut member], Formation { generation: 3, ..held });
    assert!(member.snapshot() == saved, "what was cut off in the evaluation left nothing behind");

    member.order(evaluate(3));
    let evaluated = member.eval();
    member.order(evaluate(3));
    assert_eq!(member.eval(), evaluated, "told again, not computed again");
    member.until(|state| state.activity == Activity::Holding);
    form(&mut [&mut member], Formation { generation: 4, hold: false, ..held });
    assert!(member.snapshot() == saved);
    let mut members = [member];
    assert_eq!(essence(&mut members), expected[0]);
    members.into_iter().for_each(|member| member.end().unwrap());
}

/// The model file of a run's start.
fn initial_weights(path: &Path) -> Vec<u8> {
    let mut member = spawn(&plan(), path, "start");
    let formation = Formation { generation: 1, shards: &[2], save: true, hold: true, ..Formation::default() };
    form(&mut [&mut member], formation);
    let files = member.snapshot().files;
    member.end().unwrap();
    files.model.clone()
}
