"""The benchmarks' arithmetic, and what is told where a browser is missing."""

import pytest

from tests.support import lab
from tests.support.systems import posix_only
from tests.support.widget_delays import delays, percentile


def test_a_delay_is_from_each_input_to_the_first_change_before_the_next_input():
    record = {
        "inputs": [
            {"type": "keydown", "time": 100},
            {"type": "keydown", "time": 200},  # nothing follows it before the next
            {"type": "click", "time": 205},
            {"type": "keydown", "time": 300},
        ],
        "changes": [{"time": 130}, {"time": 160}, {"time": 345}],
    }
    assert delays(record, "keydown") == [30, 45]
    assert delays(record, "click") == [140]


def test_no_more_than_a_twentieth_of_the_values_is_above_the_95th_percentile():
    values = [float(i) for i in range(100, 0, -1)]
    assert percentile(values, 0.95) == 95 and percentile(values, 0.5) == 50
    assert percentile([7.0], 0.95) == 7


@posix_only
@pytest.mark.parametrize("found", ["chromium", "google-chrome"])
def test_the_machines_browser_is_found_under_any_of_its_names(found, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lab.browser_path() is None
    assert "apt-get install chromium" in lab.what_is_missing()
    with pytest.raises(RuntimeError, match="apt-get install chromium"), lab.chromium():
        pass
    (tmp_path / found).touch(mode=0o755)
    assert lab.browser_path() == str(tmp_path / found)


def test_a_server_that_does_not_start_is_told_with_its_log(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(lab, "OPTIONS", ("--port=none",))
    with pytest.raises(RuntimeError, match=r"JupyterLab did not start:\n.*port"):
        lab.Lab(tmp_path / "notebooks", tmp_path)
