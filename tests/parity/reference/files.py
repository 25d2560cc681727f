"""Files that both sides read: safetensors, and CIFAR-10's binary edition."""

import json
import struct
from pathlib import Path

import torch
from torch.nn.functional import interpolate
from torchvision.transforms import v2

CLASSES = 10
SIDE = 32
RECORD_BYTES = 1 + 3 * SIDE * SIDE
BATCHES = 5
PICTURES_PER_BATCH = 80
TRAIN_FILES = [f"data_batch_{number}.bin" for number in range(1, BATCHES + 1)]
TEST_FILES = ["test_batch.bin"]

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
    with Path(path).open("wb") as file:
        file.writelines([struct.pack("<Q", len(text)), text, *blobs])


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


def write_pictures(folder, generator):
    """Small: a pattern per class, and noise that leaves something to learn."""
    folder.mkdir()
    patterns = interpolate(torch.rand(CLASSES, 3, 4, 4, generator=generator), size=(SIDE, SIDE), mode="bilinear")
    for name in TRAIN_FILES + TEST_FILES:
        labels = torch.randint(CLASSES, (PICTURES_PER_BATCH,), generator=generator)
        noise = torch.randn(PICTURES_PER_BATCH, 3, SIDE, SIDE, generator=generator)
        pictures = (patterns[labels] + 0.3 * noise).clamp(0, 1).mul(255).round().to(torch.uint8)
        records = torch.cat([labels.to(torch.uint8).unsqueeze(1), pictures.flatten(1)], dim=1)
        (folder / name).write_bytes(records.numpy().tobytes())


def read_pictures(folder, files=TRAIN_FILES):
    """All pictures and their labels."""
    data = b"".join((Path(folder) / name).read_bytes() for name in files)
    records = torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(-1, RECORD_BYTES)
    return records[:, 1:].reshape(-1, 3, SIDE, SIDE), records[:, 0].long()


def load_batch(pictures, labels, ids, normalize, size=SIDE):
    mean, std = NORMALIZE[normalize]
    ids = torch.tensor(list(ids))
    x = v2.functional.to_dtype(pictures[ids], torch.float32, scale=True)
    if size != SIDE:
        x = interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    return v2.functional.normalize(x, mean, std), labels[ids]
