"""The course in a shell: python -m cdiff_helpers fetch | train | sample | evaluate (--help)."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from cdiff_helpers.data import (
    CLASS_NAMES,
    MIN_RATE,
    SOURCES,
    ResidentLoader,
    carry,
    class_indices,
    load_cifar10,
    to_image_range,
)
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.evaluation import FEWEST_FOR_AGREEMENT, few_words, load_judge, score
from cdiff_helpers.evaluation.fid import true_fid
from cdiff_helpers.evaluation.report import plot_scores, score_table
from cdiff_helpers.parallel import average_gradients, in_step, joined, one_by_one
from cdiff_helpers.reference import load_reference
from cdiff_helpers.runtime import (
    PRECISIONS,
    PRESETS,
    Preset,
    course_home,
    course_preset,
    pick_device,
    seed_everything,
    write_whole,
)
from cdiff_helpers.sampling import (
    DEFAULT_SOLVER,
    DEFAULT_STEPS,
    GUIDANCE_SCALE,
    SOLVERS,
    denoise,
    solver_and_times,
)
from cdiff_helpers.training import (
    RECIPE,
    Step,
    TrainConfig,
    TrainState,
    checkpointed,
    extended,
    holds_run,
    load_checkpoint,
    load_ema_model,
    open_run,
    train,
    watched,
)
from cdiff_helpers.unet import ConditionalUNet
from cdiff_helpers.visualization import figure_bytes, png_bytes, tile_images

DEFAULTS = ", ".join(f"{name} {steps}" for name, steps in DEFAULT_STEPS.items()) + ", ddpm all"
SHOWN = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}  # defaults, in the help


def fetch_command(args: argparse.Namespace) -> None:
    """Have CIFAR-10 on this machine, or in a folder for machines without internet."""
    for part in (True, False):
        data = load_cifar10(args.root, part, args.source, min_rate=args.min_rate * 1000)
    root = Path(args.root or course_home() / "data").expanduser()
    if data.source == "bundled":
        print("The bundled subset lies in the package; nothing was written.")
    else:
        print(f"All 60,000 images lie in {root}, their sha256 as published.")
    if args.to:
        copy = carry(root, data.source, args.to)
        print(
            f"{copy} is ready to be carried: put it into ~/.cdiff/data on each machine without "
            f"internet, or into $CDIFF_HOME/data, or give its folder as root="
        )


def train_command(args: argparse.Namespace) -> None:
    """Train a ConditionalUNet into args.out, or go on with the run that lies there.

    Under torchrun its processes train one model together, and the first one saves it.
    """
    with joined(args.device) as rank:
        preset = course_preset(args.preset, device=rank.device)
        with one_by_one(rank):  # the first makes the folder, the others find the run in it
            args.resume = args.resume or rank.index > 0
            state = start_or_resume(args, preset, rank.device)
        data = load_cifar10(args.root, source=args.source or preset.source)  # one of them fetches
        if state.index >= state.config.num_updates:
            print(
                f"The run in {args.out} is finished: {state.index} updates. Sample from it, or go "
                "on with --resume --extend N."
            )
            return
        average_gradients(state, rank)
        share = (rank.index, rank.count)
        batch_size, seed = state.config.batch_size, state.config.seed
        loader = ResidentLoader(data, batch_size, seed, rank.device, share=share)
        process = DiffusionProcess(state.model.num_steps).to(rank.device)
        steps = in_step(train(state, process, loader), rank)
        if rank.index == 0:
            steps = shown(checkpointed(steps, state, args.out), state)
        for _ in steps:
            pass
        print(f"Trained {state.index} updates; the run is in {args.out}.")


def shown(steps: Iterator[Step], state: TrainState) -> Iterator[Step]:
    """The same steps, with a progress bar that tells the loss, and a run that hardly learns."""
    total, steps = state.config.num_updates, watched(steps, state, tqdm.write)
    with tqdm(steps, initial=state.index, total=total, unit=" updates") as progress:
        for step in progress:
            if step.index % 20 == 0:
                progress.set_postfix(loss=f"{step.loss.item():.4f}")
            yield step


def start_or_resume(args: argparse.Namespace, preset: Preset, device: torch.device) -> TrainState:
    """The run in args.out where --resume allows it, else a new one, saved at once."""
    changes = {"num_updates": args.updates, "batch_size": args.batch_size, "seed": args.seed}
    given = {name: value for name, value in changes.items() if value is not None}
    if args.extend is not None and (args.extend < 1 or not args.resume):
        raise ValueError(
            f"--extend is {args.extend}; expected at least 1, together with --resume and the "
            "folder of a finished run."
        )
    if holds_run(args.out):
        return go_on(args, given, device)
    config = TrainConfig.for_preset(preset, **RECIPE | given)
    seed_everything(config.seed)
    return open_run(args.out, ConditionalUNet().to(device), config)


def go_on(args: argparse.Namespace, given: dict, device: torch.device) -> TrainState:
    """The run in args.out, with args.extend updates more; `given` must be its settings."""
    if not args.resume:
        raise ValueError(
            f"{args.out} holds a run already; --resume goes on with it, another --out "
            "starts a new one."
        )
    state = load_checkpoint(args.out, device=device)
    for name, value in given.items():
        if getattr(state.config, name) != value:
            raise ValueError(
                f"{name} is {value}, but the run in {args.out} was started with "
                f"{getattr(state.config, name)}; leave it out to go on, or take another --out."
            )
    return extended(state, args.extend) if args.extend else state


def sample_command(args: argparse.Namespace) -> None:
    """Draw args.per_class pictures of each class, one row a class, into args.out."""
    device = pick_device(args.device)
    classes = class_indices([int(c) if c.isdigit() else c for c in args.classes.split(",")])
    if args.per_class < 1:
        raise ValueError(f"--per-class is {args.per_class}; expected at least 1.")
    model, process = chosen_model(args.checkpoint, device)
    labels = [label for label in classes for _ in range(args.per_class)]
    images = draw(model, process, labels, args)
    write_whole(args.out, png_bytes(tile_images(images, args.per_class), scale=args.enlarge))
    rows = ", ".join(CLASS_NAMES[label] for label in classes)
    print(f"{args.out}: {len(labels)} pictures; rows from the top: {rows}.")


def chosen_model(
    checkpoint: Path | None, device: torch.device
) -> tuple[ConditionalUNet, DiffusionProcess]:
    """The averaged weights of the run in a folder, or the bundled reference, on the device."""
    if checkpoint:
        model = load_ema_model(checkpoint, device)
        process = DiffusionProcess(model.num_steps)
    else:
        model, process, _ = load_reference()
        print("Drawing with the bundled reference; --checkpoint FOLDER takes a run of yours.")
    return model.to(device), process.to(device)


def draw(model, process: DiffusionProcess, labels: list[int], args: argparse.Namespace) -> Tensor:
    """sample_conditional_images with a progress bar over all reverse steps of all pictures."""
    _, times = solver_and_times(process, args.solver, args.num_steps)
    options = {"solver": args.solver, "num_steps": args.num_steps}
    options |= {"guidance_scale": args.guidance_scale, "precision": args.precision}
    images = []
    with tqdm(total=len(labels) * len(times), unit=" steps") as progress:
        for start in range(0, len(labels), 100):  # a hundred at a time bounds the memory
            some = labels[start : start + 100]
            for frame in denoise(model, process, some, seed=args.seed + start, **options):
                progress.update(len(some) * (frame.t >= 0))
            images.append(to_image_range(frame.xt))
    return torch.cat(images)


def evaluate_command(args: argparse.Namespace) -> None:
    """Draw args.num_images pictures, as many of each class, and print what the judge says."""
    if args.num_images < (2 if args.allow_few else FEWEST_FOR_AGREEMENT):
        raise ValueError(few_words(args.num_images).replace("allow_few=True", "--allow-few"))
    for path in filter(None, (args.json, args.picture)):  # found out now, not after the drawing
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise OSError(f"{path} cannot be written; choose another file.")
    if args.real:
        test = load_cifar10(args.root, train=False)
        images, labels = test.images[: args.num_images], test.labels[: args.num_images]
        asked = {"model": "real test pictures"}
    else:
        labels = torch.arange(args.num_images) % len(CLASS_NAMES)
        model, process = chosen_model(args.checkpoint, pick_device(args.device))
        images = draw(model, process, labels.tolist(), args).cpu()
        step_names = ("guidance_scale", "solver", "num_steps", "seed")
        asked = {"model": str(args.checkpoint or "the bundled reference")}
        asked |= {name: getattr(args, name) for name in step_names}
        asked["num_steps"] = len(solver_and_times(process, args.solver, args.num_steps)[1])
    judge = load_judge(pick_device(args.device))
    scores = score(images, labels, judge=judge, allow_few=args.allow_few)
    print(score_table(scores))
    if args.fid:
        scores["fid"] = true_fid(images, load_cifar10(args.root))
        print(f"FID against all training pictures: {scores['fid']:.2f}")
    if args.json:
        write_whole(args.json, (json.dumps(asked | scores, indent=1) + "\n").encode())
    if args.picture or args.json:
        picture = args.picture or args.json.with_suffix(".png")
        write_whole(picture, figure_bytes(plot_scores(scores, images, labels)))
        print(f"The picture: {picture}")


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m cdiff_helpers",
        description="Fetch CIFAR-10, train the course's model, draw with it, score it.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (add_fetch, add_train, add_sample, add_evaluate):
        add(commands)
    return parser


def a_path(text: str) -> Path:
    """A path that was typed; raises ArgumentTypeError for an empty one."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path; expected one such as runs/mine")
    return Path(text)


