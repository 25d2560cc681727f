"""The other side of the comparison: torchvision's models, used by PyTorch's own means.

    reference fixtures FOLDER   writes weights and pictures for the tests to start from
    reference passes JOB        logits, gradients and statistics of a model, and the files that they come from
    reference train JOB         trains as JOB says: losses, and how far the weights differ from what Lockstep came to
    reference evaluate JOB      loads a model strictly: correct, count, loss
    reference files JOB         writes picture files of all sorts
    reference exported JOB      loads what Lockstep exported, strictly, and looks at picture files with it
    reference summary JOB       what torchsummary prints

JOB is JSON on stdin, the answer JSON on stdout. Everything is written the way a PyTorch user would write it. Nothing of
Lockstep is used here but its files: what is under test must not help to judge itself.
"""

import json
import sys

import torch

from evaluation import draw_files, evaluate, exported
from fixtures import fixtures
from passes import passes
from summaries import summary
from training import train


def main():
    # Lockstep's default; another number sums in another order.
    torch.set_num_threads(1)
    verb = sys.argv[1]
    if verb == "fixtures":
        return fixtures(sys.argv[2])
    verbs = {
        "passes": passes,
        "train": train,
        "evaluate": evaluate,
        "files": draw_files,
        "exported": exported,
        "summary": summary,
    }
    print(json.dumps(verbs[verb](json.load(sys.stdin))))


if __name__ == "__main__":
    main()
