"""Both sides driven to their end, on stand-ins that leave behind what the real programs leave, with times that are known."""

import os
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

from .inputs import Inputs
from .lockstep import Lockstep
from .processes import Failed, peak_bytes
from .pytorch import PyTorch

# As `lockstep train`: with steps in the log it steps until it is interrupted, 3 s for the first step, then 2 s each, then
# 1 s; without, it ends by itself. Its worker is a process that would go on for a minute.
LOCKSTEP = """\
#!{python}
import datetime, json, os, pathlib, signal, subprocess, sys, time

def option(name):
    return sys.argv[sys.argv.index(name) + 1]

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
home = pathlib.Path(option("--home"))
settings = dict(given.split("=", 1) for given in sys.argv if "=" in given and not given.startswith("info"))
run = home / "runs" / option("--name")
(run / "logs").mkdir(parents=True)
(home / "cache").mkdir(exist_ok=True)
(home / "cache" / "data").write_text("filled")
worker = subprocess.Popen([os.environ["LOCKSTEP_WORKER"], "60"], stdout=subprocess.DEVNULL)
members = [dict(worker=name, pid=worker.pid) for name in ("worker-0", "worker-1")]
(run / "events.jsonl").write_text(json.dumps(dict(event="generation_began", generation=1, members=members)) + "\\n")
if "debug" in option("--log"):
    began = time.time()
    for late, member in enumerate(members):
        times = [began + late + at for at in (3, 5, 7, *range(8, 30))]
        stamps = [datetime.datetime.fromtimestamp(at, datetime.timezone.utc).isoformat().replace("+00:00", "Z") for at in times]
        lines = [f"{{stamp}} DEBUG w: generation: step step={{step}} loss=1\\n" for step, stamp in enumerate(stamps, 1)]
        (run / "logs" / (member["worker"] + ".log")).write_text("".join(lines))
    signal.sigwait([signal.SIGINT])
    worker.kill()
    sys.exit(130)
if settings.get("test.breaks"):
    sys.exit("error: it broke")
counts = f"{{settings['data.train']}},{{settings['data.test']}}"
rows = "".join(f"{{epoch}},{{counts}},0.5\\n" for epoch in range(int(settings["epochs"]) - int(settings.get("test.missing", 0))))
(run / "results.csv").write_text("epoch,train/count,test/count,test/acc_top1\\n" + rows)
worker.kill()
"""

# As the reference program: rank 0 tells its options and what came out.
REFERENCE = """\
import argparse, json, os, sys
p = argparse.ArgumentParser()
for name, default in [("--steps", 20), ("--warmup", 5), ("--epochs", 0), ("--batch", 0)]:
    p.add_argument(name, type=int, default=default)
a, others = p.parse_known_args()
assert os.environ["OMP_NUM_THREADS"] == "1" and os.environ["WORLD_SIZE"] == "2"
if os.environ["RANK"] == "1":
    sys.exit()
print("a library warns")
for epoch in range(a.epochs):
    print(json.dumps(dict(epoch=epoch, seconds=10.0 * (epoch + 1), test_acc=0.5)), flush=True)
print(json.dumps(dict(step_ms=250.0, batch=a.batch, others=others)))
"""


class Sides(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.inputs = Inputs(self.folder / "cache", self.folder, sys.executable, quick=False)
        (self.folder / "lockstep").write_text(textwrap.dedent(LOCKSTEP).format(python=sys.executable))
        (self.folder / "lockstep").chmod(0o755)
        (self.folder / "reference").mkdir()
        self.inputs.reference.write_text(REFERENCE)

    def lockstep(self):
        os.symlink("/bin/sleep", self.folder / "lockstep-worker")
        return Lockstep(self.folder, self.inputs)

    def pytorch(self):
        return PyTorch(sys.executable, self.inputs.reference, self.inputs)

    def test_lockstep_steps_are_timed_by_the_log_after_the_warm_up(self):
        found = self.lockstep().steps({}, steps=10, warmup=3)
        self.assertAlmostEqual(found["step_s"], 1.0, places=5)
        self.assertEqual(len(found["steps_s"]), 10)
        # Of the slower worker, from the start of the program, which is a little before its own clock's.
        self.assertGreater(found["first_step_s"], 4.0)
        self.assertGreater(found["peak_bytes"], 100_000)

    def test_lockstep_leaves_no_process_and_no_home_behind(self):
        lockstep = self.lockstep()
        with lockstep.train({}, "info,debug") as run:
            run.until_steps(1)
            pid = run.pids["worker-0"]
            self.assertGreater(peak_bytes(pid), 0)
            self.assertEqual((run.home / "cache" / "data").read_text(), "filled")
        self.assertTrue(run.process.child.poll() is not None and not run.home.exists())
        self.assertEqual(peak_bytes(pid), 0)

    def test_a_whole_run_must_have_done_all_its_work(self):
        lockstep = self.lockstep()
        found = lockstep.whole({}, epochs=3, train=100, test=10)
        self.assertEqual((found["epochs"], found["test_acc"]), (3, 0.5))
        self.assertGreater(found["seconds"], 0)
        with self.assertRaisesRegex(Failed, "2 epochs"):
            lockstep.whole({"test.missing": 1}, epochs=3, train=100, test=10)
        with self.assertRaisesRegex(Failed, "(?s)ended with 1.*it broke"):
            lockstep.whole({"test.breaks": "yes"}, epochs=3, train=100, test=10)

    def test_missing_binaries_are_told_with_a_hint(self):
        with self.assertRaisesRegex(Failed, "hint: `cargo build"):
            Lockstep(self.folder, self.inputs)

    def test_the_reference_program_gets_the_variant_and_tells_its_step(self):
        found = self.pytorch().steps(("--channels-last",), 20, 5)
        self.assertEqual(found["step_s"], 0.25)
        self.assertGreater(found["peak_bytes"], 1_000_000)
        told = self.pytorch().ranks(("--channels-last",)).last()
        self.assertEqual(told["batch"], 200)
        self.assertIn("--channels-last", told["others"])

    def test_epochs_that_were_not_measured_are_reckoned(self):
        found = self.pytorch().whole((), epochs=100, measured=2)
        # Both epochs took 10 s by the program's own word; it really was done at once.
        self.assertAlmostEqual(found["seconds"] - found["outside_s"], 1000.0)
        self.assertEqual(found["epochs_measured"], 2)

    def test_the_first_step_is_timed_to_the_word_of_it(self):
        found = self.pytorch().start(())
        self.assertTrue(0 < found["first_step_s"] < 60)


if __name__ == "__main__":
    unittest.main()
