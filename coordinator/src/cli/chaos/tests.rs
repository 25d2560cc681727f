//! What is refused before anything starts, and what the report says.

use lockstep_core::{Cause, Generation, Position, Receipt};

use super::*;
use crate::chaos::{Comparison, Struck};

fn args(workers: u32, faults: u32) -> ChaosArgs {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ChaosArgs,
    }
    let (workers, faults) = (workers.to_string(), faults.to_string());
    let line = ["chaos", "r.toml", "--set", "batch=8", "--workers", &workers, "--faults", &faults];
    <Line as clap::Parser>::parse_from(line).args
}

fn report(faults: u32, difference: Option<&str>) -> Report {
    let receipt = |generation, cause| Receipt {
        generation: Generation(generation),
        cause,
        culprit: Some("worker-1".into()),
        reason: "gone".into(),
        position: Position::default(),
        detect_ms: 12,
        halt_ms: 3,
        agree_ms: 1,
        connect_ms: 2,
        state_ms: 40,
        first_step_ms: 180,
        total_ms: 238,
        steps_lost: 1,
    };
    let schedule = Schedule::draw(4, 3);
    let struck = schedule.faults.iter().take(faults as usize).map(|fault| Struck {
        fault: *fault,
        target: "worker-1".into(),
        pid: Some(77),
        step: 9,
        at_ms: 1_000,
        healed_ms: Some(2_345),
        receipts: vec![receipt(2, Cause::Loss), receipt(3, Cause::Join)],
    });
    let file = |difference: Option<&str>| Comparison {
        file: "results.csv".into(),
        bytes: 7,
        difference: difference.map(str::to_owned),
    };
    Report {
        name: "a".into(),
        seed: 4,
        workers: 3,
        steps: 60,
        equal: difference.is_none(),
        files: vec![file(difference)],
        faults_planned: 3,
        faults: struck.collect(),
        calm_ms: 10_000,
        chaos_ms: 20_000,
    }
}

#[test]
fn too_little_is_refused_with_advice() {
    for (workers, faults, said) in
        [(1, 8, "only worker dies"), (0, 8, "only worker"), (3, 0, "--faults 0"), (3, 1001, "from 1 to 1000")]
    {
        let error = check(&args(workers, faults)).unwrap_err();
        assert_eq!(error.code, code::USAGE);
        assert!(error.message.contains(said) && error.hint.is_some(), "{error}");
    }
    check(&args(2, 1)).unwrap();
}

#[test]
fn the_recipe_is_handed_on_with_its_changes() {
    assert_eq!(arguments(&args(2, 1).source), ["r.toml", "--set", "batch=8"]);
}

#[test]
fn equal_runs_with_all_faults_are_fine_and_all_else_is_told() {
    assert_eq!(judge(&report(3, None)), Ok(0));
    let error = judge(&report(3, Some("line 2"))).unwrap_err();
    assert!(error.code == code::FAILED && error.message.contains("results.csv: line 2"), "{error}");
    let error = judge(&report(2, None)).unwrap_err();
    assert!(error.code == code::CLUSTER && error.message.contains("only 2 of 3 faults"), "{error}");
}

#[test]
fn the_table_has_a_line_per_fault_and_per_change() {
    let text = table::text(&report(2, None));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("60 steps, 3 workers, 2 of 3 faults of seed 4"), "{text}");
    assert!(lines[3].contains("worker-1 (77)") && lines[3].contains("2.3 s"), "{text}");
    assert!(lines[3].contains("generation 2: loss of worker-1") && lines[3].ends_with("180     1"), "{text}");
    assert!(lines[4].trim_start().starts_with("generation 3: join"), "{text}");
    assert!(text.ends_with("equal    results.csv (7 bytes)\n"), "{text}");
    assert!(table::text(&report(0, Some("line 2"))).ends_with("DIFFERS  results.csv: line 2\n"));
}

#[test]
fn the_json_report_names_each_fault() {
    let json = serde_json::to_value(report(1, None)).unwrap();
    let fault = &json["faults"][0];
    assert_eq!(
        (&fault["target"], &fault["step"], &fault["healed_ms"]),
        (&"worker-1".into(), &9.into(), &2345.into())
    );
    assert!(fault["kind"].is_string() && fault["receipts"][1]["cause"] == "join", "{fault:#}");
    assert_eq!(json["equal"], true);
}
