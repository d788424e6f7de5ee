"""What the shell's verbs do. Home: notebook 08."""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cdiff_helpers import validation
from cdiff_helpers.data import (
    CLASS_NAMES,
    ResidentLoader,
    class_indices,
    copy_dataset,
    load_cifar10,
    to_image_range,
)
from cdiff_helpers.diffusion import DiffusionProcess
from cdiff_helpers.evaluation import FEWEST_FOR_AGREEMENT, load_judge, score
from cdiff_helpers.evaluation.fid import inception_weights, true_fid
from cdiff_helpers.evaluation.report import plot_scores, score_table
from cdiff_helpers.parallel import (
    average_gradients,
    main_process_first,
    process_group,
    synchronized,
)
from cdiff_helpers.reference import load_reference
from cdiff_helpers.runtime import (
    Preset,
    check_writable,
    course_home,
    course_preset,
    pick_device,
    seed_everything,
    write_atomically,
)
from cdiff_helpers.sampling import denoise, solver_and_times
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
    refuse_other_files,
    train,
    warn_if_stuck,
)
from cdiff_helpers.unet import ConditionalUNet
from cdiff_helpers.visualization import figure_file, image_bytes, tile_images

MOST_IMAGES = 1_000_000  # of one evaluation: 12 GB in memory
MOST_GUIDANCE = 1_000  # beyond it float32 overflows in the end, and follows no class long before
MOST_PIXELS = 200_000_000  # of one file: 600 MB in memory, twice


def fetch_command(args: argparse.Namespace) -> None:
    """Have CIFAR-10 on this machine, or in a folder for machines without internet."""
    if args.to:
        check_writable(args.to / "cifar10")
    min_rate = 1000 * validation.number("--min-rate", args.min_rate, 0, hint=", in kB/s")
    for train_set in (True, False):
        data = load_cifar10(args.root, train_set, args.source, min_rate=min_rate)
    root = Path(args.root or course_home() / "data").expanduser()
    if data.source == "bundled":
        print("The bundled subset lies in the package; nothing was written.")
    else:
        print(f"All 60,000 images lie in {root}, their sha256 as published.")
    if args.to:
        copy = copy_dataset(root, data.source, args.to)
        print(
            f"{copy} is ready to be carried: put it into ~/.cdiff/data on each machine without "
            f"internet, or into $CDIFF_HOME/data, or give its folder as --root."
        )


def train_command(args: argparse.Namespace) -> None:
    """Train a ConditionalUNet into args.out, or go on with the run that lies there.

    Under torchrun its processes train one model together, and the first one saves it.
    """
    with process_group(args.device) as rank:
        preset = course_preset(args.preset, device=rank.device)
        if rank.index == 0:
            check_train(args, preset)
        data = load_cifar10(args.root, source=args.source or preset.source)  # one of them fetches
        with main_process_first(rank):  # the first makes the folder, the others find the run in it
            state = start_or_resume(args, preset, rank.device)
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
        process = state.model.process().to(rank.device)
        steps = synchronized(train(state, process, loader), rank)
        if rank.index == 0:
            same = "without --extend and --updates" if args.extend else "with --resume"
            steps = checkpointed(steps, state, args.out, go_on=f"run the same command {same}")
            steps = with_progress(steps, state)
        for _ in steps:
            pass
        print(f"Trained {state.index} updates; the run is in {args.out}.")


def check_train(args: argparse.Namespace, preset: Preset) -> None:
    """Raise ValueError or OSError for what no training can start with; nothing is written."""
    if args.extend is not None and (args.extend < 1 or not args.resume):
        raise ValueError(
            f"--extend is {args.extend}; expected at least 1, together with --resume and the "
            "folder of a finished run."
        )
    if holds_run(args.out) and not args.resume:
        raise ValueError(
            f"{args.out} holds a run already; --resume goes on with it, another --out "
            "starts a new one."
        )
    refuse_other_files(args.out)
    new_settings(args, preset)
    try:
        check_writable(args.out / ".saving")
    except OSError as error:
        raise OSError(f"the run could not be saved in {args.out}: {error}") from error


