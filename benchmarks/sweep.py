"""Images a second over batch sizes: python -m benchmarks.sweep [--quick] [--write]

For a GPU: eager, channels_last and compiled, at batches of 256, 512 and 1,024, with the share of
the device's peak that the network's own operations reach. --quick is a trial at batches of 4 and 8.
"""

import torch

from benchmarks.common import bars, finish, in_turns, machine, options
from benchmarks.training import (
    CHOICES,
    DEVICE,
    FORWARD_AND_BACKWARD,
    forward_flops,
    images_a_second,
    training_steps,
)
from cdiff_helpers.unet import ConditionalUNet

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "T4": 65e12}  # dense 16-bit, data sheets


def peak() -> float | None:
    """The device's operations a second in 16 bits by its data sheet, or None where not listed."""
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else ""
    return next((value for part, value in PEAKS.items() if part in name), None)


def main() -> None:
    args = options(__doc__)
    batches, updates = ((4, 8), 1) if args.quick else ((256, 512, 1_024), 20)
    choices = {"eager": None} | {
        name.removeprefix("ours, "): choice
        for name, choice in CHOICES.items()
        if not (args.quick and "compiled" in name)
    }
    ways = {}
    for name, choice in choices.items():
        for size in batches:
            steps = training_steps(ConditionalUNet(), size, choice)
            ways[f"{name}, {size}"] = lambda s=steps, b=size: images_a_second(s, b, updates)
    in_turns(ways, rounds=1)  # warm up
    rates = in_turns(ways, rounds=3)
    flops, top = FORWARD_AND_BACKWARD * forward_flops(ConditionalUNet()), peak()
    rows = [["way, batch", "images a second", "TFLOP/s", "share of the peak"]]
    for name, rate in rates.items():
        share = f"{flops * rate / top:.3f}" if top else "not listed"
        rows.append([name, f"{rate:,.0f}", f"{flops * rate / 1e12:.2f}", share])
    best = max(rates, key=rates.get)
    keys = {"best": best, "images_a_second": rates[best]}
    keys["utilisation"] = flops * rates[best] / top if top else None
    finish("sweep", machine(), rows, keys, bars(rates, "images a second", "sweep"), args.write)


if __name__ == "__main__":
    main()
