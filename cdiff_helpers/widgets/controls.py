"""Controls over an image and a message that follow them. Home: notebook 07."""

import html
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ipywidgets as widgets

from cdiff_helpers import validation
from cdiff_helpers.data import CLASS_NAMES
from cdiff_helpers.sampling import GUIDANCE_SCALE

WIDE = {"description_width": "8em"}
SCALE = 5  # screen pixels a side of each pixel of an image
LARGEST_SEED = 2**53 - 1  # that a browser holds: its numbers are exact up to it


class Checkboxes(widgets.HBox):
    """A box to check for each name: unlike a list, it needs no Ctrl key, and works by touch."""

    def __init__(self, names: Sequence[str], checked: Iterable[int]):
        layout = widgets.Layout(width="8em", margin="0 0 0 1em")
        boxes = [widgets.Checkbox(description=n, indent=False, layout=layout) for n in names]
        super().__init__(boxes, layout=widgets.Layout(flex_flow="row wrap", max_width="50em"))
        for i in checked:
            boxes[i].value = True

    @property
    def value(self) -> tuple[int, ...]:
        """The indices of the checked names."""
        return tuple(i for i, box in enumerate(self.children) if box.value)


def class_menu(label: int) -> widgets.Dropdown:
    """A menu of the classes' names, whose value is a label."""
    label = validation.whole("label", label, 0, len(CLASS_NAMES) - 1)
    options = [(name, i) for i, name in enumerate(CLASS_NAMES)]
    return widgets.Dropdown(options=options, value=label, description="class")


def guidance_slider(value: float = GUIDANCE_SCALE, step: float = 0.5) -> widgets.FloatSlider:
    """A slider of guidance scales from 0 to 5."""
    value = validation.number("guidance_scale", value, 0, 5)
    return widgets.FloatSlider(value, min=0, max=5, step=step, description="guidance scale")


def seed_field(seed: int = 0) -> widgets.BoundedIntText:
    """A field for a seed from 0 to LARGEST_SEED."""
    seed = validation.whole("seed", seed, 0, LARGEST_SEED)
    return widgets.BoundedIntText(seed, min=0, max=LARGEST_SEED, description="seed")


class Panel(widgets.VBox):
    """Controls and buttons, which call methods by their names, over an image, caption, message."""

    children: Any

    def __init__(self, controls: dict[str, widgets.Widget], caption="", **buttons: widgets.Button):
        layout = widgets.Layout(max_width="100%", align_self="flex-start")  # or it is stretched
        self.controls, self.buttons = controls, buttons
        self.image = widgets.Image(format="png", layout=layout)
        self.caption, self.message = widgets.Label(caption), widgets.HTML()
        for control in controls.values():
            if hasattr(control, "style"):
                control.style = WIDE
        for name, button in buttons.items():
            button.on_click(lambda _, name=name: self.attempt(getattr(self, name)))
        row = [widgets.HBox([*buttons.values()])] if buttons else []
        super().__init__([*controls.values(), *row, self.image, self.caption, self.message])

    def values(self) -> dict:
        """What is chosen, under the controls' names."""
        return {name: control.value for name, control in self.controls.items()}

    def on_change(self, act: Callable) -> None:
        """Call act() whenever a control's value changes."""
        for control in self.controls.values():
            control.observe(lambda _: self.attempt(act), names="value")

    def attempt(self, act: Callable, *args) -> None:
        """Call act(*args); an error becomes the message: it would vanish in the kernel's log."""
        try:
            act(*args)
        except Exception as error:
            self.message.value = error_html(error)


def followed(show: Callable, controls: dict[str, widgets.Widget], caption: str) -> Panel:
    """A panel with the PNG and the HTML that show(**values) returns, kept up to date."""
    panel = Panel(controls, caption)

    def refresh() -> None:
        panel.image.value, panel.message.value = show(**panel.values())

    panel.on_change(refresh)
    panel.attempt(refresh)
    return panel


def error_html(error: Exception) -> str:
    """An error as HTML for a message."""
    return f"<b>This could not be done:</b> {html.escape(str(error))}"
