"""A table of bad input: each is refused in a sentence that names it and what was expected."""

import math
import re

import pytest
import torch

from cdiff_helpers import load_reference
from cdiff_helpers.data import (
    BinaryCIFAR10,
    ImageSet,
    ResidentLoader,
    load_cifar10,
    make_loader,
    to_image_range,
    to_model_range,
    to_uint8,
)
from cdiff_helpers.diffusion import DiffusionProcess, cosine_alpha_bar
from cdiff_helpers.evaluation import coverage, kernel_distance, score, wilson_interval
from cdiff_helpers.reference import load_record, recorded_scores
from cdiff_helpers.runtime import course_preset, pick_device, seed_everything
from cdiff_helpers.sampling import Frame, denoise, guided_noise, sample_conditional_images
from cdiff_helpers.training import (
    EMA,
    TrainConfig,
    TrainState,
    checkpointed,
    diffusion_loss,
    draw_times,
    drop_labels,
    extended,
    load_checkpoint,
    loss_weights,
    save_checkpoint,
    train,
)
from cdiff_helpers.unet import (
    ConditionalUNet,
    ConvBlock,
    SelfAttention,
    SinusoidalPositionEmbeddings,
)
from cdiff_helpers.visualization import (
    plot_beta_schedule,
    plot_denoising,
    plot_losses,
    plot_noising,
    show_images,
    tile_images,
    visualize_conditional_generation,
)
from cdiff_helpers.widgets import (
    class_picker,
    film,
    guidance_frames,
    noising_explorer,
    noising_frames,
    sampler_board,
    sampling_frames,
    step_by_step,
)
from tests.support.runs import TINY, fresh

NAN, INF = math.nan, math.inf
T = 20
process = DiffusionProcess(T)
longer = DiffusionProcess(30)
model = ConditionalUNet(**TINY).eval()
x, y, t = torch.zeros(2, 3, 8, 8), torch.tensor([1, 2]), torch.tensor([3, 4])
elsewhere = x.to("meta")
BUNDLE = load_cifar10(source="bundled", train=False)
NO_IMAGES = ImageSet(BUNDLE.images[:0], BUNDLE.labels[:0], BUNDLE.classes, "bundled")


def remedy(value):
    """Bytes are pointed to the function that makes a model's range of them."""
    return "to_model_range" if getattr(value, "dtype", None) == torch.uint8 else ""


def oracle(xt, t, y):
    return xt


def drawn(*labels, network=model, chain=process, **options):
    return sample_conditional_images(network, chain, list(labels), **{"num_steps": 2} | options)


