"""What a student edits in a notebook counts, and what a student defines works everywhere."""

import ast
import functools
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from cdiff_helpers import diffusion, sampling, unet
from cdiff_helpers.data import ResidentLoader, load_cifar10
from cdiff_helpers.sampling import denoise, sample_conditional_images
from cdiff_helpers.training import TrainConfig, TrainState, checkpointed, state, train
from cdiff_helpers.visualization import (
    plot_beta_schedule,
    plot_denoising,
    plot_noising,
    visualize_conditional_generation,
)
from cdiff_helpers.widgets import (
    noising_frames,
    sampler_board,
    sampling_frames,
    step_by_step,
)
from tests.support.notebooks import NOTEBOOKS, as_python, cells, is_woven


class WithoutAsserts(ast.NodeTransformer):
    """An edited definition no longer agrees with the lines by hand, and says so: not the point."""

    def visit_Assert(self, node):
        return ast.copy_location(ast.Pass(), node)


def values(figure):
    """All numbers that a figure shows: its lines and its images; none for one of histograms."""
    lines = [line.get_ydata() for axis in figure.axes for line in axis.lines]
    images = [image.get_array() for axis in figure.axes for image in axis.images]
    parts = [np.ravel(np.asarray(part, dtype=float)) for part in lines + images]
    return np.concatenate([np.zeros(0), *parts])


@functools.cache
def unedited(number, until):
    """What the notebook's figures show as it stands."""
    return figures_of(number, until, lambda source: source)


def figures_of(number, until, edit):
    """What a notebook's figures show up to and with a cell, as {cell id: numbers}."""
    (path,) = (path for path in NOTEBOOKS if path.stem.startswith(number))
    names, shown = {"__name__": "__main__"}, {}
    for cell in cells(path, "code")[1:]:
        tree = WithoutAsserts().visit(
            ast.parse(edit(as_python(cell)) if is_woven(cell) else as_python(cell))
        )
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, cell.id, "exec"), names)
        value = last and eval(compile(ast.Expression(last.value), cell.id, "eval"), names)
        if isinstance(value, Figure):
            shown[cell.id] = values(value)
        if cell.id == until:
            return shown
    raise AssertionError(f"{path.stem} has no cell {until}")


# What is edited: the notebook, a figure below, and a piece of a line with what replaces it
EDITS = {
    "cosine_alpha_bar": ("03", "c03-041", "return f / math.cos(", "return 0.5 * f / math.cos("),
    "add_noise": ("03", "c03-041", "(1 - alpha_bar).sqrt() * noise, noise", "0 * noise, noise"),
    "diffusion_loss": ("05", "c05-067", "return (loss_weights(", "return 0.5 * (loss_weights("),
    "guided_noise": ("06", "c06-047", "return eps_null + ", "return 0.5 * eps_null + "),
}
SLOW = {"diffusion_loss", "guided_noise"}
CASES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in EDITS]


@pytest.mark.parametrize("name", CASES)
def test_what_a_student_edits_changes_the_figures_below(name, tmp_path, monkeypatch):
    number, until, old, new = EDITS[name]
    monkeypatch.setenv("CDIFF_PRESET", "reduced")
    edited = []

    def edit(source):
        if f"def {name}(" not in source:
            return source
        assert source.count(old) == 1
        edited.append(name)
        return source.replace(old, new)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the notebooks' own runs have warnings as errors
        monkeypatch.setenv("CDIFF_HOME", str(tmp_path / "before"))
        before = unedited(number, until)
        monkeypatch.setenv("CDIFF_HOME", str(tmp_path / "after"))
        after = figures_of(number, until, edit)
    assert edited == [name] and before.keys() == after.keys()
    changed = [id for id in before if not np.allclose(before[id], after[id], equal_nan=True)]
    assert until in changed


def own(module, *names):
    """Definitions of a module as a notebook's cell would make them: not the package's objects."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    namespace = {"__name__": "__main__"}
    exec(compile(source, module.__name__, "exec"), namespace)
    return [namespace[name] for name in names]


class Minimal:
    """A process of one's own with what the contract names, and nothing else."""

    def __init__(self, num_steps):
        package = diffusion.DiffusionProcess(num_steps)
        self.num_steps = num_steps
        self.betas, self.alphas, self.alpha_bar = package.betas, package.alphas, package.alpha_bar
        self.add_noise, self.predict_x0 = package.add_noise, package.predict_x0
        self.posterior = package.posterior


(OwnProcess,) = own(diffusion, "DiffusionProcess")
(OwnNetwork,) = own(unet, "ConditionalUNet")
(OwnEMA,) = own(state, "EMA")
TINY = {"num_steps": 20, "channels": (4,), "emb_dim": 8}


@pytest.mark.parametrize("kind", [OwnProcess, Minimal], ids=["woven", "minimal"])
def test_a_students_own_classes_work_in_training_sampling_and_figures(kind, tmp_path):
    assert OwnProcess is not diffusion.DiffusionProcess
    process, model = kind(20), OwnNetwork(**TINY)
    run = TrainState(model, TrainConfig(num_updates=3, batch_size=4))
    run.ema = OwnEMA(model)
    data = load_cifar10(source="bundled")
    batch = next(iter(ResidentLoader(data, 4)))
    loader = [batch, batch]  # a loader of one's own
    steps = list(checkpointed(train(run, process, loader), run, tmp_path / "run"))
    assert len(steps) == 3 and run.ema.num_updates == 3
    for solver in sampling.SOLVERS:
        frames = list(denoise(model, process, [1, 2], solver=solver, num_steps=4))
        assert len(frames) == 5
    package = diffusion.DiffusionProcess(20)
    ours, theirs = (
        sample_conditional_images(model, p, [1, 2], num_steps=5, guidance_scale=2.0)
        for p in (process, package)
    )
    assert torch.allclose(ours, theirs, atol=1e-3)
    assert plot_noising(process, batch[0][0], [0, 19]) and plot_beta_schedule(process)
    assert plot_denoising(frames) and sampling_frames(process, frames, count=3)
    assert noising_frames(process, batch[0][:1], [0, 19])
    assert visualize_conditional_generation(model, process, labels=[1], num_steps=2)
    sampler_board(model, process, classes=["cat"], num_steps=2).close()
    step_by_step(model, process, num_steps=3, walked=2).close()
