"""A cluster whose hosts are apart: what a network does to a run slows it down and changes nothing else."""

import re
import tempfile
import unittest
from pathlib import Path

import alone
from client import Client
from host import ROOT, binaries, called, wait_until

from .fabric import Fabric, missing

def recipe(epochs: int, train: int) -> list[str]:
    # All layers are passed through, few are trained: a megabyte of gradients, so that latency is what a step waits for.
    return [str(ROOT / "deploy/recipes/demo.toml"), "--set", 'train.trainable=["layer2.0.*", "fc.*"]', "--set", "cache.prefix=off",
            "--set", "shards=3", "--set", "batch=48", "--set", f"data.train={train}", "--set", "data.test=100",
            "--set", f"epochs={epochs}", "--set", f"schedule.t_max={epochs}", "--set", "checkpoint.every_steps=10"]


SHORT = recipe(epochs=2, train=500)
# All partitions lie within it, and the steps between them.
LONG = recipe(epochs=6, train=1200)
WORKERS = ["one", "two", "three"]
# What is silent for so long is lost.
LEASE_MS = 3000
FEW_STEPS = 4
FORMED = re.compile(r'run="parted".* generation=(\d+)\}: generation formed .*world_size=(\d+)')


@unittest.skipIf(missing(), str(missing()))
class Networks(unittest.TestCase):
    """One cluster for all, the tests are its life, in the order of their names, and the first failure ends it."""

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.fabric = Fabric(["coordinator", *WORKERS])
        cls.addClassCleanup(cls.fabric.end)
        cls.logs = ROOT / "target/containers/networks"
        cls.logs.mkdir(parents=True, exist_ok=True)
        for log in cls.logs.iterdir():
            log.unlink()
        cls.start()

    @classmethod
    def start(cls) -> None:
        authority, home = cls.folder / "authority", cls.folder / "coordinator"
        coordinator = cls.fabric.hosts["coordinator"]
        lockstep, worker = str(binaries() / "lockstep"), str(binaries() / "lockstep-worker")
        called([lockstep, "certs", "init", "--dir", str(authority), "--host", coordinator.address])
        called([lockstep, "certs", "issue", "user", "ada", "--role", "admin", "--dir", str(authority)])
        url, ca = f"https://{coordinator.address}:4400", str(authority / "ca.pem")
        coordinator.starts(lockstep, "serve", "--listen", f"{coordinator.address}:4400", "--tls-dir", str(authority), "--home",
                           str(home), log=cls.logs / "coordinator", env={})
        for name in WORKERS:
            called([lockstep, "certs", "issue", "worker", name, "--dir", str(authority)])
            cls.fabric.hosts[name].starts(
                worker, "join", url, "--name", name, "--device", "cpu", "--ca", ca,
                "--cert", str(authority / f"worker-{name}.pem"), "--key", str(authority / f"worker-{name}.key"),
                "--listen", f"{cls.fabric.hosts[name].address}:0", "--advertise", cls.fabric.hosts[name].address,
                "--cache", str(cls.folder / f"cache-{name}"), log=cls.logs / name, env={"OMP_NUM_THREADS": "1"},
            )
        cls.person = Client(coordinator.inside(lockstep), lambda: {
            "LOCKSTEP_COORDINATOR": url, "LOCKSTEP_CA": ca, "XDG_CONFIG_HOME": str(cls.folder / "nowhere"),
            "LOCKSTEP_CERT": str(authority / "user-ada.pem"), "LOCKSTEP_KEY": str(authority / "user-ada.key"),
        })

    def submit(self, name: str, recipe: list[str], workers: str) -> None:
        self.person.told("submit", *recipe, "--set", f"lease_ms={LEASE_MS}", "--name", name, "--workers", workers, "--detach")

    def ends_as_alone(self, name: str, recipe: list[str]) -> None:
        self.person.told("watch", name, patience_s=600)
        self.assertEqual(self.person.run(name)["state"], "done")
        undisturbed = alone.train(recipe, 2, self.folder / f"alone-{name}")
        alone.assert_the_same(self, self.folder / "coordinator/runs" / name, undisturbed)

    def seconds(self, name: str) -> float:
        run = self.person.run(name)
        return (run["ended_at_ms"] - run["started_at_ms"]) / 1000

    def test_10_hosts_find_each_other_and_train(self) -> None:
        wait_until("the coordinator answers", lambda: self.person.asks("ps").returncode == 0)
        self.person.wait_for_free_workers(3)
        self.submit("near", SHORT, "3")
        self.ends_as_alone("near", SHORT)

    def test_20_latency_and_loss_slow_a_run_down_and_change_nothing_else(self) -> None:
        self.fabric.delay_s, self.fabric.loss = 0.1, 0.01
        self.submit("far", SHORT, "3")
        self.ends_as_alone("far", SHORT)
        self.fabric.delay_s, self.fabric.loss = 0.0, 0.0
        print(f"{self.fabric.lost} packets lost; {self.seconds('far'):.0f} s instead of {self.seconds('near'):.0f} s",
              flush=True)
        self.assertGreater(self.fabric.lost, 10)
        self.assertGreater(self.seconds("far"), self.seconds("near"))
        self.assertEqual(self.person.status("far")["lost"], [], "who is slow is not lost")

    def test_30_a_run_goes_on_without_a_worker_that_nobody_hears(self) -> None:
        self.person.wait_for_free_workers(3)
        # So far apart that there are not too many steps while somebody looks how it goes.
        self.fabric.delay_s = 0.02
        self.submit("parted", LONG, "1..3")
        self.person.wait_for_steps("parted", FEW_STEPS, among=lambda workers: len(workers) == 3)
        self.fabric.part(["coordinator", "one", "two"], ["three"])
        self.person.wait_for_steps("parted", FEW_STEPS, among=lambda workers: workers == {"one", "two"})
        self.heal()

    def test_31_the_coordinators_side_goes_on_alone_and_the_other_waits(self) -> None:
        before = [self.formed(name) for name in ("two", "three")]
        self.fabric.part(["coordinator", "one"], ["two", "three"])
        self.person.wait_for_steps("parted", FEW_STEPS, among=lambda workers: workers == {"one"})
        self.assertEqual(before, [self.formed(name) for name in ("two", "three")], "two of three are no run of their own")
        self.heal()

    def test_32_members_that_do_not_hear_each_other_but_the_coordinator_do_not_stop_the_run(self) -> None:
        self.fabric.part(["two"], ["three"])
        self.person.wait_for_steps("parted", FEW_STEPS)
        self.heal()

    def test_33_a_coordinator_that_is_cut_off_finds_its_workers_again(self) -> None:
        self.fabric.part(["coordinator"], WORKERS)
        dropped = self.fabric.dropped
        wait_until("packets are dropped", lambda: self.fabric.dropped > dropped + 20)
        wait_until("its workers are silent for too long", lambda: not self.person.run("parted").get("workers"))
        self.heal()

    def test_40_after_all_partitions_the_weights_are_the_same_and_there_was_one_line_of_generations(self) -> None:
        self.fabric.delay_s = 0.0
        self.ends_as_alone("parted", LONG)
        generations = self.person.status("parted")["generations"]
        self.assertGreaterEqual(len(generations), 7)
        numbers = [one["generation"] for one in generations]
        self.assertEqual(numbers, sorted(set(numbers)), "one after the other")
        members = {one["generation"]: set(one["members"]) for one in generations}
        for name in WORKERS:
            self.assertTrue(self.formed(name))
            for generation, world_size in self.formed(name):
                self.assertIn(name, members[generation])
                self.assertEqual(world_size, len(members[generation]), f"{name} was in another generation {generation}")

    def formed(self, name: str) -> list[tuple[int, int]]:
        """By a worker's own word: the generations of the parted run that it was in, and their sizes."""
        log = (self.logs / name).read_text()
        return [(int(generation), int(size)) for generation, size in FORMED.findall(log)]

    def heal(self) -> None:
        self.fabric.heal()
        self.person.wait_for_steps("parted", FEW_STEPS, among=lambda workers: workers == set(WORKERS))
