"""What was found: as a table for people, and as JSON with everything that it follows from."""

import json
import os
import platform
import re
import subprocess

from .inputs import REPOSITORY

# Above it, something else is computing on the machine.
QUIET_LOAD = 0.5
# A figure from such a measurement tells of the neighbours too.
MUCH_STOLEN = 0.02


def machine():
    with open("/proc/cpuinfo") as file:
        cpu = re.search(r"^model name\s*:\s*(.*)$", file.read(), re.MULTILINE)
    with open("/proc/meminfo") as file:
        memory = int(re.search(r"^MemTotal:\s+(\d+) kB$", file.read(), re.MULTILINE)[1])
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e6, 1),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
    }


def commit():
    """Of the repository, with a mark where it was changed since; none outside one."""
    ask = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    found = subprocess.run(ask, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def write(path, report):
    """Whole or not at all: a later measurement may be cut short."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(report, indent=1) + "\n")
    aside.rename(path)


def table(report):
    """All works, one below the other."""
    machine = report["machine"]
    lines = [f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; commit {report['commit']}"]
    if report["quick"]:
        lines.append("--quick: this shows that everything runs, and measures nothing")
    for name, work in report["works"].items():
        lines += ["", f"{name}: {work['title']}", *contestants(work), *map(verdict(work), work["ratios"])]
    return "\n".join(lines)


def contestants(work):
    better = "more" if work["more_is_better"] else "less"
    yield f"  {work['unit'] + ', ' + better + ' is better':<44}{'median':>10}{'least':>10}{'most':>10}{'rounds':>8}"
    for name, figures in work["rounds"].items():
        numbers = (work["medians"][name], min(figures), max(figures))
        yield f"  {name:<44}" + "".join(f"{number(it):>10}" for it in numbers) + f"{len(figures):>8}"
    for row in work["raw"]:
        if "failed" in row:
            yield f"  {row['contestant']:<44}failed: {row['failed'].splitlines()[0]}"
        elif row.get("stolen", 0) > MUCH_STOLEN:
            yield f"  {row['contestant']:<44}round {row['round'] + 1}: the host took {row['stolen']:.0%} of the cores' time"


def verdict(work):
    sign = "<=" if work["ratio"] == "cost" else ">="

    def line(row):
        what = f"ratio to the best ({row['against']})" if row["kind"] != "fewer" else f"ratio to {row['against']}"
        return f"  {what:<54}{row['ratio']:>9.2f}x  goal {sign} {row['goal']:.2f}x: {'met' if row['met'] else 'missed'}"

    return line


def number(value):
    """Four digits that count."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}"
