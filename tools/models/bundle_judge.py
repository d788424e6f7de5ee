"""Bundle a trained judge.

python -m tools.models.bundle_judge RUN_FOLDER [--root FOLDER]

Reads what train_judge left and writes into the package: the weights in float16, what the
judge sees in the 50,000 training pictures (see `Statistics`), and the card (JSON and Markdown) with
its accuracy, its calibration on 2,000 test pictures and every file's digest. Needs all of CIFAR-10.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from cdiff_helpers.data import load_cifar10
from cdiff_helpers.evaluation.judge import JUDGE, Judge, classify, judge_card, load_judge
from cdiff_helpers.evaluation.scores import (
    FEWEST_FOR_DISTANCES,
    Statistics,
    load_statistics,
    mean_and_covariance,
    nearest_training,
    score,
)
from cdiff_helpers.runtime import write_atomically
from tools.models.calibration import CORRUPTIONS, score_corruptions
from tools.models.records import write_digests

DIRECTIONS = 64  # of the features' 256, in which the nearest neighbours are looked for
KEPT = ("agreement", "judge_fd", "kid", "coverage", "nearest_train")


def halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The convolutions and the head in float16; the small rest, whose range is wide, as it is."""
    return {n: t.half().contiguous() if t.ndim > 1 else t for n, t in tensors.items()}


def reduce(features: Tensor) -> dict[str, Tensor]:
    """Features (N, 256) along their main directions, in 256 levels each, and how to go back."""
    _, covariance = mean_and_covariance(features)
    basis = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :DIRECTIONS].float()
    reduced = features @ basis
    lowest = reduced.min(0).values
    step = (reduced.max(0).values - lowest) / 255
    levels = ((reduced - lowest) / step).round().to(torch.uint8)
    return {"basis": basis.contiguous(), "reduced": levels, "lowest": lowest, "step": step}


def statistics(judge: Judge, root: str | None) -> dict[str, Tensor]:
    """What `load_statistics` reads."""
    features, _ = classify(judge, load_cifar10(root).images)
    of_test, _ = classify(judge, load_cifar10(root, train=False).images)
    mean, covariance = mean_and_covariance(features)
    some, _ = classify(judge, load_cifar10(source="bundled").images)
    made = {"mean": mean.float(), "covariance": covariance.float(), "features": some.half()}
    made |= reduce(features)
    restored = made["reduced"].float() * made["step"] + made["lowest"]
    found = Statistics(mean, covariance, some, made["basis"], restored, torch.empty(0))
    return made | {"of_test": nearest_training(of_test, found)[0]}


def write(name: str, tensors: dict[str, Tensor], card: dict) -> None:
    """Put a file of tensors and its digest, in the card, into the package."""
    content = save(tensors)
    card["sha256"][name] = hashlib.sha256(content).hexdigest()
    write_atomically(JUDGE / name, content)
    write_atomically(JUDGE / "card.json", json.dumps(card).encode())
    write_digests(JUDGE)
    for cached in (judge_card, load_judge, load_statistics):
        cached.cache_clear()


def accuracy(judge: Judge, **options) -> dict:
    """How many of the test pictures the judge names rightly."""
    test = load_cifar10(train=False, **options)
    right = classify(judge, test.images)[1].argmax(1).eq(test.labels)
    return {"right": int(right.sum()), "of": len(test)}


def calibration(root: str | None) -> dict:
    """Each corruption's steps on the first test images: strength and scores."""
    images, labels = first_test_images(root)
    return {
        name: [
            {key: step[key] for key in ("strength", *KEPT)}
            for step in score_corruptions(images, labels, name)
        ]
        for name in CORRUPTIONS
    }


def first_test_images(root: str | None) -> tuple[Tensor, Tensor]:
    """As many as distances need: their images and labels."""
    test = load_cifar10(root, train=False)
    return test.images[:FEWEST_FOR_DISTANCES], test.labels[:FEWEST_FOR_DISTANCES]


def markdown(card: dict) -> str:
    """The card for people."""
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    test, bundled = card["test"], card["bundled_test"]
    lines = [
        "# The judge",
        "",
        f"A classifier of CIFAR-10's ten classes ({card['parameters']:,} parameters; the network "
        "of airbench94, Jordan 2024, arXiv:2404.00498) that names "
        f"**{test['right']:,} of the {test['of']:,} test pictures rightly**, "
        f"{bundled['right']} of the {bundled['of']} bundled ones. Weights in float16.",
        "",
        f"- Command: `{card['command']}`: {card['epochs']} epochs, {card['minutes']:.0f} minutes "
        f"on {card['hardware']}",
        f"- Seed {card['seed']}; {versions}",
        "- `statistics.safetensors` holds what it sees in the 50,000 training pictures: mean and "
        "covariance of its 256 features, the features of the 2,000 bundled ones, and all of them "
        f"along {DIRECTIONS} directions in 256 levels.",
        "",
        f"{card['real']['n']:,} real test pictures, spoilt step by step:",
        "",
        "| spoilt by | strength | agreement | judge-FD | KID | coverage | nearest |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, steps in card["calibration"].items():
        for step in steps:
            strength = "none" if step["strength"] is None else step["strength"]
            lines.append(
                f"| {name} | {strength} | {step['agreement']:.3f} | {step['judge_fd']:.3f} "
                f"| {step['kid']:.4f} | {step['coverage']:.3f} | {step['nearest_train']:.3f} |"
            )
    lines += [
        "",
        "For comparing models of this course with each other at equal counts and seeds. Its "
        "distances are no FID and cannot be compared with published ones. Data: Krizhevsky 2009, "
        "*Learning Multiple Layers of Features from Tiny Images*.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="the folder that train_judge wrote")
    parser.add_argument("--root", help="folder of the data set (default: the course folder's)")
    args = parser.parse_args()
    card = json.loads((args.run / "record.json").read_text(encoding="utf-8"))
    judge = Judge()
    card |= {"model": judge.config, "sha256": {}}
    card["parameters"] = sum(p.numel() for p in judge.parameters())
    shutil.rmtree(JUDGE, ignore_errors=True)
    JUDGE.mkdir(parents=True)
    write("judge.safetensors", halved(load((args.run / "judge.safetensors").read_bytes())), card)
    write("statistics.safetensors", statistics(load_judge(), args.root), card)
    card["test"] = accuracy(load_judge(), root=args.root)  # of the float16 weights, as bundled
    card["bundled_test"] = accuracy(load_judge(), source="bundled")
    card["calibration"] = calibration(args.root)
    card["real"] = score(*first_test_images(args.root))
    write_atomically(JUDGE / "card.json", (json.dumps(card, indent=1) + "\n").encode())
    write_atomically(JUDGE / "card.md", markdown(card).encode())
    write_digests(JUDGE)
    print(markdown(card))


if __name__ == "__main__":
    main()
