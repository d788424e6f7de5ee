"""JupyterLab in Chromium, started, driven and ended: what the browser's tests and benchmark share.

Nothing of the user's is touched: the server has its own folders for settings and sessions, a token
and a free port. Playwright drives the Chromium that the machine has, and brings none.
"""

import base64
import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120  # seconds for what a busy machine does slowly; no test is about speed
WATCH = Path(__file__).with_name("watch.js")
SETTINGS = {
    # Cells out of sight stay in the page, so that all of a notebook's widgets can be found.
    "notebook-extension/tracker": {"windowingMode": "none"},
    # No news and no look for updates: nothing here needs a network.
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "apputils-extension/themes": {"theme": "JupyterLab Light", "adaptive-theme": False},
}
FOLDERS = ("config", "data", "runtime")
OPTIONS = (
    "--no-browser",
    "--ip=127.0.0.1",
    "--port=0",  # a free one
    "--allow-root",
    "--expose-app-in-browser",  # window.jupyterapp, to run cells and to know when they are done
    "--LabApp.extension_manager=readonly",  # asks no registry
    "--ServerApp.shutdown_no_activity_timeout=1800",  # should the tests be killed
    "--MappingKernelManager.cull_idle_timeout=1800",
)
KERNEL = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
KINDS = {  # an output's widget, by a control that no other has
    "film": "figure.cdiff-film",
    "explorer": "label:text-is('largest β')",
    "board": "button:text-is('Draw')",
    "stepper": "button:text-is('one step')",
    "picker": ".widget-vbox:has(label:text-is('class')):has(label:text-is('seed'))"
    ":not(:has(button))",
}


def browser_path() -> str | None:
    """Where the machine's Chromium is, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def what_is_missing() -> str:
    """What has to be installed before a browser can be driven, in words; "" for nothing."""
    missing = []
    if importlib.util.find_spec("playwright") is None:
        missing.append("Playwright (pip install playwright)")
    if browser_path() is None:
        missing.append("a Chromium (Debian: apt-get install chromium)")
    return f"the browser's tests need {' and '.join(missing)}" if missing else ""


@contextlib.contextmanager
def chromium() -> Iterator:
    """A headless Chromium as Playwright's Browser; RuntimeError says what is missing for it."""
    if what_is_missing():
        raise RuntimeError(what_is_missing())
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:  # without Chromium's sandbox, which root cannot have
        browser = playwright.chromium.launch(executable_path=browser_path())
        with contextlib.closing(browser):
            yield browser


