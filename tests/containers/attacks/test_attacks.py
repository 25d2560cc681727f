"""All ports of a cluster under attack by turns while it trains: its speed, its weights, and what it says of it.

Workers have one core, coordinator and strangers the others, as if those came from elsewhere.

    LOCKSTEP_SLOWED_MAX       how much slower training may be under attack, as a ratio (default 1.25: machines of tests are noisy)
    LOCKSTEP_ATTACKED_EPOCHS  how long it is trained (default 16; for a figure to tell others more, and nothing else running)
"""

import asyncio
import os
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import alone
from client import Client
from host import ROOT, binaries, called, wait_until

from .strangers import ATTACKS, CLIENT_HELLO, HTTP1, Port, end

EPOCHS = int(os.environ.get("LOCKSTEP_ATTACKED_EPOCHS", "16"))
RECIPE = [str(ROOT / "deploy/recipes/demo.toml"), "--set", "shards=2", "--set", "data.train=300", "--set", "data.test=100",
          "--set", f"epochs={EPOCHS}", "--set", f"schedule.t_max={EPOCHS}"]
SLOWED_MAX = float(os.environ.get("LOCKSTEP_SLOWED_MAX", "1.25"))
WORKERS = ["one", "two"]
CORES = sorted(os.sched_getaffinity(0))
# So long it is quiet, and so long attacked, by turns: by epochs, as some machines take ten times as long for one as others.
TURN_EPOCHS = 3
TRAINED = re.compile(r"^(\S+Z) .*: epoch trained epoch=\d+ .*train_ms=(\d+)", re.MULTILINE)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Strangers:
    """All of them at all ports, in a thread of their own, by turns with quiet."""

    def __init__(self, ports: list[Port], trained: Callable[[], int]) -> None:
        self.ports = ports
        # How many epochs there are by now.
        self.trained = trained
        # Begin and end of each attack.
        self.turns: list[tuple[float, float]] = []
        self.ending = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.attack()), name="strangers")
        self.thread.start()

    async def attack(self) -> None:
        os.sched_setaffinity(0, CORES[1:] or CORES)  # this thread
        while not self.ending.is_set():
            began = time.time()
            attackers = [asyncio.create_task(attack(port)) for port in self.ports for attack in ATTACKS.values()]
            await self.turn()
            await end(attackers)
            self.turns.append((began, time.time()))
            await self.turn()

    async def turn(self) -> None:
        until = self.trained() + TURN_EPOCHS
        while self.trained() < until and not self.ending.is_set():
            await asyncio.sleep(0.05)

    def end(self) -> None:
        self.ending.set()
        self.thread.join()

    def attacked(self, began: float, ended: float) -> bool | None:
        """Whether an attack was under way all the time; none where only for a part of it."""
        overlap = sum(max(0.0, min(ended, until) - max(began, since)) for since, until in self.turns)
        share = overlap / (ended - began)
        return True if share > 0.9 else False if share < 0.1 else None


