"""What the machine's host did meanwhile: on a virtual machine, time that another one got counts in every wall clock."""

from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Times:
    """Of all cores since the machine started, in ticks."""

    stolen: int
    total: int

    @staticmethod
    def now(stat=STAT):
        # user nice system idle iowait irq softirq steal; guests are counted in user.
        ticks = [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1:9]]
        return Times(ticks[7], sum(ticks))

    def stolen_until(self, later):
        """The share of all cores' time, 0 to 1."""
        total = later.total - self.total
        return round((later.stolen - self.stolen) / total, 4) if total else 0.0
