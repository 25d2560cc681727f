"""Numbers out of lists of numbers: medians, ratios, and whether a goal is met."""

from dataclasses import dataclass


def median(numbers):
    """The middle one; of an even number the mean of both."""
    ordered = sorted(numbers)
    if not ordered:
        raise ValueError("no numbers, no median")
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def intervals(times):
    """From each time to the next one."""
    return [after - before for before, after in zip(times, times[1:])]


def steady(times, warmup):
    """Seconds of each step that counts. `times` are the ends of steps; the first `warmup` do not count, nor does the first
    of all, whose start is not known."""
    return intervals(times)[max(warmup - 1, 0) :]


def whole_run(outside, epochs_done, epochs):
    """Seconds that a run of `epochs` takes when only its first few were measured: `outside` is what comes before the
    first and after the last epoch, `epochs_done` are the seconds from the first one's start to the end of each."""
    first, *later = [epochs_done[0], *intervals(epochs_done)]
    return outside + first + (epochs - 1) * (median(later) if later else first)


@dataclass(frozen=True)
class Measure:
    """What is measured, and how Lockstep's figure is set against another one."""

    unit: str
    more_is_better: bool
    # "speed": how many times as good Lockstep is, to be at least the goal. "cost": Lockstep's figure as a multiple of the
    # other one, to be at most the goal.
    ratio: str = "speed"

    def best(self, figures):
        """The name of the best of `figures` (by name)."""
        return (max if self.more_is_better else min)(figures, key=figures.get)

    def compare(self, ours, theirs):
        if self.ratio == "cost":
            return ours / theirs
        return ours / theirs if self.more_is_better else theirs / ours

    def is_met(self, ratio, goal):
        return ratio <= goal if self.ratio == "cost" else ratio >= goal

    def has_no_chance(self, figure, best):
        """A first figure this far behind the best one is not measured again: noise does not make up for it."""
        return self.best({"it": figure, "best": best}) == "best" and max(figure / best, best / figure) > FAR_BEHIND


# Rounds on a quiet machine differ by a few per cent.
FAR_BEHIND = 1.25
