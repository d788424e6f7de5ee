"""A run on disk, whole at every moment: the last two checkpoints, each with its digests.

The newest lies in the run's folder, the one before in `previous`. A new one is written beside the
newest, under names that end in `.new`, and moved in only when all of it is on the disk; whoever is
killed in between leaves at least one whole set, and every set is found again by its `SHA256SUMS`,
wherever its files lie by then.
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from cdiff_helpers.console import safe_print
from cdiff_helpers.runtime import (
    SUMS,
    course_home,
    digest_line,
    installed_version,
    pick_device,
    sync_folder,
    write_atomically,
    write_synced,
)
from cdiff_helpers.training.interrupts import Interrupted, interrupts_held
from cdiff_helpers.training.loop import Diverged, OutOfMemory, Step, check_finite
from cdiff_helpers.training.random_states import global_random
from cdiff_helpers.training.state import TrainConfig, TrainState, is_a
from cdiff_helpers.unet import ConditionalUNet

STATEFUL = ("optimizer", "scheduler", "scaler")
WEIGHT_FILES = ("model.safetensors", "ema.safetensors")
FILES = ("config.json", "losses.json", *WEIGHT_FILES, "state.pt")
SAMPLED = ("config.json", "ema.safetensors")  # what sampling needs
STOPS = (Interrupted, Diverged, OutOfMemory)  # what ends a run before its time
PLACES = ("{}.new", "{}", "previous/{}")  # of a set's files, the newest set first
CODE = ("diffusion.py", "unet.py", "data/loaders.py", "training/*.py")  # what decides a run


def save_checkpoint(folder: str | Path, state: TrainState) -> None:
    """Write the run into a folder, made where it is missing; the one that lay there is kept, too.

    `config.json`, `losses.json`, `model.safetensors`, `ema.safetensors`, `state.pt` (optimiser,
    schedule, scaler, random states, data order) and `SHA256SUMS`; the ones before in `previous`.
    Raises OSError naming a folder that cannot be written, and Diverged rather than save a run that
    has; either way what lay there stays as it was.
    """
    check_finite(state)
    folder, contents = as_folder(folder), checkpoint_bytes(state)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        move_in(folder)  # what a killed process had written whole
        write_set(folder, contents)
    except OSError as error:
        size = sum(map(len, contents.values())) / 1e6
        raise OSError(
            f"the run could not be saved in {folder} ({error.strerror or error}); expected a "
            f"folder that can be written, with {3 * size:.0f} MB free. Choose another folder, or "
            "make room: what was saved there before is whole."
        ) from error
    state.saved_index = state.index


def as_folder(folder: str | Path) -> Path:
    """The folder as a Path; raises ValueError for what is no path."""
    if not isinstance(folder, str | os.PathLike):
        raise ValueError(
            f"folder is {folder!r}; expected a path, such as course_home() / 'runs' / 'mine'."
        )
    return Path(folder)


def checkpoint_bytes(state: TrainState) -> dict[str, bytes]:
    """The contents of a checkpoint's files, by their names."""
    config = {"training": asdict(state.config), "model": getattr(state.model, "config", None)}
    rest = {name: getattr(state, name).state_dict() for name in STATEFUL}
    rest |= {"index": state.index, "generator": state.generator.get_state()}
    rest |= {"ema_updates": state.ema.num_updates, "data_order": state.data_order}
    rest |= {"global_random": global_random()}
    buffer = io.BytesIO()
    torch.save(rest, buffer)
    return {
        "config.json": json.dumps(config | {"code": code_version()}, indent=2).encode(),
        "losses.json": json.dumps(state.losses.tolist()).encode(),
        "model.safetensors": tensor_bytes(state.model, state.index),
        "ema.safetensors": tensor_bytes(state.ema.model, state.index),
        "state.pt": buffer.getvalue(),
    }


def tensor_bytes(model: nn.Module, index: int) -> bytes:
    """The model's weights as the bytes of a safetensors file that says after which update."""
    tensors = {plain(name): value.contiguous() for name, value in model.state_dict().items()}
    return save_tensors(tensors, metadata={"index": str(index)})


def plain(name: str) -> str:
    """A weight's name without the prefix that torch.compile gives whatever it wraps."""
    return name.replace("_orig_mod.", "")


