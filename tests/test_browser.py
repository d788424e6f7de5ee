"""The widgets in JupyterLab in a real browser: dragged, typed at, drawn, stopped, and looked at.

Screenshots are kept in $CDIFF_SCREENSHOTS, else in pytest's folder of this run.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cdiff_helpers.data import CLASS_NAMES
from tests.support.lab import (
    WATCH,
    Area,
    Lab,
    Notebook,
    chromium,
    is_blank,
    what_is_missing,
    write_notebook,
)
from tests.support.notebooks import HOUSE

REQUIRED = os.environ.get("CDIFF_BROWSER") == "required"  # .ci/run: a missing browser is an error
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(what_is_missing()) and not REQUIRED, reason=what_is_missing()),
]
SCRATCH = (
    "from cdiff_helpers import load_reference\n"
    "from cdiff_helpers.data import load_cifar10\n"
    "from cdiff_helpers.sampling import denoise\n"
    "from cdiff_helpers.widgets import film, noising_explorer, sampler_board, step_by_step\n"
    "model, process, _ = load_reference()",
    "film(list(denoise(model, process, [3, 8], num_steps=6)))",
    "noising_explorer(load_cifar10(source='bundled'))",
    "sampler_board(model, process, classes=('cat', 'ship'), per_class=2)",
    "step_by_step(model, process)",
)
HOLD = {  # which widgets stand in which notebook
    "03_diffusion_process": {"film", "explorer"},
    "06_conditional_sampling": {"stepper", "film", "board"},
    "07_visualization": {"film", "picker", "board"},
}


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    folder = os.environ.get("CDIFF_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server over a copy of the notebooks, and one more with a widget of each kind."""
    folder = tmp_path_factory.mktemp("lab") / "notebooks"
    shutil.copytree(HOUSE / "notebooks", folder, ignore=shutil.ignore_patterns(".*"))
    write_notebook(folder / "scratch.ipynb", *SCRATCH)
    lab = Lab(folder, tmp_path_factory.mktemp("jupyter"))
    yield lab
    started = [lab.process, *lab.process.children(recursive=True)]
    lab.close()
    assert not [process for process in started if process.is_running()]


@pytest.fixture(scope="module")
def scratch(browser, lab):
    notebook = Notebook(browser, lab, "scratch.ipynb")
    notebook.run_all()
    yield notebook
    notebook.close()


def moves(area: Area, label: str):
    """Drag a slider by the mouse and move it by the arrow keys: each shows another picture."""
    slider, before = area.sliders()[label], area.settled()
    slider.drag(0.7 if slider.value() < 0.5 else 0.2)
    dragged = area.changed(before)
    assert dragged != before
    dragged = area.settled()
    slider.press("ArrowRight")
    area.changed(dragged)
    area.settled()
    slider.press("ArrowLeft")
    area.page.wait_for_function(
        "([area, print]) => watch.now(area) === print", arg=[area.root.element_handle(), dragged]
    )


def drive_film(area: Area):
    figure = area.root.locator("figure.cdiff-film")
    figure.locator("canvas").wait_for()
    moves(area, "frame")
    last = int(area.sliders()["frame"].handle.get_attribute("max"))
    frame = lambda: int(figure.get_attribute("data-frame"))  # noqa: E731
    area.sliders()["frame"].press("Home")
    assert frame() == 0
    area.button("play").click()
    area.changed(area.pixels())
    area.button("pause").click()
    paused = frame()
    assert 0 < paused <= last
    assert area.settled() and frame() == paused
    figure.get_by_role("button").focus()
    area.page.keyboard.press("Enter")  # plays to the end, and stops there
    area.page.wait_for_function(
        "([film, last]) => film.dataset.frame === String(last)",
        arg=[figure.element_handle(), last],
    )
    area.button("play").wait_for()


def drive_explorer(area: Area):
    area.slider("time t").drag(1.0)  # the largest β decides about the last times alone
    area.settled()
    for label in area.sliders():
        moves(area, label)
    for label, choice in (("class", "horse"), ("schedule", "linear")):
        before = area.settled()
        area.control(label).select_option(choice)
        area.changed(before)
    before = area.settled()
    area.control("steps T").fill("100")
    area.control("steps T").press("Enter")
    area.changed(before)


def drive_board(area: Area):
    before = area.settled()
    for name, box in area.checkboxes().items():
        box.set_checked(name in ("bird", "truck"))
    area.button("Draw").click()
    area.changed(before)
    area.slider("step").enabled()  # as soon as all is drawn
    moves(area, "step")
    area.slider("steps").drag(1.0)
    area.slider("of each").drag(1.0)
    area.control("seed").fill("7")
    before = area.settled()
    area.button("Draw").click()
    area.changed(before)
    area.button("Stop").click()
    area.says("stopped after")
    area.slider("step").press("Home")
    assert area.settled()


