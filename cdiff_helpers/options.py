"""The shell's verbs and their options, read without torch: help and typing mistakes cost no wait.

Home: notebook 08.
"""

import argparse
import os
import sys
from pathlib import Path

from cdiff_helpers import __version__
from cdiff_helpers.defaults import (
    DEFAULT_SOLVER,
    DEFAULT_STEPS,
    GUIDANCE_SCALE,
    MIN_RATE,
    PRECISIONS,
    PRESETS,
    SOURCES,
)

DEVICE = "auto, cpu, cuda, cuda:1 or mps (default: auto, the fastest there is)"
ROOT = "the data set's folder (default: data in the course folder, ~/.cdiff or $CDIFF_HOME)"
CHECKPOINT = "a run's folder (default: the bundled reference model)"
SIZES = "; ".join(f"{p.name} {p.num_updates:,} x {p.batch_size:,}" for p in PRESETS.values())
STEPS = ", ".join(f"{name} {steps or 'all 1,000'}" for name, steps in DEFAULT_STEPS.items())


def program_name() -> str:
    """How this shell was called: "cdiff", or "python -m cdiff_helpers"."""
    return "cdiff" if Path(sys.argv[0]).stem == "cdiff" else "python -m cdiff_helpers"


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs: `command` is the typed one, and `run(args)` does it."""
    parser = argparse.ArgumentParser(
        prog=program_name(),
        description="Class-conditional diffusion on CIFAR-10: fetch the data, train, sample, "
        "evaluate. VERB --help lists a verb's options.",
    )
    version = f"cdiff-helpers {__version__}"
    parser.add_argument("--version", action="version", version=version)
    parser.set_defaults(run=run)
    verbs = parser.add_subparsers(dest="command", required=True, metavar="VERB")
    for add in (add_fetch, add_train, add_sample, add_evaluate):
        add(verbs)
    return parser


def run(args: argparse.Namespace) -> None:
    """Do what was typed. Torch is imported only now, after all of it was understood."""
    from cdiff_helpers.commands import COMMANDS

    COMMANDS[args.command](args)


def add_verb(verbs, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    """A verb's parser, with one line on what it does and one example."""
    return verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {program_name()} {name} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


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


def add_fetch(verbs) -> None:
    """The options of fetch."""
    summary = "bring CIFAR-10 onto this machine, verified by SHA-256"
    verb = add_verb(verbs, "fetch", summary, "--min-rate 20")
    add = verb.add_argument
    add("--root", type=path, metavar="FOLDER", help=ROOT)
    add("--source", choices=SOURCES, default="auto", help="where it comes from (default: auto)")
    add("--to", type=path, metavar="FOLDER", help="also copy it there, for machines offline")
    add(
        "--min-rate", type=float, default=MIN_RATE / 1000, metavar="RATE",
        help="kB/s below which a mirror gives way to the next (default: %(default)g)",
    )  # fmt: skip


def add_train(verbs) -> None:
    """The options of train."""
    summary = "train a model into a folder, or resume the run that is there"
    verb = add_verb(verbs, "train", summary, "--out runs/mine --updates 2000")
    add = verb.add_argument
    add("--out", type=path, required=True, metavar="FOLDER", help="the run's folder")
    add(
        "--preset", choices=PRESETS,
        help=f"sizes, as training steps x images per step: {SIZES} (default: this machine's)",
    )  # fmt: skip
    add("--updates", type=int, metavar="N", help="training steps (default: the preset's)")
    add("--batch-size", type=int, metavar="B", help="images per step (default: the preset's)")
    add("--seed", type=int, metavar="S", help="of weights, data order and noise (default: 0)")
    add("--device", default="auto", metavar="NAME", help=DEVICE)
    add("--root", type=path, metavar="FOLDER", help=ROOT)
    add("--source", choices=SOURCES, help="of the images (default: the preset's)")
    add("--resume", action="store_true", help="go on with the run in the folder")
    add(
        "--extend", type=int, metavar="N",
        help="with --resume: N training steps more for a finished run, a new learning rate cycle",
    )  # fmt: skip


def add_sample(verbs) -> None:
    """The options of sample."""
    summary = "generate images into one file, one row per class"
    verb = add_verb(verbs, "sample", summary, "--classes cat,dog --per-class 8 --out pets.png")
    add = verb.add_argument
    add("--checkpoint", type=path, metavar="FOLDER", help=CHECKPOINT)
    add("--classes", required=True, metavar="NAMES", help="names or numbers: cat,dog or 3,5")
    add("--per-class", type=int, default=8, metavar="N", help="images per class (default: 8)")
    add("--out", type=file_path, required=True, metavar="FILE", help="a .png, .jpg or .webp file")
    add(
        "--enlarge", type=int, default=2, metavar="N",
        help="each pixel becomes N x N pixels of the file (default: 2)",
    )  # fmt: skip
    add_sampler(verb)


def add_evaluate(verbs) -> None:
    """The options of evaluate."""
    summary = "generate images, and score them by the bundled classifier"
    verb = add_verb(verbs, "evaluate", summary, "--checkpoint runs/mine --json scores.json")
    add = verb.add_argument
    add("--checkpoint", type=path, metavar="FOLDER", help=CHECKPOINT)
    add(
        "--num-images", type=int, default=2_000, metavar="N",
        help="images in all, equally many per class (default: 2000)",
    )  # fmt: skip
    add("--json", type=file_path, metavar="FILE", help="write the scores there, a figure beside it")
    add(
        "--figure",
        type=file_path,
        metavar="FILE",
        help="the figure: .png, .jpg or .webp",
    )
    add("--picture", type=file_path, dest="figure", help=argparse.SUPPRESS)  # its name before 0.2
    add("--real", action="store_true", help="score real test images instead")
    add("--fid", action="store_true", help="the true FID, too: needs torch-fidelity")
    add("--allow-few", action="store_true", help="score fewer images than a score needs")
    add("--root", type=path, metavar="FOLDER", help=ROOT)
    add_sampler(verb)


def add_sampler(verb: argparse.ArgumentParser) -> None:
    """How images are sampled."""
    add = verb.add_argument
    add(
        "--solver", choices=DEFAULT_STEPS, default=DEFAULT_SOLVER,
        help="the sampler's step (default: %(default)s)",
    )  # fmt: skip
    add("--num-steps", type=int, metavar="N", help=f"reverse steps (default: {STEPS})")
    add(
        "--guidance-scale", type=float, default=GUIDANCE_SCALE, metavar="W",
        help="1 is the plain conditional model (default: %(default)s)",
    )  # fmt: skip
    add(
        "--seed", type=int, default=0, metavar="S",
        help="image i is generated from seed S + i (default: 0)",
    )  # fmt: skip
    add(
        "--precision", choices=PRECISIONS, default="auto",
        help="of the network on CUDA: auto is 16 bits (default: auto)",
    )  # fmt: skip
    add("--device", default="auto", metavar="NAME", help=DEVICE)
