"""Models that Lockstep made, in torchvision's hands."""

import math
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from files import NORMALIZE, load_batch, read_pictures, read_safetensors
from models import load_model, new_model


def evaluate(job):
    pictures, labels = read_pictures(job["pictures"])
    model = load_model(job["model"], job["weights"])
    model.eval()
    x, y = load_batch(pictures, labels, job["ids"], job["normalize"], job["image_size"])
    with torch.no_grad():
        logits = model(x)
    correct = int((logits.argmax(1) == y).sum())
    loss = nn.functional.cross_entropy(logits, y, reduction="none").double().mean().item()
    assert math.isfinite(loss)
    return {"correct": correct, "count": len(y), "loss": loss}


def exported(job):
    """Writes pictures, loads the exported file, and says what it sees in them."""
    path = Path(job["weights"])
    if path.suffix == ".pth":
        state = torch.load(path, weights_only=True)
    else:
        state = read_safetensors(path)
    model = new_model(job["model"])
    expected = model.state_dict()
    # A safetensors file keeps no order; a state dict does.
    order = list if path.suffix == ".pth" else sorted
    assert order(state) == order(expected), "the keys are not torchvision's"
    for name, tensor in expected.items():
        found = state[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape), name
    model.load_state_dict(state, strict=True)
    model.eval()

    mean, std = NORMALIZE[job["normalize"]]
    pictures, _ = read_pictures(job["pictures"])
    folder = Path(job["folder"])
    folder.mkdir(exist_ok=True)
    answer = {}
    for index in job["ids"]:
        file = folder / f"{index}.png"
        v2.functional.to_pil_image(pictures[index]).save(file)
        x = v2.functional.to_image(Image.open(file))
        x = v2.functional.normalize(v2.functional.to_dtype(x, torch.float32, scale=True), mean, std)
        with torch.no_grad():
            answer[file.name] = model(x.unsqueeze(0)).softmax(1)[0].tolist()
    return {"keys": len(state), "probabilities": answer}
