"""Models that Lockstep made, in torchvision's hands."""

import math
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from files import NORMALIZE, TEST_FILES, TRAIN_FILES, load_batch, read_pictures, read_safetensors
from models import load_model, new_model


def evaluate(job):
    """On the training pictures `ids`, or on all test pictures."""
    pictures, labels = read_pictures(job["pictures"], TRAIN_FILES if "ids" in job else TEST_FILES)
    ids = job.get("ids", range(len(labels)))
    model = load_model(job["model"], job["weights"])
    model.eval()
    x, y = load_batch(pictures, labels, ids, job["normalize"], job["image_size"])
    with torch.no_grad():
        logits = model(x)
    ranks = logits.topk(5).indices == y.unsqueeze(1)
    loss = nn.functional.cross_entropy(logits, y, reduction="none").double().mean().item()
    assert math.isfinite(loss)
    return {"correct": int(ranks[:, 0].sum()), "correct_top5": int(ranks.sum()), "count": len(y), "loss": loss}


def draw_files(job):
    """Picture files of several sizes, modes and formats."""
    pictures, _ = read_pictures(job["pictures"])
    folder = Path(job["folder"])
    image = transforms.functional.to_pil_image
    wide = torch.cat([pictures[index] for index in range(4)], dim=2)
    image(pictures[0]).save(folder / "same.png")
    image(wide).save(folder / "wide.png")
    image(wide[:, :, :50].transpose(1, 2)).save(folder / "high.png")
    image(wide[:, 3:30, 5:30]).save(folder / "small.png")
    image(pictures[1]).convert("L").save(folder / "grey.png")
    image(wide).resize((301, 222)).save(folder / "large.jpg", quality=95, subsampling=0)
    return sorted(str(path) for path in folder.iterdir())


def exported(job):
    """Loads an exported file the way anybody would, and says what it sees in pictures."""
    path = Path(job["weights"])
    is_pth = path.suffix == ".pth"
    state = torch.load(path, weights_only=True) if is_pth else read_safetensors(path)
    model = new_model(job["model"])
    expected = model.state_dict()
    # A safetensors file keeps no order; a state dict does.
    order = list if is_pth else sorted
    assert order(state) == order(expected), "the keys are not torchvision's"
    for name, tensor in expected.items():
        found = state[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape), name
    model.load_state_dict(state, strict=True)
    model.eval()

    size = job["image_size"]
    transform = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(*NORMALIZE[job["normalize"]]),
        ]
    )
    answer = {"keys": len(state), "logits": {}, "probabilities": {}}
    for file in job["files"]:
        x = transform(Image.open(file).convert("RGB"))
        with torch.no_grad():
            logits = model(x.unsqueeze(0))[0]
        answer["logits"][file] = logits.tolist()
        answer["probabilities"][file] = logits.softmax(0).tolist()
    return answer
