"""deploy/slurm/lockstep.sbatch: a job that is told to make room comes back and ends with the weights it would have had."""

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import unittest
from pathlib import Path

import alone
from host import PATIENCE_S, ROOT, Failed, binaries, wait_until

RECIPE = ["deploy/recipes/demo.toml", "--set", "shards=2", "--set", "epochs=2", "--set", "schedule.t_max=2",
          "--set", "data.train=1500", "--set", "data.test=100"]
JOB = str(os.getpid())


class Job:
    """One start of the batch script, as Slurm sets it up on a job's first node."""

    def __init__(self, home: Path, recipe: list[str]) -> None:
        self.home = home
        self.folder = home / "slurm" / JOB
        commands = Path(__file__).parent / "commands"
        env = {name: value for name, value in os.environ.items() if not name.startswith("LOCKSTEP_")}
        env |= {"PATH": f"{commands}:{binaries()}:{env['PATH']}", "LOCKSTEP_HOME": str(home), "SLURM_JOB_ID": JOB,
                "SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "1", "SCONTROL_CALLS": str(home / "scontrol"),
                "TMPDIR": str(home)}
        env.pop("CUDA_VISIBLE_DEVICES", None)
        self.log = (home / "job.log").open("a")
        # As Slurm does: a copy of the script, run in the folder that it was submitted from.
        script = shutil.copy(ROOT / "deploy/slurm/lockstep.sbatch", home / "slurm_script")
        self.process = subprocess.Popen(
            ["bash", script, *recipe], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=ROOT, env=env,
            start_new_session=True,
        )

    def ask(self, *args: str) -> subprocess.CompletedProcess:
        """As a person from another node."""
        script = '. "$0" && exec lockstep "$@"'
        env = {**os.environ, "PATH": f"{binaries()}:{os.environ['PATH']}"}
        return subprocess.run(["bash", "-c", script, self.folder / "client", *args], env=env, capture_output=True, text=True)

    def told(self) -> str:
        return (self.home / "job.log").read_text()

    def ended(self) -> int:
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """All that is left of it."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.log.close()


class Slurm(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name)

    def start(self, recipe: list[str]) -> Job:
        job = Job(self.home, recipe)
        self.addCleanup(job.kill)
        return job

    def wait_until(self, what: str, job: Job, holds) -> None:
        def held() -> bool:
            if job.process.poll() is not None:
                raise Failed(f"the job has ended with {job.process.returncode}")
            return holds()

        try:
            wait_until(what, held)
        except Failed as failure:
            self.fail(f"{failure}\n{job.told()}")

    def test_a_job_that_makes_room_resumes_and_ends_with_the_same_weights(self) -> None:
        job = self.start(RECIPE)
        self.wait_until("two workers train", job, lambda: job.ask("workers").stdout.count("busy") == 2)
        secrets = [path for path in (job.folder / "tls").iterdir() if path.suffix == ".key" or path.name == "token"]
        self.assertGreaterEqual(len(secrets), 3)
        for path in secrets:
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600, path)
        self.assertEqual(stat.S_IMODE((job.folder / "tls").stat().st_mode), 0o700)

        # What --signal=B:TERM sends, to the script's shell alone.
        os.kill(job.process.pid, signal.SIGTERM)
        self.assertEqual(job.ended(), 143, job.told())
        self.assertEqual((self.home / "scontrol").read_text(), f"requeue {JOB}\n")
        self.assertFalse((job.folder / "tls").exists(), "credentials outlive their use")

        again = self.start(RECIPE)
        self.assertEqual(again.ended(), 0, again.told())
        self.assertEqual((self.home / "scontrol").read_text(), f"requeue {JOB}\n", "it is done, and not queued again")

        alone.assert_the_same(self, self.home / f"runs/slurm-{JOB}", alone.train(RECIPE, 1, self.home / "alone"))

    def test_a_recipe_that_is_refused_ends_the_job(self) -> None:
        job = self.start([*RECIPE, "--set", "optimizer.momentun=1"])
        self.assertEqual(job.ended(), 2, job.told())
        self.assertIn("momentum", job.told())
        self.assertFalse((self.home / "scontrol").exists())


if __name__ == "__main__":
    unittest.main()
