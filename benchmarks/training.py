"""Images a second: python -m benchmarks.training [--quick] [--write]

The course's training step against the rate of bare 3 x 3 convolutions over the network's own
shapes, and against diffusers' and denoising-diffusion-pytorch's networks in the same step.

For a GPU: --batches 256 512 1024 times the course's own step alone, each way at each batch size.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import bars, finish, in_turns, machine, options
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.training import TrainConfig, TrainState, autocast_dtype, train
from cdiff_helpers.unet import ConditionalUNet

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCH = 128
FORWARD_AND_BACKWARD = 3  # times the forward pass's operations


class Peer(nn.Module):
    """Another library's network behind our call: f(xt, t, y) -> eps."""

    num_steps, null_class = 1000, 10

    def __init__(self, network: nn.Module, call: Callable):
        super().__init__()
        self.network, self.call = network, call

    def forward(self, xt, t, y):
        return self.call(self.network, xt, t, y).float()


def diffusers_network(channels: tuple[int, ...], layers: int) -> Peer:
    """diffusers' UNet2DModel for 32 x 32 pictures with class embedding."""
    from diffusers import UNet2DModel

    plain = len(channels) - 2
    network = UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        layers_per_block=layers,
        block_out_channels=channels,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", *["DownBlock2D"] * plain),
        up_block_types=(*["UpBlock2D"] * plain, "AttnUpBlock2D", "UpBlock2D"),
        num_class_embeds=11,
    )
    return Peer(network, lambda net, xt, t, y: net(xt, t, class_labels=y).sample)


def phil_wang_network(dim: int) -> Peer:
    """denoising-diffusion-pytorch's Unet; it knows no classes."""
    from denoising_diffusion_pytorch import Unet

    return Peer(Unet(dim=dim, dim_mults=(1, 2, 4)), lambda net, xt, t, y: net(xt, t))


NETWORKS = {
    "ours": (ConditionalUNet, BATCH),
    "diffusers, matched": (lambda: diffusers_network((64, 96, 128), 1), BATCH),
    "diffusers, usual": (lambda: diffusers_network((128, 256, 256, 256), 2), 16),
    "denoising-diffusion-pytorch": (lambda: phil_wang_network(40), 32),
}


def fused(state: TrainState) -> None:
    """AdamW in one kernel instead of one call a tensor, as it is on a GPU anyway."""
    for group in state.optimizer.param_groups:
        group["fused"], group["foreach"] = True, False


def channels_last(state: TrainState) -> None:
    """The weights, and so what comes out of them, with channels innermost."""
    state.model.to(memory_format=torch.channels_last)


def compiled(state: TrainState) -> None:
    """The network through torch.compile."""
    state.network = torch.compile(state.model)


def compiled_with_graphs(state: TrainState) -> None:
    """As `tools.models.train_reference --compile` has it."""
    torch.backends.cudnn.benchmark = True
    state.network = torch.compile(state.model, mode="reduce-overhead", dynamic=False)


def recorded(state: TrainState) -> None:
    """The network's own kernels as CUDA graphs."""
    state.config = replace(state.config, cuda_graphs=True)


CHOICES = {
    "ours, fused AdamW": fused,
    "ours, channels_last": channels_last,
    "ours, compiled": compiled,
}


def training_steps(model: nn.Module, batch_size: int, choice: Callable | None = None):
    """An endless sequence of the course's own updates on made-up pictures."""
    torch.manual_seed(0)
    x0 = torch.rand(batch_size, 3, 32, 32, device=DEVICE) * 2 - 1
    y = torch.randint(0, 10, (batch_size,), device=DEVICE)
    state = TrainState(model.to(DEVICE), TrainConfig(num_updates=100_000))
    if choice:
        choice(state)
    return train(state, DiffusionProcess().to(DEVICE), [(x0, y)])


def images_a_second(steps, batch_size: int, count: int) -> float:
    """The rate of the next `count` updates."""
    start = time.perf_counter()
    for _ in itertools.islice(steps, count):
        pass
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return count * batch_size / (time.perf_counter() - start)


def forward_flops(model: nn.Module) -> float:
    """Operations of a forward pass of one picture, a multiplication and an addition counting 2."""
    model = model.to(DEVICE).eval()
    xt, t = torch.zeros(1, 3, 32, 32, device=DEVICE), torch.zeros(1, device=DEVICE).long()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(xt, t, t)
    return counter.get_total_flops()


def convolution_shapes(model: nn.Module) -> list[tuple[nn.Conv2d, tuple[int, ...]]]:
    """The network's 3 x 3 convolutions and the shape (C, H, W) that each of them sees."""
    shapes, hooks = [], []
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            keep = lambda m, args, _: shapes.append((m, tuple(args[0].shape[1:])))  # noqa: E731
            hooks.append(module.register_forward_hook(keep))
    t = torch.zeros(1, device=DEVICE).long()
    with torch.no_grad():
        model.to(DEVICE)(torch.zeros(1, 3, 32, 32, device=DEVICE), t, t)
    for hook in hooks:
        hook.remove()
    return list(
        {
            (m.in_channels, m.out_channels, m.stride, shape): (m, shape) for m, shape in shapes
        }.values()
    )


