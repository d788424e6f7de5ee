"""The final task of notebook 08: a run of your own, marked by the judge on freshly sampled images.

python -m cdiff_exercises.final_task FOLDER … --seed S [--num-images 500] [--json]

A submission is a run's folder, whose `latest` is read, or a folder with `config.json` and
`ema.safetensors` alone. It comes from somebody else, so nothing in it can run: the one is JSON
whose few numbers are checked before a network is built from them, the other a file of numbers whose
size and shapes are checked before they are used. Every other file in the folder is left alone.
"""

import argparse
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from cdiff_exercises.answer import Wrong
from cdiff_exercises.room import SHOWN_SEED, run
from cdiff_helpers.console import replace_unprintable
from cdiff_helpers.data import BUNDLE, CLASS_NAMES
from cdiff_helpers.data.sources import read_bundle
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.evaluation import FEWEST_FOR_AGREEMENT, classify, load_judge, wilson_interval
from cdiff_helpers.reference import load_reference
from cdiff_helpers.runtime import pick_device
from cdiff_helpers.sampling import sample_conditional_images
from cdiff_helpers.unet import ConditionalUNet

MOST_PARAMETERS = 10_000_000  # the course's network has 4.1 million; a marker samples for many
LARGEST_WEIGHTS = 4 * MOST_PARAMETERS + 1_000_000  # bytes: float32 and a header
LARGEST_CONFIG, MOST_STEPS = 100_000, 10_000  # bytes; steps of the process
SETTINGS = {"num_classes", "num_steps", "channels", "emb_dim"}
# How the steps of LADDER below were measured, and how a submission's images are sampled
SAMPLER: dict[str, Any] = {"guidance_scale": 1.5, "solver": "dpm++2m", "num_steps": 20}
# Agreement that earns so many points. The first two steps lie below a measured run (the second:
# 0.28 after 93,952 images) by what 500 images leave open; the others between measured runs, at
# about 160,000 and 260,000 images if agreement grows evenly with the logarithm of their number;
# thirty minutes at 300 images a second see 540,000.
LADDER = ((0.18, 3), (0.28, 6), (0.38, 8), (0.48, 10))
MEASURED = (
    "Measured: 0.09 untrained, 0.13 after the cpu preset's 200 updates, 0.20 after 51,840 images, "
    "0.33 after 120,320, 0.75 after the two-core record's 1,011,200."
)
LEAST_VARIETY = 0.3  # of real images'; 25 images per class, again and again, have 0.14
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt")
PICKLED = (b"PK", b"\x80")  # how torch.save's files begin: zip, and plain pickle
CONFIG = "config.json does not describe the network: copy along the one that train writes."
PICKLE = "files of torch.save can run code, so they are not opened: hand in ema.safetensors."
WRONG_KEYS = "the weights do not fit the network that config.json describes: are both of one run?"
TOO_LARGE = f"the files are too large: at most {MOST_PARAMETERS:,} parameters, float32 or float16."


def load_submission(folder) -> tuple[ConditionalUNet, DiffusionProcess]:
    """The network and process of a submission, in eval mode on the CPU; runs none of its code.

    Raises Wrong, with a sentence for its author, for what cannot be marked.
    """
    if not isinstance(folder, str | Path):
        sentence = f"this is {type(folder).__name__}; expected a folder's path, str or Path."
        raise Wrong(sentence, "no path")
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        sentence = f"there is no folder {folder.name!r}: train a run of your own into it first."
        raise Wrong(sentence, "no folder")
    if (latest := folder / "latest").is_dir() and not latest.is_symlink():  # a whole run's folder
        folder = latest
    settings = read_settings(folder)
    tensors = read_weights(folder)
    try:
        model = ConditionalUNet(**settings)
    except ValueError as error:
        raise Wrong(CONFIG, "config") from error
    if shapes(tensors) != shapes(model.state_dict()):
        raise Wrong(WRONG_KEYS, "wrong_keys")
    if not all(value.isfinite().all() for value in tensors.values()):
        sentence = "some weights are inf or nan: look for the update at which the losses broke."
        raise Wrong(sentence, "not_finite")
    if not tensors["head.weight"].any():
        sentence = "nothing is learned yet, the last layer is zero: is this the folder of the run?"
        raise Wrong(sentence, "untrained")
    if distance_to_reference(tensors) < 1e-3:  # float16 rounds by half of that
        sentence = "these are the reference's weights. Asked is a run of your own, however short."
        raise Wrong(sentence, "the_reference")
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False), DiffusionProcess(model.num_steps)