def drive_stepper(area: Area):
    before = area.settled()
    area.button("one step").click()
    walked = area.changed(before)
    area.button("back to noise").click()
    area.changed(walked)
    steps = [area.settled()]
    for _ in range(3):
        area.button("one step").click()
        area.changed(steps[-1])
        steps.append(area.settled())
    assert len(set(steps)) == 4
    area.button("back to noise").click()
    area.changed(steps[-1])
    assert area.settled() == steps[0]  # the same seed begins with the same noise
    area.control("class").select_option("frog")
    area.changed(steps[0])
    moves(area, "guidance scale")


def drive_picker(area: Area):
    before = area.settled()
    area.control("class").select_option("ship")
    area.changed(before)
    for label in ("seed", "guidance scale"):
        moves(area, label)


DRIVES = {
    "film": drive_film,
    "explorer": drive_explorer,
    "board": drive_board,
    "stepper": drive_stepper,
    "picker": drive_picker,
}


FLASHING = """<img width=320 height=160><input type=range max=20><script>
  const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 16 });
  const [img, input] = [document.querySelector("img"), document.querySelector("input")];
  const show = (i) => {
    const pen = canvas.getContext("2d");
    for (const [x, color] of ["navy", "gold"].entries()) {
      pen.fillStyle = color;
      pen.fillRect(8 * x + i, 0, 8, 16);
    }
    img.src = canvas.toDataURL();
  };
  input.oninput = () => {
    if (FLASH) {
      img.style.visibility = "hidden";
      setTimeout(() => { show(+input.value); img.style.visibility = "visible"; }, 40);
    } else show(+input.value);
  };
  show(0);
</script>"""


@pytest.mark.parametrize("flash", [False, True])
def test_a_picture_that_flashes_is_found_out(flash, browser):
    page = browser.new_page()
    page.add_init_script(path=WATCH)
    page.goto("about:blank")
    page.set_content(FLASHING.replace("FLASH", str(flash).lower()))
    area = Area(page.locator("body"))
    area.settled()
    with area.watched() as record, area.filmed() as painted:
        for _ in range(5):
            before = area.pixels()
            area.sliders()["frame"].press("ArrowRight")
            area.changed(before)
    assert len(record["changes"]) == 5
    assert bool(record["blanks"]) == flash == any(map(is_blank, painted))
    page.close()


@pytest.mark.parametrize("kind", ["film", "explorer", "board", "stepper"])
def test_a_widget_follows_mouse_and_keys(kind, scratch):
    (area,) = scratch.areas(kind)
    DRIVES[kind](area)
    assert scratch.problems == [] and scratch.errors() == []


def photograph(notebook: Notebook, kinds, folder: Path):
    """Keep each widget's picture in both themes; nobody compares them but you."""
    for theme in ("Dark", "Light"):
        notebook.theme(theme)
        for kind in kinds:
            for i, area in enumerate(notebook.areas(kind)):
                assert area.pixels()
                name = f"{notebook.path.stem}_{kind}_{i}_{theme.lower()}.png"
                area.root.screenshot(path=folder / name)


def test_each_widget_is_photographed_in_both_themes(scratch, shots):
    photograph(scratch, ("film", "explorer", "board", "stepper"), shots)


def focus_notebook(notebook: Notebook):
    """Begin at the first cell, where a notebook's own keys bring you."""
    notebook.page.locator(".jp-Cell").first.focus()


def tab_to(wanted):
    """Press Tab until the focus is there."""
    for _ in range(100):
        wanted.page.keyboard.press("Tab")
        if wanted.evaluate("e => e === document.activeElement"):
            return
    raise AssertionError(f"Tab does not reach {wanted}")


def test_the_keyboard_alone_scrubs_and_plays_a_film(scratch):
    (film,) = scratch.areas("film")
    focus_notebook(scratch)
    tab_to(film.sliders()["frame"].handle)
    scratch.page.keyboard.press("Home")
    before = film.settled()
    for key in ("End", "ArrowLeft"):
        scratch.page.keyboard.press(key)
        before = film.changed(before)
    scratch.page.keyboard.press(" ")  # plays
    film.button("pause").wait_for()
    film.button("play").wait_for()  # at the end
    assert scratch.problems == []


