"""Folders handed in for the final task: what comes by mistake, and what is meant badly."""

import atexit
import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save as save_tensors

from cdiff_helpers.reference import REFERENCE
from cdiff_helpers.unet import ConditionalUNet
from instructor.mutants import right_value, wrong_value

HOME = Path(tempfile.mkdtemp(prefix="cdiff-final-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
SMALL = {"num_classes": 10, "num_steps": 1000, "channels": [16, 32], "emb_dim": 32}


def weights(config=SMALL, **changes) -> dict[str, torch.Tensor]:
    """Weights of a network that has left its zero last layers, some of them changed by name."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tensors = ConditionalUNet(**config).state_dict()
        filled = {name: 0.05 * torch.randn_like(w) for name, w in tensors.items() if not w.any()}
    return tensors | filled | changes


def folder(name: str, config=SMALL, ema: bytes | None = None, **files: bytes) -> Path:
    """A submission; `files` are further ones, a dot in their names written as __."""
    place = HOME / name
    place.mkdir()
    written = {file.replace("__", "."): content for file, content in files.items()}
    if config is not None:
        written["config.json"] = json.dumps({"training": {}, "model": config}).encode()
    if ema is not None:
        written["ema.safetensors"] = ema
    for file, content in written.items():
        (place / file).write_bytes(content)
    return place


def pickled() -> bytes:
    """What torch.save writes."""
    torch.save(weights(), HOME / "saved")
    return (HOME / "saved").read_bytes()


WHOLE = save_tensors(weights())
REFERENCE_CONFIG = SMALL | {"channels": [64, 96, 128], "emb_dim": 256}

wrong_value("final_task", "config", folder("no_config", config=None, ema=WHOLE))
wrong_value("final_task", "config", folder("half_config", config={"num_classes": 10}, ema=WHOLE))
wrong_value("final_task", "config", folder("no_json", None, WHOLE, config__json=b"{'model': 1"))
wrong_value("final_task", "config", folder("deep", None, WHOLE, config__json=b"[" * 90_000))
wrong_value("final_task", "config", folder("odd", SMALL | {"channels": [10, 20]}, WHOLE))
wrong_value("final_task", "config", folder("code", SMALL | {"hook": "os.system"}, WHOLE))
wrong_value("final_task", "pickle", folder("pickle", ema=pickled()))
wrong_value("final_task", "pickle", folder("pickle_beside", ema__pt=pickled()))
wrong_value("final_task", "raw_weights", folder("raw_weights", model__safetensors=WHOLE))
wrong_value("final_task", "truncated", folder("truncated", ema=WHOLE[:-1000]))
wrong_value("final_task", "truncated", folder("empty", ema=b""))
wrong_value("final_task", "truncated", folder("no_header", ema=b"\xff" * 64))
PETS = SMALL | {"num_classes": 2}
wrong_value("final_task", "other_classes", folder("pets", PETS, save_tensors(weights(PETS))))
wrong_value("final_task", "wrong_keys", folder("wider", SMALL | {"emb_dim": 64}, WHOLE))
RENAMED = save_tensors({f"module.{name}": value for name, value in weights().items()})
wrong_value("final_task", "wrong_keys", folder("renamed", ema=RENAMED))
wrong_value("final_task", "too_large", folder("huge_config", SMALL | {"emb_dim": 10**9}, WHOLE))
HUGE = folder("huge_file", ema=WHOLE)
with (HUGE / "ema.safetensors").open("ab") as file:
    file.truncate(200_000_000)  # takes no room on the disk: there is nothing in it
wrong_value("final_task", "too_large", HUGE)
BROKEN = weights(**{"stem.bias": torch.full((16,), float("nan"))})
wrong_value("final_task", "not_finite", folder("not_finite", ema=save_tensors(BROKEN)))
wrong_value(
    "final_task",
    "untrained",
    folder("untrained", ema=save_tensors(ConditionalUNet(**SMALL).state_dict())),
)
COPY = folder("the_reference", REFERENCE_CONFIG, (REFERENCE / "ema.safetensors").read_bytes())
wrong_value("final_task", "the_reference", COPY)

right_value("final_task", folder("right", ema=WHOLE))
HALF = save_tensors({name: value.half() for name, value in weights().items()})
right_value("final_task", str(folder("half_precision", ema=HALF)))  # a str, and 16 bits
right_value("final_task", folder("whole_run", ema=WHOLE, model__safetensors=WHOLE, state__pt=b"x"))
RUN = folder("a_run", config=None)  # as train writes it
shutil.copytree(HOME / "whole_run", RUN / "latest")
right_value("final_task", RUN)
