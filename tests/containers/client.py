"""`lockstep` as a person uses it beside a cluster, and waiting for what it tells."""

import json
import os
import subprocess
from collections.abc import Callable

from host import Failed, wait_until


class Client:
    def __init__(self, command: list[str], environment: Callable[[], dict[str, str]]) -> None:
        """`command` is how `lockstep` is started; `environment` says where the coordinator is, and is asked every time."""
        self.command = command
        self.environment = environment

    def asks(self, *args: str, patience_s: float = 120) -> subprocess.CompletedProcess:
        env = {**os.environ, **self.environment()}
        env.pop("LOCKSTEP_HOME", None)
        return subprocess.run([*self.command, *args], env=env, capture_output=True, text=True, timeout=patience_s)

    def told(self, *args: str, patience_s: float = 120) -> str:
        """What it prints; it has to end well."""
        done = self.asks(*args, patience_s=patience_s)
        if done.returncode != 0:
            raise Failed(f"`lockstep {' '.join(args)}` ended with {done.returncode}: {done.stderr}".rstrip())
        return done.stdout

    def workers(self) -> dict[str, dict]:
        return {one["name"]: one for one in json.loads(self.told("workers", "--json"))["workers"]}

    def wait_for_free_workers(self, count: int) -> None:
        def free() -> bool:
            workers = self.workers()
            return len(workers) == count and all(one["state"] == "free" for one in workers.values())

        wait_until(f"{count} workers are free", free)

    def run(self, name: str) -> dict:
        """As in `ps`; nothing while the coordinator is away."""
        done = self.asks("ps", "--all", "--json")
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
