# SPDX-License-Identifier: LGPL-2.1-or-later
"""Figures out of time series. Pure: rows in, numbers out; no lab, no clock.

A series is a list of (time, seconds, value) where VALUE held on average for the
SECONDS that end at TIME.
"""

import statistics

median = statistics.median


def from_rows(rows, pick):
    """Series of PICK(row) out of a LinkSampler's rows; None is left out."""
    series = []
    for before, row in zip(rows, rows[1:]):
        value = pick(row)
        if value is not None:
            series.append((row["time"], row["time"] - before["time"], value))
    return series


def mean(series, start, end):
    """Mean of what lies wholly within START..END; None when nothing does."""
    inside = [(seconds, value) for time, seconds, value in series
              if time - seconds >= start and time <= end]
    total = sum(seconds for seconds, _ in inside)
    return sum(seconds * value for seconds, value in inside) / total if total else None


def amount(series, start, end):
    """Integral over START..END; a sample that is partly inside counts partly."""
    total = 0.0
    for time, seconds, value in series:
        inside = min(time, end) - max(time - seconds, start)
        total += value * max(inside, 0)
    return total


def samples(series, start, end, length=1.0):
    """Mean of each whole LENGTH between START and END: [(end of it, mean)]."""
    result = []
    count = int((end - start) / length + 1e-9)
    for number in range(count):
        begin = start + number * length
        result.append((begin + length, amount(series, begin, begin + length) / length))
    return result


def seconds_below(series, floor, start, end, length=1.0):
    """Seconds of START..END in which the mean of each LENGTH was below FLOOR."""
    return length * sum(1 for _, value in samples(series, start, end, length) if value < floor)


def medians(results, keys):
    """Median of each of KEYS over RESULTS (dictionaries); None where all are unknown."""
    answer = {}
    for key in keys:
        values = [result[key] for result in results if result.get(key) is not None]
        answer[key] = median(values) if values else None
    return answer