def add_fetch(commands) -> None:
    """The options of fetch."""
    one = commands.add_parser("fetch", help="have CIFAR-10 on this machine, checked", **SHOWN)
    one.set_defaults(run=fetch_command)
    one.add_argument("--root", help="folder of the data set; the course folder's if not given")
    one.add_argument("--source", choices=SOURCES, default="auto", help="where it comes from")
    one.add_argument("--to", type=a_path, help="a folder to fill for a room without internet")
    one.add_argument(
        "--min-rate", type=float, default=MIN_RATE / 1000,
        help="kB/s below which a mirror gives way to the next; lower it on a slow line",
    )  # fmt: skip


def add_train(commands) -> None:
    """The options of train."""
    one = commands.add_parser("train", help="train a run into a folder", **SHOWN)
    one.set_defaults(run=train_command)
    one.add_argument("--out", type=a_path, required=True, help="the run's folder")
    one.add_argument(
        "--preset", choices=PRESETS, help="sizes; chosen for this machine if not given"
    )
    one.add_argument("--updates", type=int, help="optimiser steps; the preset's if not given")
    one.add_argument("--batch-size", type=int, help="images an update; the preset's if not given")
    one.add_argument("--seed", type=int, help="of weights, order and noise; 0 if not given")
    one.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    one.add_argument("--root", help="folder of the data set; the course folder's if not given")
    one.add_argument("--source", choices=SOURCES, help="of the pictures; the preset's if not given")
    one.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    one.add_argument(
        "--extend", type=int, metavar="N",
        help="with --resume: N updates more for a finished run, a new cycle of the learning rate",
    )  # fmt: skip


