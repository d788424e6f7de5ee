"""The global random generators, which networks with dropout and data with augmentation use."""

import random

import numpy as np
import torch

from cdiff_helpers.training.state import TrainState


def reseed(generator: torch.Generator, *numbers: int) -> None:
    """Begin a stream of its own for each tuple of numbers, such as (seed, update)."""
    generator.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def global_random() -> dict:
    """The states of Python's, numpy's and torch's global generators, in plain types and tensors."""
    kind, keys, *place = np.random.get_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *place),
        "torch": torch.get_rng_state(),
        "cuda": gpus,
    }


def restore_global_random(state: TrainState) -> None:
    """Set the global generators as they were when a loaded run was saved; once, and only then."""
    if state.global_random is None:
        return
    random.setstate(state.global_random["python"])
    kind, keys, *place = state.global_random["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *place))
    torch.set_rng_state(state.global_random["torch"])
    if torch.cuda.is_available() and len(state.global_random["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state.global_random["cuda"])
    state.global_random = None
