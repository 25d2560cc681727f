"""Runs the checks, all or those that are named, and tells how each went. See README.md one folder up."""

import json
import sys
import time

from . import correctness, throughput
from .machine import Machine
from .training import Failed

CHECKS = {
    "losses": correctness.losses,
    "exact": correctness.exact,
    "exact-bf16": correctness.exact_bf16,
    "shared": correctness.shared,
    "fast": correctness.fast,
    "kill": correctness.kill,
    "speed-32": throughput.small,
    "speed-224": throughput.large,
    "cost-of-exact": throughput.cost_of_exact,
}


def main():
    names = sys.argv[1:] or list(CHECKS)
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"no such check: {', '.join(unknown)}; there are {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    machine = Machine.find()
    print(machine)
    figures, failed = {"machine": str(machine)}, []
    for name in names:
        began = time.monotonic()
        try:
            found = CHECKS[name](machine)
            print(f"ok      {name:<14} {found['told']} ({time.monotonic() - began:.0f} s)", flush=True)
            figures[name] = found
        except Failed as failure:
            print(f"FAILED  {name:<14} {failure}", flush=True)
            figures[name] = {"failed": str(failure)}
            failed.append(name)
    path = machine.out / "figures.json"
    path.write_text(json.dumps(figures, indent=1))
    print(f"figures: {path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
