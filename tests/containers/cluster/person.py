"""The host's own `lockstep`, with the credentials of the compose project's first person."""

from pathlib import Path

from client import Client
from host import binaries

from .engine import NotThere, Project, docker


class Person(Client):
    def __init__(self, project: Project, folder: Path) -> None:
        docker("cp", f"{project.one('credentials').number}:/etc/lockstep/user", str(folder / "lockstep"))
        self.folder = folder
        self.project = project
        super().__init__([str(binaries() / "lockstep")], self.way)

    def way(self) -> dict[str, str]:
        # The folder is what ~/.config/lockstep would be; the port is not the usual one here.
        return {"XDG_CONFIG_HOME": str(self.folder), "LOCKSTEP_COORDINATOR": f"https://localhost:{self.project.port()}"}

    def run(self, name: str) -> dict:
        try:
            return super().run(name)
        except NotThere:
            return {}
