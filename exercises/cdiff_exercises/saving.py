"""What the trial of `save_whole` sees of a folder while an answer saves into it."""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from cdiff_exercises.answer import Wrong, describe, one_line

MOVES: list[tuple] = [(os, "remove"), (os, "unlink"), (os, "rename"), (os, "replace")]
MOVES += [(Path, "unlink"), (Path, "rename"), (Path, "replace")]  # Python 3.10's ask os for none


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
        if old:
            path.write_bytes(old)
        number = path.stat().st_ino if old else 0  # another file has another one
        for owner, name in MOVES:
            move = getattr(owner, name)
            looking = lambda *args, move=move, **keywords: look(move(*args, **keywords))  # noqa: E731
            watch.enter_context(patch.object(owner, name, looking))
        heard, place = 0, path
        if not error:
            place = answer.ask(answer.value, path, write)
        else:
            try:
                answer.value(path, write)
            except BaseException as raised:
                heard = int(error in (raised, raised.__cause__))
                if not heard:
                    sentence = f"where write fails, your function raised {one_line(raised)}"
                    raise Wrong(sentence, f"raised {type(raised).__name__}") from raised
        look()
        if not error and moments[-1] != new:
            raise Wrong("after saving, path does not hold what was written.", "not saved")
        if Path(str(place)).resolve() != path:
            raise Wrong(f"you return {describe(place)}; expected path.", "another path")
        same_file = moments[-1] is not None and path.stat().st_ino == number
        return {
            "none": int(None in moments),
            "half": int(any(each not in (None, old, new) for each in moments)),
            "replaced": int(None in moments or not same_file),  # a number that is free comes again
            "elsewhere": sum(not each.is_relative_to(path.parent) for each in folders),
            "beside": len(list(path.parent.iterdir())) - (moments[-1] is not None),
            "after": moments[-1],
            "heard": heard,
        }
