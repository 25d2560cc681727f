//! Slots under every kind of end.

use super::*;

fn ended(slots: &mut Slots, slot: usize) -> Decision {
    slots.ended(slot, false, 0, Instant::now())
}

#[test]
fn a_slot_is_filled_again_with_growing_pauses_as_often_as_allowed() {
    let mut slots = Slots::new(1, 8, Needs::EverySlot);
    let now = Instant::now();
    let mut pauses = Vec::new();
    while let Decision::Restart { after, restart } = slots.ended(0, false, 0, now) {
        assert_eq!(slots.next_start(), Some(now + after));
        assert_eq!(slots.start_due(now), None, "not before its time");
        assert_eq!(slots.start_due(now + after), Some(0));
        assert_eq!((slots.next_start(), slots.start_due(now + after)), (None, None), "once");
        pauses.push(after.as_millis());
        assert_eq!(restart as usize, pauses.len());
    }
    assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    assert!(slots.are_deserted());
}

#[test]
fn a_fixed_number_of_workers_fails_with_the_first_slot_that_cannot_be_filled() {
    let mut slots = Slots::new(3, 0, Needs::EverySlot);
    assert_eq!(ended(&mut slots, 1), Decision::Fail);
}

#[test]
fn an_elastic_run_goes_on_down_to_its_least_number() {
    let mut slots = Slots::new(3, 0, Needs::AtLeast(2));
    assert_eq!(ended(&mut slots, 2), Decision::GivenUp);
    assert_eq!(ended(&mut slots, 0), Decision::Fail);

    // Workers from elsewhere count; so do those that wait to be started again.
    let mut slots = Slots::new(2, 1, Needs::AtLeast(2));
    ended(&mut slots, 0);
    slots.start_due(Instant::now() + BACKOFF_MAX);
    ended(&mut slots, 1);
    assert_eq!(slots.ended(0, false, 1, Instant::now()), Decision::GivenUp);
}

#[test]
fn who_left_on_purpose_is_not_started_again_and_costs_no_restart() {
    let mut slots = Slots::new(2, 0, Needs::EverySlot);
    slots.leaves(0);
    assert!(!slots.is_running(0) && slots.is_running(1));
    assert_eq!(ended(&mut slots, 0), Decision::Left);
    assert!(!slots.are_deserted());
    assert_eq!(slots.ended(1, true, 0, Instant::now()), Decision::Left);
    assert!(slots.are_deserted());
    assert_eq!(slots.next_start(), None);
}

#[test]
fn nobody_is_started_once_the_run_stops() {
    let mut slots = Slots::new(2, 5, Needs::EverySlot);
    let now = Instant::now();
    ended(&mut slots, 0);
    slots.stop();
    assert_eq!((slots.next_start(), slots.start_due(now + BACKOFF_MAX)), (None, None));
    assert_eq!(ended(&mut slots, 1), Decision::Nothing);
}

#[test]
fn restarts_are_counted_by_slot() {
    let mut slots = Slots::new(2, 1, Needs::EverySlot);
    assert!(matches!(ended(&mut slots, 0), Decision::Restart { restart: 1, .. }));
    assert!(matches!(ended(&mut slots, 1), Decision::Restart { restart: 1, .. }));
    slots.start_due(Instant::now() + BACKOFF_MAX);
    assert_eq!(ended(&mut slots, 0), Decision::Fail);
}
