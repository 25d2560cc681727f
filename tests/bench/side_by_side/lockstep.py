"""Lockstep's side: its own binaries on a fresh home each time, timed by its workers' logs and by this program's clock."""

import os
import shutil
import tempfile
from pathlib import Path

from . import accounts, figures
from .processes import Failed, Process, kill_if, peak_bytes, wait

# A line per step, with its time to the microsecond.
LOG_STEPS = "info,lockstep_worker::trainer=debug"
RUN = "run"
# A Ctrl-C ends a run after a step and a checkpoint.
INTERRUPTED = 130


class Lockstep:
    def __init__(self, binaries, inputs):
        self.lockstep = binaries / "lockstep"
        self.worker = binaries / "lockstep-worker"
        for binary in (self.lockstep, self.worker):
            if not binary.is_file():
                raise Failed(f"{binary} is missing\nhint: `cargo build --release`, or LOCKSTEP_BIN=FOLDER")
        self.inputs = inputs
        self.homes = inputs.cache / "homes"
        self.homes.mkdir(parents=True, exist_ok=True)
        # What a crash of this program left.
        self.clear()
        self.filled = None

    def clear(self):
        for left in self.homes.iterdir():
            shutil.rmtree(left)

    def train(self, settings, log="info", home=None):
        """A run under way: the process, and the run's folder."""
        home = home or self.fresh_home()
        command = [self.lockstep, "train", "--name", RUN, "--workers", 2, "--home", home, "--log", log]
        for key, value in {**self.common(), **settings}.items():
            command += ["--set", f"{key}={value}"]
        return Run(Process(command, {"LOCKSTEP_WORKER": str(self.worker)}), home, self.worker.name)

    def common(self):
        """The reference program's own settings. It evaluates on the test split, and holds nothing back."""
        return {
            "data.name": "cifar10",
            "data.path": self.inputs.data,
            "data.validation": 0,
            "model.name": "resnet50",
            "model.weights": self.inputs.weights,
            "batch": 200,
            "threads": 1,
            "optimizer.lr": 0.001,
            "optimizer.momentum": 0.9,
            "select.split": "test",
        }

    def fresh_home(self):
        """A home without runs, whose cache holds the data set and the weights and nothing that was computed from them."""
        if self.filled is None:
            # A run of one step leaves in the cache what coordinator and workers take in.
            self.filled = Path(tempfile.mkdtemp(prefix="filled-", dir=self.homes))
            with self.train({}, LOG_STEPS, self.filled) as run:
                run.until_steps(1)
            shutil.rmtree(self.filled / "runs")
        home = Path(tempfile.mkdtemp(dir=self.homes))
        # Files of the cache are never written to once they are there.
        shutil.copytree(self.filled / "cache", home / "cache", copy_function=link)
        return home

    def steps(self, settings, steps, warmup):
        """Makes `warmup` + `steps` steps over the whole training split, and stops."""
        with self.train(settings, LOG_STEPS) as run:
            run.until_steps(warmup + steps)
            times = run.step_times()
            peak = max(run.peaks.values())
            run.stop()
            made = [times["worker-0"][step] for step in range(1, warmup + steps + 1)]
            first = max(worker[1] for worker in times.values())
            lengths = figures.steady(made, warmup)
            return {
                "step_s": figures.median(lengths) if lengths else None,
                "first_step_s": first - run.process.began,
                "peak_bytes": peak,
                "peak_bytes_with_a_checkpoint": max(run.peaks.values()),
                "steps_s": lengths,
            }

    def whole(self, settings, epochs, train, test):
        """A run from the start of `lockstep` to its end, with all that belongs to it: caches, evaluations, checkpoints."""
        with self.train({**settings, "epochs": epochs, "data.train": train, "data.test": test}) as run:
            wait([run.process], until=run.look)
            rows = accounts.results(run.text("results.csv"))
            counts = {(int(row["train/count"]), int(row["test/count"])) for row in rows}
            if len(rows) != epochs or counts != {(train, test)}:
                run.process.fail(f"{len(rows)} epochs with counts {counts} instead of {epochs} of {train}, {test}")
            return {
                "seconds": run.process.ended - run.process.began,
                "epochs": epochs,
                "test_acc": float(rows[-1]["test/acc_top1"]),
                "peak_bytes": max(run.peaks.values(), default=0),
            }


class Run:
    """A run of Lockstep. Nothing of it is left when its `with` block ends, whatever happens."""

    def __init__(self, process, home, worker):
        self.process, self.home, self.worker = process, home, worker
        self.folder = home / "runs" / RUN
        self.pids, self.peaks = {}, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.find_workers()
        self.process.kill()
        # Workers outlive a killed coordinator for a while.
        for pid in self.pids.values():
            kill_if(pid, self.worker)
        if self.home.name.startswith("filled-"):
            return
        shutil.rmtree(self.home)

    def text(self, name):
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def find_workers(self):
        if not self.pids:
            self.pids = accounts.worker_pids(self.text("events.jsonl"))

    def look(self):
        """Keeps what the workers' peak memory is. Never true: there is nothing to wait for."""
        self.find_workers()
        for name, pid in self.pids.items():
            self.peaks[name] = max(self.peaks.get(name, 0), peak_bytes(pid))
        return False

    def step_times(self):
        return {name: accounts.step_times(self.text(f"logs/{name}.log")) for name in self.pids}

    def until_steps(self, count):
        """Waits until every worker has made so many."""

        def made():
            self.look()
            times = self.step_times()
            return bool(times) and all(count in steps for steps in times.values())

        if not wait([self.process], until=made):
            self.process.fail(f"ended before step {count}")

    def stop(self):
        self.process.interrupt()
        wait([self.process], until=self.look, expect=(INTERRUPTED,))


def link(source, target):
    """Hard links take no time and no room; over the border of a file system it is a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
