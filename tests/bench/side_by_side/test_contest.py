"""Who is measured when, who is compared with whom, and what the table says of it."""

import sys
import unittest

from . import report
from .contest import Contest, Contestant, Work
from .figures import Measure
from .processes import Failed, Process, wait

SPEED = Measure("images/s", more_is_better=True)
BOTH = ("lockstep", "pytorch")


class Contests(unittest.TestCase):
    def setUp(self):
        self.done = []

    def contestant(self, name, side, kind, figures):
        figures = iter(figures)

        def do():
            self.done.append(name)
            figure = next(figures)
            if figure is None:
                raise Failed(f"{name} broke\nand more")
            return figure, {"steps": 3}

        return Contestant(name, side, kind, do)

    def contest(self, ours=(300, 320, 310), a=(200, 210, 190), b=(195, 260, 220), c=(250, 260, 255)):
        everybody = (
            self.contestant("Lockstep", "lockstep", "ours", ours),
            self.contestant("a", "pytorch", "eager", a),
            self.contestant("b", "pytorch", "eager", b),
            self.contestant("c", "pytorch", "compiled", c),
        )
        goals = {"eager": 1.15, "compiled": 1.25, "best": 1.2}
        return Contest(Work("work", "a work", SPEED, goals, everybody))

    def rounds(self, contest, sides=BOTH, count=3):
        for number in range(count):
            contest.round(number, sides, lambda *_: None)

    def test_all_take_turns_and_every_other_round_goes_backwards(self):
        self.rounds(self.contest(), count=2)
        self.assertEqual(self.done, ["Lockstep", "a", "b", "c", "c", "b", "a", "Lockstep"])

    def test_the_median_is_compared_with_the_best_median_of_each_kind(self):
        contest = self.contest()
        self.rounds(contest)
        found = {row["kind"]: row for row in contest.ratios()}
        # Not with b's best round, 260.
        self.assertEqual((found["eager"]["against"], found["eager"]["ratio"]), ("b", 310 / 220))
        self.assertEqual((found["compiled"]["against"], found["compiled"]["met"]), ("c", False))
        self.assertEqual((found["best"]["against"], found["best"]["met"]), ("c", True))

    def test_who_is_hopeless_is_measured_once(self):
        self.rounds(self.contest(b=(100,)))
        self.assertEqual([self.done.count(name) for name in ("Lockstep", "a", "b", "c")], [3, 3, 1, 3])

    def test_one_kind_does_not_make_another_hopeless(self):
        contest = self.contest(c=(900, 900, 900))
        self.rounds(contest)
        self.assertEqual(self.done.count("a"), 3)

    def test_who_breaks_is_named_and_the_others_go_on(self):
        contest = self.contest(c=(None,))
        self.rounds(contest)
        self.assertEqual([row["kind"] for row in contest.ratios()], ["eager", "best"])
        self.assertIn("failed: c broke", report.table(self.report_of(contest)))

    def test_one_side_alone_has_figures_and_no_ratio(self):
        contest = self.contest()
        self.rounds(contest, sides=("pytorch",))
        self.assertNotIn("Lockstep", self.done)
        self.assertEqual(contest.ratios(), [])

    def test_the_table_shows_medians_ratios_and_goals(self):
        contest = self.contest()
        self.rounds(contest)
        table = report.table(self.report_of(contest))
        self.assertRegex(table, r"Lockstep +310\.0 +300\.0 +320\.0 +3\n")
        self.assertRegex(table, r"ratio to the best \(b\) +1\.41x  goal >= 1\.15x: met")
        self.assertRegex(table, r"ratio to the best \(c\) +1\.22x  goal >= 1\.25x: missed")

    def report_of(self, contest):
        machine = {"cpu": "a processor", "cores": 2, "kernel": "6.1"}
        return {"machine": machine, "commit": "abc", "quick": False, "works": {"work": contest.report()}}


class Processes(unittest.TestCase):
    def test_lines_have_their_times_and_the_peak_is_seen(self):
        # It ends when it is told to, not before it was looked at.
        process = Process([sys.executable, "-c", "import signal; print('one', flush=True); signal.sigwait([signal.SIGINT])"])
        self.addCleanup(process.kill)
        self.assertTrue(wait([process], until=lambda: process.lines and process.peak_bytes > 1_000_000, limit=30))
        self.assertFalse(process.child.poll())
        process.kill()
        at, line = process.lines[0]
        self.assertEqual(line, "one\n")
        self.assertGreater(at, process.began)

    def test_a_process_that_fails_is_told_with_its_last_words(self):
        process = Process([sys.executable, "-c", "raise SystemExit('no good')"])
        self.addCleanup(process.kill)
        with self.assertRaisesRegex(Failed, "(?s)ended with 1.*no good"):
            wait([process])


if __name__ == "__main__":
    unittest.main()
