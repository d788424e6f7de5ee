"""Whatever is typed: an exit status and a sentence, never a traceback, nothing left behind."""

import random

import pytest
import torch

from cdiff_helpers import commands
from cdiff_helpers.__main__ import build_parser, main
from cdiff_helpers.data import load_cifar10

LISTS = 500
WORDS = [
    "", " ", "0", "1", "-1", "3", "7", "16", "1e3", "1.5", "nan", "inf", "-inf", "1e400",
    "99999999999", "cat", "cat,dog", "3,5", "unicorn", "cat,,dog", ",", "cat,cat", "10", "ÄÖ", "🐈",
    "x" * 3000, "\n", "auto", "cpu", "cuda", "cuda:99", "mps", "tpu", "reduced", "gpu", "bundled",
    "archive", "npm", "ddim", "ddpm", "dpm++2m", "euler", "--", "-h", "--help", "--json", "None",
    "nowhere", "file", "file/below", "folder", "folder/new.png", "new", "new/deeper/a.png",
    "/proc/self/nothing", "/dev/null/x", "a\x00b",
]  # fmt: skip
LIKELY = {
    "--classes": ["cat,dog", "3"], "--out": ["new", "new.png"], "--device": ["cpu"],
    "--source": ["bundled"], "--preset": ["reduced"], "--root": ["folder"],
}  # fmt: skip
NEEDED = {"train": ["--out"], "sample": ["--classes", "--out"], "fetch": [], "evaluate": []}
FLAGS = {
    command: [
        flag
        for action in parser._actions
        for flag in action.option_strings
        if flag not in ("-h", "--help", "--fid", "--real")
    ]
    for command, parser in build_parser()._subparsers._group_actions[0].choices.items()
}


def arguments(seed):
    """A command with some of its flags, most with a value that could be meant, in any order."""
    draw = random.Random(seed)
    command = draw.choice([*FLAGS, *FLAGS, "", "fly"])
    flags = draw.sample(
        FLAGS.get(command, ["--out"]), draw.randint(0, min(5, len(FLAGS.get(command, "x"))))
    )
    if draw.random() < 0.8:
        flags += [flag for flag in NEEDED.get(command, []) if flag not in flags]
    words = [command]
    for flag in flags:
        words.append(flag)
        if flag not in ("--resume", "--allow-few") or draw.random() < 0.1:
            likely = LIKELY.get(flag) if draw.random() < 0.6 else None
            words.append(draw.choice(likely or WORDS))
    if draw.random() < 0.1:
        words.insert(draw.randint(0, len(words)), draw.choice(WORDS))
    return words


@pytest.fixture
def quick(tmp_path, monkeypatch, small_model, short_process):
    """The shell with everything that takes long replaced, in a folder with some things in it."""
    bundle = load_cifar10(source="bundled", train=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CDIFF_HOME", str(tmp_path / "home"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("precious", "utf-8")

    def data(root=None, train=True, source="auto", **options):
        load_cifar10(
            root,
            train,
            source if source not in ("auto", "archive", "npm") else "bundled",
            **options,
        )
        return bundle

    def draw(model, process, labels, args):
        if len(labels) > 10_000:
            raise MemoryError
        return torch.rand(len(labels), 3, 32, 32)

    scores = {"agreement": 0.5, "n": 1}
    monkeypatch.setattr(commands, "ConditionalUNet", lambda: small_model)
    monkeypatch.setattr(commands, "load_reference", lambda: (small_model, short_process, {}))
    monkeypatch.setattr(commands, "load_cifar10", data)
    monkeypatch.setattr(commands, "train", lambda *_: iter(()))
    monkeypatch.setattr(commands, "copy_dataset", lambda *_: "copy")
    monkeypatch.setattr(commands, "generate", draw)
    monkeypatch.setattr(commands, "score", lambda *_, **__: dict(scores))
    monkeypatch.setattr(commands, "score_table", str)
    monkeypatch.setattr(commands, "plot_scores", lambda *_: None)
    monkeypatch.setattr(commands, "figure_file", lambda *_: b"png")
    return tmp_path


@pytest.mark.parametrize("part", range(5))
def test_no_list_of_arguments_ends_in_a_traceback(part, quick, capsys):
    ends = {0: 0, 2: 0}
    for seed in range(part * LISTS // 5, (part + 1) * LISTS // 5):
        words, before = arguments(seed), names(quick)
        try:
            status = main(words)
        except SystemExit as stop:  # argparse's own
            status = stop.code
        said = capsys.readouterr().err
        assert status in ends, (words, status)
        ends[status] += 1
        if status == 2:
            assert len(said.strip()) > 20 and "Traceback" not in said, (words, said)
        new = names(quick) - before
        asked = {word.split("/")[0] for word in words} | {f"{word}.png" for word in words}
        assert new <= asked, (words, new)
        assert (quick / "file").read_text("utf-8") == "precious", words
        assert not list(quick.rglob(".saving-*")) and not list(quick.rglob(".*-[0-9]*")), words
    assert ends[0] > 5 and ends[2] > 20, ends


def names(folder):
    return {path.name for path in folder.iterdir()}
