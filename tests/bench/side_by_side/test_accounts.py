"""What is read from logs and tables is what stands there."""

import unittest

from . import accounts
from .processes import parse_peak

LOG = """\
2025-11-25T22:00:00.000000Z  INFO worker{name=worker-0 generation=1}: lockstep_worker::trainer: formed
2025-11-25T22:00:01.250000Z DEBUG worker{name=worker-0 generation=1}: lockstep_worker::trainer::generation: step step=1 loss=2.3
2025-11-25T22:00:01.500000Z DEBUG worker{name=worker-0 generation=1}: lockstep_worker::trainer::generation: stepping step=1 step_ms=1.0
2025-11-25T22:00:03.000000Z DEBUG worker{name=worker-0 generation=1}: lockstep_worker::trainer::generation: step step=2 loss=2.2
2025-11-25T22:00:04.000000Z DEBUG worker{name=worker-0 generation=1}: lockstep_worker::trainer::generation: step step=3"""

EVENTS = """\
{"at_ms":1,"event":"generation_began","generation":1,"members":[{"worker":"worker-0","pid":11},{"worker":"worker-1","pid":12}]}
{"at_ms":2,"event":"epoch_ended","epoch":0}
{"at_ms":3,"event":"generation_began","generation":2,"members":[{"worker":"worker-1","pid":12}]}
{"at_ms":4,"event":"generat"""


class Accounts(unittest.TestCase):
    def test_steps_have_the_times_of_their_lines_and_half_a_line_is_none(self):
        times = accounts.step_times(LOG)
        self.assertEqual(sorted(times), [1, 2])
        self.assertAlmostEqual(times[2] - times[1], 1.75)

    def test_times_are_read_as_utc(self):
        self.assertEqual(accounts.seconds("1970-01-01T00:01:00.500000Z"), 60.5)

    def test_the_newest_generation_has_the_workers(self):
        self.assertEqual(accounts.worker_pids(EVENTS), {"worker-1": 12})
        self.assertEqual(accounts.worker_pids(""), {})
        self.assertEqual([event["epoch"] for event in accounts.events(EVENTS, "epoch_ended")], [0])

    def test_rows_are_known_by_their_columns(self):
        rows = accounts.results("epoch,train/count,test/acc_top1\n0,500,0.25\n1,500,0.5\n")
        self.assertEqual([float(row["test/acc_top1"]) for row in rows], [0.25, 0.5])

    def test_only_objects_count_among_what_a_program_prints(self):
        lines = [(1.0, "a warning of some library\n"), (2.0, '{"step_ms": 5}\n')]
        self.assertEqual(accounts.json_lines(lines), [(2.0, {"step_ms": 5})])

    def test_peak_memory_is_the_high_water_mark(self):
        status = "Name:\tx\nVmPeak:\t  9000 kB\nVmHWM:\t  1234 kB\nVmRSS:\t 1000 kB\n"
        self.assertEqual(parse_peak(status), 1234 * 1024)
        self.assertEqual(parse_peak(""), 0)


if __name__ == "__main__":
    unittest.main()
