"""What both sides take in: CIFAR-10 and initial weights, made once into a cache folder outside the repository."""

import fcntl
import os
from pathlib import Path

from .processes import Failed, Process, wait

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]

# Of `--quick`: enough for a few steps of the largest batch.
QUICK = ("--train", 4000, "--test", 500)


class Inputs:
    def __init__(self, cache, shared, python, quick):
        self.cache, self.shared, self.python, self.quick = cache, shared, python, quick
        self.data = cache / ("cifar10-quick" if quick else "cifar10")
        self.weights = cache / "resnet50-calibrated.pth"

    @property
    def reference(self):
        return self.shared / "reference" / "pytorch_ddp.py"

    @property
    def train(self):
        return 4_000 if self.quick else 50_000

    @property
    def test(self):
        return 500 if self.quick else 10_000

    def lock(self):
        """Held until this program ends: two measurements at once are none."""
        self.cache.mkdir(parents=True, exist_ok=True)
        self.held = (self.cache / ".lock").open("w")
        try:
            fcntl.flock(self.held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failed(f"another measurement is under way with {self.cache}") from None

    def make(self):
        """Makes what is missing. A file under its final name is whole."""
        if not self.data.exists():
            aside = self.data.with_name(self.data.name + ".part")
            script = self.shared / "data" / "make-cifar10"
            if not script.is_file():
                raise Failed(f"{script} is missing\nhint: LOCKSTEP_SHARED=FOLDER says where data/ and reference/ lie")
            self.run("unpacking CIFAR-10", [script, aside, *(QUICK if self.quick else ())])
            aside.rename(self.data)
        if not self.weights.exists():
            aside = self.weights.with_suffix(".part")
            self.run("making weights", [HERE / "calibrated_weights.py", self.data, aside])
            aside.rename(self.weights)

    def run(self, what, command):
        print(f"{what} into {self.cache}", flush=True)
        process = Process([self.python, *command])
        try:
            wait([process])
        finally:
            process.kill()


def from_environment(python, quick):
    beside = REPOSITORY.parent / "shared"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("LOCKSTEP_BENCH_CACHE") or home / "lockstep-bench")
    shared = Path(os.environ.get("LOCKSTEP_SHARED") or beside)
    if not (shared / "reference" / "pytorch_ddp.py").is_file():
        raise Failed(
            f"{shared}/reference/pytorch_ddp.py is missing\n"
            "hint: LOCKSTEP_SHARED=FOLDER says where data/ and reference/ lie"
        )
    return Inputs(cache.absolute(), shared.absolute(), python, quick)
