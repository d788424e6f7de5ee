"""Runs small enough to be killed, damaged and repeated.

python -m tests.support.runs FOLDER SECONDS trains one, saving at that interval.
"""

import sys
from pathlib import Path

import torch

from cdiff_helpers.data import ResidentLoader, load_cifar10
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.training import TrainConfig, TrainState, checkpointed, open_run, train
from cdiff_helpers.unet import ConditionalUNet

NUM_STEPS = 20
TINY = {"num_steps": NUM_STEPS, "channels": (4,), "emb_dim": 8}
LONG = TrainConfig(num_updates=800, batch_size=16, precision="float32")  # to be killed


def network(seed=0, **sizes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ConditionalUNet(
            **{"num_steps": NUM_STEPS, "channels": (16, 32), "emb_dim": 32} | sizes
        )


def fresh(config, seed=0, **sizes):
    return TrainState(network(seed, **sizes), config)


def tensors(state):
    return [*state.model.state_dict().values(), *state.ema.model.state_dict().values()]


def same(one, other):
    """Whether two runs agree bit for bit: weights, averages, losses."""
    pairs = zip(tensors(one), tensors(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs) and torch.equal(one.losses, other.losses)


def some_batches(config):
    data = load_cifar10(source="bundled")
    few = type(data)(data.images[:200], data.labels[:200], data.classes, data.source)
    return ResidentLoader(few, config.batch_size, config.seed)


def main(folder, every_seconds):
    """Train LONG into the folder, or go on with it; say when the loop begins."""
    torch.set_num_threads(1)
    loader, process = some_batches(LONG), DiffusionProcess(NUM_STEPS)
    state = open_run(folder, network(**TINY), LONG)
    print("training", flush=True)
    for step in checkpointed(train(state, process, loader), state, folder, every_seconds):
        print(step.learning_rate, flush=True)


def shell(words):
    """`python -m cdiff_helpers` with a network that is small enough for a test."""
    from cdiff_helpers import __main__, commands

    torch.set_num_threads(1)
    commands.ConditionalUNet = lambda: ConditionalUNet(channels=(8, 16), emb_dim=16)
    return __main__.main(words)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
