"""What a newcomer meets in a shell: any console, help at once, refusals before the work."""

import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest
from PIL import Image

from cdiff_helpers import __version__, commands
from cdiff_helpers.__main__ import main
from cdiff_helpers.console import safe_print
from cdiff_helpers.options import build_parser
from cdiff_helpers.runtime import environment_report
from cdiff_helpers.training import Interrupted
from tests.support.systems import posix_only

FAST = ["--num-steps", "1", "--device", "cpu"]
CAT = ["sample", "--classes", "cat", "--per-class", "1", *FAST]
VERBS = build_parser()._subparsers._group_actions[0].choices


@pytest.fixture(params=["ascii", "cp1252"])
def narrow(request):
    """A block whose stdout and stderr cannot show every character; it yields what they got."""

    @contextmanager
    def block():
        files = io.BytesIO(), io.BytesIO()
        out, err = (io.TextIOWrapper(f, request.param, write_through=True) for f in files)
        with redirect_stdout(out), redirect_stderr(err):
            yield lambda: [file.getvalue().decode(request.param) for file in files]

    return block


def test_no_verb_fails_for_a_character_that_the_console_lacks(narrow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = "köln 数据"
    if sys.platform == "linux":
        home += " \udcff"  # a name that is no UTF-8, as an old disk has
    train = ["train", "--out", f"{home}/run", "--preset", "reduced", "--updates", "1"]
    evaluate = ["evaluate", "--num-images", "20", "--allow-few", "--json", f"{home}/s.json"]
    with narrow() as printed:
        assert main([*CAT, "--out", f"{home}/ö✓.png"]) == 0
        assert main([*train, "--device", "cpu"]) == 0 and main([*train, "--resume"]) == 0
        assert main([*evaluate, *FAST, "--checkpoint", f"{home}/run"]) == 0
        assert main(["fetch", "--source", "bundled", "--root", home]) == 0
        assert main([*CAT, "--out", "x.png", "--checkpoint", f"{home}/✗"]) == 2
        out, err = printed()
    assert (tmp_path / home / "ö✓.png").stat().st_size > 1_000
    assert " ??" in out and "run is finished" in out and "?; expected a folder" in err


def test_the_report_and_the_packages_sentences_are_shown_on_any_console(narrow, monkeypatch):
    monkeypatch.setenv("CDIFF_HOME", "/tmp/数据✓")
    with narrow() as printed:
        print(environment_report())
        safe_print("数据: fetched")
        out, _ = printed()
    assert "???" in out and "??: fetched" in out


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["--out", "."], "no file"),
        (["--out", "folder"], "folder cannot be written"),
        (["--out", "file/p.png"], "cannot be written"),
        (["--out", "new/" + "x" * 256 + "/p.png"], "a name is longer than 255 bytes"),
        (["--out", "x" * 300 + ".png"], "cannot be written"),
        pytest.param(["--out", "/dev/null"], "it is there, and no file", marks=posix_only),
        (["--out", "a.tiff"], "the suffix is '.tiff'; expected one of .png, .jpg, .jpeg, .webp"),
        (["--out", "a.webp", "--per-class", "300"], "19200 x 64 pixels cannot be saved as .webp"),
        (["--out", "a.png", "--enlarge", "0"], "--enlarge is 0"),
        (["--out", "a.png", "--enlarge", "99999"], "expected at most 200,000,000 pixels"),
        (["--out", "a.png", "--per-class", "99999999999"], "expected at most"),
        (["--out", "new/a.png", "--guidance-scale", "inf"], "--guidance-scale is inf"),
        (["--out", "new/a.png", "--guidance-scale", "nan"], "finite"),
        (["--out", "new/a.png", "--guidance-scale", "1e300"], "--guidance-scale is 1e+300"),
        (["--out", "new/a.png", "--seed", "-1"], "seed is -1"),
        (["--out", "new/a.png", "--num-steps", "1001"], "num_steps is 1001"),
        (["--out", "new/a.png", "--num-steps", "0"], "num_steps is 0"),
        (["--out", "new/a.png", "--per-class", "0"], "--per-class is 0"),
        (["--out", "new/a.png", "--device", "tpu"], "'tpu' cannot be used"),
        (["--out", "new/a.png", "--classes", "cat,,dog"], "there is no class ''"),
        (["--out", "new/a.png", "--classes", "unicorn"], "there is no class 'unicorn'; expected"),
        (["--out", "new/a.png", "--classes", "10"], "there is no class 10"),
        (["--out", "new/a.png", "--checkpoint", "nowhere"], "there is no run in nowhere"),
    ],
)
def test_what_no_sample_can_end_with_is_refused_before_the_first_step(
    words, refused, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("precious", encoding="utf-8")
    monkeypatch.setattr(commands, "generate", lambda *_: pytest.fail("drawn"))
    assert main([*CAT, *words]) == 2
    assert refused in (said := capsys.readouterr().err) and "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["evaluate", "--guidance-scale", "nan"], "--guidance-scale is nan"),
        (["evaluate", "--figure", "a.gif"], "the suffix is '.gif'"),
        (["evaluate", "--json", "a.png"], "--json is a.png, the figure's file, too"),
        (["evaluate", "--json", "file/a.json"], "cannot be written"),
        (["evaluate", "--checkpoint", "nowhere"], "there is no run in nowhere"),
        (["evaluate", "--num-steps", "0"], "num_steps is 0"),
        (["evaluate", "--num-images", "9" * 30], "from 500 to 1000000"),
        (["evaluate", "--num-images", "499"], "--num-images is 499; expected"),
        (["evaluate", "--num-images", "499"], "--allow-few"),
        (["evaluate", "--json", "theirs"], "theirs cannot be written"),
        (["fetch", "--to", "file/below"], "cannot be written"),
        (
            ["fetch", "--min-rate", "nan"],
            "--min-rate is nan; expected a finite number of at least 0, in kB/s",
        ),
        (["train", "--out", "file/run"], "file/run/config.json cannot be written"),
        (["train", "--out", "new", "--updates", "0"], "num_updates is 0"),
        (["train", "--out", "new", "--extend", "3"], "--extend is 3"),
        (["train", "--out", "new"], "no data"),
        (["train", "--out", "theirs"], "theirs holds config.json, and no run"),
        pytest.param(
            ["train", "--out", "link"], "link/config.json cannot be written", marks=posix_only
        ),
    ],
)
def test_what_no_verb_can_end_with_is_refused_before_the_work(
    words, refused, tmp_path, monkeypatch, capsys
):
    """A run's folder too is made after the data is there: what fails before leaves none."""

    def no_data(*_, **__):
        raise OSError("no data")

    monkeypatch.chdir(tmp_path)
    for name in ("file", "theirs/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("precious", encoding="utf-8")
    if os.name == "posix":
        (tmp_path / "link").symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(commands, "load_cifar10", no_data)
    monkeypatch.setattr(commands, "generate", lambda *_: pytest.fail("drawn"))
    assert main(words) == 2
    assert refused in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_true_fid_asks_for_its_package_before_data_are_fetched(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(commands, "generate", lambda *_: pytest.fail("drawn"))
    monkeypatch.setattr(commands, "load_cifar10", lambda *_: pytest.fail("fetched"))
    assert main(["evaluate", "--fid"]) == 2
    assert "pip install torch-fidelity" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.jpeg", "JPEG"), ("a.webp", "WEBP"), ("a", "PNG")],
)
def test_an_image_is_written_as_what_its_name_says_with_its_folders(name, kind, tmp_path):
    out = tmp_path / "new" / "deeper" / name
    assert main([*CAT, "--classes", " Cat, SHIP,5", "--out", str(out)]) == 0
    figure = ["--figure", str(out.with_stem("figure"))]
    assert main(["evaluate", "--num-images", "4", "--allow-few", *FAST, *figure]) == 0
    with Image.open(out) as image, Image.open(out.with_stem("figure")) as drawn:
        assert (image.format, image.size, drawn.format) == (kind, (64, 192), kind)
        assert len(set(image.convert("L").tobytes())) > 50  # three images, not one color


def test_a_files_name_is_no_folders():
    for words in (["--out", "new/"], ["--out", ""]):
        with pytest.raises(SystemExit, match="2"):
            main([*CAT, *words])


def test_what_is_printed_comes_after_what_is_written(tmp_path, monkeypatch):
    """A full disk behind stdout: the scores are on the other one."""

    def full(_):
        raise OSError("No space left on device")

    scores = tmp_path / "scores.json"
    few = ["evaluate", "--num-images", "10", "--allow-few", *FAST, "--json", str(scores)]
    monkeypatch.setattr(commands, "score_table", full)
    assert main(few) == 2
    assert scores.is_file() and scores.with_suffix(".png").is_file()


def test_a_closed_console_stops_no_work(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main([*CAT, "--out", str(tmp_path / "cat.png")]) == 0
    assert (tmp_path / "cat.png").is_file()


def test_an_interrupted_extension_goes_on_as_the_shell_says(tmp_path, monkeypatch, capsys):
    """`--updates` was typed for the first cycle; the hint leaves it out."""
    words = ["train", "--out", str(tmp_path / "run"), "--preset", "reduced", "--device", "cpu"]
    assert main([*words, "--updates", "1"]) == 0
    real = commands.train

    def interrupted(*args):
        for step in real(*args):
            yield step
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(commands, "train", interrupted)
        assert main([*words, "--updates", "1", "--resume", "--extend", "2"]) == 130
    said = capsys.readouterr().err
    assert "run the same command without --extend and --updates to go on" in said
    assert main([*words, "--resume"]) == 0
    assert "Trained 3 updates" in capsys.readouterr().out


def test_a_name_as_long_as_the_disk_allows_is_written(tmp_path):
    out = tmp_path / ("x" * 251 + ".png")
    assert main([*CAT, "--out", str(out)]) == 0 and out.is_file()


@pytest.mark.parametrize("words", [["--version"], ["--help"], *([v, "--help"] for v in VERBS)])
def test_version_and_help_need_no_torch(words):
    code = "import sys; from cdiff_helpers.__main__ import main\ntry:\n    main(sys.argv[1:])\n"
    code += "finally:\n    assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    command = [sys.executable, "-W", "error", "-c", code, *words]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert __version__ in done.stdout or "usage: " in done.stdout


def test_a_typing_mistake_needs_no_torch_either():
    code = "import sys; from cdiff_helpers.__main__ import main\ntry:\n    main(['trian'])\n"
    code += "except SystemExit as stop:\n    sys.exit(10 * stop.code + ('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert done.returncode == 20 and "'trian'" in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_real_defaults_units_and_an_example_that_can_be_typed(verb):
    parser, text = VERBS[verb], VERBS[verb].format_help()
    assert "None" not in text and "False" not in text
    assert not re.search(r"\b([A-Z_]{2,}) \1\b", text)  # UPDATES UPDATES
    for action in parser._actions:
        silent = action.dest in OPEN or action.help == "==SUPPRESS=="
        if action.nargs != 0 and not action.required and not silent:
            expanded = action.help.replace("%(default)g", "%(default)s") % {
                "default": action.default
            }
            assert "default: " in expanded, f"{action.dest} has no default in the help"
            assert action.default is None or f"default: {action.default}" in expanded, action
    example = parser.epilog.split("\n")[1].split(f" {verb} ")[1]
    assert build_parser().parse_args([verb, *shlex.split(example)]).command == verb


OPEN = {"to", "extend", "json", "figure"}  # nothing happens where they are left out


def test_the_program_names_itself_as_it_was_called(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/cdiff", "train"])
    assert build_parser().format_usage().startswith("usage: cdiff ")
    monkeypatch.setattr(sys, "argv", ["/somewhere/cdiff_helpers/__main__.py", "train"])
    assert build_parser().format_usage().startswith("usage: python -m cdiff_helpers ")
