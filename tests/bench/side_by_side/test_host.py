import tempfile
import unittest
from pathlib import Path

from .host import Times


class StolenTime(unittest.TestCase):
    def read(self, line):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stat"
            path.write_text(line + "\ncpu0 1 2 3\n")
            return Times.now(path)

    def test_is_a_share_of_all_cores_time(self):
        before = self.read("cpu  100 0 20 30 0 0 0 6 5 0")
        after = self.read("cpu  180 0 30 34 0 0 0 12 5 0")
        self.assertEqual(before.stolen_until(after), 0.06)

    def test_is_none_within_a_tick(self):
        times = self.read("cpu  100 0 20 30 0 0 0 6 5 0")
        self.assertEqual(times.stolen_until(times), 0.0)


if __name__ == "__main__":
    unittest.main()
