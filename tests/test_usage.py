"""The usage line of each program names the command by which it was run."""

import runpy
import sys

import pytest

from tests.support.notebooks import HOUSE

WITHOUT_OPTIONS = ("mark_one.py", "runs.py")
PROGRAMS = {
    ".".join(path.relative_to(HOUSE).with_suffix("").parts).removesuffix(".__main__"): path
    for folder in ("cdiff_helpers", "tools", "benchmarks", "tests/support")
    for path in sorted((HOUSE / folder).rglob("*.py"))
    if '__name__ == "__main__"' in path.read_text("utf-8") and path.name not in WITHOUT_OPTIONS
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_programs_help_names_the_program(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    for module in (name, f"{name}.__main__"):  # where another test has imported it
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit) as left:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    usage = capsys.readouterr().out
    assert left.value.code == 0
    assert usage.startswith((f"usage: python -m {name} ", f"usage: {PROGRAMS[name].name} "))