def code_version() -> str:
    """The package's version, torch's, and a digest of the modules that decide how a run goes."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in (path for pattern in CODE for path in sorted(package.glob(pattern))):
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    own, theirs = installed_version("cdiff-helpers"), torch.__version__
    return f"cdiff-helpers {own}, code {digest.hexdigest()[:12]}, torch {theirs}"


def sums(contents: dict[str, bytes]) -> bytes:
    """A line for each file, as sha256sum writes it."""
    return b"".join(map(digest_line, contents, contents.values()))


def write_set(folder: Path, contents: dict[str, bytes]) -> None:
    """Write the files beside the newest ones, then move them in; what fails leaves nothing."""
    new = {name: folder / PLACES[0].format(name) for name in contents}
    complete = folder / PLACES[0].format(SUMS)
    try:
        for name, content in contents.items():
            write_synced(new[name], content)
        write_atomically(complete, sums(contents))  # from here on it counts
    except BaseException:
        for path in (complete, *new.values()):  # without its sums the rest is no set
            path.unlink(missing_ok=True)
        raise
    move_in(folder)


def move_in(folder: Path) -> None:
    """Put a whole new set in the newest one's place, and that one into `previous`.

    Whatever moment it is stopped at, it can be called again.
    """
    coming, newest, previous = ([folder / p.format(n) for n in (*FILES, SUMS)] for p in PLACES)
    if not coming[-1].exists():
        return
    if newest[-1].exists():  # its sums move last: while they are here, the rest is still to go
        previous[-1].parent.mkdir(exist_ok=True)
        move_all(newest, previous)
    move_all(coming, newest)
    sync_folder(folder)


def move_all(sources: list[Path], targets: list[Path]) -> None:
    """Rename the files that are there, in their order."""
    for source, target in zip(sources, targets):
        if source.exists():
            os.replace(source, target)


def read_set(folder: Path, names: tuple[str, ...] = FILES) -> tuple[dict[str, bytes], list[str]]:
    """The newest whole set of these files in the folder, and what was wrong with those after it.

    Raises FileNotFoundError where there is no run and ValueError where no set is whole.
    """
    if not holds_run(folder):
        raise FileNotFoundError(
            f"there is no run in {folder}; expected a folder with the files of a training run. "
            f"Those of the notebooks are in {course_home() / 'runs'}."
        )
    wrong = []
    for k, place in enumerate(PLACES):
        if (listed := folder / place.format(SUMS)).is_file():
            lines = listed.read_bytes()
            found = find_set(folder, names, PLACES[k : k + 2], lines)
            lost = [name for name in names if name not in found]
            if not lost:
                return found, wrong
            wrong.append(", ".join(map(place.format, lost)))
    told = "; ".join(wrong) or f"{SUMS} is missing"
    raise ValueError(
        f"the run in {folder} is damaged ({told}: not as it was written); it cannot go on. "
        "Start a new one in another folder."
    )


def find_set(
    folder: Path, names: tuple[str, ...], places: tuple[str, ...], lines: bytes
) -> dict[str, bytes]:
    """The files with the listed digests, from the first of the places where there is one.

    (A process that was killed while it moved a set had moved some of its files to the next place.)
    """
    found = {}
    for name in names:
        paths = [folder / place.format(name) for place in places]
        path = next((path for path in paths if path.is_file()), None)
        if path and digest_line(name, content := path.read_bytes()) in lines:
            found[name] = content
    return found


def holds_run(folder: str | Path) -> bool:
    """Whether a run was saved in the folder, be it whole or not."""
    names = [place.format(name) for place in PLACES for name in (SUMS, "state.pt", SAMPLED[1])]
    return any((Path(folder) / name).exists() for name in names)


def refuse_other_files(folder: str | Path) -> None:
    """Raise ValueError where a folder without a run holds files under a run's names."""
    others = [name for name in FILES if (Path(folder) / name).exists()]
    if others and not holds_run(folder):
        raise ValueError(
            f"{folder} holds {', '.join(others)}, and no run; expected an empty folder or a run's. "
            "Take another folder: a new run would overwrite these."
        )


def load_checkpoint(
    folder: str | Path, model: nn.Module | None = None, device: str | torch.device = "cpu"
) -> TrainState:
    """The run that `save_checkpoint` wrote, ready to go on.

    Where the newest checkpoint is damaged, that is said and the one before is used. `model` is
    needed only for a network that is not a ConditionalUNet; its weights are replaced. Raises
    FileNotFoundError where there is no run, and ValueError where it is damaged or of another
    network.
    """
    folder, device = as_folder(folder), pick_device(str(device))
    contents, wrong = read_set(folder)
    with as_written(folder):
        config, losses = (json.loads(contents[name]) for name in FILES[:2])
        weights = [load_tensors(contents[name]) for name in WEIGHT_FILES]
        # On the CPU, wherever it was saved; the optimizer moves its own to the model's device
        rest = torch.load(io.BytesIO(contents["state.pt"]), map_location="cpu", weights_only=True)
        training, network = config["training"], config["model"]
        settings = TrainConfig(**training | {"betas": tuple(training["betas"])})
    model = known_network(folder, network) if model is None else model
    refuse_differences(folder, network, getattr(model, "config", network))
    state = TrainState(model.to(device), settings)
    for network, each in zip((state.model, state.ema.model), weights):
        load_weights(folder, network, each)
    restore(state, rest, losses)
    if wrong:
        safe_print(
            f"{folder}: the newest checkpoint is damaged ({wrong[-1]}); this is the one before, "
            f"after update {state.index}."
        )
    return state


