from __future__ import annotations

import random
import statistics
import unittest

from chat_load.latency import Latency, percentile


class PercentileTest(unittest.TestCase):
    def test_known_values(self) -> None:
        self.assertEqual(percentile([4.0, 1.0, 3.0, 2.0], 50), 2.5)
        self.assertEqual(percentile([1.0, 2.0, 3.0, 4.0, 5.0], 95), 4.8)
        self.assertEqual(percentile([7.0], 95), 7.0)

    def test_ends_are_the_extremes(self) -> None:
        values = [3.0, 9.0, 1.0]
        self.assertEqual((percentile(values, 0), percentile(values, 100)), (1.0, 9.0))

    def test_agrees_with_the_standard_library(self) -> None:
        rng = random.Random(5)
        for count in range(2, 40):
            values = [rng.expovariate(1.0) for _ in range(count)]
            cuts = statistics.quantiles(values, n=100, method="inclusive")
            for percent in (1, 5, 50, 95, 99):
                self.assertAlmostEqual(percentile(values, percent), cuts[percent - 1])

    def test_leaves_the_values_as_they_are(self) -> None:
        values = [2.0, 1.0]
        percentile(values, 50)
        self.assertEqual(values, [2.0, 1.0])

    def test_refuses_nonsense(self) -> None:
        with self.assertRaises(ValueError):
            percentile([], 50)
        with self.assertRaises(ValueError):
            percentile([1.0], 101)


class LatencyTest(unittest.TestCase):
    def test_of_nothing_says_nothing(self) -> None:
        self.assertEqual(Latency.of([]), Latency(0, None, None, None, None))

    def test_summary(self) -> None:
        found = Latency.of([float(value) for value in range(101)])
        self.assertEqual((found.count, found.p50, found.p95, found.p99, found.worst), (101, 50.0, 95.0, 99.0, 100.0))


if __name__ == "__main__":
    unittest.main()
