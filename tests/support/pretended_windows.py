"""Windows' rule for open files, on Linux: what is open or mapped cannot be removed or moved.

Within `with pretended_windows():` the calls that remove and rename raise PermissionError where
Python's files on Windows would. It knows this process's files alone.
"""

import contextlib
import os
import pathlib
from pathlib import Path
from unittest import mock

CALLS = ("unlink", "remove", "replace", "rename")


def open_files() -> list[str]:
    """What this process has open, then each line of what it has mapped into its memory."""
    names = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the listing's own is closed again
            names.append(str(link.readlink()))
    return names + Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()


def refuse_held(path, dir_fd: int | None = None) -> None:
    """Raise as Windows does where the path, or a file below it, is open."""
    path = Path("." if dir_fd is None else f"/proc/self/fd/{dir_fd}").resolve() / path
    whole = str(path.parent.resolve() / path.name)
    if any(f"{whole}/" in f"{held}/" for held in open_files()):
        raise PermissionError(13, "[WinError 32] it is being used by another process", whole)


def refusing(call):
    """The same call, for paths that nobody holds."""

    def careful(*paths, dir_fd=None, **options):
        for path in paths:
            refuse_held(path, dir_fd)
        return call(*paths, **options, **({} if dir_fd is None else {"dir_fd": dir_fd}))

    return careful


@contextlib.contextmanager
def pretended_windows():
    """Within the block files that are open stay where they are."""
    calls = {name: refusing(getattr(os, name)) for name in CALLS}
    with contextlib.ExitStack() as stack:
        for name, call in calls.items():
            stack.enter_context(mock.patch.object(os, name, call))
            if hasattr(pathlib, "_NormalAccessor"):  # Python 3.10's pathlib keeps the calls
                owner = pathlib._NormalAccessor
                stack.enter_context(mock.patch.object(owner, name, staticmethod(call), create=True))
        yield