def test_the_keyboard_alone_picks_and_moves_in_the_explorer(scratch):
    (explorer,) = scratch.areas("explorer")
    before = explorer.settled()
    focus_notebook(scratch)
    for control, keys in (
        # JupyterLab keeps the arrows for itself until a menu is open.
        (explorer.control("class"), (" ", "ArrowDown", "Enter")),
        (explorer.control("steps T"), ("ArrowUp", "Enter")),
        (explorer.slider("time t").handle, ("PageDown",)),
    ):
        tab_to(control)
        for key in keys:
            scratch.page.keyboard.press(key)
        explorer.changed(before)
        before = explorer.settled()
    assert scratch.problems == []


def test_the_keyboard_alone_picks_classes_draws_and_scrubs(scratch):
    (board,) = scratch.areas("board")
    before = board.settled()
    boxes = board.checkboxes()
    before_keys = {name: box.is_checked() for name, box in boxes.items()}
    assert list(boxes) == list(CLASS_NAMES)
    focus_notebook(scratch)
    for control, keys in (
        (boxes["bird"], (" ",)),
        (boxes["cat"], (" ",)),
        (board.slider("of each").handle, ("Home",)),
        (board.slider("steps").handle, ("Home", "PageUp")),
        (board.button("Draw"), ("Enter",)),
    ):
        tab_to(control)
        for key in keys:
            scratch.page.keyboard.press(key)
    changed = {name for name, box in boxes.items() if box.is_checked() != before_keys[name]}
    assert changed == {"bird", "cat"}
    board.changed(before)
    board.slider("step").enabled()
    before = board.settled()
    tab_to(board.slider("step").handle)
    scratch.page.keyboard.press("ArrowLeft")
    board.changed(before)
    assert scratch.problems == []


def test_the_keyboard_alone_goes_step_by_step(scratch):
    (stepper,) = scratch.areas("stepper")
    before = stepper.settled()
    focus_notebook(scratch)
    tab_to(stepper.button("one step"))
    scratch.page.keyboard.press("Enter")
    stepper.changed(before)
    assert scratch.problems == []


def test_an_exported_film_needs_no_kernel_and_no_server(scratch, browser, lab, shots):
    scratch.command("docmanager:save")
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", scratch.path]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    page = browser.new_page()
    page.add_init_script(path=WATCH)
    page.route(lambda url: url.startswith("http"), lambda route: route.abort())  # no network
    page.goto(scratch.path.with_suffix(".html").as_uri())
    drive_film(Area(page.locator(".jp-OutputArea-output:has(figure.cdiff-film)")))
    page.locator("figure.cdiff-film").screenshot(path=shots / "film_exported.png")
    page.close()


@pytest.mark.slow
def test_a_film_goes_on_after_its_kernel(scratch):
    """The last of the scratch notebook's tests: it takes the kernel away."""
    scratch.shut_down()
    (film,) = scratch.areas("film")
    drive_film(film)
    assert scratch.problems == []


def broken(notebook: Notebook) -> int:
    """How many places say that a widget could not be shown."""
    words = re.compile("model not found|Error displaying widget|Loading widget", re.IGNORECASE)
    return notebook.page.locator(".jp-OutputArea-output").filter(has_text=words).count()


@pytest.mark.parametrize("name", HOLD)
def test_a_stored_notebook_shows_its_pictures_before_it_is_run(name, browser, lab, shots):
    notebook = Notebook(browser, lab, f"{name}.ipynb")
    assert not broken(notebook) and notebook.problems == []
    pictures = notebook.page.locator(".jp-OutputArea-output img")
    assert pictures.count() and all(
        picture.evaluate("e => e.decode().then(() => e.naturalWidth)") for picture in pictures.all()
    )
    for film in notebook.areas("film"):
        assert film.settled()
        film.root.screenshot(path=shots / f"{name}_film_before.png")
    assert bool(notebook.areas("film")) == ("film" in HOLD[name])
    notebook.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", HOLD)
def test_a_notebook_is_run_and_all_its_widgets_are_driven(name, browser, lab, shots):
    notebook = Notebook(browser, lab, f"{name}.ipynb")
    notebook.run_all()
    assert {kind for kind in DRIVES if notebook.areas(kind)} == HOLD[name]
    for kind in HOLD[name]:
        for area in notebook.areas(kind):
            DRIVES[kind](area)
    photograph(notebook, HOLD[name], shots)
    assert not broken(notebook) and notebook.errors() == [] and notebook.problems == []
    notebook.shut_down()
    for film in notebook.areas("film"):
        drive_film(film)
    assert notebook.problems == []
    notebook.page.close()