def load_ema_model(folder: str | Path, device: str | torch.device = "cpu") -> ConditionalUNet:
    """The EMA model of a run, in eval mode, from `config.json` and `ema.safetensors` alone.

    Nothing else of the run need be in the folder; the two are verified where its `SHA256SUMS` is.
    Raises FileNotFoundError where they are not there, and ValueError where they are damaged or of
    another network.
    """
    folder, device = as_folder(folder), pick_device(str(device))
    verified = any((folder / place.format(SUMS)).exists() for place in PLACES)
    if not verified and all((folder / name).is_file() for name in SAMPLED):
        contents, wrong = {name: (folder / name).read_bytes() for name in SAMPLED}, []
    else:
        contents, wrong = read_set(folder, SAMPLED)
    with as_written(folder):
        network = json.loads(contents["config.json"])["model"]
        weights = load_tensors(contents["ema.safetensors"])
    model = known_network(folder, network).to(device)
    load_weights(folder, model, weights)
    if wrong:
        safe_print(
            f"{folder}: the newest checkpoint is damaged ({wrong[-1]}); this is the one before."
        )
    return model.eval().requires_grad_(False)


@contextmanager
def as_written(folder: Path) -> Iterator[None]:
    """Within this block whatever cannot be read is not as save_checkpoint writes it: ValueError."""
    try:
        yield
    except Exception as error:  # json, safetensors, zip and pickle each have their own
        raise ValueError(
            f"the run in {folder} was not written by save_checkpoint ({type(error).__name__}: "
            f"{error}); it cannot go on. Start a new one in another folder."
        ) from error


def known_network(folder: Path, network: dict | None) -> ConditionalUNet:
    """The run's network, its weights fresh; raises ValueError where it is no ConditionalUNet."""
    if network is None:
        raise ValueError(
            f"the run in {folder} is of another network than a ConditionalUNet; expected to be "
            "given one to put its weights into. Call load_checkpoint(folder, model)."
        )
    with as_written(folder):
        return ConditionalUNet(**network)


def refuse_differences(folder: Path, there: dict | None, here: dict | None) -> None:
    """Raise ValueError with each setting in which a saved run differs from what is asked for."""
    there, here = (json.loads(json.dumps(d or {})) for d in (there, here))  # tuples become lists
    told = "; ".join(
        f"{name} is {here.get(name)!r}, there {there.get(name)!r}"
        for name in there | here
        if here.get(name) != there.get(name)
    )
    if told:
        raise ValueError(
            f"the run in {folder} is another one ({told}); expected the settings it was begun "
            "with. Use those to go on, or take another folder for a new run."
        )


