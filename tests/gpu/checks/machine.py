"""What there is to check, and with what: binaries, GPUs, the reference program."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Machine:
    binaries: Path
    # With libtorch.
    libraries: Path
    # PyTorch's program to compare with, if it is here.
    reference: Path | None
    out: Path
    gpus: tuple
    # On the CPU, with everything tiny.
    rehearses: bool

    @staticmethod
    def find():
        shared = Path(os.environ.get("LOCKSTEP_SHARED", "../shared"))
        reference = (shared / "reference" / "pytorch_ddp.py").resolve()
        out = Path(os.environ.get("LOCKSTEP_OUT", "target/gpu")).resolve()
        out.mkdir(parents=True, exist_ok=True)
        rehearses = os.environ.get("LOCKSTEP_REHEARSE") == "1"
        count = 0 if rehearses else torch.cuda.device_count()
        machine = Machine(
            binaries=Path(os.environ.get("LOCKSTEP_BIN", "target/release")).resolve(),
            libraries=Path(torch.__file__).parent / "lib",
            reference=reference if reference.is_file() else None,
            out=out,
            gpus=tuple(torch.cuda.get_device_name(index) for index in range(count)),
            rehearses=rehearses,
        )
        machine.look_over()
        return machine

    def look_over(self):
        """Ends here, with a hint, what every check would stumble over."""
        for name in ("lockstep", "lockstep-worker"):
            if not (self.binaries / name).is_file():
                sys.exit(f"{self.binaries / name} is missing\nhint: cargo build --release elsewhere, and LOCKSTEP_BIN")
        command = [self.binaries / "lockstep-worker", "devices"]
        said = subprocess.run(command, env=self.environment(), capture_output=True, text=True)
        if said.returncode != 0:
            sys.exit(f"lockstep-worker does not start: {said.stderr.strip()}")
        if not self.rehearses and "cuda:0" not in said.stdout.split():
            sys.exit(f"lockstep-worker sees no GPU here: {said.stderr.strip()}")

    def environment(self, **more):
        """Where libtorch is, and what else a run is to find; `None` takes a variable away."""
        found = {**os.environ, "LD_LIBRARY_PATH": str(self.libraries), "LOCKSTEP_WORKER": str(self.binaries / "lockstep-worker")}
        if self.rehearses:
            found["CUDA_VISIBLE_DEVICES"] = ""
        found.update(more)
        return {name: str(value) for name, value in found.items() if value is not None}

    def __str__(self):
        gpus = ", ".join(self.gpus) or "none (rehearsal on the CPU)"
        return f"GPUs: {gpus}; torch {torch.__version__}; binaries in {self.binaries}"
