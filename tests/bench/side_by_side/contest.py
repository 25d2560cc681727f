"""A work is done by several contestants, in several rounds, in turns; medians are compared."""

from dataclasses import dataclass, field
from typing import Callable

from . import host
from .figures import Measure, median
from .processes import Failed


@dataclass(frozen=True)
class Contestant:
    name: str
    # "lockstep" or "pytorch": whose program it is.
    side: str
    # "ours" is compared; others are compared with, by kind. "beside" is only shown.
    kind: str
    # Does the work once and returns the figure, and whatever else is worth keeping.
    do: Callable[[], tuple[float, dict]]


@dataclass(frozen=True)
class Work:
    name: str
    title: str
    measure: Measure
    # By kind of those compared with; "best" is the best of all of them.
    goals: dict
    contestants: tuple


@dataclass
class Contest:
    """The rounds of one work."""

    work: Work
    figures: dict = field(default_factory=dict)
    raw: list = field(default_factory=list)
    out: set = field(default_factory=set)

    def round(self, number, sides, tell):
        """Lets everybody who is still in do the work once; every other round in the opposite order."""
        order = [one for one in self.work.contestants if one.side in sides and one.name not in self.out]
        for one in order if number % 2 == 0 else reversed(order):
            before = host.Times.now()
            try:
                figure, details = one.do()
            except Failed as failure:
                self.out.add(one.name)
                self.raw.append({"round": number, "contestant": one.name, "failed": str(failure)})
                tell(one, None, str(failure))
                continue
            self.figures.setdefault(one.name, []).append(figure)
            stolen = before.stolen_until(host.Times.now())
            self.raw.append({"round": number, "contestant": one.name, "figure": figure, "stolen": stolen, **details})
            tell(one, figure, None)
        self.leave_out_hopeless()

    def leave_out_hopeless(self):
        """Variants far behind the best one of their kind after a round are not measured again."""
        measure, medians = self.work.measure, self.medians()
        for kind in {one.kind for one in self.work.contestants} - {"ours", "beside"}:
            names = [name for name in medians if self.contestant(name).kind == kind]
            if names:
                best = medians[measure.best({name: medians[name] for name in names})]
                self.out.update(name for name in names if measure.has_no_chance(medians[name], best))

    def contestant(self, name):
        return next(one for one in self.work.contestants if one.name == name)

    def medians(self):
        return {name: median(figures) for name, figures in self.figures.items()}

    def ratios(self):
        """A row per goal whose two sides were measured."""
        measure, medians = self.work.measure, self.medians()
        ours = [name for name in medians if self.contestant(name).kind == "ours"]
        rows = []
        for kind, goal in self.work.goals.items():
            compared = {
                name: figure
                for name, figure in medians.items()
                if self.contestant(name).kind == kind
                or (kind == "best" and self.contestant(name).kind not in ("ours", "beside"))
            }
            if ours and compared:
                best = measure.best(compared)
                ratio = measure.compare(medians[ours[0]], compared[best])
                met = measure.is_met(ratio, goal)
                rows.append({"kind": kind, "against": best, "ratio": ratio, "goal": goal, "met": met})
        return rows

    def report(self):
        measure = self.work.measure
        return {
            "title": self.work.title,
            "unit": measure.unit,
            "more_is_better": measure.more_is_better,
            "ratio": measure.ratio,
            "rounds": self.figures,
            "medians": self.medians(),
            "ratios": self.ratios(),
            "left_out": sorted(self.out),
            "raw": self.raw,
        }
