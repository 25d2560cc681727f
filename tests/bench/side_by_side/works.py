"""The works: what is done, by whom, and what Lockstep has to reach."""

from .contest import Contestant, Work
from .exchange import Exchange
from .figures import Measure
from .pytorch import VARIANTS

IMAGES = Measure("images/s", more_is_better=True)
SECONDS = Measure("s", more_is_better=False)
MILLIS = Measure("ms", more_is_better=False)
MEGABYTES = Measure("MB", more_is_better=False, ratio="cost")
START = Measure("s", more_is_better=False, ratio="cost")
SHARDS = Measure("ms a step", more_is_better=False, ratio="cost")

NAMES = ("full-fp32", "full-bf16", "partial", "head", "exchange", "memory", "start", "shards")

BATCH = 200
LARGE_BATCH = 800


class Works:
    """Makes works by name for two sides, in full size or, to try the harness, in a small one."""

    def __init__(self, lockstep, pytorch, inputs, binaries, quick):
        self.lockstep, self.pytorch, self.inputs = lockstep, pytorch, inputs
        self.exchanges = Exchange(binaries, inputs.python)
        # The reference program's own defaults.
        self.steps, self.warmup = (3, 2) if quick else (20, 5)
        self.partial_epochs, self.partial_train = (2, 1_000) if quick else (10, 10_000)
        self.head_epochs = 4 if quick else 100
        self.quick = quick

    def make(self, name):
        return {
            "full-fp32": lambda: self.full("full-fp32", "fp32"),
            "full-bf16": lambda: self.full("full-bf16", "bf16"),
            "partial": self.partial,
            "head": self.head,
            "exchange": self.exchange,
            "memory": self.memory,
            "start": self.start,
            "shards": self.shards,
        }[name]()

    def variants(self, do, kinds=("eager", "compiled")):
        chosen = [variant for variant in VARIANTS if variant.kind in kinds]
        return tuple(Contestant(v.name, "pytorch", v.kind, lambda v=v: do(v)) for v in chosen)

    def full(self, name, precision):
        def ours():
            found = self.lockstep.steps({"precision": precision}, self.steps, self.warmup)
            return BATCH / found["step_s"], found

        def theirs(variant):
            flags = [*variant.flags, *(("--bf16",) if precision == "bf16" else ())]
            found = self.pytorch.steps(flags, self.steps, self.warmup)
            return BATCH / found["step_s"], found

        title = f"full fine-tune, ResNet50, 32 px, batch {BATCH}, 2 workers x 1 thread, {precision}"
        goals = {"eager": 1.15, "compiled": 1.0}
        return Work(name, title, IMAGES, goals, (self.ours(ours), *self.variants(theirs)))

    def partial(self):
        epochs, train, test = self.partial_epochs, self.partial_train, self.inputs.test

        def ours():
            found = self.lockstep.whole({"train.trainable": '["from:layer4"]'}, epochs, train, test)
            return found["seconds"], found

        def theirs(variant):
            found = self.pytorch.whole([*variant.flags, "--train-limit", train], epochs, epochs, partial=True)
            return found["seconds"], found

        title = f"layer4 + fc, {epochs} epochs on {train:,} images, {test:,} evaluated each, whole run"
        return Work("partial", title, SECONDS, {"best": 2.2}, (self.ours(ours), *self.variants(theirs)))

    def head(self):
        epochs, train, test = self.head_epochs, self.inputs.train, self.inputs.test

        def ours():
            found = self.lockstep.whole({"train.trainable": '["head"]'}, epochs, train, test)
            return found["seconds"], found

        def theirs(variant):
            # Compiling is in the first epoch, so that another one has to be seen.
            measured = 1 if variant.kind == "eager" else 2
            found = self.pytorch.whole([*variant.flags, "--mode", "head", "--bn-eval"], epochs, measured)
            return found["seconds"], found

        title = f"head only, {epochs} epochs on {train:,} images, {test:,} evaluated each, whole run"
        return Work("head", title, SECONDS, {"best": 60.0}, (self.ours(ours), *self.variants(theirs)))

    def exchange(self):
        shm = Contestant("Lockstep, shared memory", "lockstep", "ours", lambda: self.exchanges.lockstep("shm"))
        tcp = Contestant("Lockstep, TCP", "lockstep", "beside", lambda: self.exchanges.lockstep("tcp"))
        gloo = Contestant("Gloo all_reduce", "pytorch", "gloo", self.exchanges.gloo)
        title = "sum of 94 MB between 2 processes on one host"
        return Work("exchange", title, MILLIS, {"gloo": 2.5}, (shm, tcp, gloo))

    def memory(self):
        # The peak is reached in the second step, when the optimizer's state is there.
        steps, warmup = 3, 2

        def ours():
            found = self.lockstep.steps({}, steps, warmup)
            return found["peak_bytes"] / 1e6, found

        def theirs(variant):
            found = self.pytorch.steps(variant.flags, steps, warmup)
            return found["peak_bytes"] / 1e6, found

        title = f"peak memory of the larger worker, full fine-tune, batch {BATCH}, fp32"
        return Work("memory", title, MEGABYTES, {"eager": 1.0}, (self.ours(ours), *self.variants(theirs, ("eager",))))

    def start(self):
        def ours():
            found = self.lockstep.steps({}, 1, 0)
            return found["first_step_s"], found

        def theirs(variant, torchrun=False):
            found = self.pytorch.start(variant.flags, torchrun)
            return found["first_step_s"], found

        eager = VARIANTS[0]
        by_torchrun = Contestant(
            f"{eager.name}, by torchrun", "pytorch", "eager", lambda: theirs(eager, torchrun=True)
        )
        title = "start to the end of the first step, data cached, full fine-tune, fp32"
        everybody = (self.ours(ours), *self.variants(theirs, ("eager",)), by_torchrun)
        return Work("start", title, START, {"eager": 1.0}, everybody)

    def shards(self):
        steps, warmup = (3, 1) if self.quick else (8, 2)

        def with_shards(count):
            found = self.lockstep.steps({"batch": LARGE_BATCH, "shards": count}, steps, warmup)
            return found["step_s"] * 1e3, found

        eight = Contestant("8 shards", "lockstep", "ours", lambda: with_shards(8))
        two = Contestant("2 shards", "lockstep", "fewer", lambda: with_shards(2))
        title = f"cost of 8 shards on 2 workers against 2 shards, batch {LARGE_BATCH}, fp32"
        return Work("shards", title, SHARDS, {"fewer": 1.10}, (eight, two))

    def ours(self, do):
        return Contestant("Lockstep", "lockstep", "ours", do)
