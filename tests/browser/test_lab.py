"""The fix bench in a real JupyterLab, by keyboard alone."""

import re

RUN_ALL = """async () => { const app = window.jupyterapp; await app.restored; const w = app.shell.currentWidget;
  await w.context.ready; await w.sessionContext.ready; await app.commands.execute('notebook:run-all-cells'); }"""


def test_the_fix_bench_works_by_keyboard_and_typing_adds_no_cells(lab, page):
    page.goto(f"{lab}/lab/tree/notebooks/05_fix_bench.ipynb?reset", wait_until="domcontentloaded")
    page.locator(".jp-NotebookPanel").first.wait_for(timeout=90_000)
    page.evaluate(RUN_ALL)
    book = page.locator(".jp-NotebookPanel:visible")
    bench = book.locator(".pacs-keys").last
    bench.get_by_role("button", name="No match here").wait_for(timeout=120_000)
    progress = bench.get_by_text(re.compile(r"\d+ of \d+ open; \d+ decided|none open; \d+ decided"))
    open_before, decided_before = numbers(progress)
    cells = book.locator(".jp-Cell").count()
    bench.get_by_label("Candidates").focus()
    page.keyboard.press("ArrowDown")
    bench.get_by_role("button", name="Accept match", disabled=False).wait_for(timeout=10_000)
    for key in "abx":
        page.keyboard.press(key)
    accept = bench.get_by_role("button", name="Accept match")
    reach(page, accept)
    page.keyboard.press("Enter")
    bench.get_by_text("Saved. Record").wait_for(timeout=10_000)
    assert numbers(progress) == (open_before - 1, decided_before + 1)
    assert bench.get_by_label("Candidates").evaluate("e => e === document.activeElement"), "after a decision the keyboard goes on at the candidates"
    for key in "abx":
        page.keyboard.press(key)
    reach(page, bench.get_by_role("button", name="Undo last"))
    page.keyboard.press("Enter")
    bench.get_by_text("Undone. Record").wait_for(timeout=10_000)
    assert numbers(progress) == (open_before, decided_before)
    assert book.locator(".jp-Cell").count() == cells
    outside = [url for url in page.asked if not url.startswith((lab, lab.replace("http", "ws"), "data:", "blob:", "about:"))]
    assert outside == []


def numbers(progress):
    found = re.findall(r"\d+", progress.first.inner_text())
    return (int(found[1]), int(found[2])) if len(found) == 3 else (0, int(found[0]))


def reach(page, target):
    """Tab until the target has focus, as somebody without a mouse does."""
    for _ in range(20):
        if target.evaluate("e => e === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError("the button cannot be reached with Tab")