class Lab:
    """A JupyterLab server for the notebooks in `folder`; its own files lie in `home`.

    `url` and `token` are where it answers, `process` the server's. `close` ends it and its kernels.
    """

    def __init__(self, folder: Path, home: Path):
        self.folder, self.home = folder, home
        for name, values in SETTINGS.items():
            extension, part = name.split("/")
            settings = home / "config/lab/user-settings/@jupyterlab" / extension
            settings.mkdir(parents=True, exist_ok=True)
            (settings / f"{part}.jupyterlab-settings").write_text(
                json.dumps(values), encoding="utf-8"
            )
        folders = {f"JUPYTER_{kind.upper()}_DIR": str(home / kind) for kind in FOLDERS}
        command = [sys.executable, "-m", "jupyterlab", *OPTIONS, f"--ServerApp.root_dir={folder}"]
        command.append(f"--LabApp.workspaces_dir={home / 'workspaces'}")
        with (home / "server.log").open("w", encoding="utf-8") as log:
            self.process = psutil.Popen(
                command, cwd=folder, env=os.environ | folders, stdout=log, stderr=log
            )
        try:
            self.url, self.token = self.address()
        except BaseException:
            self.close()
            raise

    def address(self) -> tuple[str, str]:
        """The server's URL and token, once it answers."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            for file in (self.home / "runtime").glob("jpserver-*.json"):
                with contextlib.suppress(json.JSONDecodeError):  # it is being written
                    about = json.loads(file.read_text(encoding="utf-8"))
                    return about["url"], about["token"]
            time.sleep(0.1)
        raise RuntimeError(
            f"JupyterLab did not start:\n{(self.home / 'server.log').read_text(encoding='utf-8')}"
        )

    def kernels(self) -> list[psutil.Process]:
        """The processes of the kernels that run, oldest first."""
        children = self.process.children()
        return [child for child in children if "ipykernel_launcher" in child.cmdline()]

    def close(self) -> None:
        """End the server, and what it has started."""
        started = [self.process]
        with contextlib.suppress(psutil.NoSuchProcess):
            started += self.process.children(recursive=True)
            self.process.terminate()  # it ends its kernels itself
        _, left = psutil.wait_procs(started, timeout=30)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=30)


class Notebook:
    """A notebook open in JupyterLab in a page of its own.

    `page` is Playwright's, and `problems` what the page's console had to say about errors so far.
    """

    def __init__(self, browser, lab: Lab, name: str):
        self.lab, self.path = lab, lab.folder / name
        self.page = browser.new_page(viewport={"width": 1400, "height": 1400})
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.add_init_script(path=WATCH)
        self.problems = listen(self.page)
        self.page.goto(f"{lab.url}lab/tree/{name}?reset&token={lab.token}")
        self.page.wait_for_function(f"() => {KERNEL}?.status === 'idle'")

    def close(self) -> None:
        """End the notebook's kernel and close its page."""
        self.shut_down()
        self.page.close()

    def command(self, name: str, **arguments) -> None:
        """One of JupyterLab's commands, such as "docmanager:save", until it is done."""
        self.page.evaluate(
            "([name, arguments]) => jupyterapp.commands.execute(name, arguments).then(() => 0)",
            [name, arguments],
        )

    def run_all(self) -> None:
        """Run all cells until the kernel is idle; raises RuntimeError for a cell's error."""
        self.command("notebook:run-all-cells")
        self.page.wait_for_function(f"() => {KERNEL}?.status === 'idle'")
        if self.errors():
            raise RuntimeError(f"{self.path.name}: {self.errors()}")

    def errors(self) -> list[str]:
        """What the cells' error outputs say."""
        return self.page.evaluate("""() => {
          const cells = jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells;
          const outputs = cells.flatMap((cell) => cell.outputs ?? []);
          const errors = outputs.filter((output) => output.output_type === "error");
          return errors.map((error) => `${error.ename}: ${error.evalue}`);
        }""")

    def shut_down(self) -> None:
        """End the kernel; the page stays open."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def kernel(self) -> psutil.Process:
        """The process of the notebook's kernel."""
        kernel_id = self.page.evaluate(f"() => {KERNEL}.id")
        return next(p for p in self.lab.kernels() if kernel_id in " ".join(p.cmdline()))

    def theme(self, name: str) -> None:
        """ "Light" or "Dark"."""
        self.command("apputils:change-theme", theme=f"JupyterLab {name}")
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    def areas(self, kind: str) -> list["Area"]:
        """The outputs with a widget of this kind, of KINDS, top to bottom."""
        outputs = self.page.locator(".jp-OutputArea-output").filter(
            has=self.page.locator(KINDS[kind])
        )
        return [Area(output) for output in outputs.all()]


def write_notebook(path: Path, *sources: str) -> None:
    """A notebook of these code cells, for this Python's kernel."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


def listen(page) -> list[str]:
    """A list that grows by each error that the page's console or a script of it tells."""
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda said: (
            said.type == "error" and problems.append(f"{said.text} {said.location['url']}")
        ),
    )
    return problems


