"""The arithmetic of the bench: wrong here, and every table is."""

import unittest

from .figures import Measure, intervals, median, steady, whole_run

SPEED = Measure("images/s", more_is_better=True)
TIME = Measure("s", more_is_better=False)
COST = Measure("MB", more_is_better=False, ratio="cost")


class Figures(unittest.TestCase):
    def test_the_median_is_the_middle_one_or_between_both(self):
        self.assertEqual(median([9, 1, 5]), 5)
        self.assertEqual(median([9, 1, 5, 6]), 5.5)
        with self.assertRaises(ValueError):
            median([])

    def test_steps_before_the_warm_up_is_over_do_not_count(self):
        # Two slow steps, then steps of 1 s.
        self.assertEqual(intervals([0, 9, 10, 11, 12]), [9, 1, 1, 1])
        self.assertEqual(steady([0, 9, 10, 11, 12], warmup=2), [1, 1, 1])
        # Without a warm-up the first step still does not: where it began is not known.
        self.assertEqual(steady([5, 6, 8], warmup=0), [1, 2])
        self.assertEqual(len(steady(range(25), warmup=5)), 20)

    def test_a_run_is_what_is_outside_plus_its_epochs(self):
        self.assertEqual(whole_run(3, [10], 100), 3 + 100 * 10)
        # The first epoch has compiling in it, the later ones do not.
        self.assertEqual(whole_run(3, [70, 80], 100), 3 + 70 + 99 * 10)
        self.assertEqual(whole_run(3, [10, 21, 31, 43], 4), 3 + 10 + 3 * 11)

    def test_a_run_that_was_measured_whole_is_itself(self):
        self.assertEqual(whole_run(2, [10, 20, 30], 3), 2 + 30)

    def test_speed_says_how_many_times_as_good_lockstep_is(self):
        self.assertEqual(SPEED.compare(300, 200), 1.5)
        self.assertEqual(TIME.compare(200, 300), 1.5)
        self.assertTrue(SPEED.is_met(1.15, 1.15))
        self.assertFalse(TIME.is_met(1.14, 1.15))

    def test_a_cost_is_a_multiple_and_must_stay_below_the_goal(self):
        self.assertEqual(COST.compare(110, 100), 1.1)
        self.assertTrue(COST.is_met(1.1, 1.1))
        self.assertFalse(COST.is_met(1.11, 1.1))

    def test_the_best_is_the_most_or_the_least(self):
        self.assertEqual(SPEED.best({"a": 1, "b": 2}), "b")
        self.assertEqual(TIME.best({"a": 1, "b": 2}), "a")

    def test_only_those_far_behind_have_no_chance(self):
        self.assertTrue(SPEED.has_no_chance(79, 100))
        self.assertFalse(SPEED.has_no_chance(81, 100))
        self.assertTrue(TIME.has_no_chance(126, 100))
        self.assertFalse(TIME.has_no_chance(124, 100))
        self.assertFalse(TIME.has_no_chance(100, 100))


if __name__ == "__main__":
    unittest.main()
