"""One model by itself: logits, the gradient of a step, and BatchNorm's statistics after a few."""

import contextlib
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from files import CLASSES, write_safetensors
from models import new_model, tame

STEPS = 5
# Small: where an activation of a later step falls on the other side of a kink, what comes of it stays small too.
LR = 2e-4

# No activation of the first step may be nearer to ReLU's kink, in standard deviations, and no two that max-pooling chooses
# between nearer to each other: rounding moves them by less.
CLEAR_OF_KINK = 3e-6
CLEAR_OF_TIE = 5e-7


def draw(count, size, generator):
    """Smooth patterns, a little noise: noise alone looks the same everywhere to a network, and its gradients cancel."""
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 2 - 1
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return smooth + 0.1 * torch.randn(smooth.shape, generator=generator)


class TooNear(Exception):
    """To a kink or a tie."""


def assert_clear(model, x):
    """Goes no further than the first layer that is not."""

    def at_relu(_, inputs):
        if inputs[0].abs().min() < CLEAR_OF_KINK * inputs[0].std():
            raise TooNear

    def at_pool(pool, inputs):
        windows = nn.functional.unfold(inputs[0], pool.kernel_size, padding=pool.padding, stride=pool.stride)
        windows = windows.view(*inputs[0].shape[:2], pool.kernel_size**2, -1)
        first, second = windows.topk(2, dim=2).values.unbind(2)
        # Where ReLU made them equal, nothing passes back through either.
        if (first - second)[first > 0].min() < CLEAR_OF_TIE:
            raise TooNear

    hooks = [module.register_forward_pre_hook(at_relu) for module in model.modules() if isinstance(module, nn.ReLU)]
    hooks.append(model.maxpool.register_forward_pre_hook(at_pool))
    try:
        logits(model, x, "train")
    finally:
        for hook in hooks:
            hook.remove()


def clear_pictures(model, count, size):
    """The first ones drawn that stay clear of kinks and ties."""
    for seed in range(1000):
        x = draw(count, size, torch.Generator().manual_seed(seed))
        with contextlib.suppress(TooNear):
            assert_clear(model, x)
            return x
    raise SystemExit(f"no pictures of {size} px are clear of the kinks")


def logits(model, x, mode):
    """By a copy: running statistics move in training mode."""
    copy = deepcopy(model)
    copy.train(mode == "train")
    with torch.no_grad():
        return copy(x)


def relative(found, expected):
    return ((found.double() - expected).abs().max() / expected.abs().max()).item()


def gradient(model, x, y):
    model.train()
    model.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def worst_gradient(found, expected):
    """Relative to the largest of the layer."""
    scales = {}
    for name, tensor in expected.items():
        layer = name.rpartition(".")[0]
        scales[layer] = max(scales.get(layer, 0.0), tensor.abs().max().item())
    return max(
        (found[name].double() - tensor).abs().max().item() / scales[name.rpartition(".")[0]]
        for name, tensor in expected.items()
    )


def steps(model, batches, labels):
    """Trains; the first step's gradient, the statistics after the last."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    first = {}
    for x, y in zip(batches, labels, strict=True):
        found = gradient(model, x, y)
        first = first or found
        optimizer.step()
    return first, dict(model.named_buffers())


def passes(job):
    """For each size a file of inputs and results; what PyTorch's own f32 results are worth, by its f64 ones."""
    folder, name = Path(job["folder"]), job["model"]
    torch.manual_seed(3)
    plain = new_model(name)
    write_safetensors(folder / "plain.safetensors", plain.state_dict())
    torch.save(plain.state_dict(), folder / "plain.pth")
    torch.save(plain.state_dict(), folder / "plain-legacy.pth", _use_new_zipfile_serialization=False)
    tamed = new_model(name)
    tame(tamed, torch.Generator().manual_seed(4))
    state = {key: tensor.clone() for key, tensor in tamed.state_dict().items()}
    write_safetensors(folder / "tame.safetensors", state)

    answer = []
    for size, count in job["sizes"]:
        generator = torch.Generator().manual_seed(size)
        tamed.load_state_dict(state)
        batches = [clear_pictures(tamed, count, size)]
        batches += [draw(count, size, generator) for _ in range(1, STEPS)]
        labels = torch.randint(CLASSES, (STEPS, count), generator=generator)
        x = batches[0]
        results = {
            "plain.eval": logits(plain, x, "eval"),
            "plain.train": logits(plain, x, "train"),
            "tame.train": logits(tamed, x, "train"),
        }
        exact_logits = logits(deepcopy(plain).double(), x.double(), "train")
        exact_gradient = gradient(deepcopy(tamed).double(), x.double(), labels[0])
        # The other order of memory, and of sums: it costs digits where maps are large.
        last = {"memory_format": torch.channels_last}
        other_gradient = gradient(deepcopy(tamed).to(**last), x.contiguous(**last), labels[0])
        first, after = steps(tamed, batches, labels)
        results["tame.eval"] = logits(tamed, x, "eval")
        results |= {f"gradient.{name}": tensor for name, tensor in first.items()}
        results |= {f"after.{name}": tensor for name, tensor in after.items()}
        inputs = {"pictures": torch.stack(batches), "labels": labels}
        write_safetensors(folder / f"{size}.safetensors", inputs | results)
        own = {"logits": relative(results["plain.train"], exact_logits)}
        own["gradient"] = max(worst_gradient(found, exact_gradient) for found in (first, other_gradient))
        answer.append(own)
    return {"lr": LR, "own": answer}
