"""The fix bench in a real JupyterLab, by keyboard alone."""

import re

from pacs_helpers.fixes.corrections import read_corrections
from pacs_helpers.fixes.ledger import read_ledger

RUN_BENCH = """async () => { const app = window.jupyterapp; await app.restored; const w = app.shell.currentWidget;
  await w.context.ready; await w.sessionContext.ready; const book = w.content;
  book.activeCellIndex = book.widgets.findIndex(c => c.model.sharedModel.source.startsWith('bench = ')) + 1;
  await app.commands.execute('notebook:run-all-above'); }"""


def test_by_keyboard_alone_a_finding_is_picked_decided_undone_and_found_again_after_a_reload(lab, page):
    base, ledger = lab
    book, bench = opened(page, base)
    progress = bench.get_by_text(re.compile(r"open; \d+ decided"))
    open_before, decided_before = numbers(progress)
    cells = book.locator(".jp-Cell").count()
    bench.get_by_label("Kind").focus()
    page.keyboard.type("U05a")
    bench.get_by_text("U05a patient ID typo, on the desk").wait_for(timeout=30_000)
    reach(page, bench.get_by_label("Queue"))
    page.keyboard.press("ArrowDown")
    bench.get_by_text("2 of 3 open").wait_for(timeout=30_000)
    reach(page, bench.get_by_label("Candidates"))
    page.keyboard.press("ArrowDown")
    bench.get_by_text("Would record").wait_for(timeout=30_000)
    for key in "abx":
        page.keyboard.press(key)
    reach(page, bench.get_by_label("Reason"))
    page.keyboard.press("ArrowDown")
    reach(page, bench.get_by_label("Note"))
    page.keyboard.type("called the ward")
    shown = bench.get_by_text(re.compile("Images say")).inner_text()
    page.keyboard.press("Control+Enter")
    bench.get_by_text("Saved. Record").wait_for(timeout=30_000)
    decided = read_corrections(ledger)
    assert decided[["kind", "reason", "text"]].to_numpy().tolist() == [["patient_id", "TYPED_WRONG", "called the ward"]], "the note was typed just before the press"
    assert f"Images say {decided['old'][0]}, the feed says {decided['new'][0]}" in shown
    assert bench.get_by_label("Candidates").evaluate("e => e === document.activeElement"), "after a decision the keyboard goes on at the candidates"
    for key in "abx":
        page.keyboard.press(key)
    reach(page, bench.get_by_role("button", name="Undo last"))
    page.keyboard.press("Enter")
    bench.get_by_text("Undone. Record").wait_for(timeout=30_000)
    reach(page, bench.get_by_role("button", name="Redo"))
    page.keyboard.press("Space")
    bench.get_by_text("Done again. Record").wait_for(timeout=30_000)
    reach(page, bench.get_by_label("Candidates"))
    page.keyboard.press("ArrowDown")
    bench.get_by_text("Would record").wait_for(timeout=30_000)
    reach(page, bench.get_by_label("Reason"))
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    seen = bench.get_by_label("Reason").evaluate("e => e.selectedOptions[0].text")
    page.keyboard.press("Control+Enter")
    bench.get_by_text("Saved. Record 4").wait_for(timeout=30_000)
    assert seen.startswith(f"{read_corrections(ledger)['reason'].iloc[-1]}:"), "what was chosen just before the press counts, however busy Python is"
    assert book.locator(".jp-Cell").count() == cells
    book, bench = opened(page, base)
    assert numbers(bench.get_by_text(re.compile(r"open; \d+ decided"))) == (open_before - 2, decided_before + 2)
    assert [r["op"] for r in read_ledger(ledger)] == ["decide", "undo", "undo", "decide"]
    outside = [url for url in page.asked if not url.startswith((base, base.replace("http", "ws"), "data:", "blob:", "about:"))]
    assert outside == []


def opened(page, base):
    """`(notebook, bench)` of the fix bench's notebook, opened or opened again, and run to the bench."""
    page.goto(f"{base}/lab/tree/notebooks/05_fix_bench.ipynb?reset", wait_until="domcontentloaded")
    page.locator(".jp-NotebookPanel").first.wait_for(timeout=90_000)
    page.evaluate(RUN_BENCH)
    book = page.locator(".jp-NotebookPanel:visible")
    bench = book.locator(".pacs-keys").last
    bench.get_by_role("button", name="Undo last").wait_for(timeout=120_000)
    return book, bench


def numbers(progress):
    found = re.findall(r"\d+", progress.first.inner_text())
    return int(found[-2]), int(found[-1])


def reach(page, target):
    """Tab until the target has focus, as somebody without a mouse does."""
    for _ in range(25):
        if target.evaluate("e => e === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError("it cannot be reached with Tab")
