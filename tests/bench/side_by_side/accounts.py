"""What runs tell of themselves, read: Lockstep's step log, events and tables, and the reference program's lines."""

import csv
import io
import json
from datetime import datetime


def step_times(log):
    """Ends of steps, in seconds since 1970, from a worker's log at level debug: `{step: time}`.

    A line reads `2025-01-31T10:00:00.123456Z DEBUG …{…}: MODULE: step step=12 loss=2.3`.
    """
    times = {}
    for line in complete_lines(log):
        _, found, rest = line.partition(": step step=")
        if found:
            times[int(rest.split()[0])] = seconds(line.split()[0])
    return times


def seconds(stamp):
    """Seconds since 1970 of an RFC 3339 time."""
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def events(text, kind):
    """The events of one kind in the text of `events.jsonl`."""
    found = (json.loads(line) for line in complete_lines(text))
    return [event for event in found if event["event"] == kind]


def worker_pids(text):
    """Process ids of the newest generation's members, by name, from the text of `events.jsonl`."""
    began = events(text, "generation_began")
    return {member["worker"]: member["pid"] for member in began[-1]["members"]} if began else {}


def results(text):
    """The rows of `results.csv`."""
    return list(csv.DictReader(io.StringIO(text)))


def complete_lines(text):
    """Another process may be in the middle of writing the last one."""
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def json_lines(lines):
    """`(time, object)` of those `(time, line)` that are JSON objects; libraries may print other things between."""
    found = []
    for time, line in lines:
        if line.startswith("{"):
            found.append((time, json.loads(line)))
    return found
