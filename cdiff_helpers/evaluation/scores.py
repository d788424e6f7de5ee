"""Scores from the judge's features and logits. Home: notebook 08.

Fréchet distance: Heusel et al. 2017, arXiv:1706.08500; kernel distance:
Bińkowski et al. 2018, arXiv:1801.01401; coverage: Naeem et al. 2020, arXiv:2002.09797.
"""

import json
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from cdiff_helpers import validation
from cdiff_helpers.data import BUNDLE, CLASS_NAMES, ImageSet
from cdiff_helpers.evaluation.judge import Judge, bundled_tensors, classify, load_judge
from cdiff_helpers.runtime import pick_device

FEWEST_FOR_AGREEMENT = 500
FEWEST_FOR_DISTANCES = 2_000
Z_95 = 1.959964  # of the standard normal: 95 % lie within


@dataclass(frozen=True)
class Statistics:
    """The judge's features of the 50,000 training images."""

    mean: Tensor  # (256,) float64
    covariance: Tensor  # (256, 256) float64
    features: Tensor  # (2000, 256), of the bundled images
    basis: Tensor  # (256, 64): its columns are the features' main directions
    reduced: Tensor  # (50000, 64), along these directions
    of_test: Tensor  # the distances of the test images to their nearest neighbors there


@cache
def load_statistics() -> Statistics:
    """The bundled statistics. Raises RuntimeError where they are damaged."""
    tensors = bundled_tensors("statistics.safetensors")
    step, lowest = tensors.pop("step"), tensors.pop("lowest")
    tensors["reduced"] = tensors["reduced"].float() * step + lowest  # stored in 256 levels
    floats = {name: tensors[name].float() for name in ("features", "basis")}
    doubles = {name: tensors[name].double() for name in ("mean", "covariance")}
    return Statistics(**tensors | floats | doubles)


def score(
    images: Tensor, labels: Tensor, *, judge: Judge | None = None, allow_few: bool = False
) -> dict:
    """How good images (N, 3, 32, 32), uint8 or in [0, 1], of the classes `labels` (N,) are.

    The keys: `n`; `agreement` with the class asked for, its 95 % `agreement_interval`, both
    `…_per_class`; `confidence`, the mean of the highest probabilities; `judge_fd`, `kid`,
    `coverage` and `nearest_train`, the mean distance to the nearest training image, all against the
    training set; `nearest_train_of_test`, the test set's; `no_distances`, why these are None.

    Raises ValueError for fewer than 500 images, and computes no distances for fewer than 2,000,
    unless `allow_few`: distances of a small set are too large, its shares too uncertain.
    """
    labels, statistics = check_scored(images, labels, allow_few), load_statistics()
    features, logits = classify(judge or load_judge(pick_device()), images)
    few = len(images) < FEWEST_FOR_DISTANCES and not allow_few
    empty = dict.fromkeys(("judge_fd", "kid", "coverage", "nearest_train"))
    result = {"n": len(images)} | agreement(logits, labels)
    result |= empty if few else distances(features, statistics)
    result["nearest_train_of_test"] = statistics.of_test.mean().item()
    result["no_distances"] = too_few_message(len(images)) if few else None
    return result


def agreement(logits: Tensor, labels: Tensor) -> dict:
    """How often the judge predicts the class asked for, in all and per class, and how surely."""
    right = logits.argmax(1) == labels
    per_class = {CLASS_NAMES[c]: right[labels == c] for c in labels.unique().tolist()}
    intervals = {name: wilson_interval(int(x.sum()), len(x)) for name, x in per_class.items()}
    return {
        "agreement": right.double().mean().item(),
        "agreement_interval": wilson_interval(int(right.sum()), len(right)),
        "agreement_per_class": {k: x.double().mean().item() for k, x in per_class.items()},
        "agreement_per_class_interval": intervals,
        "confidence": logits.softmax(1).max(1).values.mean().item(),
    }


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share that was `right` times in `count` trials.

    Wilson 1927, eq. 4, which holds for small counts, too. Raises ValueError unless count >= 1 and
    0 <= right <= count.
    """
    count = validation.whole("count", count)
    share, z2 = validation.whole("right", right, 0, count) / count, Z_95**2
    center = (share + z2 / (2 * count)) / (1 + z2 / count)
    spread = math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    half = Z_95 * spread / (1 + z2 / count)
    return max(0.0, center - half), min(1.0, center + half)


def distances(features: Tensor, statistics: Statistics) -> dict:
    """The scores that compare a set's features (N, 256) with the training set's."""
    mean, covariance = mean_and_covariance(features)
    nearest, _ = nearest_training(features, statistics)
    return {
        "judge_fd": frechet_distance(mean, covariance, statistics.mean, statistics.covariance),
        "kid": kernel_distance(features, statistics.features),
        "coverage": coverage(features, statistics.features),
        "nearest_train": nearest.mean().item(),
    }


def mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Of features (N, D): float64 (D,) and (D, D)."""
    features = features.double()
    return features.mean(0), features.T.cov()


