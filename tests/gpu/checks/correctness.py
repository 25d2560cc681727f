"""That results are right: near the CPU's, the same bits for any number of ranks, unharmed by a kill."""

import os
import signal

from .training import Failed, Training, train

WORKERS = (1, 2, 4)


def recipe(machine, **more):
    """Drawn shapes, learned by a small network: nothing to download, and something to learn. Four shards, so that four ranks
    have one each and one rank adds four up."""
    tiny = machine.rehearses
    return {
        "seed": 11,
        "shards": 4,
        "batch": 32 if tiny else 256,
        "epochs": 2,
        "data.name": "shapes",
        "data.train": 128 if tiny else 6000,
        "data.test": 64 if tiny else 1000,
        "data.validation": 32 if tiny else 500,
        "model.name": "resnet18",
        "model.weights": "none",
        "optimizer.lr": 0.02,
        "optimizer.momentum": 0.9,
        **more,
    }


def losses(machine):
    """The course of the loss is the CPU's, as far as other kernels allow."""
    settings = recipe(machine, exact="true")
    cpu, _ = train(machine, settings, 1, CUDA_VISIBLE_DEVICES="")
    gpu, _ = train(machine, settings, 1)
    pairs = [(loss(ours), loss(theirs)) for ours, theirs in zip(gpu, cpu, strict=True)]
    # Rounding differs (TF32 in convolutions), and training makes more of it with every step.
    allowed = [0.03 * (epoch + 1) for epoch in range(len(pairs))]
    for (ours, theirs), limit in zip(pairs, allowed):
        if abs(ours - theirs) > limit * theirs:
            raise Failed(f"loss {ours:.4f} on the GPU, {theirs:.4f} on the CPU")
    return {"told": "; ".join(f"{ours:.4f} (CPU {theirs:.4f})" for ours, theirs in pairs), "pairs": pairs}


def exact(machine):
    """1, 2 and 4 ranks come to the same bits, each on a "host" of its own, all on one GPU."""
    return same_bits(machine, recipe(machine, exact="true"))


def exact_bf16(machine):
    return same_bits(machine, recipe(machine, exact="true", precision="bf16"))


def same_bits(machine, settings):
    digests = {}
    for workers in WORKERS:
        epochs, through_the_host = train(machine, settings, workers, own_hosts=True, **one_gpu())
        if through_the_host and not machine.rehearses:
            raise Failed(f"{workers} workers did not use NCCL")
        digests[workers] = [epoch["weights_digest"] for epoch in epochs]
    if any(found != digests[1] for found in digests.values()):
        raise Failed(f"weights differ between numbers of workers: {digests}")
    return {"told": f"{digests[1][-1][:12]} with {', '.join(map(str, WORKERS))} workers", "digests": digests[1]}


def shared(machine):
    """Two ranks that share a GPU openly, which NCCL refuses: they say so, and go through the host to the same bits."""
    settings = recipe(machine, exact="true")
    alone, _ = train(machine, settings, 1, **one_gpu())
    with Training(machine, settings, 2, **one_gpu()) as training:
        together = training.finish()
        logs = [training.log(worker) for worker in training.pids()]
        told = [log for log in logs if training.went_through_the_host() and "NCCL_HOSTID" in log]
    if not machine.rehearses and len(told) != len(logs):
        raise Failed("the workers did not say that they go through the host, with a hint")
    if [epoch["weights_digest"] for epoch in alone] != [epoch["weights_digest"] for epoch in together]:
        raise Failed("the host's way gave other bits than a worker alone")
    return {"told": "the host's way, with a hint; the same bits"}


def fast(machine):
    """`exact = false`: NCCL sums in its own order. The course of the loss stays."""
    settings = recipe(machine, exact="true")
    exact_epochs, _ = train(machine, settings, 2, own_hosts=True, **one_gpu())
    epochs, _ = train(machine, {**settings, "exact": "false"}, 2, own_hosts=True, **one_gpu())
    pairs = [(loss(ours), loss(theirs)) for ours, theirs in zip(epochs, exact_epochs, strict=True)]
    if any(abs(ours - theirs) > 0.06 * theirs for ours, theirs in pairs):
        raise Failed(f"losses {pairs}: fast, exact")
    return {"told": "; ".join(f"{ours:.4f} (exact {theirs:.4f})" for ours, theirs in pairs), "pairs": pairs}


def kill(machine):
    """kill -9 of a rank while it computes: the others go on, and the weights are those of an undisturbed run."""
    settings = recipe(machine, exact="true", epochs=2 if machine.rehearses else 4)
    undisturbed, _ = train(machine, settings, 1, **one_gpu())
    with Training(machine, settings, 2, own_hosts=True, **one_gpu()) as training:
        training.until("a step of worker-1", lambda: "debug" in training.log("worker-1").lower() and training.pids())
        victim = training.pids()["worker-1"]
        os.kill(victim, signal.SIGKILL)
        epochs = training.finish()
        lost = training.events("worker_lost")
        generations = len(training.events("generation_began"))
        receipts = training.events("generation_started")
    if not lost or generations < 2:
        raise Failed("nobody noticed the kill")
    if [epoch["weights_digest"] for epoch in epochs] != [epoch["weights_digest"] for epoch in undisturbed]:
        raise Failed("the weights differ from an undisturbed run's")
    return {"told": f"{generations} generations, the same bits", "receipts": receipts}


def loss(epoch):
    return epoch["train"]["loss_sum"] / epoch["train"]["count"]


def one_gpu():
    """However many there are: this is about several ranks on one. An empty value, which hides all, stays."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {} if visible is not None else {"CUDA_VISIBLE_DEVICES": "0"}
