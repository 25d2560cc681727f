"""The repository's files, as the checks need them."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"


def version() -> str:
    """The workspace's version, which is also the images' tag."""
    return re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]


def documents(path: Path) -> list[dict]:
    """The YAML documents of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


class Dockerfile:
    """What deploy/Dockerfile says of its images."""

    def __init__(self) -> None:
        self.text = (DEPLOY / "Dockerfile").read_text()

    def targets(self) -> set[str]:
        """The stages that become images: nothing else is made from them, or they are given a title."""
        return set(re.findall(r"^FROM \S+ AS (coordinator|worker-\w+)$", self.text, re.MULTILINE))

    def user(self) -> int:
        return int(re.search(r"^USER (\d+):\1$", self.text, re.MULTILINE)[1])

    def home(self) -> str:
        return re.search(r"^VOLUME (\S+)$", self.text, re.MULTILINE)[1]

    def ports(self) -> set[int]:
        return {int(port) for line in re.findall(r"^EXPOSE (.+)$", self.text, re.MULTILINE) for port in line.split()}


def flag(args: list[str], name: str) -> str | None:
    """The value of a command line's flag, as `--name=value` or `--name value`."""
    for place, arg in enumerate(args):
        if arg.startswith(f"--{name}="):
            return arg.split("=", 1)[1]
        if arg == f"--{name}":
            return args[place + 1]
    return None


def port(address: str) -> int:
    """The port of HOST:PORT or of a URL."""
    return int(address.rstrip("/").rsplit(":", 1)[1])
