"""A run's folder: its last two checkpoints, `latest` and `previous`, each with its digests.

A process killed at any moment leaves at least one whole checkpoint. Older versions kept the newest
one's files in the run's folder itself: it is read, too, and the next save converts it.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from cdiff_helpers import validation
from cdiff_helpers.console import safe_print
from cdiff_helpers.runtime import SUMS, course_home, digest_line, sync_folder, write_synced

WEIGHT_FILES = ("model.safetensors", "ema.safetensors")
FILES = ("config.json", "losses.json", *WEIGHT_FILES, "state.pt")
SAMPLED = ("config.json", "ema.safetensors")  # what sampling needs
LATEST, PREVIOUS, TEMPORARY = "latest", "previous", ".saving-"


def run_folder(folder: str | Path) -> Path:
    """The run's folder, given by its path or its `latest`'s; raises ValueError for what is none."""
    if not isinstance(folder, str | os.PathLike):
        expected = "a path, such as course_home() / 'runs' / 'mine'"
        validation.refuse(f"folder is {folder!r}", expected)
    folder = Path(folder)
    return folder.parent if folder.name == LATEST and is_checkpoint(folder) else folder


def is_checkpoint(place: Path) -> bool:
    """Whether a checkpoint was saved here, be it whole or not."""
    return has_digests(place) or all((place / name).is_file() for name in SAMPLED)


def has_digests(place: Path) -> bool:
    """Whether there is a SHA256SUMS here, and of a checkpoint's files."""
    return (place / SUMS).is_file() and b"  config.json\n" in (place / SUMS).read_bytes()


def checkpoints_in(folder: Path) -> list[Path]:
    """The run's checkpoints, the newest first; an older version's lies in the folder itself."""
    return [place for place in (folder / LATEST, folder, folder / PREVIOUS) if is_checkpoint(place)]


def holds_run(folder: str | Path) -> bool:
    """Whether a run was saved in the folder, be it whole or not."""
    return bool(checkpoints_in(Path(folder)))


def refuse_other_files(folder: str | Path) -> None:
    """Raise ValueError where a folder without a run holds files under a run's names."""
    if Path(folder).name == PREVIOUS and has_digests(Path(folder)):
        validation.refuse(
            f"{folder} is a run's checkpoint", f"the run's folder, {Path(folder).parent}"
        )
    names = (LATEST, PREVIOUS, *FILES, SUMS)
    others = [name for name in names if os.path.lexists(Path(folder) / name)]
    if others and not holds_run(folder):
        found = f"{folder} holds {', '.join(others)}, and no run"
        remedy = "Take another folder: a new run would overwrite these."
        validation.refuse(found, "an empty folder or a run's", remedy)


def replace_latest(folder: Path, contents: dict[str, bytes]) -> None:
    """Write a checkpoint into a temporary folder, then rename it to `latest`, that to `previous`.

    A damaged `latest` is dropped, so that a whole `previous` stays. Removes what killed processes
    left behind and, once `latest` is in its place, the files of an older version's checkpoint.
    """
    latest, previous = folder / LATEST, folder / PREVIOUS
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder))
    new, dropped = temporary / "new", temporary / "dropped"
    try:
        new.mkdir()  # with any other folder's permissions; mkdtemp's are for its owner alone
        sums = b"".join(map(digest_line, contents, contents.values()))
        for name, content in (contents | {SUMS: sums}).items():
            write_synced(new / name, content)
        sync_folder(new)
        if latest.exists():
            damaged = bool(read_files(latest, FILES)[1])
            if previous.exists() and not damaged:
                os.replace(previous, dropped)
            os.replace(latest, dropped if damaged else previous)
        os.replace(new, latest)
        sync_folder(folder)
        if has_digests(folder):
            for name in (*FILES, SUMS):  # the digests last: they say that the rest is a run's
                with suppress(OSError):
                    (folder / name).unlink()
    finally:
        for leftover in folder.glob(f"{TEMPORARY}*"):
            shutil.rmtree(leftover, ignore_errors=True)


def read_newest(folder: Path, names: tuple[str, ...] = FILES) -> dict[str, bytes]:
    """These files of the newest whole checkpoint; what of a newer one is damaged is printed.

    Raises FileNotFoundError where there is no run and ValueError where no checkpoint is whole.
    """
    damaged: list[str] = []
    for place in checkpoints_in(folder):
        contents, wrong = read_files(place, names)
        if not wrong:
            if damaged:
                which = f"the newest checkpoint is damaged ({', '.join(damaged)})"
                safe_print(f"{folder}: {which}; the one before is used.")
            return contents
        damaged += [(place / name).relative_to(folder).as_posix() for name in wrong]
    if not damaged:
        runs = f"Those of the notebooks are in {course_home() / 'runs'}."
        raise FileNotFoundError(f"there is no run in {folder}; expected a folder with one. {runs}")
    found = f"the run in {folder} is damaged ({', '.join(damaged)})"
    validation.refuse(found, "files as they were written", "Start a new one in another folder.")


def read_files(place: Path, names: tuple[str, ...]) -> tuple[dict[str, bytes], list[str]]:
    """A checkpoint's files of these names, and the names of those that are not as written.

    Without SHA256SUMS a checkpoint is damaged, but what sampling needs is taken as it is.
    """
    contents = {name: (place / name).read_bytes() for name in names if (place / name).is_file()}
    if not (place / SUMS).is_file():
        return contents, [] if names == SAMPLED else [SUMS]
    lines = (place / SUMS).read_bytes()
    whole = [name for name in contents if digest_line(name, contents[name]) in lines]
    return contents, [name for name in names if name not in whole]
