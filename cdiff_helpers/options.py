"""The shell's verbs and their options, read without torch: help and typing mistakes cost no wait.

Home: notebook 08.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from cdiff_helpers import __version__, defaults
from cdiff_helpers.defaults import DEFAULT_STEPS, PRECISIONS, PRESETS, SOURCES


def path(text: str) -> Path:
    """A path that was typed; raises ArgumentTypeError for an empty one."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path; expected one such as runs/mine")
    return Path(text)


def file_path(text: str) -> Path:
    """A file's path that was typed; raises ArgumentTypeError for a folder's."""
    if text.endswith(("/", os.sep)):
        raise argparse.ArgumentTypeError(f"{text!r} is a folder's name; expected a file's")
    return path(text)


SIZES = "; ".join(f"{p.name} {p.num_updates:,} x {p.batch_size:,}" for p in PRESETS.values())
STEPS = ", ".join(f"{name} {steps or 'all 1,000'}" for name, steps in DEFAULT_STEPS.items())
# The keywords of argparse's add_argument by option; first those that several options or verbs share
Options = dict[str, dict[str, Any]]
NUMBER: dict[str, Any] = {"type": int, "metavar": "N"}
FOLDER: dict[str, Any] = {"type": path, "metavar": "FOLDER"}
FILE: dict[str, Any] = {"type": file_path, "metavar": "FILE"}
FLAG: dict[str, Any] = {"action": "store_true"}
SHARED: Options = {
    "--checkpoint": FOLDER | {"help": "a run's folder (default: the bundled reference model)"},
    "--root": FOLDER | {"help": "the data's folder (default: data in ~/.cdiff or $CDIFF_HOME)"},
    "--source": {"choices": SOURCES, "help": "of the images (default: auto, or the preset's)"},
    "--device": {"default": "auto", "metavar": "NAME",
                 "help": "auto, cpu, cuda, cuda:1 or mps (default: auto, the fastest there is)"},
    "--solver": {"choices": DEFAULT_STEPS, "default": defaults.DEFAULT_SOLVER,
                 "help": "the sampler's step (default: %(default)s)"},
    "--num-steps": NUMBER | {"help": f"reverse steps (default: {STEPS})"},
    "--guidance-scale": {"type": float, "default": defaults.GUIDANCE_SCALE, "metavar": "W",
                         "help": "1 is the plain conditional model (default: %(default)s)"},
    "--seed": NUMBER | {"default": 0, "help": "image i is generated from seed N + i (default: 0)"},
    "--precision": {"choices": PRECISIONS, "default": "auto",
                    "help": "of the network on CUDA: auto is 16 bits (default: auto)"},
}  # fmt: skip
SAMPLER = ["--solver", "--num-steps", "--guidance-scale", "--seed", "--precision", "--device"]
FETCH: Options = {
    "--source": {"default": "auto"},
    "--to": FOLDER | {"help": "also copy it there, for machines offline"},
    "--min-rate": {"type": float, "default": defaults.MIN_RATE / 1000, "metavar": "RATE",
                   "help": "kB/s that a mirror must reach (default: %(default)g)"},
}  # fmt: skip
TRAIN: Options = {
    "--out": FOLDER | {"required": True, "help": "the run's folder"},
    "--preset": {"choices": PRESETS,
                 "help": f"training steps x images per step: {SIZES} (default: this machine's)"},
    "--updates": NUMBER | {"help": "training steps (default: the preset's)"},
    "--batch-size": NUMBER | {"help": "images per step (default: the preset's)"},
    "--seed": {"default": None, "help": "of weights, data order and noise (default: 0)"},
    "--resume": FLAG | {"help": "go on with the run in the folder"},
    "--extend": NUMBER | {"help": "with --resume: N steps more, a new learning rate cycle"},
}  # fmt: skip
SAMPLE: Options = {
    "--classes": {"required": True, "metavar": "NAMES", "help": "names or numbers: cat,dog or 3,5"},
    "--per-class": NUMBER | {"default": 8, "help": "images per class (default: 8)"},
    "--out": FILE | {"required": True, "help": "a .png, .jpg or .webp file"},
    "--enlarge": NUMBER | {"default": 2, "help": "each pixel becomes N x N of them (default: 2)"},
}
EVALUATE: Options = {
    "--num-images": NUMBER | {"default": 2_000, "help": "of all classes together (default: 2000)"},
    "--json": FILE | {"help": "write the scores there, a figure beside it"},
    "--figure": FILE | {"help": "the figure: .png, .jpg or .webp"},
    "--picture": FILE | {"dest": "figure", "help": argparse.SUPPRESS},  # its name before 0.2
    "--real": FLAG | {"help": "score real test images instead"},
    "--fid": FLAG | {"help": "the true FID, too: needs torch-fidelity"},
    "--allow-few": FLAG | {"help": "score fewer images than a score needs"},
}
# Each verb: what it does; an example; the shared options that it takes, and its own
VERBS = {
    "fetch": (
        "bring CIFAR-10 onto this machine, verified by SHA-256",
        "--min-rate 20", ["--root", "--source"], FETCH,
    ),
    "train": (
        "train a model into a folder, or resume the run that is there",
        "--out runs/mine --updates 2000", ["--root", "--source", "--seed", "--device"], TRAIN,
    ),
    "sample": (
        "generate images into one file, one row per class",
        "--classes cat,dog --per-class 8 --out pets.png", ["--checkpoint", *SAMPLER], SAMPLE,
    ),
    "evaluate": (
        "generate images, and score them by the bundled classifier",
        "--checkpoint runs/mine --json scores.json", ["--checkpoint", "--root", *SAMPLER], EVALUATE,
    ),
}  # fmt: skip


def program_name() -> str:
    """How this shell was called: "cdiff", or "python -m cdiff_helpers"."""
    return "cdiff" if Path(sys.argv[0]).stem == "cdiff" else "python -m cdiff_helpers"


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs: `command` is the typed one, and `run(args)` does it."""
    parser = argparse.ArgumentParser(
        prog=program_name(),
        description="Class-conditional diffusion on CIFAR-10. VERB --help lists a verb's options.",
    )
    parser.add_argument("--version", action="version", version=f"cdiff-helpers {__version__}")
    parser.set_defaults(run=run)
    verbs = parser.add_subparsers(dest="command", required=True, metavar="VERB")
    for name, (summary, example, shared, own) in VERBS.items():
        verb = verbs.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"example:\n  {program_name()} {name} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for option in dict.fromkeys([*own, *shared]):
            verb.add_argument(option, **SHARED.get(option, {}) | own.get(option, {}))
    return parser


def run(args: argparse.Namespace) -> None:
    """Do what was typed. Torch is imported only now, after all of it was understood."""
    from cdiff_helpers.commands import COMMANDS

    COMMANDS[args.command](args)
