"""The host's own `lockstep`, as a person uses it beside the cluster, and waiting for what it tells."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .engine import Failed, NotThere, Project, docker

# A machine of two cores that builds something else besides takes its time.
PATIENCE_S = 300.0
LOOK_AGAIN_S = 0.5


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


class Client:
    def __init__(self, lockstep: Path, project: Project, folder: Path) -> None:
        self.lockstep = lockstep
        self.project = project
        self.folder = folder
        docker("cp", f"{project.one('credentials').number}:/etc/lockstep/user", str(folder / "lockstep"))

    def asks(self, *args: str, patience_s: float = 120) -> subprocess.CompletedProcess:
        # The folder is what ~/.config/lockstep would be; the port is not the usual one here.
        env = {**os.environ, "XDG_CONFIG_HOME": str(self.folder),
               "LOCKSTEP_COORDINATOR": f"https://localhost:{self.project.port()}"}
        env.pop("LOCKSTEP_HOME", None)
        return subprocess.run([self.lockstep, *args], env=env, capture_output=True, text=True, timeout=patience_s)

    def told(self, *args: str, patience_s: float = 120) -> str:
        """What it prints; it has to end well."""
        done = self.asks(*args, patience_s=patience_s)
        if done.returncode != 0:
            raise Failed(f"`lockstep {' '.join(args)}` ended with {done.returncode}: {done.stderr}".rstrip())
        return done.stdout

    def workers(self) -> dict[str, dict]:
        return {one["name"]: one for one in json.loads(self.told("workers", "--json"))["workers"]}

    def run(self, name: str) -> dict:
        """As in `ps`; nothing while the coordinator is away."""
        try:
            done = self.asks("ps", "--all", "--json")
        except NotThere:
            return {}
        if done.returncode != 0:
            return {}
        [run] = [one for one in json.loads(done.stdout)["runs"] if one["name"] == name]
        if run["state"] == "failed":
            raise Failed(f"run {name} failed: {run['reason']}")
        return run

    def status(self, name: str) -> dict:
        return json.loads(self.told("status", name, "--json"))

    def wait_for_steps(self, name: str, more: int, among: Callable[[set[str]], bool] = bool) -> int:
        """Until the run has made so many steps more, with workers as said. Gives its step."""
        began = wait_until(f"run {name} makes steps", lambda: (self.run(name) or {}).get("step"))

        run: dict = {}

        def made() -> int | None:
            nonlocal run
            run = self.run(name) or run
            if run.get("state") not in (None, "running"):
                raise Failed(f"run {name} is {run['state']} already: it is too short for what is done to it")
            further = (run.get("step") or 0) >= began + more
            return run["step"] if further and among(set(run["workers"])) else None

        try:
            return wait_until(f"run {name} makes {more} steps more, with the right workers", made)
        except Failed as failure:
            raise Failed(f"{failure}\n{json.dumps(run)}\n{json.dumps(self.workers())}") from None
