"""A network between hosts that are network namespaces: every packet passes through here, is late, is lost, or is cut off.

Each host has one device (a TUN device, whose other end is a file here), and no way to any other but this. Kernels without
`netem` can do no such thing by themselves.
"""

import fcntl
import heapq
import itertools
import os
import random
import selectors
import shutil
import signal
import struct
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from host import called

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
# Of the addresses that are set aside for documentation: nobody's.
ADDRESSES = "192.0.2.{}"
# As on loopback, and as `netem` sees what a device cuts up only later. A loss is one of such a packet.
MTU = 65_000


def missing() -> str | None:
    """Why there can be no such hosts here."""
    for tool in ("ip", "unshare"):
        if not shutil.which(tool):
            return f"{tool} is not installed"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun cannot be opened"
    made = subprocess.run(["unshare", "--net", "--pid", "--mount", "--fork", "true"], capture_output=True)
    return None if made.returncode == 0 else "this user may not make network namespaces (CAP_NET_ADMIN, CAP_SYS_ADMIN)"


@dataclass
class Host:
    name: str
    address: str
    namespace: str
    wire: int
    processes: list[subprocess.Popen] = field(default_factory=list)

    def inside(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *command]

    def starts(self, *command: str, log: Path, env: dict[str, str]) -> subprocess.Popen:
        """A process among none but its own: it sees no other host's memory."""
        apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with log.open("ab") as out:
            process = subprocess.Popen(self.inside(*apart, *command), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       env={**os.environ, **env})
        self.processes.append(process)
        return process


class Fabric:
    def __init__(self, names: list[str]) -> None:
        # Of one direction.
        self.delay_s = 0.0
        # Of one packet.
        self.loss = 0.0
        # Pairs that do not hear each other.
        self.cut: set[frozenset[str]] = set()
        self.passed = 0
        self.lost = 0
        self.dropped = 0
        self.hosts: dict[str, Host] = {}
        for number, name in enumerate(names, start=1):
            self.hosts[name] = self.connect(name, number)
        self.by_address = {host.address: host for host in self.hosts.values()}
        self.ending = threading.Event()
        self.carrier = threading.Thread(target=self.carry, name="fabric", daemon=True)
        self.carrier.start()

    def connect(self, name: str, number: int) -> Host:
        wire = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        device, namespace = f"ls{os.getpid()}-{number}"[:15], f"lockstep-{os.getpid()}-{name}"
        fcntl.ioctl(wire, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
        host = Host(name, ADDRESSES.format(number), namespace, wire)
        called(["ip", "netns", "add", namespace])
        called(["ip", "link", "set", device, "netns", namespace])
        called(host.inside("ip", "link", "set", "lo", "up"))
        called(host.inside("ip", "address", "add", f"{host.address}/24", "dev", device))
        called(host.inside("ip", "link", "set", device, "mtu", str(MTU), "up"))
        return host

    def part(self, *sides: list[str]) -> None:
        """Hosts on different sides do not hear each other from now on."""
        pairs = itertools.combinations(sides, 2)
        self.cut = {frozenset((one, other)) for here, there in pairs for one in here for other in there}

    def heal(self) -> None:
        self.cut = set()

    def carry(self) -> None:
        drawn = random.Random(1)
        selector = selectors.DefaultSelector()
        for host in self.hosts.values():
            selector.register(host.wire, selectors.EVENT_READ, host)
        under_way: list[tuple[float, int, Host, bytes]] = []
        order = itertools.count()
        while not self.ending.is_set():
            wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else 0.1
            for key, _ in selector.select(min(wait, 0.1)):
                packet = os.read(key.fd, MTU + 100)
                to = self.by_address.get(".".join(map(str, packet[16:20]))) if packet[0] >> 4 == 4 else None
                if to is None:
                    continue
                if frozenset((key.data.name, to.name)) in self.cut:
                    self.dropped += 1
                elif drawn.random() < self.loss:
                    self.lost += 1
                else:
                    heapq.heappush(under_way, (time.monotonic() + self.delay_s, next(order), to, packet))
            now = time.monotonic()
            while under_way and under_way[0][0] <= now:
                _, _, to, packet = heapq.heappop(under_way)
                self.deliver(to, packet)
        selector.close()

    def deliver(self, to: Host, packet: bytes) -> None:
        try:
            os.write(to.wire, packet)
            self.passed += 1
        except OSError:
            # A device that is full or down, as devices are.
            self.dropped += 1

    def end(self) -> None:
        for host in self.hosts.values():
            for process in host.processes:
                process.send_signal(signal.SIGKILL)
                process.wait()
        self.ending.set()
        self.carrier.join()
        for host in self.hosts.values():
            os.close(host.wire)
            called(["ip", "netns", "delete", host.namespace])