def given_settings(args: argparse.Namespace) -> dict[str, int]:
    """The run's settings that were typed, by their names in TrainConfig."""
    typed = {"num_updates": args.updates, "batch_size": args.batch_size, "seed": args.seed}
    return {name: value for name, value in typed.items() if value is not None}


def new_settings(args: argparse.Namespace, preset: Preset) -> TrainConfig:
    """A new run's settings; raises ValueError for values that cannot be."""
    return TrainConfig.for_preset(preset, **RECIPE | given_settings(args))


def with_progress(steps: Iterator[Step], state: TrainState) -> Iterator[Step]:
    """The same steps, with a progress bar that shows the loss; a stuck run is warned of."""
    total, steps = state.config.num_updates, warn_if_stuck(steps, state, tqdm.write)
    with tqdm(steps, initial=state.index, total=total, unit=" updates") as progress:
        for step in progress:
            if step.index % 20 == 0:
                progress.set_postfix(loss=f"{step.loss.item():.4f}")
            yield step


def start_or_resume(args: argparse.Namespace, preset: Preset, device: torch.device) -> TrainState:
    """The run in args.out where there is one, else a new one, saved at once."""
    if holds_run(args.out):
        return resume_run(args, device)
    config = new_settings(args, preset)
    seed_everything(config.seed)
    return open_run(args.out, ConditionalUNet().to(device), config)


def resume_run(args: argparse.Namespace, device: torch.device) -> TrainState:
    """The run in args.out, with args.extend updates more; what was typed must be its settings."""
    state = load_checkpoint(args.out, device=device)
    for name, value in given_settings(args).items():
        if getattr(state.config, name) != value:
            raise ValueError(
                f"{name} is {value}, but the run in {args.out} has {getattr(state.config, name)}; "
                "leave it out to go on, or take another --out."
            )
    return extended(state, args.extend) if args.extend else state


def sample_command(args: argparse.Namespace) -> None:
    """Generate args.per_class images of each class, one row per class, into args.out."""
    classes = class_indices([as_class(name) for name in args.classes.split(",")])
    validation.whole("--per-class", args.per_class)
    validation.whole("--enlarge", args.enlarge)
    check_image_file(args.out, (len(classes), args.per_class), args.enlarge)
    labels = [label for label in classes for _ in range(args.per_class)]
    model, process = chosen_model(args)
    check_sampler(args, model, process, labels)
    images = generate(model, process, labels, args)
    grid = tile_images(images, args.per_class)
    write_file(args.out, image_bytes(grid, args.out.suffix, args.enlarge))
    rows = ", ".join(CLASS_NAMES[label] for label in classes)
    count = f"{len(labels)} image{'s' * (len(labels) > 1)}"
    print(f"{args.out}: {count}; rows from the top: {rows}.")


def as_class(text: str) -> str | int:
    """A class as it was typed: its number, or its name in small letters, blanks left out."""
    return int(text) if text.strip().isdecimal() else text.strip().lower()


def check_image_file(path: Path, grid: tuple[int, int] = (1, 1), enlarge: int = 1) -> None:
    """Raise ValueError or OSError unless a grid of (rows, columns) images can be saved at path."""
    height, width = (32 * count * enlarge for count in grid)
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"{path} would be an image of {width:,} x {height:,} pixels; expected at most "
            f"{MOST_PIXELS:,} pixels. Lower --per-class or --enlarge."
        )
    image_bytes(np.zeros((height, width, 3), np.uint8), path.suffix)
    check_writable(path)


