"""Other systems: what Windows refuses, and text that is read alike in every country."""

import ast
import mmap
import sys

import pytest

from cdiff_helpers.data import download
from cdiff_helpers.training import TrainConfig, checkpointed, load_checkpoint, open_run, train
from tests.support.notebooks import HOUSE
from tests.support.pretended_windows import pretended_windows
from tests.support.runs import TINY, fresh, same

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is open")
TEXT = {"read_text": 0, "write_text": 1}  # and how many arguments come before the encoding
FOLDERS = ("cdiff_helpers", "benchmarks", "exercises", "tools", "tests")


@on_linux
def test_what_is_open_cannot_be_removed_or_moved(tmp_path):
    """The pretended Windows itself."""
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    with pretended_windows():
        with path.open("rb"), pytest.raises(PermissionError, match="WinError 32"):
            path.unlink()
        with path.open("rb") as file:
            held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with held, pytest.raises(PermissionError, match="WinError 32"):
            path.rename(tmp_path / "other")
        path.rename(tmp_path / "other")
    (tmp_path / "other").unlink()


@on_linux
def test_on_windows_a_fetch_ends_without_an_error(tmp_path):
    with pretended_windows(), download.fetch_lock(tmp_path) as folder:
        (folder / "archive").write_bytes(b"all of it")


@on_linux
def test_on_windows_a_run_is_saved_over_and_goes_on(tmp_path, batches, short_process):
    whole = fresh(TrainConfig(num_updates=3, precision="float32"), **TINY)
    list(train(whole, short_process, batches))
    with pretended_windows():
        state = open_run(tmp_path, fresh(whole.config, **TINY).model, whole.config)
        steps = checkpointed(train(state, short_process, batches), state, tmp_path, 0)
        for step in steps:
            if step.index == 2:
                break
        steps.close()
        state = load_checkpoint(tmp_path)
        list(checkpointed(train(state, short_process, batches), state, tmp_path, 0))
        assert same(load_checkpoint(tmp_path), whole)


@pytest.mark.parametrize("folder", FOLDERS)
def test_text_is_read_and_written_with_its_encoding_named(folder):
    """Windows' own is not UTF-8, and our texts hold ᾱ, → and ü."""
    for path in (HOUSE / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                given = {keyword.arg for keyword in node.keywords}
                short = name in TEXT and len(node.args) <= TEXT[name]
                short |= name in ("run", "Popen") and "text" in given
                assert "encoding" in given or not short, (
                    f"{path.relative_to(HOUSE)}:{node.lineno} names no encoding"
                )
