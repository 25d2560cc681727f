"""One training run of Lockstep: its settings, its files, and what may be done to it meanwhile."""

import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path

RUN = "run"
LOG = "info,lockstep_worker::trainer=debug"
# No run here takes a tenth of it.
DEADLINE_S = 1800
LOOK_EVERY_S = 0.05
# What a worker logs when gradients do not stay on the GPUs.
THROUGH_THE_HOST = "gradients go through the host's memory"


class Failed(Exception):
    """A check did not come out as it must."""


class Training:
    """A run under way. Its processes and its home are gone after the `with` block; the home of a failed one stays."""

    def __init__(self, machine, settings, workers, own_hosts=False, **environment):
        self.machine = machine
        self.home = Path(tempfile.mkdtemp(prefix="home-", dir=machine.out))
        if own_hosts:
            environment["LOCKSTEP_WORKER"] = self.each_on_a_host_of_its_own()
        command = [machine.binaries / "lockstep", "train", "--name", RUN, "--home", self.home]
        command += ["--workers", str(workers), "--log", LOG]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        self.said = open(self.home / "said.log", "w")
        self.process = subprocess.Popen(
            command,
            env=machine.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=self.said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def each_on_a_host_of_its_own(self):
        """NCCL refuses two ranks on one GPU of one host, and believes NCCL_HOSTID in what a host is. Sockets carry the data
        then, slowly."""
        script = self.home / "worker.sh"
        worker = self.machine.binaries / "lockstep-worker"
        script.write_text(f'#!/bin/sh\nNCCL_HOSTID="lockstep-$$" exec "{worker}" "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return script

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        # Workers outlive a killed coordinator for a while.
        for pid in self.pids().values():
            if is_worker(pid):
                os.kill(pid, signal.SIGKILL)
        self.said.close()
        if kind is None:
            shutil.rmtree(self.home)

    @property
    def folder(self):
        return self.home / "runs" / RUN

    def text(self, name):
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def events(self, kind):
        lines = self.text("events.jsonl").splitlines(keepends=True)
        events = (json.loads(line) for line in lines if line.endswith("\n"))
        return [event for event in events if event["event"] == kind]

    def pids(self):
        """By worker, of all that ever took part."""
        began = self.events("generation_began")
        return {member["worker"]: member["pid"] for event in began for member in event["members"]}

    def log(self, worker):
        return self.text(f"logs/{worker}.log")

    def until(self, what, condition):
        """What `condition` finds, once it does."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            ended = self.process.poll() is not None
            found = condition()
            if found:
                return found
            if ended:
                raise Failed(f"ended with {self.process.returncode} before {what}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise Failed(f"no {what} within {DEADLINE_S} s, see {self.home}")
            time.sleep(LOOK_EVERY_S)

    def last_words(self):
        lines = (self.home / "said.log").read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) + f" (see {self.home})"

    def finish(self):
        """Waits for its end. Its epochs, as the events tell them."""
        self.until("its end", lambda: self.process.poll() is not None)
        if self.process.returncode != 0:
            raise Failed(f"ended with {self.process.returncode}: {self.last_words()}")
        for epoch in self.events("epoch_ended"):
            ledger = epoch["ledger"]
            if ledger["seen"] != ledger["expected"] or ledger["lost"] or ledger["repeated"]:
                raise Failed(f"the ledger of epoch {epoch['epoch']} does not add up: {ledger}")
        return self.events("epoch_ended")

    def went_through_the_host(self):
        return any(THROUGH_THE_HOST in self.log(worker) for worker in self.pids())


def is_worker(pid):
    try:
        return b"lockstep-worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def train(machine, settings, workers, **more):
    """A whole run: its epochs, and whether gradients went through the host."""
    with Training(machine, settings, workers, **more) as training:
        epochs = training.finish()
        return epochs, training.went_through_the_host()
