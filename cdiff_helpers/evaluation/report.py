"""A set's scores for people: a table in the shell, a figure in the notebook.

Home: notebook 08.
"""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cdiff_helpers.data import CLASS_NAMES
from cdiff_helpers.evaluation.judge import as_seen, judge_card
from cdiff_helpers.visualization import BLUE, GREEN, GREY, ORANGE, new_figure, tile_images

WORDS = {
    "agreement": "agreement with the asked class",
    "confidence": "the judge's mean confidence",
    "judge_fd": "judge-FD (0: as the training set)",
    "kid": "KID (0: as the training set)",
    "coverage": "coverage of the training set",
    "nearest_train": "distance to the nearest training picture",
}


def score_table(scores: dict) -> str:
    """`score`'s answer as lines of text, beside that of as many real test pictures."""
    real = judge_card()["real"]
    low, high = scores["agreement_interval"]
    lines = [f"{'':42}{scores['n']:>9,}  real test"]
    for key, words in WORDS.items():
        value = "refused" if scores[key] is None else f"{scores[key]:.4f}"
        lines.append(f"{words:42}{value:>9}  {real[key]:.4f}")
        if key == "agreement":
            lines.append(f"{'  95 % interval':42}{low:.3f} … {high:.3f}")
    for name, value in scores["agreement_per_class"].items():
        low, high = scores["agreement_per_class_interval"][name]
        real_value = real["agreement_per_class"][name]
        lines.append(f"  {name:40}{value:>9.3f}  {real_value:.3f}   ({low:.3f} … {high:.3f})")
    return "\n".join([*lines, *filter(None, [scores["no_distances"]])])


def plot_scores(scores: dict, images: Tensor, labels: Tensor, *, per_class: int = 8) -> Figure:
    """Agreement with the asked class, as in `draw_agreement`, beside pictures of each class.

    `images` (N, 3, 32, 32) in [0, 1] or uint8 and `labels` (N,) are what was scored.
    """
    names = list(scores["agreement_per_class"])
    figure, [[left, right]] = new_figure(agreement_words(scores), 1, 2, size=(9, 4))
    draw_agreement(left, {"these pictures": scores})
    chosen = [torch.as_tensor(labels) == CLASS_NAMES.index(name) for name in names]
    per_class = min(per_class, *(int(of_class.sum()) for of_class in chosen))
    shown = torch.cat([as_seen(images[of_class][:per_class]) for of_class in chosen])
    right.imshow(tile_images(shown, per_class), interpolation="nearest")
    right.set(xticks=[], yticks=[16 + 32 * i for i in range(len(names))], yticklabels=names)
    right.set_title(f"the first {per_class} of each class", fontsize=10)
    return figure


def plot_agreement(scores: dict[str, dict]) -> Figure:
    """Agreement with the asked class of several sets, each under its name: `score`'s answers."""
    alt = "; ".join(f"{name}: {agreement_words(each)}" for name, each in scores.items())
    figure, [[axis]] = new_figure(alt, size=(7, 4))
    draw_agreement(axis, scores)
    return figure


def agreement_words(scores: dict) -> str:
    """The agreement for each class, for whoever cannot see the bars."""
    shares = scores["agreement_per_class"].items()
    return "agreement " + ", ".join(f"{name} {share:.2f}" for name, share in shares)


def draw_agreement(axis: Axes, scores: dict[str, dict]) -> None:
    """A bar a class and set with its 95 % interval; real test pictures' shares as grey marks."""
    height = 0.8 / len(scores)
    for k, (title, each) in enumerate(scores.items()):
        shares, intervals = each["agreement_per_class"], each["agreement_per_class_interval"]
        places = [CLASS_NAMES.index(name) + (k + 0.5) * height - 0.4 for name in shares]
        values = list(shares.values())
        # Rounding may hide that a share of 0 or 1 lies within its interval
        below = [max(0, shares[name] - intervals[name][0]) for name in shares]
        above = [max(0, intervals[name][1] - shares[name]) for name in shares]
        style = {"color": (BLUE, ORANGE, GREEN)[k], "ecolor": "black", "height": height}
        label = f"{title}: {each['agreement']:.3f}"
        axis.barh(places, values, xerr=[below, above], label=label, **style)
    real = judge_card()["real"]["agreement_per_class"]
    marks = [real[name] for name in CLASS_NAMES]
    axis.scatter(
        marks, range(len(marks)), marker="|", s=250, color=GREY, label="real test pictures"
    )
    axis.axvline(1 / len(CLASS_NAMES), color=GREY, linestyle=":", linewidth=1, label="chance")
    axis.set(yticks=range(len(CLASS_NAMES)), yticklabels=CLASS_NAMES)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="share in which the judge sees the asked class")
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=8)