def convolution_rate(conv: nn.Conv2d, shape: tuple[int, ...], batch_size: int) -> float:
    """Operations a second of this convolution, forward and backward, in the step's own format."""
    dtype = autocast_dtype(DEVICE) or torch.float32
    bare = nn.Conv2d(conv.in_channels, conv.out_channels, 3, conv.stride, 1).to(DEVICE, dtype)
    x = torch.randn(batch_size, *shape, device=DEVICE, dtype=dtype, requires_grad=True)
    gradient = torch.randn_like(bare(x))
    outputs = gradient.shape[2] * gradient.shape[3]
    flops = 2 * 9 * conv.in_channels * conv.out_channels * outputs * batch_size
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        bare(x).backward(gradient)
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return FORWARD_AND_BACKWARD * flops / best


def over_batches(args: argparse.Namespace) -> None:
    """The course's own step alone, each way at each batch size."""
    choices = {"ours": None, "ours, channels_last": channels_last, "ours, compiled": compiled}
    choices |= {"ours, CUDA graphs": recorded}
    choices |= {"ours, compiled with CUDA graphs": compiled_with_graphs}
    if args.quick:
        choices = {"ours": None, "ours, CUDA graphs": recorded}
    ways = {}
    for name, choice in choices.items():
        for size in args.batches:
            steps, count = training_steps(ConditionalUNet(), size, choice), 1 if args.quick else 20
            ways[f"{name}, {size}"] = partial(images_a_second, steps, size, count)
    in_turns(ways, rounds=1)  # warm up: what compiles does so now
    rates = in_turns(ways, rounds=3)
    flops = FORWARD_AND_BACKWARD * forward_flops(ConditionalUNet())
    rows = [["way, batch", "images a second", "TFLOP/s"]]
    rows += [[name, f"{rate:,.0f}", f"{flops * rate / 1e12:.2f}"] for name, rate in rates.items()]
    figure = bars(rates, "images a second", "training over batch sizes")
    finish("training_batches", machine(), rows, {"images_a_second": rates}, figure, args.write)


def main() -> None:
    sizes = {"type": int, "nargs": "+", "help": "ours alone, each way at each of these sizes"}
    args = options(__doc__, batches=sizes)
    if args.batches:
        return over_batches(args)
    models = {name: make() for name, (make, _) in NETWORKS.items()}
    flops = {name: forward_flops(model) for name, model in models.items()}
    shapes = convolution_shapes(models["ours"])
    steps = {name: training_steps(models[name], NETWORKS[name][1]) for name in models}
    sizes = {name: size for name, (_, size) in NETWORKS.items()}
    if not args.quick:
        for name, choice in CHOICES.items():
            models[name], sizes[name], flops[name] = ConditionalUNet(), BATCH, flops["ours"]
            steps[name] = training_steps(models[name], BATCH, choice)
    updates = {name: 5 if name.startswith("ours") and not args.quick else 2 for name in models}

    def speed(name: str) -> Callable[[], float]:
        return lambda: images_a_second(steps[name], sizes[name], updates[name])

    ways = {name: speed(name) for name in models}
    ways["convolutions"] = lambda: max(convolution_rate(c, s, BATCH) for c, s in shapes)
    in_turns(ways, rounds=1)  # warm up
    taken = in_turns(ways, rounds=3 if args.quick else 7)
    best = taken.pop("convolutions")

    ours = taken["ours"]
    achieved = FORWARD_AND_BACKWARD * flops["ours"] * ours
    rows = [["network", "parameters", "GFLOP forward", "batch", "images a second", "GFLOP/s"]]
    for name, value in taken.items():
        size = sum(p.numel() for p in models[name].parameters())
        rate = FORWARD_AND_BACKWARD * flops[name] * value / 1e9
        numbers = [f"{size:,}", f"{flops[name] / 1e9:.3f}", sizes[name]]
        rows.append([name, *numbers, f"{value:.1f}", f"{rate:.0f}"])
    rows.append(["bare 3 x 3 convolutions, best", "", "", BATCH, "", f"{best / 1e9:.0f}"])
    keys = {
        "conv_fraction": achieved / best,
        "vs_diffusers_matched": ours / taken["diffusers, matched"],
        "vs_diffusers_usual": ours / taken["diffusers, usual"],
        "vs_denoising_diffusion_pytorch": ours / taken["denoising-diffusion-pytorch"],
        "images_a_second": ours,
    }
    about = machine("diffusers", "denoising-diffusion-pytorch")
    finish("training", about, rows, keys, bars(taken, "images a second", "training"), args.write)


if __name__ == "__main__":
    main()
