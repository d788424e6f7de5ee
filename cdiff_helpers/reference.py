"""The recorded runs: the bundled reference, to sample from at once, and the two-core record.

Home: notebook 08. *reference* saw 21.8 million images on a GPU, and its weights are here; of
*two_cores*, which a laptop does in an hour, there are losses, samples and scores alone.
"""

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load as load_tensors
from torch import Tensor

from cdiff_helpers import validation
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.runtime import verified_bytes
from cdiff_helpers.unet import ConditionalUNet

BUNDLED = Path(__file__).parent / "bundled"
REFERENCE = BUNDLED / "reference"
RUNS = ("reference", "two_cores")


def load_reference(
    folder: str | Path | None = None,
) -> tuple[ConditionalUNet, DiffusionProcess, dict]:
    """The bundled EMA weights in eval mode on the CPU, their process, and `load_record`'s card.

    Raises RuntimeError where the files are missing or damaged.
    """
    folder = REFERENCE if folder is None else Path(str(folder))
    card = read_card(folder)
    weights = load_tensors(verified_bytes(folder / "ema.safetensors"))
    model = ConditionalUNet(**card["model"]).to("cpu")
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    process = DiffusionProcess(model.num_steps).to("cpu")  # whatever torch's default device is
    return model.eval().requires_grad_(False), process, card


def load_record(run: str = "reference") -> dict:
    """The card of a recorded run, "reference" or "two_cores", and its `losses`, one per update.

    Raises ValueError for another run, RuntimeError where its files are missing or damaged.
    """
    return read_card(record_folder(run))


def record_folder(run: str) -> Path:
    """The folder of a recorded run's files in the package; raises ValueError for another run."""
    return REFERENCE if validation.choice("run", run, RUNS) == "reference" else BUNDLED / run


def read_card(folder: Path) -> dict:
    """The card in a record's folder, with the losses of the file beside it as a list."""
    card = json.loads(verified_bytes(folder / "card.json"))
    losses = np.load(io.BytesIO(verified_bytes(folder / "losses.npy")), allow_pickle=False)
    return card | {"losses": losses.tolist()}


def recorded_scores(of: str, run: str = "reference") -> list[dict]:
    """A recorded run's scores: a dict of options and `evaluation.score`'s result per case.

    `of` is "guidance" (sorted by `guidance_scale`), "solvers" (by `guidance_scale`, `solver`,
    `num_steps`), "snapshots" (by `images_seen`) or "averages" (by `ema_decay`). Raises ValueError
    for what the run lacks, RuntimeError where the record is damaged.
    """
    record = json.loads(verified_bytes(record_folder(run) / "scores.json"))
    entries = [entry["case"] | entry for entry in record["scores"]]
    validation.choice("of", of, sorted({entry["of"] for entry in entries}))
    keys = ("guidance_scale", "solver", "num_steps", "images_seen", "ema_decay")
    own = [entry for entry in entries if entry["of"] == of]
    return sorted(own, key=lambda entry: [entry.get(key, 0) for key in keys])


def recorded_samples(snapshot: dict, run: str = "reference") -> Tensor:
    """A snapshot's samples, eight per class from the seeds 0 to 79: (10, 8, 3, 32, 32) in [0, 1].

    `snapshot` is one of `load_record(run)["snapshots"]`. Raises ValueError for another run's.
    """
    files = [each["file"] for each in load_record(run)["snapshots"]]
    validation.choice(f"the snapshot of the run {run!r}", snapshot["file"], files)
    content = verified_bytes(record_folder(run) / snapshot["file"])
    with Image.open(io.BytesIO(content)) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB")))  # (10 H, 8 W, 3)
    tiles = pixels.view(10, 32, -1, 32, 3).permute(0, 2, 4, 1, 3)  # -> (10, 8, 3, H, W)
    return tiles.float() / 255
