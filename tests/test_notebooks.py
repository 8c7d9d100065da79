"""The notebooks keep the shape that readers rely on, and their outputs are those that data/samples gives."""

import json
import re
import statistics
from pathlib import Path

import pytest

from pacs_helpers.views import pages

ROOT = Path(__file__).resolve().parents[1]
BOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELL_KEYS = {"cell_type", "id", "metadata", "source", "outputs", "execution_count"}


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(book):
    return [c for c in book["cells"] if c["cell_type"] == "code"]


def tags(cell):
    return cell["metadata"].get("tags", [])


def test_the_notebooks_of_the_design_are_there():
    assert {b.stem for b in BOOKS} >= {"00_start_here", "03_turnaround", "04_unmatched", "05_fix_bench", "06_network", "09_briefing"}


@pytest.mark.parametrize("path", BOOKS, ids=lambda p: p.stem)
def test_a_notebook_asks_a_question_and_answers_it_in_short_steps(path):
    book = load(path)
    first = "".join(book["cells"][0]["source"])
    assert re.match(r"# .+\?\n", first) and "**You will learn**" in first and "minutes" in first and "**Tables read**" in first
    codes = code_cells(book)
    assert "parameters" in tags(codes[0]) and sum("parameters" in tags(c) for c in codes) == 1
    lengths = [len("".join(c["source"]).splitlines()) for c in codes]
    assert statistics.median(lengths) <= 3 and max(lengths) <= 15
    texts = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "markdown"]
    assert any(t.startswith("## What to do about it") for t in texts) and any(t.startswith("## Exercise") for t in texts)
    assert "**Summary.**" in texts[-1] and "Next:" in texts[-1]


@pytest.mark.parametrize("path", BOOKS, ids=lambda p: p.stem)
def test_cells_outside_exercises_hold_no_machinery(path):
    for cell in code_cells(load(path)):
        source = "".join(cell["source"])
        assert not re.search(r"^\s*(?:def |class |while |!|%pip)", source, re.M) or "solution" in tags(cell)
        loops = re.findall(r"^for .*", source, re.M)
        assert all("in (hl7, dicom, network)" in loop for loop in loops), loops


@pytest.mark.parametrize("path", BOOKS, ids=lambda p: p.stem)
def test_an_exercise_has_a_folded_solution(path):
    solutions = [c for c in code_cells(load(path)) if "solution" in tags(c)]
    assert solutions and all(c["metadata"].get("jupyter", {}).get("source_hidden") for c in solutions)


@pytest.mark.parametrize("path", BOOKS, ids=lambda p: p.stem)
def test_kept_outputs_carry_nothing_that_changes(path):
    book = load(path)
    assert set(book["metadata"]) == {"kernelspec", "language_info"}
    assert [c["execution_count"] for c in code_cells(book)] == list(range(1, len(code_cells(book)) + 1))
    text = path.read_text(encoding="utf-8")
    assert "widget-view" not in text and "Traceback" not in text and "/tmp" not in text
    for cell in book["cells"]:
        assert set(cell) <= CELL_KEYS and "execution" not in cell["metadata"] and "attachments" not in cell


@pytest.mark.parametrize("path", BOOKS, ids=lambda p: p.stem)
def test_outputs_are_those_that_the_samples_give(path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert pages.text_of(pages.run_notebook(path)) == path.read_text(encoding="utf-8"), "run `python3 workbook.py refresh` and look at the difference"


def test_a_page_asks_no_host_for_anything(tmp_path):
    page = pages.write_page(pages.nbformat.read(BOOKS[0], as_version=4), tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'lang="en"' in page and "<details" in page
    assert re.findall(r"(?:src|href)=\"(?:https?:)?//[^\"]*", page) == [] and "@import" not in page and "No description has been provided" not in page


def test_a_notebook_that_fails_stops_the_run_with_its_name(tmp_path, capsys):
    book = pages.nbformat.v4.new_notebook(cells=[pages.nbformat.v4.new_code_cell("1 / 0")])
    pages.nbformat.write(book, tmp_path / "bad.ipynb")
    assert pages.run(tmp_path, tmp_path / "out") == 1
    assert "bad.ipynb stopped: ZeroDivisionError" in capsys.readouterr().err


def test_a_folder_without_notebooks_is_named(tmp_path, capsys):
    assert pages.run(tmp_path, tmp_path / "out") == 2 and "No notebooks in" in capsys.readouterr().err
