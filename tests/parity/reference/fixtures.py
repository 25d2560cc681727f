"""What the trainings start from: pictures, and tame weights in every form that a recipe takes."""

from pathlib import Path

import torch

from files import load_batch, read_pictures, write_pictures, write_safetensors
from models import calibrate, new_model, tame

NAMES = ("resnet18", "resnet50")


def fixtures(folder):
    folder = Path(folder)
    generator = torch.Generator().manual_seed(1)
    write_pictures(folder / "pictures", generator)
    pictures, _ = load_batch(*read_pictures(folder / "pictures"), range(128), "half")
    for name in NAMES:
        torch.manual_seed(2)
        model = new_model(name)
        tame(model, generator)
        calibrate(model, pictures)
        write_safetensors(folder / f"{name}.safetensors", model.state_dict())
    # The last one's is large enough to be told apart, small enough to be kept four times.
    state = torch.nn.DataParallel(model).state_dict()
    torch.save(model.state_dict(), folder / f"{name}.pth")
    torch.save(model.state_dict(), folder / f"{name}-legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": state, "best": 0.5}, folder / f"{name}-checkpoint.pth")
    torch.save({"model": state}, folder / f"{name}-checkpoint-legacy.pth", _use_new_zipfile_serialization=False)
