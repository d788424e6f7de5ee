"""Nothing that is loaded or fetched can run code: held for every line of the project's Python."""

import ast
import pickle

import numpy as np
import pytest

from cdiff_helpers import load_reference
from cdiff_helpers.data import BUNDLE, load_cifar10, sources
from cdiff_helpers.data.sources import NPM_FILE
from tests.support.notebooks import HOUSE, NOTEBOOKS, as_python, cells
from tests.support.small_set import believe, same_as
from tools.models.records import write_digests

FOLDERS = ("cdiff_helpers", "tools", "benchmarks", "exercises")
SOURCES = {
    path.relative_to(HOUSE).as_posix(): [path.read_text(encoding="utf-8")]
    for folder in FOLDERS
    for path in sorted((HOUSE / folder).rglob("*.py"))
} | {path.name: [as_python(cell) for cell in cells(path, "code")] for path in NOTEBOOKS}
RUNS_CODE = {
    # a submission's, in a process of its own with nothing to lose
    "exercises/cdiff_exercises/submission.py": {"exec"},
    "exercises/hand_out.py": {"exec"},  # the course's own cells
}


def calls(source):
    """Each call of a program: the name as it is written, and its keyword arguments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            given = {word.arg: word.value for word in node.keywords}
            yield (
                ast.unparse(node.func),
                {
                    name: value.value if isinstance(value, ast.Constant) else ...
                    for name, value in given.items()
                },
            )


def faults(name, source):
    """What a program does that could run somebody's code, or trust somebody's word."""
    for call, given in calls(source):
        last = call.split(".")[-1]
        loads = call == "torch.load" or last == "load_state_dict_from_url"
        if loads and given.get("weights_only") is not True:
            yield f"{call} without weights_only=True"
        if call.startswith(("pickle.", "joblib.", "dill.", "marshal.", "shelve.")):
            yield call
        if call in ("eval", "exec", "__import__") and call not in RUNS_CODE.get(name, ()):
            yield call
        if given.get("shell") or call in ("os.system", "os.popen"):
            yield f"{call} through a shell"
        if last in ("extractall", "extract", "unpack_archive"):
            yield f"{call} onto the disk"
        if given.get("allow_pickle") or given.get("verify") is False:
            yield f"{call} {given}"
        if last in ("mktemp", "_create_unverified_context", "trust_remote_code"):
            yield call
    tree = ast.parse(source)
    for node in ast.walk(tree):
        words = node.value if isinstance(node, ast.Constant) else None
        near = ("http://www.w3.org", "http://127.0.0.1")  # a name, and this machine
        if str(words).startswith("http://") and not words.startswith(near):
            yield f"the address {words} has no TLS"


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_runs_what_it_reads(name):
    assert [fault for source in SOURCES[name] for fault in faults(name, source)] == []


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.hub.load_state_dict_from_url(url)",
        "pickle.loads(content)",
        "eval(text)",
        "subprocess.run(words, shell=True)",
        "os.system('ls')",
        "archive.extractall(folder)",
        "np.load(path, allow_pickle=True)",
        "requests.get(url, verify=False)",
        "requests.get('http://example.org/weights')",
    ],
)
def test_the_rule_above_sees(line):
    assert list(faults("somewhere.py", line))


def test_jupyterlab_is_started_with_its_token_on():
    words = (HOUSE / "README.md").read_text(encoding="utf-8")
    assert "jupyter lab notebooks/01" in words
    for off in ("IdentityProvider.token", "NotebookApp.token", "ServerApp.token", "--no-auth"):
        assert off not in words


class Bomb:
    """A pickle that leaves a file behind when it is opened."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return type(self.trace).touch, (self.trace,)


def test_a_pickle_in_the_place_of_weights_or_images_is_refused_and_not_opened(
    tmp_path, monkeypatch
):
    """Even where its digest is listed: files of these kinds hold no code that could run."""
    trace = tmp_path / "ran"
    bomb = pickle.dumps(Bomb(trace))
    (tmp_path / "reference").mkdir()
    for name in ("card.json", "ema.safetensors"):
        (tmp_path / "reference" / name).write_bytes(bomb)
    write_digests(tmp_path / "reference")
    with pytest.raises((RuntimeError, ValueError)):
        load_reference(tmp_path / "reference")
    subset = tmp_path / "subset"
    subset.mkdir()
    (subset / "subset.json").write_bytes((BUNDLE / "subset.json").read_bytes())
    (subset / "train.webp").write_bytes(bomb)
    write_digests(subset)
    monkeypatch.setattr(sources, "BUNDLE", subset)
    with pytest.raises(FileNotFoundError, match="bundled"):
        load_cifar10(source="bundled")
    assert not trace.exists()


def test_a_pickle_in_an_npz_is_refused_and_not_opened(tmp_path, monkeypatch, offline):
    trace = tmp_path / "ran"
    arrays = {f"x_{part}": np.array([Bomb(trace)], dtype=object) for part in ("train", "test")}
    np.savez(tmp_path / NPM_FILE, **arrays, y_train=np.zeros(1), y_test=np.zeros(1))
    with pytest.raises(FileNotFoundError, match=r"damaged .*allow_pickle"):
        load_cifar10(tmp_path, source="npm")
    assert not trace.exists()


def test_a_batch_file_is_read_and_never_run(tmp_path, offline, made_up, monkeypatch):
    """The published archive holds pickles: even one with the right arrays in it runs nothing."""
    trace, folder = tmp_path / "ran", tmp_path / sources.ARCHIVE_FOLDER
    folder.mkdir()
    believe(made_up, monkeypatch)
    for name, content in made_up["files"].items():
        bomb = pickle.dumps(Bomb(trace), protocol=2)[:-1]  # without its last instruction, STOP
        (folder / name).write_bytes(bomb + b"0" + content[2:])  # POP, and go on
    assert same_as(made_up, load_cifar10(tmp_path, source="archive"))
    for name in made_up["files"]:
        (folder / name).write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(FileNotFoundError, match="is damaged"):
        load_cifar10(tmp_path, source="archive")
    assert not trace.exists()
