"""What the test asks of the Docker engine, for one project of deploy/compose.yaml."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass

from host import ROOT, Failed, called


class NotThere(Failed):
    """A container that does not run at this moment."""


def docker(*args: str) -> str:
    return called(["docker", *args]).strip()


def compose_command() -> list[str] | None:
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True)
    return ["docker", "compose"] if plugin.returncode == 0 else None


def missing() -> str | None:
    """Why there can be no containers here."""
    if not shutil.which("docker"):
        return "docker is not installed"
    if subprocess.run(["docker", "version"], capture_output=True).returncode != 0:
        return "no Docker engine answers"
    if compose_command() is None:
        return "neither docker-compose nor `docker compose` is installed"
    if not docker("images", "--quiet", "lockstep-base") and not (shutil.which("debootstrap") and os.geteuid() == 0):
        return "there is no base image, and debootstrap (as root) to make one"
    return None


@dataclass
class Container:
    """One container, by its full number."""

    number: str

    def inspected(self) -> dict:
        return json.loads(docker("inspect", self.number))[0]

    @property
    def host(self) -> str:
        """Its host's name, which is also how the others of its network call it."""
        return self.inspected()["Config"]["Hostname"]

    @property
    def worker(self) -> str:
        """The name of the worker in it: its host's, and its process's number, which is the first one."""
        return f"{self.host}-1"

    def state(self) -> dict:
        return self.inspected()["State"]

    def health(self) -> str:
        return self.state().get("Health", {}).get("Status", "none")

    def addresses(self) -> list[str]:
        return [one["IPAddress"] for one in self.inspected()["NetworkSettings"]["Networks"].values()]

    def may_use(self, cpus: float) -> None:
        docker("update", "--cpus", str(cpus), self.number)

    def does(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(["docker", "exec", self.number, *command], capture_output=True, text=True, timeout=60)


class Project:
    """The services of deploy/compose.yaml under a name of their own."""

    def __init__(self, tag: str) -> None:
        self.name = f"lockstep-test-{os.getpid()}"
        # Any free port of this machine, so that tests and clusters do not meet.
        self.env = {"LOCKSTEP_TAG": tag, "LOCKSTEP_PUBLISH": "127.0.0.1:", "COMPOSE_PROJECT_NAME": self.name}

    def compose(self, *args: str) -> str:
        return called([*compose_command(), "--file", "deploy/compose.yaml", *args], self.env)

    def up(self, workers: int) -> None:
        self.compose("up", "--detach", "--no-recreate", "--scale", f"worker={workers}")

    def containers(self, service: str) -> list[Container]:
        """Those that are running, the newest first."""
        labels = {"project": self.name, "service": service, "oneoff": "False"}
        filters = [f"--filter=label=com.docker.compose.{key}={value}" for key, value in labels.items()]
        return [Container(number) for number in docker("ps", "--no-trunc", "--quiet", *filters).split()]

    def one(self, service: str) -> Container:
        for container in self.containers(service):
            return container
        raise NotThere(f"no container of {service} is running")

    def network(self) -> str:
        return f"{self.name}_cluster"

    def port(self) -> int:
        """Where the coordinator is published. Another one after every start."""
        return int(docker("port", self.one("coordinator").number, "4400").splitlines()[0].rsplit(":", 1)[1])

    def logs(self) -> str:
        done = subprocess.run(
            [*compose_command(), "--file", "deploy/compose.yaml", "logs", "--no-color", "--tail=60"],
            env={**os.environ, **self.env}, cwd=ROOT, capture_output=True, text=True,
        )
        return done.stdout + done.stderr

    def down(self) -> None:
        self.compose("down", "--volumes", "--timeout", "20")
