"""This host: the repository, its binaries, and how long the checks wait for what they tell."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A machine of two cores that builds something else besides takes its time.
PATIENCE_S = 300.0
LOOK_AGAIN_S = 0.5


class Failed(Exception):
    """A promise that was not kept, told for a person."""


def binaries() -> Path:
    return Path(os.environ.get("LOCKSTEP_BIN", ROOT / "target/release"))


def called(command: list[str], env: dict[str, str] | None = None, patience_s: float = PATIENCE_S) -> str:
    """What a command prints; it has to end well."""
    done = subprocess.run(
        command, env={**os.environ, **(env or {})}, cwd=ROOT, capture_output=True, text=True, timeout=patience_s
    )
    if done.returncode != 0:
        raise Failed(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def wait_until(what: str, holds: Callable[[], object], patience_s: float = PATIENCE_S):
    """What `holds` gives once it gives something. Other processes cannot notify, so they are asked again."""
    ends = time.monotonic() + patience_s
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > ends:
            raise Failed(f"after {patience_s:.0f} s still not so: {what}")
        time.sleep(LOOK_AGAIN_S)
