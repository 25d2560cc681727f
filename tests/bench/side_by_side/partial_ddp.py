"""Runs the reference program with everything before layer4 frozen, which is not among its modes.

    partial_ddp.py PROGRAM [the program's own arguments]

The network that torchvision hands out asks for no gradients before layer4 and keeps its BatchNorm there in eval mode, as
somebody who fine-tunes the last stage would write it. Autograd then records nothing for the frozen layers.
"""

import runpy
import sys

import torchvision

FROZEN = ("conv1", "bn1", "layer1", "layer2", "layer3")


def partly_frozen(make):
    def made(*args, **kwargs):
        net = make(*args, **kwargs)

        class Partial(type(net)):
            def train(self, mode=True):
                super().train(mode)
                for name in FROZEN:
                    getattr(self, name).eval()
                return self

        net.__class__ = Partial
        for name in FROZEN:
            getattr(net, name).requires_grad_(False)
        return net

    return made


torchvision.models.resnet50 = partly_frozen(torchvision.models.resnet50)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
