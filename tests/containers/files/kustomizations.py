"""Kustomizations: what they list, and what they come to once kustomize has put it together."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from .tree import DEPLOY, documents

FOLDER = DEPLOY / "kubernetes"

# What people apply: a folder of ours, or a kustomization of their own as the README shows it.
COMBINATIONS = {
    "cluster": (["cluster"], []),
    "cpu": (["cpu"], []),
    "cluster and cert-manager": (["cluster"], ["cert-manager"]),
    "cpu and cert-manager": (["cpu"], ["cert-manager"]),
}


@dataclass
class Kustomization:
    folder: Path
    said: dict

    @classmethod
    def of(cls, folder: Path) -> "Kustomization":
        [said] = documents(folder / "kustomization.yaml")
        return cls(folder, said)

    def listed(self) -> list[Path]:
        """All that it names: files, and folders with a kustomization of their own."""
        patches = [patch["path"] for patch in self.said.get("patches", []) if "path" in patch]
        names = self.said.get("resources", []) + self.said.get("components", []) + patches
        return [self.folder / name for name in names]

    def images(self) -> dict[str, str]:
        return {image["name"]: image["newTag"] for image in self.said.get("images", [])}


def all_kustomizations() -> list[Kustomization]:
    return [Kustomization.of(path.parent) for path in sorted(FOLDER.glob("*/kustomization.yaml"))]


def kustomize() -> list[str] | None:
    """The command that puts a kustomization together, where there is one."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    return None


@cache
def put_together(name: str) -> list[dict]:
    """What a person gets who applies a combination. Nobody changes it."""
    resources, components = COMBINATIONS[name]
    with tempfile.TemporaryDirectory() as own:
        # Kustomize takes no absolute paths.
        up = os.path.relpath(FOLDER, Path(own).resolve())
        said = {"resources": [f"{up}/{one}" for one in resources], "components": [f"{up}/{one}" for one in components]}
        (Path(own) / "kustomization.yaml").write_text(yaml.safe_dump(said))
        done = subprocess.run([*kustomize(), own], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"kustomize refuses {name}: {done.stderr}")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def as_they_lie(folder: str) -> list[dict]:
    """The resources of a kustomization without kustomize: no patches, no image tags."""
    files = Kustomization.of(FOLDER / folder).said["resources"]
    return [document for name in files for document in documents(FOLDER / folder / name)]