class Area:
    """A piece of a page with a picture and controls: a widget's output, or a film's figure."""

    def __init__(self, root):
        self.root, self.page = root, root.page

    def slider(self, label: str) -> "Slider":
        """The slider that is called so."""
        named = self.page.locator(f"label:text-is('{label}')")
        return Slider(self.root.locator(".widget-slider").filter(has=named))

    def sliders(self) -> dict[str, "Slider"]:
        """All sliders that can be moved, by their labels; a film's is called "frame"."""
        found = {}
        for slider in self.root.locator("input[type=range]").all():
            found["frame"] = Slider(slider)
        for slider in self.root.locator(".widget-slider:not(:has([disabled]))").all():
            found[slider.locator("label").inner_text()] = Slider(slider)
        return found

    def control(self, label: str):
        """The list, field or menu that is called so."""
        return self.root.get_by_label(label, exact=True)

    def checkboxes(self) -> dict:
        """All boxes to check, by their labels."""
        boxes = self.root.locator("label:has(input[type=checkbox])").all()
        return {box.inner_text(): box.get_by_role("checkbox") for box in boxes}

    def button(self, words: str):
        """The button that says so; an icon before the words counts as a letter."""
        return self.root.get_by_role("button", name=re.compile(rf"(^|\W){re.escape(words)}$"))

    def pixels(self) -> int:
        """A number for the picture as it is shown; 0 where none is to be seen."""
        return self.root.evaluate("(area) => watch.now(area)")

    def settled(self, seconds: float = 0.5) -> int:
        """`pixels`, once they have been the same for so long."""
        before, since = self.pixels(), time.monotonic()
        while time.monotonic() - since < seconds:
            self.page.wait_for_timeout(50)
            if (now := self.pixels()) != before:
                before, since = now, time.monotonic()
        return before

    def changed(self, before: int) -> int:
        """`pixels`, once they are others than `before` and there is a picture."""
        self.page.wait_for_function(
            "([area, before]) => ![0, before].includes(watch.now(area))",
            arg=[self.root.element_handle(), before],
        )
        return self.pixels()

    @contextlib.contextmanager
    def watched(self) -> Iterator[dict]:
        """What the page saw meanwhile, frame by frame; see watch.js. It is there at the end."""
        record = {}
        self.page.evaluate("(area) => watch.begin(area)", self.root.element_handle())
        try:
            yield record
        finally:
            record |= self.page.evaluate("() => watch.end()")

    @contextlib.contextmanager
    def filmed(self) -> Iterator[list[Image.Image]]:
        """The picture's place on the screen in each of the browser's frames meanwhile."""
        box = self.root.locator("canvas, img").first.bounding_box()
        corners = box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]
        seen, session = [], self.page.context.new_cdp_session(self.page)

        def keep(event: dict) -> None:
            session.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})
            frame = Image.open(io.BytesIO(base64.b64decode(event["data"]))).convert("RGB")
            scale = frame.width / event["metadata"]["deviceWidth"]
            seen.append(frame.crop(tuple(round(scale * corner) for corner in corners)))

        session.on("Page.screencastFrame", keep)
        session.send("Page.startScreencast", {"format": "png"})
        try:
            yield seen
        finally:
            session.send("Page.stopScreencast")
            session.detach()

    def says(self, words: str) -> None:
        """Wait until these words stand in the area."""
        self.root.get_by_text(words).first.wait_for()


def is_blank(picture: Image.Image) -> bool:
    """Whether it has one colour all over, as nothing has that the course shows."""
    return all(high - low < 8 for low, high in picture.getextrema())


class Slider:
    """A slider of ipywidgets' or a film's: `press` a key on it, `drag` it, ask for its `value`."""

    def __init__(self, root):
        self.root, self.page = root, root.page
        self.native = root.evaluate("e => e.tagName === 'INPUT'")
        self.handle = root if self.native else root.locator(".noUi-handle")
        self.track = root if self.native else root.locator(".noUi-base")

    def value(self) -> float:
        """Where it stands, from 0 at the left end to 1."""
        if self.native:
            return self.handle.evaluate("e => (e.value - e.min) / (e.max - e.min)")
        origin = self.track.bounding_box()
        handle = self.handle.bounding_box()
        return (handle["x"] + handle["width"] / 2 - origin["x"]) / origin["width"]

    def enabled(self) -> None:
        """Wait until it can be moved."""
        self.root.locator(".noUi-target:not([disabled])").wait_for()

    def press(self, key: str) -> None:
        """Press a key while it has the focus."""
        self.handle.press(key)

    def place(self, value: float) -> tuple[float, float]:
        """Where on the screen the handle's middle is at a value from 0 to 1."""
        box = self.track.bounding_box()
        inset = 8 if self.native else 0  # a native thumb stays inside its track
        x = box["x"] + inset + (box["width"] - 2 * inset) * value
        return x, box["y"] + box["height"] / 2

    def drag(self, value: float, steps: int = 8) -> None:
        """Take the handle with the mouse, and let it go at a value from 0 to 1."""
        self.track.scroll_into_view_if_needed()
        self.page.mouse.move(*self.place(self.value()))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(value), steps=steps)
        self.page.mouse.up()
