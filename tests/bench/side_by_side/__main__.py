"""Lockstep and PyTorch DistributedDataParallel side by side: `python3 -m side_by_side --help`."""

import argparse
import datetime
import os
import signal
import subprocess
import sys
from pathlib import Path

from . import inputs, pytorch, report, works
from .contest import Contest
from .lockstep import Lockstep
from .processes import Failed


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/run.sh", description="Measures Lockstep against PyTorch DDP here.")
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {', '.join(works.NAMES)}; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="of each work; everybody in turn (default: 3)")
    parser.add_argument("--quick", action="store_true", help="a small data set and one round, to try the harness")
    parser.add_argument("--side", choices=["both", "lockstep", "pytorch"], default="both", help="measure one alone")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=[variant.name for variant in pytorch.VARIANTS],
        help="a PyTorch variant that is not measured; may be given several times",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: target/bench/DATE.json")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.works if name not in works.NAMES]
    if unknown:
        parser.error(f"no work is called {unknown[0]}; there are {', '.join(works.NAMES)}")
    if chosen.rounds < 1:
        parser.error("--rounds is at least 1")
    return chosen


def main():
    chosen = arguments()
    sides = ("lockstep", "pytorch") if chosen.side == "both" else (chosen.side,)
    rounds = 1 if chosen.quick else chosen.rounds
    python = os.environ.get("LOCKSTEP_BENCH_PYTHON") or "python3"
    now = datetime.datetime.now()
    path = chosen.json or inputs.REPOSITORY / "target" / "bench" / f"{now:%Y%m%d-%H%M%S}.json"

    given = inputs.from_environment(python, chosen.quick)
    given.lock()
    found = {
        "machine": report.machine(),
        "commit": report.commit(),
        "versions": {},
        "began": now.isoformat(timespec="seconds"),
        "quick": chosen.quick,
        "works": {},
    }
    if "pytorch" in sides:
        found["versions"].update(pytorch.versions(python))
    given.make()
    lockstep, binaries = None, None
    if "lockstep" in sides:
        binaries = Path(os.environ.get("LOCKSTEP_BIN") or built()).absolute()
        lockstep = Lockstep(binaries, given)
        told = subprocess.run([lockstep.lockstep, "--version"], capture_output=True, text=True, check=True)
        found["versions"]["lockstep"] = told.stdout.strip()
    if found["machine"]["load_before"] > report.QUIET_LOAD:
        say(f"warning: the machine is busy (load {found['machine']['load_before']:.1f}): figures will be worse and uneven")

    maker = works.Works(lockstep, pytorch.PyTorch(python, given.reference, given), given, binaries, chosen.quick)
    try:
        for name in chosen.works or works.NAMES:
            contest = Contest(maker.make(name), out=set(chosen.without))
            for number in range(rounds):
                contest.round(number, sides, teller(path, found, contest, number))
    finally:
        if lockstep:
            lockstep.clear()
    print(report.table(found))
    say(f"\n{path}")
    failed = any("failed" in row for work in found["works"].values() for row in work["raw"])
    return 1 if failed else 0


def built():
    """Builds this tree, and tells where the programs lie."""
    command = "cargo build --release --locked --quiet -p lockstep-coordinator -p lockstep-worker -p bench"
    if subprocess.run(command.split(), cwd=inputs.REPOSITORY, check=False).returncode != 0:
        raise Failed(f"`{command}` failed")
    return inputs.REPOSITORY / "target" / "release"


def teller(path, found, contest, number):
    """Says what came out of each measurement at once, and keeps it."""
    work = contest.work

    def tell(one, figure, failure):
        came_out = failure or f"{report.number(figure)} {work.measure.unit}"
        say(f"{work.name}, round {number + 1}: {one.name}: {came_out}")
        found["works"][work.name] = contest.report()
        report.write(path, found)

    return tell


def say(line):
    print(line, file=sys.stderr, flush=True)


def end(*_):
    """By an exception, so that whatever is under way is killed and cleared away."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    try:
        sys.exit(main())
    except Failed as failure:
        say(f"error: {failure}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
