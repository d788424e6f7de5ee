"""A picture and words that follow their controls.

Home: notebook 07. The picture is a `widgets.Image`, which neither flashes nor hangs.
"""

import html
from collections.abc import Callable, Iterable

import ipywidgets as widgets

WIDE = {"description_width": "8em"}
ENLARGED = 5  # screen pixels a side of each picture's pixel


class Checkboxes(widgets.HBox):
    """A box to check for each of some names: `value` holds the indices of the checked ones.

    Unlike a list with several choices, it needs no Ctrl key, and works by Tab, Space and touch.
    """

    def __init__(self, names: Iterable[str], checked: Iterable[int] = ()):
        layout = widgets.Layout(width="8em", margin="0 0 0 1em")
        self.boxes = [widgets.Checkbox(description=n, indent=False, layout=layout) for n in names]
        super().__init__(self.boxes, layout=widgets.Layout(flex_flow="row wrap", max_width="50em"))
        self.value = checked

    @property
    def value(self) -> tuple[int, ...]:
        return tuple(i for i, box in enumerate(self.boxes) if box.value)

    @value.setter
    def value(self, checked: Iterable[int]) -> None:
        checked = set(checked)
        for i, box in enumerate(self.boxes):
            box.value = i in checked


def followed(show: Callable, controls: dict[str, widgets.Widget], alt: str) -> widgets.Widget:
    """A box of controls over the picture and words that show(**values) returns, kept up to date.

    `alt` says below the picture what it shows. What goes wrong inside `show` appears in the words.
    """
    image, words = picture(), widgets.HTML()

    def show_now() -> None:
        image.value, words.value = show(**{k: c.value for k, c in controls.items()})

    refresh = guarded(show_now, words)
    for control in controls.values():
        control.observe(refresh, names="value")
    refresh()
    return widgets.VBox([*controls.values(), image, widgets.Label(alt), words])


def guarded(act: Callable, words: widgets.HTML) -> Callable:
    """`act` as a control's callback: called without arguments, its errors told in `words`."""

    def callback(_event=None) -> None:
        try:
            act()
        except Exception as error:  # it would vanish in the kernel's log
            words.value = told(error)

    return callback


def picture(png: bytes = b"") -> widgets.Image:
    """A widget for PNG bytes, neither cut nor stretched."""
    layout = widgets.Layout(max_width="100%", align_self="flex-start")
    return widgets.Image(value=png, format="png", layout=layout)


def told(error: Exception) -> str:
    """An error in words, as HTML: what happens outside a cell would vanish in a log."""
    return f"<b>This could not be done:</b> {html.escape(str(error))}"
