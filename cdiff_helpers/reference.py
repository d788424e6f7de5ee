"""The bundled reference: a trained model to draw with before your own is ready.

Home: notebook 08.
"""

import hashlib
import json
from pathlib import Path

from safetensors.torch import load as load_tensors

from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.runtime import whole_bytes
from cdiff_helpers.unet import ConditionalUNet

REFERENCE = Path(__file__).parent / "bundled" / "reference"


def load_reference(
    folder: str | Path | None = None,
) -> tuple[ConditionalUNet, DiffusionProcess, dict]:
    """The bundled averaged weights in eval mode on the CPU, their process, and their model card.

    The card (dict) tells the seed, settings, images seen, minutes, hardware, every loss and what
    samples looked like on the way. Raises RuntimeError where the files are missing or damaged.
    """
    folder = REFERENCE if folder is None else Path(str(folder))
    card = json.loads(whole_bytes(folder / "card.json"))
    weights = whole_bytes(folder / "ema.safetensors")
    if hashlib.sha256(weights).hexdigest() != card["sha256"]:
        raise RuntimeError(
            f"{folder}/ema.safetensors is not the card's; expected the weights that it describes: "
            "install the package again"
        )
    model = ConditionalUNet(**card["model"])
    model.load_state_dict({name: w.float() for name, w in load_tensors(weights).items()})
    return model.eval().requires_grad_(False), DiffusionProcess(model.num_steps), card


def reference_scores(of: str) -> list[dict]:
    """What the judge said of the bundled reference: one dict a case, in the order of its options.

    `of` is "guidance" (by `guidance_scale`), "solvers" (by `solver`, `num_steps`) or "snapshots"
    (by `images_seen`). Each holds the case's options and `evaluation.score`'s answer. Raises
    ValueError for another word, RuntimeError where the record is damaged or of other weights.
    """
    if of not in ("guidance", "solvers", "snapshots"):
        raise ValueError(f"of is {of!r}; expected guidance, solvers or snapshots.")
    record = json.loads(whole_bytes(REFERENCE / "scores.json"))
    if record["weights"] != json.loads(whole_bytes(REFERENCE / "card.json"))["sha256"]:
        raise RuntimeError(
            f"{REFERENCE}/scores.json is of other weights; expected those of the card: install the "
            "package again"
        )
    found = [entry["case"] | entry for entry in record["scores"] if entry["case"]["of"] == of]
    keys = ("guidance_scale", "solver", "num_steps", "images_seen")
    return sorted(found, key=lambda entry: [entry.get(key, 0) for key in keys])
