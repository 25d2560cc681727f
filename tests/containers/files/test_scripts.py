"""The scripts of deploy/: that bash reads them, that shellcheck has nothing to say, and that they can be called."""

import os
import shutil
import subprocess
import unittest

from .tree import DEPLOY, ROOT

# Read by others, never called.
SOURCED = {"needs.sh"}


def scripts():
    found = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file() and path.read_bytes().startswith(b"#!")]
    return found + [DEPLOY / name for name in SOURCED]


class Scripts(unittest.TestCase):
    def test_there_are_some(self) -> None:
        names = {path.name for path in scripts()}
        self.assertLessEqual({"images.sh", "base-image.sh", "lockstep.sbatch", "keep-credentials", "worker-health"}, names)

    def test_bash_reads_them(self) -> None:
        for path in scripts():
            with self.subTest(path.name):
                read = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
                self.assertEqual((read.returncode, read.stderr), (0, ""))

    @unittest.skipUnless(shutil.which("shellcheck"), "shellcheck is not installed")
    def test_shellcheck_has_nothing_to_say(self) -> None:
        # From the root, where they change to before they source anything.
        paths = [str(path.relative_to(ROOT)) for path in scripts()]
        checked = subprocess.run(["shellcheck", "--external-sources", *paths], capture_output=True, text=True, cwd=ROOT)
        self.assertEqual((checked.returncode, checked.stdout), (0, ""))

    def test_they_can_be_called(self) -> None:
        for path in scripts():
            with self.subTest(path.name):
                # sbatch reads its script itself, and needs no right to run it.
                called = path.name not in SOURCED and path.suffix != ".sbatch"
                self.assertEqual(os.access(path, os.X_OK), called)

    def test_they_stop_at_the_first_error(self) -> None:
        for path in scripts():
            if path.name not in SOURCED:
                with self.subTest(path.name):
                    self.assertIn("\nset -euo pipefail\n", path.read_text())
