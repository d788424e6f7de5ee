"""Scores for people: a table in the shell, figures in the notebooks. Home: notebook 08.

Scores are dicts that `score` returned; `reference.recorded_scores` adds the samples' options.
"""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cdiff_helpers.data import CLASS_NAMES
from cdiff_helpers.evaluation.judge import judge_card, quantized
from cdiff_helpers.evaluation.scores import too_few_message
from cdiff_helpers.visualization import BLUE, GREEN, GREY, ORANGE, new_figure, tile_images

COLORS = (BLUE, ORANGE, GREEN)
TITLES = {
    "agreement": "agreement with the asked class",
    "confidence": "the judge's mean confidence",
    "judge_fd": "judge-FD (0: as the training set)",
    "kid": "KID (0: as the training set)",
    "coverage": "coverage of the training set",
    "nearest_train": "distance to the nearest training image",
}


def score_table(scores: dict) -> str:
    """What `score` returned, as the shell prints it beside the scores of 2,000 real test images."""
    real, (low, high) = judge_card()["real"], scores["agreement_interval"]
    lines = [f"{'':42}{scores['n']:>9,}  real test"]
    for key, title in TITLES.items():
        value = "refused" if scores[key] is None else f"{scores[key]:.4f}"
        lines.append(f"{title:42}{value:>9}  {real[key]:.4f}")
    lines.insert(2, f"{'  95 % interval':42}{low:.3f} … {high:.3f}")
    for name, value in scores["agreement_per_class"].items():
        low, high = scores["agreement_per_class_interval"][name]
        real_value = real["agreement_per_class"][name]
        lines.append(f"  {name:40}{value:>9.3f}  {real_value:.3f}   ({low:.3f} … {high:.3f})")
    if scores["no_distances"]:
        lines.append(too_few_message(scores["n"], "--allow-few"))
    return "\n".join(lines)


def plot_scores(scores: dict, images: Tensor, labels: Tensor) -> Figure:
    """Agreement with the class asked for, beside up to eight images of each class.

    `images` (N, 3, 32, 32) in [0, 1] or uint8 and `labels` (N,) are what was scored.
    """
    names = list(scores["agreement_per_class"])
    alt = f"agreement with each asked class, {scores['agreement']:.2f} in all, beside their images"
    figure, [[left, right]] = new_figure(alt, 1, 2, size=(9, 4))
    draw_agreement(left, {"these pictures": scores})
    of_class = [torch.as_tensor(labels) == CLASS_NAMES.index(name) for name in names]
    per_class = min(8, *(int(chosen.sum()) for chosen in of_class))
    examples = torch.cat([quantized(images[chosen][:per_class]) for chosen in of_class])
    right.imshow(tile_images(examples, per_class), interpolation="nearest")
    right.set(xticks=[], yticks=[16 + 32 * i for i in range(len(names))], yticklabels=names)
    right.set_title(f"the first {per_class} of each class", fontsize=10)
    return figure


def plot_agreement(scores: dict[str, dict]) -> Figure:
    """Agreement with the class asked for of up to three named sets."""
    shares = ", ".join(f"{name} {each['agreement']:.2f}" for name, each in scores.items())
    figure, [[axis]] = new_figure(f"agreement with each asked class; in all {shares}", size=(7, 4))
    draw_agreement(axis, scores)
    return figure


def draw_agreement(axis: Axes, scores: dict[str, dict]) -> None:
    """A bar per class and set with its 95 % interval, and a grey mark for real test images."""
    height = 0.8 / len(scores)
    for k, (title, each) in enumerate(scores.items()):
        shares, intervals = each["agreement_per_class"], each["agreement_per_class_interval"]
        y = [CLASS_NAMES.index(name) + (k + 0.5) * height - 0.4 for name in shares]
        values = np.array(list(shares.values()))
        low, high = np.transpose([intervals[name] for name in shares])
        errors = np.maximum(0, [values - low, high - values])  # rounding may leave -1e-17
        label, color = f"{title}: {each['agreement']:.3f}", COLORS[k]
        axis.barh(y, values, height, xerr=errors, label=label, color=color, ecolor="black")
    real, places = judge_card()["real"]["agreement_per_class"], range(len(CLASS_NAMES))
    marks = [real[name] for name in CLASS_NAMES]
    axis.scatter(marks, places, marker="|", s=250, color=GREY, label="real test pictures")
    axis.axvline(1 / len(CLASS_NAMES), color=GREY, linestyle=":", linewidth=1, label="chance")
    axis.set(yticks=places, yticklabels=CLASS_NAMES)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="share in which the judge sees the asked class")
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8)