@unittest.skipUnless(shutil.which("taskset"), "taskset is not installed")
class Attacks(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.logs = ROOT / "target/containers/attacks"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.listen, self.http = free_port(), free_port()
        self.authority = self.folder / "authority"
        lockstep = str(binaries() / "lockstep")
        called([lockstep, "certs", "init", "--dir", str(self.authority), "--host", "localhost"])
        called([lockstep, "certs", "issue", "user", "ada", "--role", "admin", "--dir", str(self.authority)])
        self.start("coordinator", lockstep, "serve", "--listen", f"127.0.0.1:{self.listen}", "--tls-dir", str(self.authority),
                   "--http", f"127.0.0.1:{self.http}", "--home", str(self.folder / "coordinator"))
        url, ca = f"https://localhost:{self.listen}", str(self.authority / "ca.pem")
        for name in WORKERS:
            called([lockstep, "certs", "issue", "worker", name, "--dir", str(self.authority)])
            self.start(name, str(binaries() / "lockstep-worker"), "join", url, "--name", name, "--device", "cpu", "--ca", ca,
                       "--cert", str(self.authority / f"worker-{name}.pem"), "--key", str(self.authority / f"worker-{name}.key"),
                       "--cache", str(self.folder / f"cache-{name}"))
        self.person = Client([lockstep], lambda: {
            "LOCKSTEP_COORDINATOR": url, "LOCKSTEP_CA": ca, "XDG_CONFIG_HOME": str(self.folder / "nowhere"),
            "LOCKSTEP_CERT": str(self.authority / "user-ada.pem"), "LOCKSTEP_KEY": str(self.authority / "user-ada.key"),
        })

    def start(self, name: str, *command: str) -> None:
        cores = [str(core) for core in (CORES[:1] if name in WORKERS else CORES[1:] or CORES)]
        with (self.logs / name).open("wb") as log:
            process = subprocess.Popen(["taskset", "--cpu-list", ",".join(cores), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.addCleanup(lambda: (process.kill(), process.wait()))

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=20) as answer:
            return answer.read().decode()

    def data_ports(self) -> list[int]:
        """Where the workers listen to each other, by their own word."""
        ready = re.compile(r': ready address="127\.0\.0\.1:(\d+)"')
        found = [ready.findall((self.logs / name).read_text()) for name in WORKERS]
        return [int(ports[-1]) for ports in found] if all(found) else []

    def epochs(self) -> list[tuple[str, str]]:
        """When each ended, and how many milliseconds it took, by a worker's own word."""
        return TRAINED.findall((self.logs / "one").read_text())

    def test_strangers_at_every_port_change_nothing(self) -> None:
        wait_until("the coordinator answers", lambda: self.person.asks("ps").returncode == 0)
        self.person.wait_for_free_workers(2)
        self.person.told("submit", *RECIPE, "--name", "attacked", "--workers", "2", "--detach")
        self.person.wait_for_steps("attacked", 8)
        data_ports = wait_until("the workers tell their ports", self.data_ports)
        ports = [Port(self.listen, CLIENT_HELLO, tls=True), Port(self.http, HTTP1)]
        strangers = Strangers([*ports, *[Port(number, bytes(512)) for number in data_ports]], lambda: len(self.epochs()))
        try:
            self.person.told("watch", "attacked", patience_s=900)
        finally:
            strangers.end()
        self.assertEqual(self.person.run("attacked")["state"], "done")
        self.speed(strangers)
        self.said_so()
        status = self.person.status("attacked")
        self.assertEqual((status["lost"], len(status["generations"])), ([], 1), "no worker was disturbed")
        alone.assert_the_same(self, self.folder / "coordinator/runs/attacked", alone.train(RECIPE, 2, self.folder / "home"))

    def speed(self, strangers: Strangers) -> None:
        """Of an epoch's training, attacked and not, in the same run."""
        times: dict[bool | None, list[int]] = {True: [], False: [], None: []}
        for ended, train_ms in self.epochs():
            at = datetime.fromisoformat(ended).timestamp()
            times[strangers.attacked(at - int(train_ms) / 1000, at)].append(int(train_ms))
        attacked, quiet = statistics.median(times[True]), statistics.median(times[False])
        print(f"an epoch in {attacked:.0f} ms under attack, {quiet:.0f} ms without: {attacked / quiet:.3f} "
              f"({len(times[True])} and {len(times[False])} epochs, medians)", flush=True)
        self.assertGreaterEqual(min(len(times[True]), len(times[False])), TURN_EPOCHS)
        self.assertLess(attacked / quiet, SLOWED_MAX)

    def said_so(self) -> None:
        refused = [line for line in self.metrics().splitlines() if "refused" in line and not line.startswith("#")]
        print("\n".join(refused), flush=True)
        self.assertGreater(sum(float(line.rsplit(" ", 1)[1]) for line in refused), 10)
        coordinator = (self.logs / "coordinator").read_text()
        self.assertIn("refused", coordinator)
        self.assertLess(len(coordinator), 1 << 20, "a flood of refusals is no flood of words")


if __name__ == "__main__":
    unittest.main()