def write_file(path: Path, content: bytes) -> None:
    """Put content at path at once, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


def chosen_model(args: argparse.Namespace) -> tuple[ConditionalUNet, DiffusionProcess]:
    """The EMA model of the run in args.checkpoint, or the bundled reference, on args.device."""
    device = pick_device(args.device)
    if args.checkpoint:
        model = load_ema_model(args.checkpoint, device)
        process = model.process()
    else:
        model, process, _ = load_reference()
        print("Sampling from the bundled reference; --checkpoint FOLDER takes a run of yours.")
    return model.to(device), process.to(device)


def check_sampler(
    args: argparse.Namespace, model: Callable, process: DiffusionProcess, labels: list[int]
) -> None:
    """Raise ValueError for what `denoise` would refuse, before anything is drawn."""
    validation.same_schedule(model, process)
    validation.labels(labels, getattr(model, "null_class", None))
    validation.seed(args.seed, len(labels))
    validation.number("--guidance-scale", args.guidance_scale, -MOST_GUIDANCE, MOST_GUIDANCE)
    solver_and_times(process, args.solver, args.num_steps)


def generate(
    model: Callable, process: DiffusionProcess, labels: list[int], args: argparse.Namespace
) -> Tensor:
    """sample_conditional_images with a progress bar over all reverse steps of all images."""
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
    """Score args.num_images images, equally many per class, and print what the judge says."""
    figure = check_evaluate(args)
    images, labels, scores = scored_images(args)
    if args.json:
        write_file(args.json, (json.dumps(scores, indent=1) + "\n").encode())
    if figure:
        write_file(figure, figure_file(plot_scores(scores, images, labels), figure.suffix))
    print(score_table(scores))  # after the files: a full disk or a closed pipe loses nothing
    if args.fid:
        print(f"FID against all training images: {scores['fid']:.2f}")
    if figure:
        print(f"The figure: {figure}")


def scored_images(args: argparse.Namespace) -> tuple[Tensor, Tensor, dict]:
    """The images, their labels, and how they were made with their scores."""
    if args.fid:  # what it needs is had before the images are drawn
        inception, training_images = inception_weights(), load_cifar10(args.root)
    judge = load_judge(pick_device(args.device))
    images, labels, made_by = real_images(args) if args.real else generated_images(args)
    scores = made_by | score(images, labels, judge=judge, allow_few=args.allow_few)
    if args.fid:
        scores["fid"] = true_fid(images, training_images, inception)
    return images, labels, scores


def check_evaluate(args: argparse.Namespace) -> Path | None:
    """The figure's file; raises ValueError or OSError for what no evaluation can end with."""
    fewest, hint = 2 if args.allow_few else FEWEST_FOR_AGREEMENT, "; --allow-few takes 2 or more"
    validation.whole("--num-images", args.num_images, fewest, MOST_IMAGES, hint=hint)
    figure = args.figure or (args.json and args.json.with_suffix(".png"))
    if args.json:
        check_writable(args.json)
    if figure and figure == args.json:
        raise ValueError(f"--json is {args.json}, the figure's file, too; expected another name.")
    if figure:
        check_image_file(figure)
    return figure


def real_images(args: argparse.Namespace) -> tuple[Tensor, Tensor, dict]:
    """The first args.num_images test images, their labels, and that they are real."""
    test = load_cifar10(args.root, train=False)
    some = slice(args.num_images)
    if len(test) < args.num_images:
        print(f"There are {len(test):,} test images here: all of them are scored.")
    return test.images[some], test.labels[some], {"model": "real test images"}


def generated_images(args: argparse.Namespace) -> tuple[Tensor, Tensor, dict]:
    """args.num_images images of the model, the labels asked for, and how they were made."""
    labels = torch.arange(args.num_images) % len(CLASS_NAMES)
    model, process = chosen_model(args)
    check_sampler(args, model, process, labels.tolist())
    images = generate(model, process, labels.tolist(), args).cpu()
    made_by: dict[str, object] = {"model": str(args.checkpoint or "the bundled reference")}
    made_by |= {name: getattr(args, name) for name in ("guidance_scale", "solver", "seed")}
    made_by["num_steps"] = len(solver_and_times(process, args.solver, args.num_steps)[1])
    return images, labels, made_by


COMMANDS = {
    "fetch": fetch_command,
    "train": train_command,
    "sample": sample_command,
    "evaluate": evaluate_command,
}
