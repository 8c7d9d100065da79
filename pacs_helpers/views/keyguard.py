"""Keeps JupyterLab's one-letter shortcuts out of the widgets."""

import anywidget


class KeyGuard(anywidget.AnyWidget):
    """An invisible widget: put it in a box with the class `pacs-keys`, and typing in that box types, instead of adding cells.

    JupyterLab leaves an element alone that carries data-lm-suppress-shortcuts itself; an ancestor that carries it is not enough,
    so it is set on each element as it gains focus.
    """

    _esm = """
    function render({ el }) {
      const hold = e => e.target.setAttribute('data-lm-suppress-shortcuts', 'true');
      let box = null;
      requestAnimationFrame(() => { box = el.closest('.pacs-keys') || el.parentElement; box.addEventListener('focusin', hold); });
      return () => box && box.removeEventListener('focusin', hold);
    }
    export default { render };
    """
