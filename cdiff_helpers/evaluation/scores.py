"""What the judge's looks add up to: agreement, distances between sets, coverage, neighbours.

Home: notebook 08. Fréchet distance: Heusel et al. 2017, arXiv:1706.08500; kernel distance:
Bińkowski et al. 2018, arXiv:1801.01401; coverage: Naeem et al. 2020, arXiv:2002.09797.
"""

import json
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from cdiff_helpers.data import BUNDLE, CLASS_NAMES, ImageSet
from cdiff_helpers.evaluation.judge import Judge, bundled_tensors, judge_card, load_judge, look
from cdiff_helpers.runtime import pick_device

FEWEST_FOR_AGREEMENT = 500
FEWEST_FOR_DISTANCES = 2_000
Z_95 = 1.959964  # of the standard normal: 95 % lie within


@dataclass(frozen=True)
class Statistics:
    """What the judge saw in the 50,000 training pictures.

    `mean` (256,) and `covariance` (256, 256) of the features, float64; `features` (2000, 256) of
    the bundled ones among them; `basis` (256, 64) and `reduced` (50000, 64), all features along
    their main directions; `of_test`, the test set's own distances to its nearest neighbours there.
    """

    mean: Tensor
    covariance: Tensor
    features: Tensor
    basis: Tensor
    reduced: Tensor
    of_test: Tensor


@cache
def load_statistics() -> Statistics:
    """The bundled statistics. Raises RuntimeError where they are damaged."""
    tensors = bundled_tensors("statistics.safetensors", judge_card())
    step, lowest = tensors.pop("step"), tensors.pop("lowest")
    tensors["reduced"] = tensors["reduced"].float() * step + lowest  # stored in 256 levels
    floats = {name: tensors[name].float() for name in ("features", "basis")}
    doubles = {name: tensors[name].double() for name in ("mean", "covariance")}
    return Statistics(**tensors | floats | doubles)


def score(
    images: Tensor,
    labels: Tensor,
    *,
    judge: Judge | None = None,
    statistics: Statistics | None = None,
    allow_few: bool = False,
) -> dict:
    """How good pictures (N, 3, 32, 32) of the asked classes `labels` (N,) are, by the judge.

    Pictures are uint8 or float in [0, 1]. The answer's keys: `n`; `agreement` with the asked class,
    its 95 % `agreement_interval`, `agreement_per_class` and `agreement_per_class_interval`;
    `confidence`, the judge's mean probability of what it says; `judge_fd`, `kid`, `coverage`,
    against training pictures; `nearest_train`, the mean distance to the nearest training picture,
    and `nearest_train_of_test`, the test set's own; `no_distances`, None or why these are None.

    Raises ValueError for fewer than 500 pictures, and gives no distances for fewer than 2,000,
    unless `allow_few`: a small set's distances are too large, and its shares too uncertain.
    """
    judge, statistics = judge or load_judge(pick_device()), statistics or load_statistics()
    labels = check_scored(images, labels, allow_few)
    features, logits = look(judge, images)
    result = {"n": len(images)} | agreement(logits, labels)
    few = len(images) < FEWEST_FOR_DISTANCES and not allow_few
    empty = dict.fromkeys(("judge_fd", "kid", "coverage", "nearest_train"))
    result |= empty if few else distances(features, statistics)
    result["nearest_train_of_test"] = statistics.of_test.mean().item()
    result["no_distances"] = few_words(len(images)) if few else None
    return result


def agreement(logits: Tensor, labels: Tensor) -> dict:
    """How often the judge names the asked class, over all and for each class, and how surely."""
    right = logits.argmax(1) == labels
    named = {CLASS_NAMES[c]: right[labels == c] for c in labels.unique().tolist()}
    return {
        "agreement": right.double().mean().item(),
        "agreement_interval": wilson_interval(int(right.sum()), len(right)),
        "agreement_per_class": {name: each.double().mean().item() for name, each in named.items()},
        "agreement_per_class_interval": {
            name: wilson_interval(int(each.sum()), len(each)) for name, each in named.items()
        },
        "confidence": logits.softmax(1).max(1).values.mean().item(),
    }


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share of which `right` of `count` were seen.

    Wilson 1927, eq. 4: unlike share ± 1.96 standard errors it stays in [0, 1] and holds for few.
    """
    share, z2 = right / count, Z_95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    spread = math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    half = Z_95 * spread / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


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
    """
    x, y = features1.double(), features2.double()
    within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (cubic(x, x), cubic(y, y))]
    return (sum(within) - 2 * cubic(x, y).mean()).item()


