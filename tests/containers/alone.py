"""What a recipe comes to on this host, undisturbed: what every other way of training it has to come to, byte for byte."""

import csv
import unittest
from pathlib import Path

from host import binaries, called


def train(recipe: list[str], workers: int, home: Path) -> Path:
    """The folder of a finished run of `lockstep train`."""
    called([str(binaries() / "lockstep"), "train", *recipe, "--workers", str(workers), "--name", "alone", "--home", str(home)],
           patience_s=900)
    return home / "runs/alone"


def assert_the_same(test: unittest.TestCase, run: Path, alone: Path) -> None:
    last = (alone / "checkpoints/last").resolve().name
    for file in ("best.safetensors", f"checkpoints/{last}/model.safetensors", f"checkpoints/{last}/optimizer.safetensors"):
        with test.subTest(file):
            test.assertEqual((run / file).read_bytes(), (alone / file).read_bytes())
    test.assertEqual(ledger(run), ledger(alone))


def ledger(run: Path) -> list[tuple[str, ...]]:
    """What was visited and in which order; how often a broken step was made again is the cluster's own."""
    with (run / "ledger.csv").open() as table:
        return [(row["epoch"], row["expected"], row["seen"], row["lost"], row["digest"]) for row in csv.DictReader(table)]