def frechet_distance(
    mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor
) -> float:
    """|μ1 - μ2|² + tr(Σ1 + Σ2 - 2 (Σ1 Σ2)^½), the squared distance of two Gaussians (eq. 6).

    The trace of the root is the sum of the roots of Σ1 Σ2's eigenvalues; those of the symmetric
    Σ1^½ Σ2 Σ1^½ are the same, and real.
    """
    values, vectors = torch.linalg.eigh(covariance1)
    root1 = vectors * values.clamp(min=0).sqrt() @ vectors.T  # (D, D)
    product = torch.linalg.eigvalsh(root1 @ covariance2 @ root1).clamp(min=0)
    trace = covariance1.trace() + covariance2.trace() - 2 * product.sqrt().sum()
    return max(0.0, ((mean1 - mean2).square().sum() + trace).item())


def kernel_distance(features1: Tensor, features2: Tensor) -> float:
    """The unbiased squared maximum mean discrepancy of features (M, D) and (N, D): the KID.

    Bińkowski et al., eq. 4 with the kernel (x·y / D + 1)³. Unbiased, it may be a little below 0.
    Raises ValueError unless M and N are at least 2.
    """
    validation.whole("the smaller number of features", min(len(features1), len(features2)), 2)
    x, y = features1.double(), features2.double()
    within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (cubic(x, x), cubic(y, y))]
    return (sum(within) - 2 * cubic(x, y).mean()).item()


def cubic(x: Tensor, y: Tensor) -> Tensor:
    """The kernel (x·y / D + 1)³ of each pair: (M, D), (N, D) -> (M, N)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def coverage(features: Tensor, real: Tensor, k: int = 5) -> float:
    """The share of real images that have a generated one nearer than their k-th real neighbor.

    Naeem et al., eq. 9. Features (N, D), and `real` (M, D) with M > k. Near 1 where every kind of
    real image is generated too; it grows with N, so compare at equal counts.
    """
    k = validation.whole("k", k, 1, len(real) - 1, hint=", fewer than there are real images")
    radii = torch.cdist(real, real).kthvalue(k + 1, dim=1).values  # the first is itself
    return (torch.cdist(real, features).min(1).values < radii).float().mean().item()


def nearest_training(
    features: Tensor, statistics: Statistics, among: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """How far each image's features (N, 256) are from the nearest training image's, and which.

    Distances (N,) along the features' 64 main directions, and indices (N,) int64 into the training
    set's standard order, or into `among`, the indices there of the images to compare with.
    """
    known = statistics.reduced if among is None else statistics.reduced[among]
    reduced = features.float() @ statistics.basis  # (N, 256) -> (N, 64)
    nearest = [torch.cdist(batch, known).min(1) for batch in reduced.split(500)]
    return torch.cat([n.values for n in nearest]), torch.cat([n.indices for n in nearest])


def standard_places(data: ImageSet) -> Tensor:
    """The indices of load_cifar10's training images in the standard order: int64 (N,)."""
    if data.source != "bundled":
        return torch.arange(len(data), device="cpu")
    subset = json.loads((BUNDLE / "subset.json").read_text(encoding="utf-8"))
    return torch.tensor(subset["train"]["indices"], device="cpu")


def check_scored(images: Tensor, labels: Tensor, allow_few: bool) -> Tensor:
    """The labels as int64 (N,) on the CPU; raises ValueError for what cannot be scored."""
    if validation.tensor("images", images).dtype != torch.uint8:
        validation.images_in_unit_range(images)
    if images.shape[1:] != (3, 32, 32):
        validation.refuse(f"images has shape {tuple(images.shape)}", "(N, 3, 32, 32)")
    if len(images) < (2 if allow_few else FEWEST_FOR_AGREEMENT):
        raise ValueError(too_few_message(len(images)))
    labels = validation.labels(labels).cpu()
    if len(labels) != len(images) or labels.max() >= len(CLASS_NAMES):
        found = f"labels has shape {tuple(labels.shape)} and values up to {labels.max()}"
        validation.refuse(found, f"one from 0 to 9 for each of the {len(images)} images")
    return labels


def too_few_message(count: int, remedy: str = "allow_few=True") -> str:
    """Why so few images are not scored, and what to do: `remedy` is how to allow it."""
    if count >= FEWEST_FOR_AGREEMENT:
        why = (
            f"for distances; expected at least {FEWEST_FOR_DISTANCES}: the covariance of 256 "
            "features needs that many, and a smaller set looks worse than it is"
        )
    else:
        low, high = wilson_interval(count // 2, max(count, 1))
        why = (
            f"to be scored; expected at least {FEWEST_FOR_AGREEMENT}: an agreement of one half "
            f"would lie anywhere from {low:.2f} to {high:.2f}"
        )
    return f"{count} images are too few {why}. Draw more, or pass {remedy}."