def load_weights(folder: Path, model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put a run's weights into the network; raise ValueError where they do not fit."""
    here = {plain(name): name for name in model.state_dict()}
    try:
        model.load_state_dict({here.get(plain(name), name): w for name, w in weights.items()})
    except RuntimeError as error:
        first = str(error).split("\n\t")[1] if "\n\t" in str(error) else str(error)
        raise ValueError(
            f"the weights in {folder} are of another network ({first.strip()}); expected those "
            f"of a {type(model).__name__} with these sizes. Load them into their own network."
        ) from error


def restore(state: TrainState, rest: dict, losses: list[float]) -> None:
    """Put the rest of a checkpoint into the state, whatever device and precision it is from."""
    here, there = state.optimizer.state_dict(), rest["optimizer"]
    kernels = {name: here["param_groups"][0][name] for name in ("fused", "foreach")}  # the device's
    groups = [group | kernels for group in there["param_groups"]]
    state.optimizer.load_state_dict(there | {"param_groups": groups})
    state.scheduler.load_state_dict(rest["scheduler"])
    if rest["scaler"]:  # empty where the forward pass was not in float16
        state.scaler.load_state_dict(rest["scaler"])
    state.index, state.ema.num_updates = rest["index"], rest["ema_updates"]
    restore_generator(state, rest["generator"])
    state.data_order, state.global_random = rest["data_order"], rest["global_random"]
    state.loss_record[: state.index] = torch.tensor(losses)
    state.saved_index = state.index


def restore_generator(state: TrainState, saved: Tensor) -> None:
    """Go on with the saved random stream; on another kind of device with one for this index."""
    if saved.shape == state.generator.get_state().shape:
        state.generator.set_state(saved)
        return
    mixed = np.random.SeedSequence([state.config.seed, state.index]).generate_state(1)
    state.generator.manual_seed(int(mixed[0]))


def open_run(folder: str | Path, model: nn.Module, config: TrainConfig) -> TrainState:
    """The run in the folder, ready to go on, or a new one, saved at once: for a cell run twice.

    The model's weights become the run's. Raises ValueError naming each setting in which the run
    there differs, or files of others under a run's names, and OSError for a folder that cannot be
    written.
    """
    folder, device = as_folder(folder), next(model.parameters()).device
    refuse_other_files(folder)
    if not holds_run(folder):
        state = TrainState(model, config)
        save_checkpoint(folder, state)  # a folder that cannot be written is found out now
        return state
    state = load_checkpoint(folder, model, device)
    told = {name: getattr(state.config, name) for name in (f.name for f in fields(config))}
    refuse_differences(folder, told | {"cuda_graphs": config.cuda_graphs}, asdict(config))
    state.config = config  # its way of computing may be another one
    end = " It is finished." if state.index >= config.num_updates else ""
    safe_print(f"{folder} holds this run, {state.index} of {config.num_updates} updates done.{end}")
    return state


def extended(state: TrainState, num_updates: int) -> TrainState:
    """A finished run with so many updates more: a new cycle of the learning rate begins.

    Weights, average, AdamW's moments, random states and the data's order go on; the rate warms up
    and falls again, since the first cycle has ended near 0. Raises ValueError for an unfinished
    run.
    """
    done = state.config.num_updates
    if not is_a(Integral, num_updates) or num_updates < 1:
        raise ValueError(f"num_updates is {num_updates!r}; expected at least 1 more update.")
    if state.index < done:
        raise ValueError(
            f"the run has done {state.index} of {done} updates; expected a finished one. Resume it "
            "to its end first."
        )
    longer = asdict(state.config) | {"num_updates": done + num_updates, "cycle_start": done}
    new = TrainState(state.model, TrainConfig(**longer))
    rates = new.optimizer.state_dict()["param_groups"]
    new.optimizer.load_state_dict(state.optimizer.state_dict() | {"param_groups": rates})
    new.network, new.ema, new.generator = state.network, state.ema, state.generator
    new.data_order = state.data_order
    new.index, new.global_random = state.index, state.global_random
    new.loss_record[:done] = state.losses
    return new


def checkpointed(
    steps: Iterable[Step],
    state: TrainState,
    folder: str | Path,
    every_seconds: float = 60,
    *,
    go_on: str = "run the cell again, or train with --resume,",
) -> Iterator[Step]:
    """The same steps, with the run saved every so often, at the end, and when it is interrupted.

    An interrupt (Ctrl-C, Jupyter's Stop, SIGTERM) waits until the present update is whole; then the
    run is saved and Interrupted raised, a KeyboardInterrupt that says how to `go_on`. A run that
    fails within an update, diverges or runs out of memory keeps the checkpoint that it has.
    """
    if not is_a(Real, every_seconds) or every_seconds < 0:
        raise ValueError(f"every_seconds is {every_seconds!r}; expected at least 0, such as 60.")
    saved, failed = time.monotonic(), False
    with interrupts_held() as interrupted:
        try:
            for step in steps:
                yield step
                if interrupted():
                    raise Interrupted(number=interrupted())
                if time.monotonic() - saved >= every_seconds:
                    failed = True  # until it is saved: a full disk is not tried twice
                    save_checkpoint(folder, state)
                    saved, failed = time.monotonic(), False
        except STOPS as stop:
            raise saying_how(stop, folder, state, go_on) from None
        finally:
            if state.whole and not failed:
                save_checkpoint(folder, state)


def saying_how(
    stop: BaseException, folder: str | Path, state: TrainState, go_on: str
) -> BaseException:
    """The same exception, with what is saved in the folder and how to go on from there."""
    if isinstance(stop, Interrupted):
        return Interrupted(
            f"the run is saved in {folder} after {state.index} of {state.config.num_updates} "
            f"updates; {go_on} to go on",
            stop.number,
        )
    kept = f"The run in {folder} is as it was after {state.saved_index} updates."
    if state.saved_index is None:
        kept = f"Nothing of it was saved in {folder} yet."
    return type(stop)(f"{stop} {kept}")
