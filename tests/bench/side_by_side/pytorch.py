"""PyTorch's side: the reference program, with every combination of its options that may be the fastest."""

import json
import socket
from dataclasses import dataclass
from pathlib import Path

from . import accounts, figures
from .processes import Failed, Process, wait

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Variant:
    name: str
    # "eager" or "compiled": what they are compared by.
    kind: str
    flags: tuple


VARIANTS = (
    Variant("eager, channels-last", "eager", ("--channels-last",)),
    Variant("eager", "eager", ()),
    Variant("torch.compile, channels-last", "compiled", ("--compile", "--channels-last")),
    Variant("torch.compile", "compiled", ("--compile",)),
)


class PyTorch:
    def __init__(self, python, program, inputs):
        self.python, self.program, self.inputs = python, program, inputs

    def command(self, flags, partial):
        """`partial` trains layer4 and fc only, which is no option of the program's own."""
        program = [HERE / "partial_ddp.py", self.program] if partial else [self.program]
        common = ["--data", self.inputs.data, "--weights", self.inputs.weights, "--batch", 200, "--lr", 0.001]
        return [*program, *common, *flags]

    def ranks(self, flags, partial=False):
        """Runs both ranks to their end. They are started side by side without torchrun, whose own start takes seconds; what
        it tells them by the environment is the same."""
        world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **self.environment()}
        command = [self.python, *self.command(flags, partial)]
        ranks = []
        try:
            for rank in ("0", "1"):
                ranks.append(Process(command, {**world, "RANK": rank, "LOCAL_RANK": rank}))
            wait(ranks)
        finally:
            for rank in ranks:
                rank.kill()
        return Ran(ranks)

    def torchrun(self, flags):
        command = [self.python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2]
        process = Process([*command, *self.command(flags, False)], self.environment())
        try:
            wait([process])
        finally:
            process.kill()
        return Ran([process])

    def environment(self):
        """One thread each, as Lockstep's workers. What torch.compile made is kept between runs, as it would be by default."""
        return {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(self.inputs.cache / "inductor")}

    def steps(self, flags, steps, warmup):
        ran = self.ranks([*flags, "--steps", steps, "--warmup", warmup])
        return {"step_s": ran.last()["step_ms"] / 1e3, "peak_bytes": max(rank.peak_bytes for rank in ran.ranks)}

    def start(self, flags, torchrun=False):
        """Seconds to the end of the first step, which the program tells at once."""
        flags = [*flags, "--steps", 1, "--warmup", 0]
        ran = self.torchrun(flags) if torchrun else self.ranks(flags)
        return {"first_step_s": ran.objects()[-1][0] - ran.began}

    def whole(self, flags, epochs, measured, partial=False):
        """Runs `measured` epochs and tells what `epochs` take, from the program's start to its end."""
        ran = self.ranks([*flags, "--epochs", measured], partial)
        rows = [line for _, line in ran.objects() if "epoch" in line]
        if len(rows) != measured:
            raise Failed(f"{len(rows)} epochs instead of {measured}")
        done = [row["seconds"] for row in rows]
        outside = ran.ended - ran.began - done[-1]
        return {
            "seconds": figures.whole_run(outside, done, epochs),
            "epochs": epochs,
            "epochs_measured": measured,
            "outside_s": outside,
            "epochs_done_s": done,
            "test_acc": rows[-1]["test_acc"],
        }


class Ran:
    """Processes that have ended well."""

    def __init__(self, ranks):
        self.ranks = ranks
        self.began, self.ended = ranks[0].began, max(rank.ended for rank in ranks)

    def objects(self):
        """What rank 0 told, with times of arrival."""
        found = accounts.json_lines(self.ranks[0].lines)
        if not found:
            self.ranks[0].fail("said nothing")
        return found

    def last(self):
        return self.objects()[-1][1]


def versions(python):
    """Of what the reference program needs, or why it cannot run."""
    ask = (
        "import json, platform, numpy, PIL, torch, torchvision;"
        "print(json.dumps(dict(python=platform.python_version(), torch=torch.__version__,"
        " torchvision=torchvision.__version__, numpy=numpy.__version__, gpu=torch.cuda.is_available())))"
    )
    hint = "hint: LOCKSTEP_BENCH_PYTHON=PROGRAM names a Python with torch, torchvision, numpy and pillow"
    try:
        process = Process([python, "-c", ask])
        wait([process])
    except (OSError, Failed) as error:
        reason = str(error).strip().splitlines()[-1]
        raise Failed(f"{python} cannot run the PyTorch side: {reason}\n{hint}, and `--side lockstep` does without") from None
    found = json.loads(process.lines[-1][1])
    if found.pop("gpu"):
        raise Failed("PyTorch would use the GPU here, and this compares CPUs\nhint: set CUDA_VISIBLE_DEVICES= (empty)")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
