"""What the trial of `save_whole` sees of a folder while an answer saves into it."""

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from cdiff_exercises.answer import Wrong, one_line
from cdiff_helpers.validation import format_value

FROM: list[tuple] = [(os, "rename"), (os, "replace"), (shutil, "copyfile")]
FROM += [(Path, "rename"), (Path, "replace")]  # Python 3.10's ask os for none
MOVES = [*FROM, (os, "remove"), (os, "unlink"), (Path, "unlink")]


def saving(answer, old: bytes | None, new: bytes, error: BaseException | None = None) -> dict:
    """What is seen while an answer saves `new` over `old`; with `error`, writing ends half-way."""
    moments: list[bytes | None] = []  # what stood at path
    folders: set[Path] = set()  # that were written in

    def look(result=None):
        moments.append(path.read_bytes() if path.is_file() else None)
        return result

    def write(file) -> None:
        if isinstance(name := getattr(file, "name", None), str):
            folders.add(Path(name).resolve().parent)
        look()
        file.write(new[: len(new) // 2])
        file.flush()
        if error:
            raise error
        file.write(new[len(new) // 2 :])
        look()

    with tempfile.TemporaryDirectory() as folder, ExitStack() as watch:
        path = Path(folder).resolve() / "weights.bin"
        neighbor = path.with_name("log.jsonl")
        neighbor.touch()
        if old:
            path.write_bytes(old)
        number = path.stat().st_ino if old else 0  # another file has another one
        for owner, name in MOVES:
            move = getattr(owner, name)
            source = (owner, name) in FROM

            def moving(*args, move=move, source=source, **keywords):
                if source:
                    folders.add(Path([*args, *keywords.values()][0]).resolve().parent)
                return look(move(*args, **keywords))

            watch.enter_context(patch.object(owner, name, moving))
        heard, place = 0, path
        if not error:
            place = answer.ask(answer.value, path, write)
        else:
            try:
                answer.value(path, write)
            except BaseException as raised:
                heard = int(raised is error)
                if not heard:
                    sentence = "where write fails, let its own error go on. Yours raised "
                    sentence += one_line(raised)
                    raise Wrong(sentence, f"raised {type(raised).__name__}") from raised
        look()
        if not error and moments[-1] != new:
            raise Wrong("after saving, path does not hold what was written.", "not saved")
        if place != path:
            sentence = (
                f"you return {format_value(place)}; expected path, the Path that you were given."
            )
            raise Wrong(sentence, "another path")
        same_file = moments[-1] is not None and path.stat().st_ino == number
        return {
            "none": int(None in moments),
            "half": int(any(each not in (None, old, new) for each in moments)),
            "replaced": int(None in moments or not same_file),  # a number that is free comes again
            "elsewhere": sum(not each.is_relative_to(path.parent) for each in folders),
            "beside": len({*path.parent.iterdir()} - {path, neighbor}),
            "others": int(neighbor.exists()),
            "after": moments[-1],
            "heard": heard,
        }