# What is called with one bad value, the bad values, and how each is shown in the message
TABLE = {
    # runtime
    "course_preset": (course_preset, ["huge", "CPU", 3, ["cpu"]], repr),
    "pick_device": (pick_device, ["tpu", "cuda:99", "", "gpu", None, 7], repr),
    "seed_everything": (seed_everything, [-1, 2**63, 1.5, "0", None, NAN, True], repr),
    # data
    "load_cifar10 source": (lambda v: load_cifar10(source=v), ["web", "", None, 3, "NPM"], repr),
    "load_cifar10 train": (lambda v: load_cifar10(train=v), ["no", 1, None], repr),
    "load_cifar10 min_rate": (lambda v: load_cifar10(min_rate=v), [-1, NAN, "fast"], repr),
    "load_cifar10 root": (lambda v: load_cifar10(v, source="npm"), [3, __file__], str),
    "BinaryCIFAR10": (
        lambda v: BinaryCIFAR10(v, source="bundled"),
        [(), ("unicorn",), ("cat", "cat"), (3, "cat"), (10,), (-1,), (True,), 3.5, None, "Cat"],
        lambda v: "unicorn" if v == ("unicorn",) else "",
    ),
    "make_loader batch_size": (
        lambda v: make_loader(BUNDLE, v), [0, -5, 2.5, "8", None, True], repr,
    ),
    "make_loader seed": (
        lambda v: make_loader(BUNDLE, 8, v), [-1, 1.5, "0", None, True, 2**63], repr,
    ),
    "make_loader num_workers": (
        lambda v: make_loader(BUNDLE, 8, num_workers=v), [-1, 0.5, "2", None], repr,
    ),
    "make_loader data": (lambda v: make_loader(v, 8), [[], 5, None], lambda v: ""),
    "make_loader empty": (make_loader, [NO_IMAGES], lambda v: "empty"),
    "ResidentLoader empty": (ResidentLoader, [NO_IMAGES], lambda v: "empty"),
    "ResidentLoader data": (ResidentLoader, [[], 5, None, [1, 2]], lambda v: ""),
    "ResidentLoader batch_size": (
        lambda v: ResidentLoader(BUNDLE, v), [0, -5, 2.5, "8", None, True], repr,
    ),
    "ResidentLoader seed": (
        lambda v: ResidentLoader(BUNDLE, 8, v), [-1, 1.5, "0", None, True, 2**63], repr,
    ),
    "ResidentLoader device": (lambda v: ResidentLoader(BUNDLE, 8, 0, v), ["tpu", "cuda:99"], repr),
    "ResidentLoader share": (
        lambda v: ResidentLoader(BUNDLE, 8, share=v), [(2, 2), (0, 0), (-1, 2), (0, 9)], repr,
    ),
    "to_model_range": (
        to_model_range,
        [torch.tensor([1.5]), torch.tensor([-0.1]), torch.tensor([NAN]), [0.5], None, "x"],
        lambda v: "",
    ),
    "to_image_range": (
        to_image_range, [torch.zeros(2, dtype=torch.uint8), [0.5], None], lambda v: "",
    ),
    "to_uint8": (to_uint8, [torch.zeros(2, dtype=torch.uint8), [0.5], None], lambda v: ""),
    # diffusion
    "cosine_alpha_bar": (cosine_alpha_bar, [0, -1, 2.5, "9", None, True], repr),
    "DiffusionProcess": (DiffusionProcess, [0, -1, 2.5, "9", None, True, NAN], repr),
    "DiffusionProcess betas": (
        lambda v: DiffusionProcess(2, betas=v),
        [
            [0.1], [0.1, 1.0], [0.0, 0.1], [0.1, NAN], [[0.1, 0.2]], "ab", [0.1, INF],
            torch.ones(2), torch.zeros(2), torch.full((3,), 0.1),
        ],
        lambda v: "",
    ),
    "add_noise t": (
        lambda v: process.add_noise(x, v),
        [
            torch.tensor([3, T]), torch.tensor([-1, 3]), torch.tensor([3]), torch.tensor([3.0, 4]),
            torch.tensor([[3, 4]]), torch.tensor(3), torch.tensor([3, 4], dtype=torch.int32),
            [3, 4], 3, None, torch.zeros(2, dtype=torch.int64, device="meta"),
        ],
        lambda v: "",
    ),
    "add_noise x0": (
        lambda v: process.add_noise(v, t),
        [x.to(torch.uint8), x.long(), x[0, 0, 0], x.numpy(), None, [0.0], elsewhere],
        remedy,
    ),
    "add_noise noise": (
        lambda v: process.add_noise(x, t, v),
        [x[:1], torch.zeros(2, 3, 8, 1), x.to(torch.uint8), 0.5, x.numpy(), elsewhere],
        lambda v: "",
    ),
    "add_noise generator": (lambda v: process.add_noise(x, t, generator=v), [0, "seed"], repr),
    "predict_x0 eps": (
        lambda v: process.predict_x0(x, t, v), [x[:1], x[..., :4], None, elsewhere], lambda v: "",
    ),
    "predict_x0 t": (
        lambda v: process.predict_x0(x, v, x),
        [torch.tensor([0, T]), torch.tensor([0.0, 1]), t[:1]],
        lambda v: "",
    ),
    "posterior t_prev": (
        lambda v: process.posterior(x, x, t, v),
        [t, t + 1, torch.tensor([-2, 0]), t[:1] - 1, 1, torch.tensor([0.0, 1.0])],
        lambda v: "",
    ),
    "posterior x0_hat": (
        lambda v: process.posterior(v, x, t), [x[:1], x[:, :1], None, elsewhere], lambda v: "",
    ),
    # network
    "SinusoidalPositionEmbeddings": (
        SinusoidalPositionEmbeddings, [0, 1, 7, -2, 4.0, "8", None], repr,
    ),
    "SinusoidalPositionEmbeddings t": (
        SinusoidalPositionEmbeddings(8), [torch.zeros(2, 2), 3, [1, 2], None], lambda v: "",
    ),
    "ConvBlock in_channels": (lambda v: ConvBlock(v, 8, 8), [0, -4, 2.5, "4", None], repr),
    "ConvBlock out_channels": (lambda v: ConvBlock(8, v, 8), [0, -4, 2.5, "4", None], repr),
    "ConvBlock emb_dim": (lambda v: ConvBlock(8, 8, v), [0, -4, 2.5, "4", None], repr),
    "SelfAttention": (SelfAttention, [0, 6, -4, 2.5, "8", None], repr),
    "SelfAttention num_heads": (lambda v: SelfAttention(8, v), [0, 3, -1, 2.5, "2", None], repr),
    "ConditionalUNet num_classes": (
        lambda v: ConditionalUNet(v), [0, -1, 2.5, "10", None, True], repr,
    ),
    "ConditionalUNet num_steps": (
        lambda v: ConditionalUNet(num_steps=v), [0, -1, 2.5, "9", None], repr,
    ),
    "ConditionalUNet channels": (
        lambda v: ConditionalUNet(channels=v), [(), (6,), (0,), (8.0,), 8, None, ("8",), (-4,)],
        lambda v: "",
    ),
    "ConditionalUNet emb_dim": (
        lambda v: ConditionalUNet(emb_dim=v), [0, 7, -8, 16.0, "8", None], repr,
    ),
    "model xt": (
        lambda v: model(v, t, y),
        [
            x[:1], x[:, :1], x[..., :7], x.to(torch.uint8), x[0], None, x.numpy(), elsewhere,
            torch.zeros(2, 3, 0, 0),
        ],
        remedy,
    ),
    "model t": (lambda v: model(x, v, y), [t[:1], t + T, t - 9, t.float(), 3, None], lambda v: ""),
    "model y": (
        lambda v: model(x, t, v), [y[:1], y + 9, y - 5, y.float(), 3, None, [1, 2]], lambda v: "",
    ),
    # training (the settings are in test_training.py)
    "drop_labels p": (
        lambda v: drop_labels(y, v, null_class=10), [-1, 1.5, NAN, "0.1", None], repr,
    ),
    "drop_labels y": (
        lambda v: drop_labels(v, 0.1, null_class=10), [[1, 2], 3, None, y.float()], lambda v: "",
    ),
    "drop_labels null_class": (
        lambda v: drop_labels(y, 0.1, null_class=v), [None, 1.5, "10", -1, True], repr,
    ),
    "draw_times count": (lambda v: draw_times(v, T), [-1, 2.5, "3", None], repr),
    "draw_times num_steps": (lambda v: draw_times(3, v), [0, 2.5, "3", None, True], repr),
    "draw_times distribution": (lambda v: draw_times(3, T, v), ["normal", None, 1], repr),
    "loss_weights": (lambda v: loss_weights(process.alpha_bar, v), ["snr", None, 1], repr),
    "diffusion_loss y": (
        lambda v: diffusion_loss(model, process, x, v), [y[:1], y.float(), None, [1, 2]],
        lambda v: "",
    ),
    "diffusion_loss process": (lambda v: diffusion_loss(model, v, x, y), [longer], lambda v: "30"),
    "diffusion_loss weighting": (
        lambda v: diffusion_loss(model, process, x, y, weighting=v), ["snr", None], repr,
    ),
    "EMA decay": (lambda v: EMA(model, v), [1, 1.0, -0.1, NAN, "0.9", None], repr),
    "EMA model": (EMA, [None, "model", 3], repr),
    "TrainState model": (lambda v: TrainState(v, TrainConfig()), [None, "model", 3], repr),
    "EMA of no parameters": (EMA, [torch.nn.ReLU(), torch.nn.Linear], repr),
    "TrainState config": (lambda v: TrainState(model, v), [None, {}, "cpu", TrainConfig], repr),
    "train loader": (
        lambda v: next(train(fresh(TrainConfig(), **TINY), process, v)), [[], 5, None],
        lambda v: "",
    ),
    "load_checkpoint": (load_checkpoint, ["nowhere", __file__, 3, None], lambda v: ""),
    "load_checkpoint device": (lambda v: load_checkpoint("nowhere", device=v), ["tpu"], repr),
    "save_checkpoint": (
        lambda v: save_checkpoint(v, fresh(TrainConfig(), **TINY)),
        [__file__, 3, None, f"{__file__}/below"],
        lambda v: "",
    ),
    "checkpointed": (
        lambda v: next(checkpointed([], fresh(TrainConfig(), **TINY), "never", v)),
        [-1, NAN, "60", None], repr,
    ),
    "extended": (lambda v: extended(fresh(TrainConfig(), **TINY), v), [0, -5, 2.5, "9"], repr),
    # sampling
    "labels": (
        lambda v: sample_conditional_images(model, process, v, num_steps=2),
        [[], [11], [-1], [1.5], ["cat"], [[1, 2]], 3, None, "cat", torch.tensor([1.0]), [NAN]],
        lambda v: "",
    ),
    "solver": (lambda v: drawn(1, solver=v), ["euler", "", None, 3, "DDPM", ["ddim"]], repr),
    "num_steps": (
        lambda v: drawn(1, num_steps=v),
        [0, -1, T + 1, 2.5, "2", True, [], [3, 5], [5, 5], [T, 0], [5, -1], [2.5, 1]],
        repr,
    ),
    "guidance_scale": (
        lambda v: drawn(1, guidance_scale=v), [NAN, INF, -INF, "1.5", None, [1, 2]], repr,
    ),
    "guidance_interval": (
        lambda v: drawn(1, guidance_interval=v), [(5, 3), (-1, 3), (0, T), (1,), 5, "ab"], repr,
    ),
    "seed": (lambda v: drawn(1, seed=v), [-1, 1.5, "0", None, 2**64], repr),
    "batch_size": (lambda v: drawn(1, batch_size=v), [0, -1, 2.5, "9", None], repr),
    "sampler's model": (lambda v: drawn(1, network=v), [None, 5, "model"], repr),
    "sampler's process": (lambda v: drawn(1, chain=v), [None, 5, "process"], repr),
    "sampler's process's steps": (lambda v: drawn(1, chain=v), [longer], lambda v: "30"),
    "a model without null_class": (
        lambda v: drawn(1, network=oracle, guidance_scale=v), [0, 1.5, 3], repr,
    ),
    "denoise labels": (
        lambda v: next(denoise(model, process, v)), [[], [11], None], lambda v: "",
    ),
    "guided_noise": (
        lambda v: guided_noise(model, x, t, y, 10, v), [NAN, "2", None, INF], repr,
    ),
    "guided_noise null_class": (
        lambda v: guided_noise(model, x, t, y, v, 2.0), [None, 1.5, "10", 11, -1], repr,
    ),
    # figures and widgets
    "show_images": (
        show_images,
        [
            x[0], x[:0], x[:, :1], x - 1, x + 2, x.to(torch.uint8), x * NAN, x.numpy(), None, [],
        ],
        lambda v: "",
    ),
    "show_images columns": (lambda v: show_images(x, columns=v), [-1, 2.5, "2"], repr),
    "show_images titles": (
        lambda v: show_images(x, v), [["one"], ["a", "b", "c"], "ab"], lambda v: "",
    ),
    "show_images size": (lambda v: show_images(x, size=v), [0, -1, NAN, "1"], repr),
    "tile_images": (lambda v: tile_images(x, v), [0, -1, 2.5, "2", None], repr),
    "plot_beta_schedule": (plot_beta_schedule, [None, 1000, "cosine"], repr),
    "plot_noising x0": (
        lambda v: plot_noising(process, v, [0, 5]), [x, x[0, 0], None, x[0] + 5], lambda v: "",
    ),
    "plot_noising times": (
        lambda v: plot_noising(process, x[0], v), [[], [T], [-1], [1.5], None, 5], lambda v: "",
    ),
    "plot_losses": (plot_losses, [[], None, "losses", [[1.0]], ["a"]], lambda v: ""),
    "plot_losses smooth": (lambda v: plot_losses([1.0], smooth=v), [0, -1, 2.5, "9"], repr),
    "plot_noising seed": (
        lambda v: plot_noising(process, x[0], [0, 5], seed=v), ["a", -1, 1.5, None, True], repr,
    ),
    "plot_denoising": (plot_denoising, [[], None, [1, 2]], lambda v: ""),
    "plot_denoising columns": (
        lambda v: plot_denoising([Frame(-1, x, x)], columns=v), [0, -1, 2.5, "2", None], repr,
    ),
    "plot_denoising image": (
        lambda v: plot_denoising([Frame(-1, x, x)], image=v), [-1, 2, 0.5, "0", None], repr,
    ),
    "visualize labels": (
        lambda v: visualize_conditional_generation(model, process, labels=v, num_steps=2),
        [[], [11], ["cat"], None],
        lambda v: "",
    ),
    "film": (film, [[], None, [1, 2]], lambda v: ""),
    "film scale": (lambda v: film([x], scale=v), [0, -1, NAN, "3", None], repr),
    "film seconds": (lambda v: film([x], seconds=v), [-1, NAN, INF, "4"], repr),
    "film columns": (lambda v: film([x], columns=v), [0, 1.5, True], repr),
    "film captions": (lambda v: film([x], v), [["a", "b"], "a", 5], repr),
    "noising_frames": (
        lambda v: list(noising_frames(process, x, v)), [[T], [-1], [1.5]], lambda v: "",
    ),
    "sampling_frames": (
        lambda v: sampling_frames(process, v), [[], [1, 2], None, [x]], lambda v: "",
    ),
    "sampling_frames count": (
        lambda v: sampling_frames(process, [*denoise(model, process, [1], num_steps=1)], count=v),
        [0, 1.5, "2"], repr,
    ),
    "guidance_frames": (
        lambda v: list(guidance_frames(model, process, [1], v, num_steps=2)), [[NAN], ["2"], []],
        lambda v: "",
    ),
    "noising_explorer": (noising_explorer, [None, [], 3], lambda v: ""),
    "class_picker": (lambda v: class_picker(model, v), [longer, None], lambda v: ""),
    "class_picker count": (lambda v: class_picker(model, process, count=v), [0, 2.5], repr),
    "sampler_board": (lambda v: sampler_board(model, v), [longer, None], lambda v: ""),
    "sampler_board per_class": (
        lambda v: sampler_board(model, process, per_class=v), [0, 11, 1.5, None], repr,
    ),
    "sampler_board guidance": (
        lambda v: sampler_board(model, process, guidance_scale=v), [-1, 6, NAN, "2"], repr,
    ),
    "sampler_board num_steps": (
        lambda v: sampler_board(model, process, num_steps=v), [0, T + 1, 1.5], repr,
    ),
    "sampler_board seed": (
        lambda v: sampler_board(model, process, seed=v), [-1, 2**53, 1.5, None], repr,
    ),
    "sampler_board classes": (
        lambda v: sampler_board(model, process, classes=v), [(), ("unicorn",)], lambda v: "",
    ),
    "step_by_step": (lambda v: step_by_step(model, v), [longer, None], lambda v: ""),
    "step_by_step num_steps": (
        lambda v: step_by_step(model, process, num_steps=v), [0, T + 1, 1.5, None], repr,
    ),
    "step_by_step label": (lambda v: step_by_step(model, process, label=v), [10, -1, "cat"], repr),
    "step_by_step walked": (lambda v: step_by_step(model, process, walked=v), [0, 1.5], repr),
    # reference and judge
    "load_reference": (load_reference, ["nowhere", __file__, 3], str),
    "load_record": (load_record, ["mine", None, 3], repr),
    "recorded_scores": (recorded_scores, ["size", None, 3], repr),
    "score images": (
        lambda v: score(v, torch.zeros(2, dtype=torch.int64), allow_few=True),
        [
            x, torch.zeros(2, 3, 32, 32) + 2, torch.zeros(2, 1, 32, 32), None,
            torch.full((2, 3, 32, 32), NAN), torch.zeros(2, 3, 32, 32).long(),
            torch.zeros(0, 3, 32, 32),
        ],
        lambda v: "",
    ),
    "score labels": (
        lambda v: score(torch.rand(2, 3, 32, 32), v, allow_few=True),
        [y[:1], torch.tensor([1, 10]), torch.tensor([-1, 2]), y.float(), None, ["cat", "dog"]],
        lambda v: "",
    ),
    "wilson_interval": (
        lambda v: wilson_interval(*v), [(0, 0), (5, 3), (-1, 3), (0.5, 1), ("1", 2)],
        lambda v: str(v[0] if v[1] else v[1]),
    ),
    "coverage": (lambda v: coverage(x.flatten(1), x[:v].flatten(1)), [0, 1, 2], lambda v: "k is 5"),
    "kernel_distance": (
        lambda v: kernel_distance(x.flatten(1), x[:v].flatten(1)), [0, 1], lambda v: f"is {v}",
    ),
    "score few": (lambda v: score(v, y), [torch.zeros(2, 3, 32, 32)], lambda v: "2"),
}  # fmt: skip
ROWS = [
    pytest.param(call, value, shown, id=f"{name}-{i}")
    for name, (call, values, shown) in TABLE.items()
    for i, value in enumerate(values)
]
TORCHS_OWN = re.compile(r"must match the size|Expected all tensors|invalid combination|dimension ")


def test_the_table_is_large():
    assert len(ROWS) > 300


@pytest.mark.parametrize(("call", "value", "shown"), ROWS)
def test_bad_input_is_refused_in_a_sentence(call, value, shown, tmp_path, monkeypatch):
    """It names the value and what was expected, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CDIFF_HOME", str(tmp_path / "home"))
    with pytest.raises((ValueError, OSError, RuntimeError)) as refused:
        call(value)
    told = str(refused.value)
    assert shown(value) in told and "expected" in told, told
    assert not TORCHS_OWN.search(told) and "\n" not in told and 30 < len(told) < 700, told
    assert not list(tmp_path.rglob("*"))