def add_sample(commands) -> None:
    """The options of sample."""
    one = commands.add_parser("sample", help="draw pictures into a PNG file", **SHOWN)
    one.set_defaults(run=sample_command)
    one.add_argument("--checkpoint", type=a_path, help="a run's folder; the reference if not given")
    one.add_argument("--classes", required=True, help="names or numbers, such as cat,dog or 3,5")
    one.add_argument("--per-class", type=int, default=8, help="pictures of each class, one row")
    one.add_argument("--out", type=a_path, required=True, help="the PNG file")
    one.add_argument("--enlarge", type=int, default=2, help="screen pixels a side of each pixel")
    add_sampler(one)


def add_evaluate(commands) -> None:
    """The options of evaluate."""
    one = commands.add_parser("evaluate", help="draw, and say how good it is", **SHOWN)
    one.set_defaults(run=evaluate_command)
    one.add_argument("--checkpoint", type=a_path, help="a run's folder; the reference if not given")
    one.add_argument("--num-images", type=int, default=2_000, help="as many of each class")
    one.add_argument("--json", type=a_path, help="a file for the scores; a PNG is put beside it")
    one.add_argument("--picture", type=a_path, help="another place for the PNG file")
    one.add_argument("--real", action="store_true", help="score real test pictures instead")
    one.add_argument("--fid", action="store_true", help="the true FID too: needs torch-fidelity")
    one.add_argument("--allow-few", action="store_true", help="score few pictures all the same")
    one.add_argument("--root", help="folder of the data set; the course folder's if not given")
    add_sampler(one)


def add_sampler(one: argparse.ArgumentParser) -> None:
    """How pictures are drawn."""
    one.add_argument("--solver", choices=SOLVERS, default=DEFAULT_SOLVER, help="the step")
    one.add_argument("--num-steps", type=int, help=f"if not given: {DEFAULTS}")
    one.add_argument(
        "--guidance-scale", type=float, default=GUIDANCE_SCALE, help="1: plain conditional"
    )
    one.add_argument("--seed", type=int, default=0, help="picture i is drawn from seed + i")
    one.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto: CUDA's 16 bits")
    one.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a mistake is told in a sentence, with exit status 2."""
    args = build_parser().parse_args(arguments)
    try:
        args.run(args)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"cdiff_helpers {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        if os.environ.get("RANK", "0") == "0":  # of several processes the first one speaks
            print(f"\nInterrupted: {str(error) or 'nothing was written'}.", file=sys.stderr)
        return 128 + getattr(error, "number", signal.SIGINT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
