"""The exchange alone: both sides sum the gradient of a ResNet-50 between two processes, without a network around it."""

import json

from .figures import median
from .inputs import REPOSITORY
from .processes import Failed, Process, wait

WORLD = 2
# A ResNet-50 with 10 classes.
LENGTH = 23_528_522
ROUNDS = 15

# Gloo's half of the program beside Lockstep's, which by itself runs both.
GLOO = """
import json, sys
sys.path.insert(0, sys.argv[1])
import against_gloo
print(json.dumps(against_gloo.gloo({}, {}, {})))
"""


class Exchange:
    def __init__(self, binaries, python):
        self.binaries, self.python = binaries, python

    def lockstep(self, way):
        """`way` is shm or tcp."""
        sizes = ["--world", WORLD, "--length", LENGTH, "--rounds", ROUNDS]
        libtorch = str(REPOSITORY / ".libtorch" / "torch" / "lib")
        command = [self.binaries / "exchange", "--only", way, *sizes]
        found = json.loads(output(command, {"LD_LIBRARY_PATH": libtorch}))[way]
        return median(found["rounds_ms"]), found

    def gloo(self):
        folder = REPOSITORY / "tests" / "bench" / "exchange"
        times = json.loads(output([self.python, "-c", GLOO.format(WORLD, LENGTH, ROUNDS), folder]))
        return median(times), {"rounds_ms": times}


def output(command, environment=None):
    try:
        process = Process(command, {"OMP_NUM_THREADS": "1", **(environment or {})})
    except OSError as error:
        raise Failed(f"{command[0]}: {error}") from None
    try:
        wait([process])
    finally:
        process.kill()
    return "".join(line for _, line in process.lines)
