"""The exchange's sum beside Gloo's all_reduce: the same numbers between as many processes, in turns.

    python against_gloo.py [--binary target/release/exchange] [--world 2] [--length 23500000] [--rounds 15] [--turns 3]

Needs torch with Gloo. Gloo's processes have one thread each, as the workers have. Prints JSON: medians over all rounds of
all turns, and how many times faster Lockstep's sum is.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

WARM_UP = 2


def member(rank, world, length, rounds, meeting, results):
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    values = torch.empty(length)
    times = []
    for _ in range(WARM_UP + rounds):
        values.fill_(rank + 1.0)
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(values)
        times.append((time.perf_counter() - began) * 1e3)
        assert values[::997].eq(world * (world + 1) / 2).all()
    results.put(times[WARM_UP:])
    dist.barrier()
    dist.destroy_process_group()


def gloo(world, length, rounds):
    """Milliseconds per round: a sum is done when the last member has it."""
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (world, length, rounds, f"{folder}/meeting", results)
        processes = mp.spawn(member, args=arguments, nprocs=world, join=False)
        times = [results.get() for _ in range(world)]
        while not processes.join():
            pass
    return [max(round_ms) for round_ms in zip(*times)]


def lockstep(binary, world, length, rounds):
    command = [binary, "--world", str(world), "--length", str(length), "--rounds", str(rounds)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/exchange")
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--length", type=int, default=23_500_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--turns", type=int, default=3)
    a = parser.parse_args()

    found = {"gloo": [], "shm": [], "tcp": []}
    for _ in range(a.turns):
        found["gloo"] += gloo(a.world, a.length, a.rounds)
        ours = lockstep(a.binary, a.world, a.length, a.rounds)
        for way in ("shm", "tcp"):
            found[way] += ours[way]["rounds_ms"]
    medians = {way: statistics.median(times) for way, times in found.items()}
    report = {"world": a.world, "length": a.length, "rounds": a.rounds * a.turns}
    for way, times in found.items():
        report[way] = {"median_ms": round(medians[way], 3), "least_ms": round(min(times), 3), "most_ms": round(max(times), 3)}
    for way in ("shm", "tcp"):
        report[f"{way}_times_faster_than_gloo"] = round(medians["gloo"] / medians[way], 2)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
