"""A training, with PyTorch's own optimizers and schedules."""

import fnmatch
import math

import torch
from torch import nn
from torch.optim import lr_scheduler as schedules
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from files import load_batch, read_pictures
from models import batch_norms, load_model


def matches(name, globs):
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)


def freeze(model, trainable, frozen_batch_norm):
    """Marks parameters by globs on their names; what the frozen BatchNorm layers do is said apart."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = matches(name, trainable)
    model.train()
    if frozen_batch_norm == "eval":
        for norm in batch_norms(model):
            if not norm.weight.requires_grad and not norm.bias.requires_grad:
                norm.eval()


def new_optimizer(model, job):
    """All parameters, frozen ones too: those have no gradient, and an optimizer passes them over."""
    groups = []
    for name, parameter in model.named_parameters():
        chosen = next((group for group in job["groups"] if matches(name, [group["match"]])), {})
        decay = chosen.get("weight_decay", job["weight_decay"])
        if parameter.ndim == 1 and not job["decay_norm_and_bias"]:
            decay = 0.0
        groups.append({"params": [parameter], "lr": chosen.get("lr", job["lr"]), "weight_decay": decay})
    return getattr(torch.optim, job["optimizer"])(groups, lr=job["lr"], **job["optimizer_settings"])


def new_schedule(optimizer, job):
    """The curve over `units`, epochs or steps, after a linear rise over `warmup` of them."""
    units, warmup = job["units"], job["warmup"]
    settings = dict(job["schedule_settings"])
    if job["schedule"] == "OneCycleLR":
        settings |= {"max_lr": [group["lr"] for group in optimizer.param_groups], "total_steps": units - warmup}
    curve = getattr(schedules, job["schedule"])(optimizer, **settings)
    if not warmup:
        return curve
    rise = schedules.LinearLR(optimizer, start_factor=job["warmup_start"], total_iters=warmup)
    return schedules.SequentialLR(optimizer, [rise, curve], milestones=[warmup])


def worst_difference(before, expected, found, counts=True):
    """How far the changes that training made differ, per tensor relative to the change expected; the worst of all."""
    worst = ["", 0.0]
    for name, value in expected.state_dict().items():
        start, end, other = (v.double() for v in (before.state_dict()[name], value, found.state_dict()[name]))
        change = (end - start).norm().item()
        difference = (other - end).norm().item()
        # A count has no average; the model's own is compared to the unit.
        if name.endswith("num_batches_tracked") and not counts:
            continue
        # What did not change must be the same to the bit; what hardly did is lost in the rounding of its sum.
        if difference == 0.0:
            continue
        relative = difference / max(change, 1e-3 * start.norm().item()) if change else math.inf
        # JSON knows no larger numbers, and no NaN.
        relative = relative if relative < 1e9 else 1e9
        worst = max(worst, [name, relative], key=lambda pair: pair[1])
    return worst


def new_average(model, decay):
    """Starts from the model's own values; buffers are averaged too."""
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    average.update_parameters(model)
    return average


def backward(model, criterion, x, y, parts):
    """The step's gradient, part by part; its mean loss."""
    total = 0.0
    for part, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
        loss = criterion(model(part), labels) * (len(labels) / len(y))
        loss.backward()
        total += loss.item()
    return total


def train(job):
    pictures, labels = read_pictures(job["pictures"])
    model = load_model(job["model"], job["weights"])
    optimizer = new_optimizer(model, job)
    schedule = new_schedule(optimizer, job)
    criterion = nn.CrossEntropyLoss(label_smoothing=job["label_smoothing"])
    average = new_average(model, job["ema_decay"])
    losses, rates = [], []
    for epoch, steps in enumerate(job["epochs"]):
        begun = [patterns for start, patterns in job["phases"] if start <= epoch]
        freeze(model, sum(begun, []), job["frozen_batch_norm"])
        for ids in steps:
            x, y = load_batch(pictures, labels, ids, job["normalize"], job["image_size"])
            optimizer.zero_grad()
            losses.append(backward(model, criterion, x, y, job["accumulate"]))
            if job["clip_norm"]:
                nn.utils.clip_grad_norm_(model.parameters(), job["clip_norm"])
            optimizer.step()
            average.update_parameters(model)
            rates.append(optimizer.param_groups[-1]["lr"])
            if job["per_step"]:
                schedule.step()
        if not job["per_step"]:
            schedule.step()
    before, found = (load_model(job["model"], job[key]) for key in ("weights", "found"))
    answer = {"losses": losses, "rates": rates, "worst": worst_difference(before, model, found)}
    if job["found_average"]:
        found = load_model(job["model"], job["found_average"])
        answer["worst_average"] = worst_difference(before, average.module, found, counts=False)
    return answer
