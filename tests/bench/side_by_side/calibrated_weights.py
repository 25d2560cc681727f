"""Writes random weights of a ResNet-50 whose BatchNorm statistics are those of real pictures.

    calibrated_weights.py DATA OUT.pth

Both sides start from this file. Published weights would do as well, and are a download; with statistics of 0 and 1, as
random weights have them, a network with frozen BatchNorm would give numbers that overflow.
"""

import os
import sys

import numpy
import torch
import torchvision

data, out = sys.argv[1:]
torch.manual_seed(0)
raw = numpy.fromfile(os.path.join(data, "cifar-10-batches-bin", "test_batch.bin"), numpy.uint8).reshape(-1, 3073)[:1000]
images = torch.from_numpy(raw[:, 1:].reshape(-1, 3, 32, 32).copy()).float().div_(255).sub_(0.5).div_(0.5)
net = torchvision.models.resnet50()
for module in net.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.momentum = None  # the plain mean over batches
with torch.no_grad():
    for batch in images.split(200):
        net(batch)
torch.save(net.state_dict(), out)