def plot_guidance(scores: Sequence[dict]) -> Figure:
    """Agreement, judge-FD and coverage over `guidance_scale`; those of real images are dashed."""
    alt = f"agreement, coverage and judge-FD by guidance scale; {lowest(scores, 'guidance_scale')}"
    figure, [axes] = new_figure(alt, 1, 3, size=(9, 2.8))
    titles = ("agreement (more is better)", "judge-FD (less)", "coverage (more)")
    for axis, key, title, color in zip(axes, ("agreement", "judge_fd", "coverage"), titles, COLORS):
        axis.plot(*columns(scores, "guidance_scale", key), "o-", color=color, markersize=4)
        real = judge_card()["real"][key]
        axis.axhline(real, color=GREY, linestyle="--", label="real test images")
        axis.axvline(1, color=GREY, linestyle=":", linewidth=1)
        axis.set(xlabel="guidance scale")
        axis.set_title(title, fontsize=10)
    log_distance_axis(axes[1])
    scales, intervals = columns(scores, "guidance_scale", "agreement_interval")
    axes[0].fill_between(scales, *zip(*intervals), color=BLUE, alpha=0.2)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def plot_progress(runs: dict[str, Sequence[dict]]) -> Figure:
    """Judge-FD and agreement over `images_seen`, a line per named run.

    The last point of a run, the end of its learning-rate cycle, is filled.
    """
    alts = [f"{run}: {lowest(scores, 'images_seen')}" for run, scores in runs.items()]
    figure, [axes] = new_figure("by images seen; " + "; ".join(alts), 1, 2, size=(8, 2.8))
    titles = {"judge_fd": "judge-FD (less is better)", "agreement": "agreement (more is better)"}
    for axis, (key, title) in zip(axes, titles.items()):
        for (run, scores), color, mark in zip(runs.items(), (GREY, GREEN, BLUE), "so^"):
            x, y = columns(scores, "images_seen", key)
            axis.plot(x, y, f"{mark}-", color=color, markerfacecolor="white", label=run)
            axis.plot(x[-1], y[-1], mark, color=color)
        real = judge_card()["real"][key]
        axis.axhline(real, color="black", linestyle=":", label="real test images")
        axis.set(xlabel="training images seen", xscale="log")
        axis.set_title(title, fontsize=10)
    log_distance_axis(axes[0])
    axes[1].set(ylim=(0, 1))
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def plot_solvers(scores: Sequence[dict]) -> Figure:
    """Judge-FD over `num_steps`, a panel per `guidance_scale` and a line per `solver`."""
    scales = sorted({each["guidance_scale"] for each in scores})
    panels = [[each for each in scores if each["guidance_scale"] == scale] for scale in scales]
    alts = [f"scale {w}: {lowest(panel, 'num_steps')}" for w, panel in zip(scales, panels)]
    figure, [axes] = new_figure(
        "by network calls; " + "; ".join(alts), 1, len(scales), size=(8, 2.7)
    )
    [distances] = columns(scores, "judge_fd")
    for axis, scale, panel in zip(axes, scales, panels):
        for solver, color, mark in zip(("ddpm", "ddim", "dpm++2m"), COLORS, "sod"):
            own = [each for each in panel if each["solver"] == solver]
            x, y = columns(own, "num_steps", "judge_fd")
            axis.loglog(x, y, f"{mark}-", color=color, label=solver, markersize=4)
        ticks = sorted({s["num_steps"] for s in panel} & {5, 10, 20, 50, 100, 200})
        axis.set_xticks(ticks, [str(n) for n in ticks])
        axis.set(xlabel="network calls per image", ylabel="judge-FD (less is better)")
        axis.set(ylim=(min(distances) / 1.2, max(distances) * 1.2))
        axis.set_title(f"guidance scale {scale}", fontsize=10)
        log_distance_axis(axis)
        axis.minorticks_off()
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def columns(scores: Sequence[dict], *keys: str) -> list[list]:
    """What stands under each of the keys, as a list per key."""
    return [[each[key] for each in scores] for key in keys]


def lowest(scores: Sequence[dict], option: str) -> str:
    """The lowest judge-FD and the option's value there, for alternative text."""
    best = min(scores, key=lambda each: each["judge_fd"])
    return f"judge-FD lowest at {best[option]:,}: {best['judge_fd']:.1f}"


def log_distance_axis(axis: Axes) -> None:
    """Make the y axis logarithmic, with ticks for the values of a judge-FD."""
    axis.set(yscale="log")
    low, high = axis.get_ylim()
    ticks = [tick for tick in (3, 10, 30, 100, 300) if low <= tick <= high]
    axis.set_yticks(ticks, [str(tick) for tick in ticks])
