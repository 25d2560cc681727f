"""Torchsummary's own print."""

import contextlib
import io

import torchsummary
import torchvision


def summary(job):
    """A text for each model asked for."""
    return [text(**asked) for asked in job]


def text(model, classes, size, frozen):
    network = torchvision.models.get_model(model, weights=None, num_classes=classes)
    for name, parameter in network.named_parameters():
        parameter.requires_grad = not frozen or name.startswith("fc.")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        torchsummary.summary(network, (3, size, size), device="cpu")
    return printed.getvalue()
