"""Keeps JupyterLab's one-letter shortcuts out of the widgets, and a press behind what was typed before it."""

from pathlib import Path

import anywidget
import ipywidgets as w
import traitlets


class KeyGuard(anywidget.AnyWidget):
    """An invisible widget: put it in a box with the class `pacs-keys`, and typing in that box types, instead of adding cells.

    JupyterLab leaves an element alone that carries data-lm-suppress-shortcuts itself; an ancestor that carries it is not enough,
    so it is set on each element as it gains focus. `presses` gives keys such as `Ctrl+Enter` the class of the button that they press.

    While Python is busy the widgets hold back what is typed or chosen, but not the press of a button: it would act on what stood
    there before. So a press waits until Python has answered, and so has seen all that came earlier.
    """

    presses = traitlets.Dict().tag(sync=True)
    _css = ".pacs-keys :focus-visible { outline: 3px solid #005fcc !important; outline-offset: 1px; }"
    _esm = Path(__file__).with_name("keyguard.js")

    def __init__(self, **more):
        super().__init__(**more)
        self.on_msg(lambda guard, content, _: guard.send(content))


def guarded(rows, *, keys=None, **layout):
    """A box of widgets in which typing types, a button sees what was typed before it, and focus is visible."""
    box = w.VBox([KeyGuard(presses=keys or {}), *rows], layout=layout)
    box.add_class("pacs-keys")
    return box


def with_still(box, still, text):
    """The MIME bundle of a box: the widget where widgets run, else the HTML `still`, else `text`."""
    bundle = box._repr_mimebundle_()
    return {**(bundle[0] if isinstance(bundle, tuple) else bundle), "text/html": still, "text/plain": text}
