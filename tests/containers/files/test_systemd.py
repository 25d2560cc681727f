"""deploy/systemd: that systemd takes the units, and that what they promise about time, ports and rights holds."""

import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from .tree import DEPLOY, Dockerfile, flag, port

FOLDER = DEPLOY / "systemd"
UNITS = ("lockstep.service", "lockstep-worker@.service")


class Unit:
    """A unit file: the last value of each key, and all values of those that may be said again."""

    def __init__(self, name: str) -> None:
        text = (FOLDER / name).read_text()
        # A backslash at a line's end joins it with the next.
        self.text = re.sub(r"\\\n\s*", "", text)
        self.values: dict[str, list[str]] = {}
        for line in self.text.splitlines():
            if "=" in line and not line.startswith("#"):
                key, value = line.split("=", 1)
                self.values.setdefault(key, []).append(value)

    def __getitem__(self, key: str) -> str:
        return self.values[key][-1]

    def environment(self) -> dict[str, str]:
        said = " ".join(self.values.get("Environment", []))
        return dict(pair.split("=", 1) for pair in said.split())

    def command(self) -> list[str]:
        environment = self.environment()
        return re.sub(r"\$\{(LOCKSTEP_\w+)\}", lambda name: environment.get(name[1], name[0]), self["ExecStart"]).split()


class Units(unittest.TestCase):
    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_systemd_takes_them(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name in UNITS:
                # It asks whether the program is there.
                text = (FOLDER / name).read_text()
                Path(folder, name).write_text(re.sub(r"/usr/local/bin/lockstep(-worker)?\b", "/bin/true", text))
            for name in UNITS:
                with self.subTest(name):
                    verified = subprocess.run(
                        ["systemd-analyze", "verify", "--man=no", str(Path(folder, name))], capture_output=True, text=True
                    )
                    said = [line for line in verified.stderr.splitlines() if "lockstep" in line]
                    self.assertEqual((verified.returncode, said), (0, []))

    def test_ports_are_those_of_the_images(self) -> None:
        command = Unit("lockstep.service").command()
        self.assertLessEqual({port(flag(command, "listen")), port(flag(command, "http"))}, Dockerfile().ports())

    def test_a_worker_has_the_time_to_leave_at_a_step_boundary(self) -> None:
        unit = Unit("lockstep-worker@.service")
        self.assertGreaterEqual(int(unit["TimeoutStopSec"]), int(flag(unit.command(), "drain-timeout")) + 15)

    def test_they_come_back_by_themselves_but_not_with_wrong_usage(self) -> None:
        for name in UNITS:
            unit = Unit(name)
            with self.subTest(name):
                said = (unit["Restart"], unit["RestartPreventExitStatus"], unit["StartLimitIntervalSec"])
                self.assertEqual(said, ("always", "2", "0"))

    def test_keys_are_handed_over_by_systemd_and_named_as_they_are_handed_over(self) -> None:
        for name in UNITS:
            unit = Unit(name)
            with self.subTest(name):
                handed = {credential.split(":")[0] for credential in unit.values["LoadCredential"]}
                if name == "lockstep.service":
                    self.assertEqual(flag(unit.command(), "tls-dir"), "${CREDENTIALS_DIRECTORY}")
                    self.assertEqual(handed, {"ca.pem", "server.pem", "server.key", "tokens.key"})
                else:
                    used = {flag(unit.command(), one).removeprefix("${CREDENTIALS_DIRECTORY}/") for one in ("ca", "cert", "key")}
                    self.assertEqual(handed, used)

    def test_a_workers_certificate_is_made_out_to_the_name_it_joins_with(self) -> None:
        unit = Unit("lockstep-worker@.service")
        name = flag(unit.command(), "name")
        self.assertIn(f"worker.pem:/etc/lockstep/tls/worker-{name}.pem", unit.values["LoadCredential"])

    def test_they_are_shut_in(self) -> None:
        yes = ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "ProtectKernelModules", "ProtectControlGroups",
               "RestrictNamespaces", "RestrictSUIDSGID", "LockPersonality")
        for name in UNITS:
            unit = Unit(name)
            with self.subTest(name):
                self.assertEqual({unit[key] for key in yes}, {"yes"})
                said = (unit["User"], unit["ProtectSystem"], unit["CapabilityBoundingSet"], unit["UMask"])
                self.assertEqual(said, ("lockstep", "strict", "", "0077"))
                self.assertEqual(unit.values["SystemCallFilter"][0], "@system-service")


if __name__ == "__main__":
    unittest.main()
