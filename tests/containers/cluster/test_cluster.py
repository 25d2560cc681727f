"""Compose up, disturb, compare: the weights are those of the same recipe on this host, byte for byte."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import alone
from host import ROOT, binaries, called, wait_until

from .engine import Project, docker, missing
from .person import Person

TAG = "test"
RUN = "disturbed"
# Long enough that all disturbances lie within it, and the steps between them.
RECIPE = ["deploy/recipes/demo.toml", "--set", "shards=4", "--set", "epochs=2", "--set", "schedule.t_max=2",
          "--set", "data.train=3000", "--set", "data.test=200", "--set", "checkpoint.every_steps=10"]
FEW_STEPS = 6
# So little of a core for each worker, while they are disturbed, that whoever asks how the run goes has an answer in time.
SHARE = 0.3
COORDINATOR_MB_MAX = 60


def image(target: str) -> str:
    return f"lockstep-{target}:{TAG}"


@unittest.skipIf(missing(), str(missing()))
class Cluster(unittest.TestCase):
    """One cluster for all: the tests are its life, in the order of their names, and the first failure ends it."""

    @classmethod
    def setUpClass(cls) -> None:
        built = called(["deploy/images.sh", "--bin", str(binaries()), "--tag", TAG, "coordinator", "worker-cpu"],
                       patience_s=1800)
        print(built.rstrip(), flush=True)
        cls.base = next(word for word in built.split() if word.startswith("lockstep-base:"))
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.project = Project(TAG)
        cls.addClassCleanup(cls.end)
        cls.project.up(workers=3)
        cls.client = Person(cls.project, cls.folder)

    @classmethod
    def end(cls) -> None:
        # What went wrong is in there, and goes with the containers.
        logs = ROOT / "target/containers/cluster.log"
        logs.parent.mkdir(parents=True, exist_ok=True)
        logs.write_text(cls.project.logs())
        cls.project.down()
        # What images of earlier builds have left, of ours alone.
        for title in ("Lockstep coordinator", "Lockstep worker (CPU)"):
            docker("image", "prune", "--force", "--filter", f"label=org.opencontainers.image.title={title}")

    def test_10_images_are_small_and_of_one_user_without_rights(self) -> None:
        def size(name: str) -> int:
            return int(docker("image", "inspect", "--format", "{{.Size}}", name))

        self.assertLess(size(image("coordinator")) - size(self.base), COORDINATOR_MB_MAX * 1_000_000)
        for target in ("coordinator", "worker-cpu"):
            said = docker("image", "inspect", "--format", "{{.Config.User}} {{.Config.StopSignal}}", image(target))
            self.assertEqual(said, "10001:10001 SIGTERM")
            labels = docker("image", "inspect", "--format", "{{json .Config.Labels}}", image(target))
            self.assertIn("org.opencontainers.image.title", labels)

    def test_11_three_workers_join(self) -> None:
        self.client.wait_for_free_workers(3)
        names = {container.worker for container in self.project.containers("worker")}
        self.assertEqual(set(self.client.workers()), names)

    def test_12_containers_are_healthy(self) -> None:
        for service in ("credentials", "coordinator", "worker"):
            for container in self.project.containers(service):
                wait_until(f"a container of {service} is healthy", lambda: container.health() == "healthy")

    def test_13_containers_write_to_their_volumes_alone_and_see_no_key_but_their_own(self) -> None:
        coordinator, worker = self.project.one("coordinator"), self.project.containers("worker")[0]
        for container in (coordinator, worker):
            self.assertNotEqual(container.does("touch", "/usr/local/bin/more").returncode, 0)
            self.assertEqual(container.does("touch", "/var/lib/lockstep/more").returncode, 0)
            self.assertEqual(container.does("id", "-u").stdout.strip(), "10001")
            found = container.does("find", "/etc/lockstep", "-name", "*.key").stdout.split()
            allowed = {"/etc/lockstep/tls/server.key", "/etc/lockstep/tls/tokens.key"}
            self.assertEqual(set(found), allowed if container is coordinator else set())
            capabilities = container.does("grep", "CapEff", "/proc/1/status").stdout.split()[1]
            self.assertEqual(int(capabilities, 16), 0)

    def test_14_nobody_is_let_in_without_a_credential(self) -> None:
        port = self.project.port()
        asked = subprocess.run(
            [binaries() / "lockstep", "ps", "--coordinator", f"https://localhost:{port}", "--ca",
             self.client.folder / "lockstep/ca.pem"],
            env={**os.environ, "XDG_CONFIG_HOME": str(self.folder / "nowhere")}, capture_output=True, text=True,
        )
        self.assertNotEqual(asked.returncode, 0, asked.stdout)
        self.assertIn("hint:", asked.stderr)

    def test_20_a_run_trains_on_all_three(self) -> None:
        for container in self.project.containers("worker"):
            container.may_use(SHARE)
        self.client.told("submit", *RECIPE, "--name", RUN, "--workers", "1..4", "--detach")
        self.client.wait_for_steps(RUN, FEW_STEPS, among=lambda workers: len(workers) == 3)

    def test_21_a_killed_workers_run_goes_on_without_it(self) -> None:
        victim = self.project.containers("worker")[0]
        # Killed by Docker's own word it is not started again.
        name = victim.worker
        docker("kill", "--signal", "KILL", victim.number)
        self.client.wait_for_steps(RUN, FEW_STEPS, among=lambda workers: len(workers) == 2 and name not in workers)

    def test_22_a_worker_that_was_cut_off_comes_back(self) -> None:
        cut = self.project.containers("worker")[-1]
        before = cut.addresses()
        docker("network", "disconnect", self.project.network(), cut.number)
        self.client.wait_for_steps(RUN, FEW_STEPS, among=lambda workers: cut.worker not in workers)
        docker("network", "connect", self.project.network(), cut.number)
        self.client.wait_for_steps(RUN, FEW_STEPS, among=lambda workers: cut.worker in workers)
        print(f"cut off at {before}, back at {cut.addresses()}", flush=True)
        self.assertEqual(cut.state()["Running"], True)

    def test_23_the_coordinators_container_is_restarted_and_the_run_goes_on(self) -> None:
        before = self.client.run(RUN)["step"]
        docker("restart", "--time", "20", self.project.one("coordinator").number)
        step = self.client.wait_for_steps(RUN, FEW_STEPS, among=lambda workers: len(workers) == 2)
        self.assertGreater(step, before, "nothing was lost")

    def test_24_a_worker_is_added(self) -> None:
        had = set(self.client.workers())
        self.project.up(workers=4)
        self.client.wait_for_steps(RUN, 1, among=lambda workers: len(workers) > 2 and bool(workers - had))

    def test_30_the_weights_are_those_of_this_host_byte_for_byte(self) -> None:
        for container in self.project.containers("worker"):
            container.may_use(1)
        self.client.told("watch", RUN, patience_s=900)
        self.assertEqual(self.client.run(RUN)["state"], "done")
        fetched = self.folder / "fetched"
        self.client.told("fetch", RUN, "--all", "--to", str(fetched))

        alone.assert_the_same(self, fetched, alone.train(RECIPE, 2, self.folder / "home"))

    def test_31_the_disturbances_were_real(self) -> None:
        status = self.client.status(RUN)
        self.assertGreaterEqual(status["term"], 2, "the coordinator's second life")
        self.assertGreaterEqual(len({lost["worker"] for lost in status["lost"]}), 2, status["lost"])
        sizes = [len(one["members"]) for one in status["generations"]]
        self.assertGreaterEqual(max(sizes), 3)
        self.assertLess(min(sizes), 3)

    def test_40_workers_leave_when_they_are_told_to(self) -> None:
        leaving = self.project.containers("worker")
        self.project.compose("stop", "worker")
        for container in leaving:
            state = container.state()
            # 137 would be a kill when patience was over.
            self.assertEqual((state["Running"], state["ExitCode"]), (False, 143))
        wait_until("no worker is there", lambda: not self.client.workers())


if __name__ == "__main__":
    unittest.main()
