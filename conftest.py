"""How the tests run: the reduced preset, one thread a process, the course folder out of the way.

A machine with torch and pytest but without Jupyter, as GPUs are lent, runs tests/test_gpu.py alone.
"""

import os
import tempfile
from importlib.util import find_spec

os.environ["CDIFF_PRESET"] = "reduced"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two pytest workers share the cores
os.environ.setdefault("CDIFF_HOME", tempfile.mkdtemp(prefix="cdiff-tests-"))
os.environ.setdefault("PYTHONIOENCODING", "utf-8")  # what tests read of processes, on Windows too
# All reach the notebooks' kernels and pytest's workers, which inherit the environment.

JUPYTER = find_spec("nbformat") is not None
OPTIONS = {  # of plugins, in pyproject.toml
    "xdist": ("--numprocesses", "--dist"),
    "nbval": ("--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout"),
}


def pytest_addoption(parser, pluginmanager) -> None:
    """Where a plugin is not there its options are known all the same, and do nothing."""
    for plugin, options in OPTIONS.items():
        for option in () if pluginmanager.hasplugin(plugin) else options:
            parser.addoption(option, nargs="?", help=f"needs pytest's plugin {plugin}")


def pytest_ignore_collect(collection_path) -> bool | None:
    """Without Jupyter nothing is collected but the GPU's tests, which need none."""
    others = collection_path.is_file() and collection_path.name != "test_gpu.py"
    return True if others and not JUPYTER else None


def pytest_report_header() -> list[str]:
    if not JUPYTER:
        return ["Jupyter is not installed: tests/test_gpu.py alone (pytest -m gpu)"]
    from tests.support.lab import what_is_missing

    left_out = (
        "not run by plain pytest: long tests (pytest -m slow) and comparisons with diffusers "
        "(pip install -r requirements-bench.txt && pytest -m peer)"
    )
    missing = what_is_missing()
    return [left_out, f"skipped: {missing}"] if missing else [left_out]
