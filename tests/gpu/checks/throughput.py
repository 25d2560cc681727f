"""How fast: Lockstep beside PyTorch's program, on the same GPUs with the same pictures, one after another."""

import json
import statistics
import subprocess
import sys

import torch

from .training import Failed, train

RECORD_BYTES = 3073
ROUNDS = 3


def small(machine):
    """32 px: a step is bound by launches."""
    return compared(machine, image_size=32, batch=512, train_samples=50_000)


def large(machine):
    """224 px: a step is bound by memory."""
    return compared(machine, image_size=224, batch=256, train_samples=12_800)


def cost_of_exact(machine):
    """What the same bits every time cost, at 224 px on all GPUs."""
    workers = max(1, len(machine.gpus))
    settings = setting(machine, pictures(machine), 224, 256 * workers, 12_800 * workers)
    rounds = [[rate(machine, {**settings, "exact": exact}, workers) for exact in ("true", "false")] for _ in range(rounds_of(machine))]
    exact, fast = (statistics.median(column) for column in zip(*rounds))
    return {"told": f"exact {exact:.0f}, else {fast:.0f} images/s: {exact / fast:.3f}", "exact": exact, "fast": fast}


def compared(machine, image_size, batch, train_samples):
    workers = max(1, len(machine.gpus))
    data = pictures(machine)
    settings = setting(machine, data, image_size, batch * workers, train_samples)
    size = settings["data.image_size"], settings["batch"]
    ours, eager, compiled = [], [], []
    for _ in range(rounds_of(machine)):
        ours.append(rate(machine, {**settings, "exact": "false"}, workers))
        if machine.reference:
            eager.append(reference_rate(machine, data, size, workers))
            # Compiling on the CPU needs a compiler, and minutes.
            if not machine.rehearses:
                compiled.append(reference_rate(machine, data, size, workers, "--compile"))
    found = {"images_per_second": statistics.median(ours), "workers": workers, "settings": settings}
    told = [f"{found['images_per_second']:.0f} images/s"]
    for name, rates in (("eager", eager), ("compile", compiled)):
        if rates:
            found[name] = statistics.median(rates)
            told.append(f"{found['images_per_second'] / found[name]:.2f}x {name} ({found[name]:.0f})")
    if not machine.reference:
        told.append("no pytorch_ddp.py to compare with: set LOCKSTEP_SHARED")
    return {"told": ", ".join(told), **found}


def rounds_of(machine):
    return 1 if machine.rehearses else ROUNDS


def setting(machine, data, image_size, batch, train_samples):
    """The reference program's own, with everything trained."""
    tiny = machine.rehearses
    return {
        "precision": "fp32" if tiny else "bf16",
        "batch": 16 if tiny else batch,
        "shards": max(1, len(machine.gpus)),
        "epochs": 2 if tiny else 4,
        "data.name": "cifar10",
        "data.path": str(data),
        "data.train": 64 if tiny else min(train_samples, 50_000),
        "data.test": 20 if tiny else 1000,
        "data.validation": 0,
        "data.image_size": 32 if tiny else image_size,
        "model.name": "resnet50",
        "model.weights": "none",
        "train.trainable": '["full"]',
        "optimizer.lr": 0.001,
        "optimizer.momentum": 0.9,
        "select.split": "test",
    }


def rate(machine, settings, workers):
    """Images per second of the epochs after the first, which warms up; the median."""
    epochs, _ = train(machine, settings, workers)
    return statistics.median(epoch["train"]["count"] / epoch["train_ms"] * 1000 for epoch in epochs[1:])


def reference_rate(machine, data, size, workers, *more):
    image_size, batch = size
    program = [machine.reference, "--data", data, "--batch", batch, "--image-size", image_size, "--channels-last"]
    program += ["--steps", 2, "--warmup", 1] if machine.rehearses else ["--steps", 60, "--warmup", 15, "--bf16"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", workers] if workers > 1 else []
    command = [str(part) for part in (sys.executable, *launcher, *program, *more)]
    ended = subprocess.run(command, env=machine.environment(), capture_output=True, text=True)
    if ended.returncode != 0:
        raise Failed(f"{' '.join(command)}: {ended.stderr.strip().splitlines()[-1:]}")
    return json.loads(ended.stdout.strip().splitlines()[-1])["images_per_second"]


def pictures(machine):
    """A folder in CIFAR-10's layout, with noise for pictures: no step is faster or slower for what it sees."""
    folder = machine.out / "noise" / "cifar-10-batches-bin"
    per_file = 100 if machine.rehearses else 10_000
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    if all(has_records(folder / name, per_file) for name in names):
        return folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    noise = torch.Generator().manual_seed(5)
    for name in names:
        records = torch.randint(0, 256, (per_file, RECORD_BYTES), dtype=torch.uint8, generator=noise)
        records[:, 0] = torch.arange(per_file) % 10
        (folder / name).write_bytes(records.numpy().tobytes())
    classes = "airplane automobile bird cat deer dog frog horse ship truck"
    (folder / "batches.meta.txt").write_text("\n".join(classes.split()) + "\n")
    return folder.parent


def has_records(path, count):
    return path.is_file() and path.stat().st_size == count * RECORD_BYTES