def read_settings(folder: Path) -> dict:
    """The network's settings from config.json, checked; raises Wrong."""
    content = read_bytes(folder / "config.json", LARGEST_CONFIG)
    if content is None:
        sentence = f"there is no config.json in {folder.name!r}: train writes it, copy it along."
        raise Wrong(sentence, "config")
    try:
        settings = json.loads(content)["model"]
        numbers = [settings["num_classes"], settings["num_steps"], settings["emb_dim"]]
        numbers += settings["channels"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Wrong(CONFIG, "config") from error
    whole = all(type(number) is int and number > 0 for number in numbers)
    if set(settings) != SETTINGS or not whole or not 1 <= len(settings["channels"]) <= 5:
        raise Wrong(CONFIG, "config")
    least = 18 * sum(c * c for c in settings["channels"]) + 2 * settings["emb_dim"] ** 2
    if least > MOST_PARAMETERS or settings["num_steps"] > MOST_STEPS:  # before anything is built
        raise Wrong(TOO_LARGE, "too_large")
    if settings["num_classes"] != len(CLASS_NAMES):
        sentence = "the judge asks for ten classes, 0 … 9. Relabelled subsets have fewer."
        raise Wrong(sentence, "other_classes")
    return settings


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of ema.safetensors as float32; raises Wrong."""
    content = read_bytes(folder / "ema.safetensors", LARGEST_WEIGHTS)
    if content is None and (folder / "model.safetensors").exists():
        sentence = "these are raw weights. Hand in ema.safetensors, the EMA weights: see 05."
        raise Wrong(sentence, "raw_weights")
    if content is None and any(each.suffix in PICKLES for each in folder.iterdir()):
        raise Wrong(PICKLE, "pickle")
    if content is None:
        raise Wrong("ema.safetensors is not there: train writes it, copy it along.", "no weights")
    if content.startswith(PICKLED):
        raise Wrong(PICKLE, "pickle")
    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        sentence = "ema.safetensors is cut off, or another kind of file: compare the two sizes."
        raise Wrong(sentence, "truncated") from error
    if sum(value.numel() for value in tensors.values()) > MOST_PARAMETERS:
        raise Wrong(TOO_LARGE, "too_large")
    if not all(value.is_floating_point() for value in tensors.values()):
        raise Wrong(WRONG_KEYS, "wrong_keys")
    return {name: value.float() for name, value in tensors.items()}


def read_bytes(path: Path, most: int) -> bytes | None:
    """What is in a plain file of at most so many bytes; None where there is none."""
    if path.is_symlink():
        sentence = f"{path.name} is a link to somewhere else; hand in the file itself."
        raise Wrong(sentence, "link")
    if not path.is_file():
        return None
    if path.stat().st_size > most:
        raise Wrong(TOO_LARGE, "too_large")
    with path.open("rb") as file:
        return file.read(most)


def shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    """Each tensor's shape, by its name."""
    return {name: value.shape for name, value in tensors.items()}


def distance_to_reference(tensors: dict[str, Tensor]) -> float:
    """|θ - θ_ref| / |θ_ref| over all weights; inf for a network of other shapes."""
    reference = load_reference()[0].state_dict()
    if shapes(tensors) != shapes(reference):
        return float("inf")
    apart = sum((tensors[name] - value).square().sum() for name, value in reference.items())
    return float((apart / sum(value.square().sum() for value in reference.values())).sqrt())


def final_task_score(folder, seed: int, num_images: int = 500) -> dict:
    """What the judge says of images freshly sampled from a submission, and the points for it.

    Image i is of class i % 10, sampled from seed + i as SAMPLER says: the marker's own seed, so
    nobody can have chosen lucky ones. Keys: `folder`, `seed`, `num_images`, `points` out of `most`,
    `sentence` for the author; and where images could be sampled `agreement`, its 95 % `interval`,
    `variety`, `distance_to_reference`. What cannot be marked has 0 points and says why. Raises
    ValueError for fewer than 500 images.
    """
    if num_images < FEWEST_FOR_AGREEMENT:
        raise ValueError(f"num_images is {num_images}; expected {FEWEST_FOR_AGREEMENT} or more.")
    result = {"folder": str(folder), "seed": seed, "num_images": num_images, "most": LADDER[-1][1]}
    form = run("final_task", folder, SHOWN_SEED)
    if form.stop:
        return result | {"points": 0, "sentence": form.sentence}
    (model, process), device = load_submission(folder), pick_device()
    labels = torch.arange(num_images, device="cpu") % len(CLASS_NAMES)
    images = sample_conditional_images(
        model.to(device), process.to(device), labels, seed=seed, precision="float32", **SAMPLER
    ).cpu()  # not in 16 bits: a mark is to be the same on every device, up to rounding
    features, logits = classify(load_judge(), images)
    right = int((logits.argmax(1) == labels).sum())
    agreement, varied = right / num_images, variety(features, labels)
    result |= {"agreement": agreement, "interval": wilson_interval(right, num_images)}
    result |= {"variety": varied, "points": points_for(agreement, varied)}
    result["distance_to_reference"] = distance_to_reference(model.cpu().state_dict())
    return result | {"sentence": sentence_for(result)}


def points_for(agreement: float, variety: float) -> int:
    """The points of the highest step of LADDER that is reached; 0 for too little variety."""
    if variety < LEAST_VARIETY:
        return 0
    return max((points for step, points in LADDER if agreement >= step), default=0)


def variety(features: Tensor, labels: Tensor) -> float:
    """How far an image's nearest neighbor of its own class is, over the same of real images.

    Of the first 500 images, as many as there are real ones: it would fall with their number.
    Features (N, 256) are the judge's. About 1 where images differ as photographs do, 0 where the
    same ones come again and again, which agreement alone would take for perfect.
    """
    own = nearest_of_class(features[:FEWEST_FOR_AGREEMENT], labels[:FEWEST_FOR_AGREEMENT])
    return own / variety_of_real()


@cache
def variety_of_real() -> float:
    """That distance among the package's 500 real test images, fifty of each class."""
    pixels, labels = read_bundle(BUNDLE, "test")
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # (N, H, W, 3) -> (N, 3, H, W)
    return nearest_of_class(classify(load_judge(), images)[0], torch.from_numpy(labels))


def nearest_of_class(features: Tensor, labels: Tensor) -> float:
    """The mean distance of features (N, D) to the nearest other ones of their class."""
    distances = torch.cdist(features, features)
    distances[labels[:, None] != labels] = float("inf")
    return distances.fill_diagonal_(float("inf")).min(1).values.mean().item()


def sentence_for(result: dict) -> str:
    """A score in words, for its author."""
    low, high = result["interval"]
    seen = f"The judge sees the asked class in {result['agreement']:.3f} ({low:.3f} … {high:.3f})"
    if result["variety"] < LEAST_VARIETY and result["agreement"] >= LADDER[0][0]:
        return f"{seen}, but of few different images: their variety is {result['variety']:.2f}."
    higher = [step for step, _ in LADDER if step > result["agreement"]]
    ahead = f"the next step is {higher[0]:.2f}" if higher else "there is no higher step"
    return f"{seen}: {result['points']} of {LADDER[-1][1]} points; {ahead}."


def main(arguments: list[str] | None = None) -> int:
    """Print each folder's mark, or all that was found out as JSON; returns the exit status."""
    steps = ", ".join(f"{points} points from {step:.2f}" for step, points in LADDER)
    parser = argparse.ArgumentParser(
        prog="python -m cdiff_exercises.final_task",
        description="Mark final tasks by the judge, on freshly generated images.",
        epilog=f"Steps of the agreement: {steps}. {MEASURED}",
    )
    add, most = parser.add_argument, "500 or more (default: 500)"
    add("folders", nargs="+", type=Path, help="each with the two files")
    add("--seed", type=int, required=True, metavar="S", help="yours; image i is of seed S + i")
    add("--num-images", type=int, default=500, metavar="N", help=most)
    add("--json", action="store_true", help="for programs: one object a line")
    replace_unprintable()
    args = parser.parse_args(arguments)
    if args.num_images < FEWEST_FOR_AGREEMENT:
        parser.error(f"--num-images is {args.num_images}; expected {FEWEST_FOR_AGREEMENT} or more.")
    for folder in args.folders:
        score = final_task_score(folder, args.seed, args.num_images)
        words = f"{folder}: {score['points']} of {score['most']}. {score['sentence']}"
        print(json.dumps(score) if args.json else words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
