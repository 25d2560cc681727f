"""The other side of the comparison: torchvision's models trained by PyTorch's own means.

    reference.py fixtures FOLDER   writes weights, pictures and logits for the tests to start from
    reference.py train JOB         trains as JOB (JSON, - for stdin) says; prints {"losses": [...], "worst": [name, difference]}
    reference.py evaluate JOB      loads a model strictly; prints {"correct": ..., "count": ..., "loss": ...}

Everything is written the way a PyTorch user would write it. Nothing of Lockstep is used here but its files: what is
under test must not help to judge itself.
"""

import fnmatch
import json
import math
import struct
import sys
from pathlib import Path

import torch
import torchvision
from torch import nn
from torchvision.models import resnet
from torchvision.transforms import v2

CLASSES = 10
SIDE = 32
RECORD_BYTES = 1 + 3 * SIDE * SIDE
BATCHES = 5
PICTURES_PER_BATCH = 80

NORMALIZE = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}

DTYPES = {torch.float32: "F32", torch.int64: "I64"}


def write_safetensors(path, tensors):
    """A length, a JSON header, the bytes."""
    header, blobs, at = {}, [], 0
    for name, tensor in tensors.items():
        blob = tensor.contiguous().numpy().tobytes()
        span = [at, at + len(blob)]
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": span}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def read_safetensors(path):
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    dtypes = {name: dtype for dtype, name in DTYPES.items()}

    def tensor(entry):
        start, end = (8 + length + at for at in entry["data_offsets"])
        return torch.frombuffer(bytearray(data[start:end]), dtype=dtypes[entry["dtype"]]).reshape(entry["shape"])

    return {name: tensor(entry) for name, entry in header.items()}


def new_model(name):
    return torchvision.models.get_model(name, weights=None, num_classes=CLASSES)


def batch_norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


# --- fixtures ----------------------------------------------------------------------------------------------------


def write_pictures(folder, generator):
    """CIFAR-10's binary edition, small: a pattern per class, and noise that leaves something to learn."""
    folder.mkdir()
    patterns = torch.rand(CLASSES, 3, 4, 4, generator=generator)
    patterns = nn.functional.interpolate(patterns, size=(SIDE, SIDE), mode="bilinear")
    names = [f"data_batch_{number}.bin" for number in range(1, BATCHES + 1)] + ["test_batch.bin"]
    for name in names:
        labels = torch.randint(CLASSES, (PICTURES_PER_BATCH,), generator=generator)
        noise = torch.randn(PICTURES_PER_BATCH, 3, SIDE, SIDE, generator=generator)
        pictures = (patterns[labels] + 0.3 * noise).clamp(0, 1).mul(255).round().to(torch.uint8)
        records = torch.cat([labels.to(torch.uint8).unsqueeze(1), pictures.flatten(1)], dim=1)
        (folder / name).write_bytes(records.numpy().tobytes())


def tame(model, generator):
    """BatchNorms that keep activations away from ReLU's kink, no two values alike.

    At the kink rounding alone decides whether a gradient passes. From torchvision's own initial values, PyTorch's losses
    of a resnet50 in f32 are 1 % off its losses in f64 after one step, and 10 % after two; from these, 1e-7 after ten.
    Inside a block half of the channels are on and half are off; the sum of the blocks stays above zero.
    """

    def fill(norm, weight, bias):
        for parameter, value in ((norm.weight, weight), (norm.bias, bias)):
            spread = torch.empty_like(parameter).uniform_(0.9, 1.1, generator=generator)
            parameter.data.copy_(value * spread)

    for norm in batch_norms(model):
        signs = torch.randint(2, norm.bias.shape, generator=generator) * 2 - 1
        fill(norm, 1.0, 3.0 * signs)
    for block in model.modules():
        if isinstance(block, resnet.BasicBlock | resnet.Bottleneck):
            fill(block.bn3 if isinstance(block, resnet.Bottleneck) else block.bn2, 0.03, 0.09)
            if block.downsample is not None:
                fill(block.downsample[1], 0.08, 0.25)


def calibrate(model, pictures):
    """Running statistics that fit, as a trained model has them."""
    for norm in batch_norms(model):
        norm.momentum = None  # the plain mean over all batches
    model.train()
    with torch.no_grad():
        for start in range(0, len(pictures), 64):
            model(pictures[start : start + 64])


