//! The reasons, word by word.

use super::*;

#[test]
fn a_reason_tells_what_is_lacking_of_what_was_asked_for() {
    let of = |device, memory_bytes| WorkerKind { device, memory_bytes };
    let cases = [
        (
            Waits::Workers { needs: 3, asked: of(Some(DeviceKind::Cpu), 0), free: 1 },
            "waits for 2 more cpu workers (1 of 3 is free)",
        ),
        (
            Waits::Workers { needs: 2, asked: of(None, 12 * GIB), free: 0 },
            "waits for 2 more workers of one kind with 12.0 GiB each (0 of 2 are free)",
        ),
        (
            Waits::Workers { needs: 1, asked: of(None, GIB / 2), free: 0 },
            "waits for 1 more worker with 0.5 GiB (0 of 1 are free)",
        ),
        (
            Waits::Never { needs: 4, asked: of(Some(DeviceKind::Cuda), 0), has: 2 },
            "can never be placed: it needs 4 cuda workers, and the pool has 2",
        ),
        (Waits::Behind { runs: 1 }, "1 run is before it"),
        (Waits::Behind { runs: 3 }, "3 runs are before it"),
    ];
    for (waits, words) in cases {
        assert_eq!(waits.to_string(), words);
    }
}

#[test]
fn a_reason_names_those_that_are_on_their_way_but_not_too_many() {
    let awaited =
        |index: u32| Awaited { worker: WorkerName(format!("worker-{index}")), run: "b".into(), over: false };
    let of = |count| Waits::GivenBack { workers: (0..count).map(awaited).collect() }.to_string();
    assert_eq!(of(1), "waits for worker-0, which run b gives back at its next step");
    assert_eq!(of(2), "waits for worker-0 of run b, worker-1 of run b, which come back at their next steps");
    assert!(of(4).contains("worker-2 of run b and 1 other, which"));
    assert!(of(9).contains("worker-2 of run b and 6 others, which"));
}

#[test]
fn those_that_are_before_a_run_are_those_that_wait_for_the_same() {
    let mut bench = Bench::with(2);
    bench.come_with("g0", DeviceKind::Cuda, 80);
    let of = |device| Requirements { device: Some(device), ..needs(1, 1) };
    bench.submit("a", 2, 2);
    bench.submit_with("b", 0, of(DeviceKind::Cuda));
    bench.submit("huge", 9, 9);
    bench.submit_with("c", 0, of(DeviceKind::Cpu));
    bench.submit_with("d", 0, of(DeviceKind::Cuda));
    bench.submit_with("e", 0, of(DeviceKind::Cpu));
    bench.submit("any", 1, 1);
    assert_eq!(bench.waits("c"), "waits for 1 more cpu worker (0 of 1 are free)");
    assert_eq!(bench.waits("d"), "waits for 1 more cuda worker (0 of 1 are free)");
    assert_eq!(bench.waits("e"), "1 run is before it");
    assert_eq!(bench.waits("any"), "3 runs are before it");
}
