"""Several processes, one model: each takes its share of a batch, and gradients are averaged.

Home: notebook 08. `torchrun --standalone --nproc_per_node=2 -m cdiff_helpers train --out …`
"""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from cdiff_helpers import validation
from cdiff_helpers.runtime import device_error, pick_device
from cdiff_helpers.training import Interrupted, Step, TrainState, interrupts_held
from cdiff_helpers.training.state import reseed

PATIENCE = timedelta(hours=2)  # for the slowest process: another machine may fetch the data yet


@dataclass(frozen=True)
class Rank:
    """This process among those that train together: number `index` of `count`, on `device`."""

    index: int
    count: int
    device: torch.device


@contextmanager
def process_group(device: str = "auto") -> Iterator[Rank]:
    """This process's rank among torchrun's, which takes the k-th GPU; without torchrun, 0 of 1.

    Only the first process prints within the block.
    """
    if "LOCAL_RANK" not in os.environ:
        yield Rank(0, 1, pick_device(device))
        return
    own = f"cuda:{os.environ['LOCAL_RANK']}"
    chosen = pick_device(own if device in ("auto", "cuda") and not device_error(own) else device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        first = dist.get_rank() == 0
        with nullcontext() if first else redirect_stdout(io.StringIO()):
            yield Rank(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()


@contextmanager
def main_process_first(rank: Rank) -> Iterator[None]:
    """The first process goes through the block, then the others: they find what it made."""
    if rank.index > 0:
        dist.barrier()
    yield
    if rank.index == 0 and rank.count > 1:
        dist.barrier()


def average_gradients(state: TrainState, rank: Rank) -> None:
    """From now on each backward pass leaves the mean gradient of all processes.

    Each draws random numbers of its own, which follow from the seed, the process and the update
    alone: a resumed run repeats them. Raises ValueError where a batch cannot be shared evenly.
    """
    if rank.count == 1:
        return
    if state.config.batch_size % rank.count:
        expected = f"a multiple of the {rank.count} processes, which share each batch"
        found = f"batch_size is {state.config.batch_size}"
        validation.refuse(found, expected, "Change --batch-size.")
    # All buffers are constants: nothing to broadcast
    state.network = DistributedDataParallel(state.model, broadcast_buffers=False)
    seed = state.config.seed
    state.before_update = lambda: reseed(state.generator, seed, rank.index, state.index)
    state.before_update()


def synchronized(steps: Iterable[Step], rank: Rank) -> Iterator[Step]:
    """The same steps; an interrupt of one process ends all of them after the same update.

    Otherwise the others would wait for its gradients without end. Raises Interrupted.
    """
    if rank.count == 1:
        yield from steps
        return
    group: Any = dist.new_group(backend="gloo")  # asks no GPU
    with interrupts_held() as interrupted:
        for step in steps:
            yield step
            number = torch.tensor(interrupted(), device="cpu")
            dist.all_reduce(number, dist.ReduceOp.MAX, group=group)
            if number:
                raise Interrupted("another process was interrupted", int(number))
