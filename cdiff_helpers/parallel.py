"""Several processes, one model: each takes its share of a batch, and gradients are averaged.

Home: notebook 08. `torchrun --standalone --nproc_per_node=2 -m cdiff_helpers train --out …`
"""

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from cdiff_helpers.runtime import device_error, pick_device
from cdiff_helpers.training import Interrupted, Step, TrainState, interrupts_held

PATIENCE = timedelta(hours=2)  # for the slowest process: another machine may fetch the data yet


@dataclass(frozen=True)
class Rank:
    """This process among those that train together: number `index` of `count`, on `device`."""

    index: int
    count: int
    device: torch.device


@contextmanager
def joined(device: str = "auto") -> Iterator[Rank]:
    """torchrun's processes joined while the block runs; without torchrun, this one alone.

    Process k takes the k-th GPU where there is one. Only the first process prints.
    """
    if "LOCAL_RANK" not in os.environ:
        yield Rank(0, 1, pick_device(device))
        return
    own = f"cuda:{os.environ['LOCAL_RANK']}"
    if device == "cuda" or (device == "auto" and not device_error(own)):
        device = own
    place = pick_device(device)
    gpu = place.type == "cuda"
    if gpu:
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE)
    silence = contextlib.redirect_stdout(io.StringIO())
    try:
        with contextlib.nullcontext() if dist.get_rank() == 0 else silence:
            yield Rank(dist.get_rank(), dist.get_world_size(), place)
    finally:
        dist.destroy_process_group()


@contextmanager
def one_by_one(rank: Rank) -> Iterator[None]:
    """The first process goes through the block, then the others: they find what it made."""
    if rank.count > 1 and rank.index > 0:
        dist.barrier()
    yield
    if rank.count > 1 and rank.index == 0:
        dist.barrier()


def average_gradients(state: TrainState, rank: Rank) -> None:
    """From now on each backward pass leaves the mean gradient of all processes.

    Each draws random numbers of its own, so that no two add the same noise; they follow from the
    seed, the process and the update alone, so that a resumed run draws those it would have drawn.
    Raises ValueError where a batch cannot be shared evenly.
    """
    if rank.count == 1:
        return
    if state.config.batch_size % rank.count:
        raise ValueError(
            f"batch_size is {state.config.batch_size}; expected a multiple of the "
            f"{rank.count} processes, which share each batch. Change --batch-size."
        )
    devices = [rank.device] if rank.device.type == "cuda" else None
    state.network = DistributedDataParallel(  # all buffers are constants: nothing to broadcast
        state.model, device_ids=devices, broadcast_buffers=False
    )

    def own_random_numbers() -> None:
        mixed = np.random.SeedSequence([state.config.seed, rank.index, state.index])
        state.generator.manual_seed(int(mixed.generate_state(1)[0]))

    state.before_update = own_random_numbers
    own_random_numbers()


def in_step(steps: Iterable[Step], rank: Rank) -> Iterator[Step]:
    """The same steps; an interrupt of one process ends all of them after the same update.

    Otherwise the others would wait for its gradients without end. Raises Interrupted.
    """
    if rank.count == 1:
        yield from steps
        return
    group = dist.new_group(backend="gloo")  # asks no GPU
    with interrupts_held() as interrupted:
        for step in steps:
            yield step
            number = torch.tensor(interrupted(), device="cpu")
            dist.all_reduce(number, dist.ReduceOp.MAX, group=group)
            if number:
                raise Interrupted("another process was interrupted", int(number))