def plot_guidance(scores: Sequence[dict]) -> Figure:
    """What guidance buys and costs: agreement, judge-FD and coverage over the guidance scale.

    `scores` are `recorded_scores("guidance")`, or the like: dicts with `guidance_scale`, and
    `score`'s answer. Real test images' own scores are dashed.
    """
    best = min(scores, key=lambda each: each["judge_fd"])["guidance_scale"]
    widest = max(scores, key=lambda each: each["coverage"])["guidance_scale"]
    surest = max(scores, key=lambda each: each["agreement"])["guidance_scale"]
    alt = (
        f"over the guidance scale: agreement is highest at {surest}, judge-FD lowest at {best}, "
        f"coverage highest at {widest}"
    )
    figure, [axes] = new_figure(alt, 1, 3, size=(9, 2.8))
    real, scales = judge_card()["real"], [each["guidance_scale"] for each in scores]
    names = ("agreement", "judge_fd", "coverage")
    titles = ("agreement (more is better)", "judge-FD (less)", "coverage (more)")
    for axis, name, title, color in zip(axes, names, titles, (BLUE, ORANGE, GREEN)):
        axis.plot(scales, [each[name] for each in scores], "o-", color=color, markersize=4)
        axis.axhline(real[name], color=GREY, linestyle="--", label="real test images")
        axis.axvline(1, color=GREY, linestyle=":", linewidth=1)
        axis.set(xlabel="guidance scale")
        axis.set_title(title, fontsize=10)
    draw_log_distance(axes[1])
    low, high = zip(*(each["agreement_interval"] for each in scores))
    axes[0].fill_between(scales, low, high, color=BLUE, alpha=0.2)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def plot_progress(runs: dict[str, Sequence[dict]]) -> Figure:
    """What seeing more images buys: judge-FD and agreement over them, a line per run, on log axes.

    Each run's scores, under its name, are `recorded_scores("snapshots", run)`, or the like: dicts
    with `images_seen` and `score`'s answer. A run's last point, the end of its learning-rate cycle,
    is filled; those before it are hollow.
    """
    alt = "; ".join(progress_words(run, scores) for run, scores in runs.items())
    figure, [axes] = new_figure(alt, 1, 2, size=(8, 2.8))
    real = judge_card()["real"]
    titles = {"judge_fd": "judge-FD (less is better)", "agreement": "agreement (more is better)"}
    for axis, (name, title) in zip(axes, titles.items()):
        for (run, scores), color, mark in zip(runs.items(), (GREY, GREEN, BLUE), "so^"):
            images, values = zip(*((each["images_seen"], each[name]) for each in scores))
            axis.plot(images, values, f"{mark}-", color=color, markerfacecolor="white", label=run)
            axis.plot(images[-1], values[-1], mark, color=color)
        axis.axhline(real[name], color="black", linestyle=":", label="real test images")
        axis.set(xlabel="training images seen", xscale="log")
        axis.set_title(title, fontsize=10)
    draw_log_distance(axes[0])
    axes[1].set(ylim=(0, 1))
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def progress_words(run: str, scores: Sequence[dict]) -> str:
    """A run's first and last point, for whoever cannot see its line."""
    first, last = scores[0], scores[-1]
    return (
        f"{run}, from {first['images_seen']:,} to {last['images_seen']:,} images seen: judge-FD "
        f"from {first['judge_fd']:.0f} to {last['judge_fd']:.0f}, agreement from "
        f"{first['agreement']:.2f} to {last['agreement']:.2f}"
    )


def plot_solvers(scores: Sequence[dict]) -> Figure:
    """How good each solver's images are for their network calls, a panel per guidance scale.

    `scores` are `recorded_scores("solvers")`, or the like: dicts with `guidance_scale`, `solver`,
    `num_steps` and `score`'s answer.
    """
    scales = sorted({each["guidance_scale"] for each in scores})
    by_scale = {w: [each for each in scores if each["guidance_scale"] == w] for w in scales}
    alt = "; ".join(solver_words(scale, own) for scale, own in by_scale.items())
    figure, [axes] = new_figure(
        f"judge-FD over network calls: {alt}", 1, len(scales), size=(8, 2.7)
    )
    distances = [each["judge_fd"] for each in scores]
    limits = (min(distances) / 1.2, max(distances) * 1.2)
    for axis, (scale, of_scale) in zip(axes, by_scale.items()):
        for solver, color, mark in zip(("ddpm", "ddim", "dpm++2m"), (BLUE, ORANGE, GREEN), "sod"):
            own = [each for each in of_scale if each["solver"] == solver]
            calls, distance = ([each[key] for each in own] for key in ("num_steps", "judge_fd"))
            axis.loglog(calls, distance, f"{mark}-", color=color, label=solver, markersize=4)
        axis.set(xlabel="network calls per image", ylabel="judge-FD (less is better)")
        axis.set_title(f"guidance scale {scale}", fontsize=10)
        calls = sorted({each["num_steps"] for each in of_scale} & {5, 10, 20, 50, 100, 200})
        axis.set_xticks(calls, [str(n) for n in calls])
        axis.set(ylim=limits)
        draw_log_distance(axis)
        axis.minorticks_off()
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def draw_log_distance(axis: Axes) -> None:
    """A logarithmic y axis with the numbers of a judge-FD written out."""
    axis.set(yscale="log")
    low, high = axis.get_ylim()
    places = [place for place in (3, 10, 30, 100, 300) if low <= place <= high]
    axis.set_yticks(places, [str(place) for place in places])


def solver_words(scale: float, scores: Sequence[dict]) -> str:
    """Which solver and number of calls has the lowest judge-FD at a scale, in words."""
    best = min(scores, key=lambda each: each["judge_fd"])
    return (
        f"at guidance scale {scale} the lowest is {best['judge_fd']:.1f}, by {best['solver']} in "
        f"{best['num_steps']}"
    )
