"""Seconds before anything happens: python -m benchmarks.importing [--quick] [--write]

`import cdiff_helpers` beyond `import torch`, and the first sample in a fresh process.
"""

import subprocess
import sys
import time

from benchmarks.common import bars, finish, in_turns, machine, options

PROGRAMS = {
    "import torch": "import torch",
    "import cdiff_helpers": "import torch, cdiff_helpers",
    "import all modules": "import torch, cdiff_helpers.commands",
    "first sample": (
        "from cdiff_helpers import load_reference\n"
        "from cdiff_helpers.sampling import sample_conditional_images\n"
        "model, process, _ = load_reference()\n"
        "sample_conditional_images(model, process, [3], guidance_scale=2.5)\n"
    ),
}


def seconds(program: str) -> float:
    """Wall seconds of a fresh Python that runs the program."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - start


def main() -> None:
    args = options(__doc__)
    ways = {name: lambda program=program: seconds(program) for name, program in PROGRAMS.items()}
    taken = in_turns(ways, rounds=3 if args.quick else 9)
    rows = [["program, in a fresh process", "seconds"]]
    rows += [[name, f"{value:.2f}"] for name, value in taken.items()]
    keys = {
        "over_torch_seconds": taken["import cdiff_helpers"] - taken["import torch"],
        "all_over_torch_seconds": taken["import all modules"] - taken["import torch"],
        "first_sample_seconds": taken["first sample"],
    }
    figure = bars(taken, "seconds", "fresh processes")
    finish("importing", machine(), rows, keys, figure, args.write)


if __name__ == "__main__":
    main()
