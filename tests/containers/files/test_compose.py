"""deploy/compose.yaml and deploy/Dockerfile: that they agree with each other, and that nothing has more than it needs."""

import re
import shutil
import subprocess
import unittest

from .tree import DEPLOY, Dockerfile, documents, flag, port, version

FILE = DEPLOY / "compose.yaml"


def mounts(service: dict) -> dict[str, tuple[str, bool]]:
    """What is mounted where, and whether it may be written to."""
    # Not at the colons of ${NAME:-default}.
    parts = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", one).split(":") for one in service.get("volumes", [])]
    return {place: (source, mode != ["ro"]) for source, place, *mode in parts}


class Images(unittest.TestCase):
    def test_what_is_copied_is_laid_out(self) -> None:
        staged = {"coordinator", "worker", "libtorch-cpu", "libtorch-cuda", "scripts"}
        script = (DEPLOY / "images.sh").read_text()
        for copied in re.findall(r"^COPY (.+) \S+$", Dockerfile().text, re.MULTILINE):
            for source in copied.split():
                folder, name = source.split("/", 1)
                with self.subTest(source):
                    self.assertIn(folder, staged)
                    self.assertIn(folder, script)
                    if folder == "scripts":
                        self.assertTrue((DEPLOY / "containers" / name).is_file())

    def test_every_script_is_copied_and_every_health_check_is_a_script(self) -> None:
        scripts = {path.name for path in (DEPLOY / "containers").iterdir()}
        self.assertEqual(set(re.findall(r"scripts/([\w-]+)", Dockerfile().text)), scripts)
        checks = set(re.findall(r'^HEALTHCHECK .*CMD \["([\w-]+)"\]$', Dockerfile().text, re.MULTILINE))
        self.assertEqual(checks, {"coordinator-health", "worker-health"})

    def test_nothing_runs_as_root(self) -> None:
        # Every image comes from the stage that sets the user, and none sets it back.
        text = Dockerfile().text
        self.assertEqual(text.count("\nUSER "), 1)
        bases = dict((name, base) for base, name in re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE))
        for target in Dockerfile().targets():
            base = target
            while base in bases and base != "runtime":
                base = bases[base]
            self.assertEqual(base, "runtime", target)

    def test_images_build_without_buildkit(self) -> None:
        for word in ("--mount", "--link", "--chmod", "<<", "# syntax"):
            self.assertNotIn(word, Dockerfile().text)


class Compose(unittest.TestCase):
    def setUp(self) -> None:
        [self.said] = documents(FILE)
        self.services = self.said["services"]

    @unittest.skipUnless(shutil.which("docker-compose"), "docker-compose is not installed")
    def test_compose_reads_it(self) -> None:
        read = subprocess.run(["docker-compose", "--file", FILE, "config", "--quiet"], capture_output=True, text=True)
        self.assertEqual((read.returncode, read.stderr), (0, ""))

    def test_images_are_ours_and_of_this_version(self) -> None:
        for name, service in self.services.items():
            found = re.fullmatch(r"\$\{LOCKSTEP_REGISTRY:-\}lockstep-([\w-]+):\$\{LOCKSTEP_TAG:-(.+)\}", service["image"])
            with self.subTest(name):
                self.assertIn(found[1], Dockerfile().targets())
                self.assertEqual(found[2], version())

    def test_nothing_has_more_rights_than_it_needs(self) -> None:
        for name, service in self.services.items():
            with self.subTest(name):
                self.assertIs(service["read_only"], True)
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertIn("no-new-privileges:true", service["security_opt"])
                self.assertFalse({"privileged", "user", "pid", "ipc", "cap_add"} & set(service))

    def test_a_key_is_where_it_is_used_and_nowhere_else(self) -> None:
        where: dict[str, set[str]] = {}
        written: dict[str, set[str]] = {}
        for name, service in self.services.items():
            for source, is_written in mounts(service).values():
                where.setdefault(source, set()).add(name)
                if is_written:
                    written.setdefault(source, set()).add(name)
        self.assertEqual(where["authority"], {"credentials"})
        self.assertEqual(where["coordinator-tls"], {"credentials", "coordinator"})
        self.assertEqual(where["worker-tls"], {"credentials", "worker"})
        self.assertEqual(where["user-tls"], {"credentials", "lockstep"})
        for volume in ("authority", "coordinator-tls", "worker-tls", "user-tls"):
            self.assertEqual(written[volume], {"credentials"})
        self.assertEqual(self.services["credentials"]["network_mode"], "none")

    def test_new_volumes_belong_to_the_images_user(self) -> None:
        # Docker gives a new volume the owner of the folder that it is mounted at.
        joined = Dockerfile().text.replace("\\\n", " ")
        made = re.search(r"install -d -o lockstep -g lockstep -m 0700 (.+)$", joined, re.MULTILINE)[1].split()
        for name, service in self.services.items():
            for place, (source, _) in mounts(service).items():
                if not source.startswith(".") and source != "data":
                    with self.subTest(name, place=place):
                        self.assertIn(source, self.said["volumes"])
                        self.assertIn(place, made)

    def test_ports_are_those_of_the_images(self) -> None:
        coordinator, worker = self.services["coordinator"]["command"], self.services["worker"]["command"]
        own = {port(flag(coordinator, "listen")), port(flag(coordinator, "http"))}
        self.assertEqual(own | {port(flag(worker, "listen"))}, Dockerfile().ports())
        for url in (worker[0], self.services["lockstep"]["environment"]["LOCKSTEP_COORDINATOR"]):
            self.assertEqual(url, f"https://coordinator:{port(flag(coordinator, 'listen'))}")
        [published] = self.services["coordinator"]["ports"]
        self.assertEqual(published.rsplit(":", 1)[1], str(port(flag(coordinator, "listen"))))
        self.assertIn("LOCKSTEP_PUBLISH:-127.0.0.1:", published, "not for other machines unless it is asked for")

    def test_the_coordinators_certificate_names_what_workers_dial(self) -> None:
        hosts = re.search(r"for host in (.+?) \$\{LOCKSTEP_HOSTS", (DEPLOY / "containers/keep-credentials").read_text())[1].split()
        self.assertLessEqual({"coordinator", "localhost"}, set(hosts))

    def test_a_worker_has_the_time_to_leave_at_a_step_boundary(self) -> None:
        worker = self.services["worker"]
        grace = int(worker["stop_grace_period"].removesuffix("s"))
        self.assertGreaterEqual(grace, int(flag(worker["command"], "drain-timeout")) + 15)

    def test_what_stands_comes_back_by_itself(self) -> None:
        for name in ("credentials", "coordinator", "worker"):
            self.assertEqual(self.services[name]["restart"], "unless-stopped")


if __name__ == "__main__":
    unittest.main()