def fixtures(folder):
    folder = Path(folder)
    generator = torch.Generator().manual_seed(1)
    write_pictures(folder / "pictures", generator)
    pictures, _ = load_batch(*read_pictures(folder / "pictures"), range(128), "half")
    for name in ("resnet18", "resnet50"):
        torch.manual_seed(2)
        model = new_model(name)
        tame(model, generator)
        calibrate(model, pictures)
        model.eval()
        images = pictures[:16]
        with torch.no_grad():
            logits = model(images)
        write_safetensors(folder / f"{name}.safetensors", model.state_dict())
        write_safetensors(folder / f"{name}-logits.safetensors", {"images": images, "logits": logits})


# --- training and evaluation --------------------------------------------------------------------------------------


def read_pictures(folder):
    data = b"".join((Path(folder) / f"data_batch_{number}.bin").read_bytes() for number in range(1, BATCHES + 1))
    records = torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(-1, RECORD_BYTES)
    return records[:, 1:].reshape(-1, 3, SIDE, SIDE), records[:, 0].long()


def load_batch(pictures, labels, ids, normalize):
    mean, std = NORMALIZE[normalize]
    transform = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    ids = torch.tensor(list(ids))
    return transform(pictures[ids]), labels[ids]


def freeze(model, trainable, frozen_batch_norm):
    """Marks parameters by globs on their names; what the frozen BatchNorm layers do is said apart."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(fnmatch.fnmatchcase(name, glob) for glob in trainable)
    model.train()
    if frozen_batch_norm == "eval":
        for norm in batch_norms(model):
            if not norm.weight.requires_grad:
                norm.eval()


def load_model(name, path):
    model = new_model(name)
    model.load_state_dict(read_safetensors(path), strict=True)
    return model


def worst_difference(before, expected, found):
    """How far the changes that training made differ, per tensor relative to the change expected; the worst of all."""
    worst = ["", 0.0]
    for name, value in expected.state_dict().items():
        start, end, other = (v.double() for v in (before.state_dict()[name], value, found.state_dict()[name]))
        change = (end - start).norm().item()
        difference = (other - end).norm().item()
        # What did not change must be the same to the bit; what hardly did is lost in the rounding of its sum.
        if difference == 0.0:
            continue
        relative = difference / max(change, 1e-3 * start.norm().item()) if change else math.inf
        # JSON knows no larger numbers, and no NaN.
        relative = relative if relative < 1e9 else 1e9
        worst = max(worst, [name, relative], key=lambda pair: pair[1])
    return worst


def train(job):
    pictures, labels = read_pictures(job["pictures"])
    model = load_model(job["model"], job["weights"])
    freeze(model, job["trainable"], job["frozen_batch_norm"])
    optimizer = torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=job["lr"],
        momentum=job["momentum"],
        weight_decay=job["weight_decay"],
        nesterov=job["nesterov"],
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=job["t_max"])
    criterion = nn.CrossEntropyLoss()
    losses = []
    for steps in job["epochs"]:
        for ids in steps:
            x, y = load_batch(pictures, labels, ids, job["normalize"])
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        schedule.step()
    before, found = (load_model(job["model"], job[key]) for key in ("weights", "found"))
    return {"losses": losses, "worst": worst_difference(before, model, found)}


def evaluate(job):
    pictures, labels = read_pictures(job["pictures"])
    model = load_model(job["model"], job["weights"])
    model.eval()
    x, y = load_batch(pictures, labels, job["ids"], job["normalize"])
    with torch.no_grad():
        logits = model(x)
    correct = int((logits.argmax(1) == y).sum())
    loss = nn.functional.cross_entropy(logits, y, reduction="none").double().mean().item()
    assert math.isfinite(loss)
    return {"correct": correct, "count": len(y), "loss": loss}


def main():
    # Lockstep's default; another number sums in another order.
    torch.set_num_threads(1)
    verb, argument = sys.argv[1:]
    if verb == "fixtures":
        return fixtures(argument)
    job = json.load(sys.stdin) if argument == "-" else json.loads(Path(argument).read_text())
    print(json.dumps({"train": train, "evaluate": evaluate}[verb](job)))


if __name__ == "__main__":
    main()