def cubic(x: Tensor, y: Tensor) -> Tensor:
    """The kernel (x·y / D + 1)³ of each pair: (M, D), (N, D) -> (M, N)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def coverage(features: Tensor, real: Tensor, k: int = 5) -> float:
    """The share of real pictures that have a generated one nearer than their k-th real neighbour.

    Naeem et al., eq. 9. Features (N, D) and (M, D). Near 1 where every kind of real picture is
    drawn too; it grows with N, so compare at equal counts.
    """
    radii = torch.cdist(real, real).kthvalue(k + 1, dim=1).values  # itself is the first
    return (torch.cdist(real, features).min(1).values < radii).float().mean().item()


def nearest_training(
    features: Tensor, statistics: Statistics, among: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """How far each picture's features (N, 256) are from the nearest training picture's, and which.

    Distances (N,) along the features' 64 main directions, and indices (N,) int64 into the training
    set's standard order, or into `among`, where that gives the places of the pictures to look at.
    """
    known = statistics.reduced if among is None else statistics.reduced[among]
    reduced = features.float() @ statistics.basis  # (N, 256) -> (N, 64)
    found = [torch.cdist(some, known).min(1) for some in reduced.split(500)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def standard_places(data: ImageSet) -> Tensor:
    """Where load_cifar10's training pictures stand in the standard order: int64 (N,)."""
    if data.source != "bundled":
        return torch.arange(len(data), device="cpu")
    subset = json.loads((BUNDLE / "subset.json").read_text(encoding="utf-8"))
    return torch.tensor(subset["train"]["indices"], device="cpu")


def check_scored(images: Tensor, labels: Tensor, allow_few: bool) -> Tensor:
    """The labels as int64 (N,) on the CPU; raises ValueError for what cannot be scored."""
    check_kinds(images, labels)
    labels = torch.as_tensor(labels).cpu()
    if images.ndim != 4 or images.shape[1:] != (3, 32, 32):
        raise ValueError(f"images has shape {tuple(images.shape)}; expected (N, 3, 32, 32).")
    if len(images) < (2 if allow_few else FEWEST_FOR_AGREEMENT):
        raise ValueError(few_words(len(images)))
    floats = images.is_floating_point()
    if floats and not 0 <= float(images.min()) <= float(images.max()) <= 1:
        raise ValueError(
            f"images lies in [{images.min():.3g}, {images.max():.3g}]; expected [0, 1], or uint8. "
            "Use to_image_range(x) for the network's [-1, 1]."
        )
    if not floats and images.dtype != torch.uint8:
        raise ValueError(f"images has dtype {images.dtype}; expected uint8, or floats in [0, 1].")
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"labels has shape {tuple(labels.shape)} and dtype {labels.dtype}; expected one whole "
            f"number for each of the {len(images)} images."
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < len(CLASS_NAMES):
        raise ValueError(
            f"labels holds values from {labels.min()} to {labels.max()}; expected 0 … 9."
        )
    return labels.long()


def check_kinds(images: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless pictures are a tensor and labels whole numbers."""
    if not isinstance(images, Tensor):
        raise ValueError(f"images is a {type(images).__name__}; expected a tensor (N, 3, 32, 32).")
    try:
        torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"labels is {labels!r}; expected whole numbers from 0 to 9, one per image."
        ) from None


def few_words(count: int) -> str:
    """Why so few pictures are not scored, and what to do."""
    if count < FEWEST_FOR_AGREEMENT:
        low, high = wilson_interval(count // 2, max(count, 1))
        return (
            f"{count} images are too few to be scored; expected at least {FEWEST_FOR_AGREEMENT}: "
            f"an agreement of one half would lie anywhere from {low:.2f} to {high:.2f}. Draw more, "
            "or pass allow_few=True."
        )
    return (
        f"{count} images are too few for distances; expected at least {FEWEST_FOR_DISTANCES}: "
        "the covariance of 256 features needs that many, and a smaller set looks worse than it is. "
        "Draw more, or pass allow_few=True."
    )
