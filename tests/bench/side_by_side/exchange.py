"""The exchange alone: both sides sum the gradient of a ResNet-50 between two processes, without a network around it."""

import json

from .inputs import REPOSITORY
from .processes import Failed, Process, wait

# 23,528,522 numbers of 4 bytes: a ResNet-50 with 10 classes.
BYTES = 94_114_088

GLOO = REPOSITORY / "tests" / "bench" / "exchange_gloo.py"


class Exchange:
    def __init__(self, binaries, python):
        self.binaries, self.python = binaries, python

    def lockstep(self, transport):
        return told([self.binaries / "exchange", "--transport", transport, "--bytes", BYTES])

    def gloo(self):
        return told([self.python, GLOO, "--bytes", BYTES])


def told(command):
    """Both programs start two processes, sum many times and print the median as JSON."""
    try:
        process = Process(command, {"OMP_NUM_THREADS": "1"})
    except OSError as error:
        raise Failed(f"{command[0]}: {error}") from None
    try:
        wait([process])
    finally:
        process.kill()
    found = json.loads(process.lines[-1][1])
    return found["median_ms"], found
