"""Torchvision's ResNets, and starting values from which a comparison tells something."""

import torch
import torchvision
from torch import nn
from torchvision.models import resnet

from files import CLASSES, read_safetensors

# In standard deviations of what a BatchNorm gives out: how far the middle of a channel lies from ReLU's kink, inside a
# block and in the sum of the blocks.
INSIDE = 3.2
SUM = 4.0
# What a block adds to the sum, beside what is there.
ADDED = 0.1
# The sum in the last stage. What is always on is large, and the head sees it: at 1.0 a learning rate of 0.01 has it diverge.
FEATURES = 0.05


def new_model(name):
    return torchvision.models.get_model(name, weights=None, num_classes=CLASSES)


def load_model(name, path):
    model = new_model(name)
    model.load_state_dict(read_safetensors(path), strict=True)
    return model


def batch_norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def tame(model, generator):
    """BatchNorms that keep activations away from ReLU's kink, no two values alike.

    At the kink rounding alone decides whether a gradient passes, and torchvision's own initial values put every channel's
    middle there. From them, PyTorch's gradients in f32 are up to 50 % off its own in f64, and a resnet50's losses 1 %
    after one step and 10 % after two; from these, gradients are within 1e-4 and losses within 1e-6 after twenty steps.

    Inside a block half of the channels are nearly always on and half nearly always off. The sum of the blocks is nearly
    always on, and never grows large beside its own variation, which would cost digits.
    """

    def fill(norm, weight, bias):
        for parameter, value in ((norm.weight, weight), (norm.bias, bias)):
            spread = torch.empty_like(parameter).uniform_(0.9, 1.1, generator=generator)
            parameter.data.copy_(value * spread)

    def signs(norm):
        return torch.randint(2, norm.bias.shape, generator=generator) * 2 - 1

    for norm in batch_norms(model):
        fill(norm, 1.0, INSIDE * signs(norm))
    if model.layer1[0].downsample is None:
        fill(model.bn1, 1.0, SUM)
    for name, block in model.named_modules():
        if isinstance(block, resnet.BasicBlock | resnet.Bottleneck):
            scale = FEATURES if name.startswith("layer4") else 1.0
            last = block.bn3 if isinstance(block, resnet.Bottleneck) else block.bn2
            fill(last, scale * ADDED, 0.2 * scale * ADDED * signs(last))
            if block.downsample is not None:
                fill(block.downsample[1], scale, SUM * scale)


def calibrate(model, pictures):
    """Running statistics that fit, as a trained model has them."""
    momenta = [norm.momentum for norm in batch_norms(model)]
    for norm in batch_norms(model):
        norm.momentum = None  # the plain mean over all batches
    model.train()
    with torch.no_grad():
        for start in range(0, len(pictures), 64):
            model(pictures[start : start + 64])
    for norm, momentum in zip(batch_norms(model), momenta, strict=True):
        norm.momentum = momentum
