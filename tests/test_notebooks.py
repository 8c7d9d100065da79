"""The notebooks keep the shape that readers rely on, and their outputs are those that data/samples gives."""

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from notebooks import pages

ROOT = Path(__file__).resolve().parents[1]
BOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OFFLINE = str(ROOT / "tests" / "offline")
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
        assert all("(hl7, dicom, network)" in loop for loop in loops), loops


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
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), OFFLINE]))
    assert pages.text_of(pages.run_notebook(path)) == path.read_text(encoding="utf-8"), "run `python3 workbook.py refresh` and look at the difference"


def test_the_network_is_off_where_notebooks_are_tested():
    tried = subprocess.run([sys.executable, "-c", "import sys; sys.audit('socket.connect', None, ('192.0.2.1', 80))"], env=os.environ | {"PYTHONPATH": OFFLINE},
                           capture_output=True, text=True, check=False)
    assert tried.returncode == 1 and "the network is off in tests" in tried.stderr


def test_making_a_notebook_again_gives_the_same_bytes(tmp_path):
    cells = ["import pandas as pd", "%matplotlib inline\nimport matplotlib.pyplot as plt\n_ = plt.plot([1, 2])", "import ipywidgets\nipywidgets.Button(description='b')",
             "pd.DataFrame({'a': [1]})", "import sys\nprint('one')\nprint('two', file=sys.stderr)"]
    book = pages.nbformat.v4.new_notebook(cells=[pages.nbformat.v4.new_code_cell(c, id=f"c{i}") for i, c in enumerate(cells)], metadata={"whose": "machine"})
    path = tmp_path / "book.ipynb"
    pages.nbformat.write(book, path)
    assert pages.refresh(tmp_path, check=True) == 1
    assert pages.refresh(tmp_path, check=False) == 0
    kept = path.read_bytes()
    assert b"image/png" in kept and b"machine" not in kept and b"widget-view" not in kept
    assert pages.refresh(tmp_path, check=True) == 0 and path.read_bytes() == kept


def test_a_value_from_a_log_cannot_run_in_a_page(tmp_path):
    table = "import pandas as pd\npd.DataFrame({'patient_name': ['<script>alert(1)</script>', '<img src=http://a.example/x>']})"
    book = pages.nbformat.v4.new_notebook(cells=[pages.nbformat.v4.new_markdown_cell("# Who?"), pages.nbformat.v4.new_code_cell(table)])
    pages.nbformat.write(book, tmp_path / "book.ipynb")
    assert pages.run(tmp_path, tmp_path / "out") == 0
    page = (tmp_path / "out" / "book.html").read_text(encoding="utf-8")
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;alert(1)" in page
    assert "default-src 'none'; img-src data:" in page


def test_a_chart_is_described_by_its_heading_and_keeps_its_own_words(tmp_path):
    chart = pages.nbformat.v4.new_output("display_data", {"image/png": "AAAA"})
    told = pages.nbformat.v4.new_output("display_data", {"image/png": "AAAA"}, metadata={"image/png": {"alt": "Two bars."}})
    book = pages.nbformat.v4.new_notebook(cells=[pages.nbformat.v4.new_markdown_cell("# Who?\n\n## 1. How many?"), pages.nbformat.v4.new_code_cell("x", outputs=[chart, told])])
    page = pages.write_page(book, tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.findall('alt="([^"]*)"', page) == ["Chart under the heading “1. How many?”; the text around it says how to read it.", "Two bars."]


def test_the_index_puts_the_briefing_first_and_then_each_question(tmp_path):
    (tmp_path / "briefing.html").write_text("", encoding="utf-8")
    text = pages.write_index([("00_start.html", "What can <I> do?", "Ask this <first>.")], tmp_path).read_text(encoding="utf-8")
    assert re.findall('href="([^"]*)"', text) == ["briefing.html", "00_start.html"] and "What can &lt;I&gt; do?" in text and "<dd>Ask this &lt;first&gt;.</dd>" in text


def test_the_lead_of_a_notebook_says_who_asks_without_its_links():
    cell = pages.nbformat.v4.new_markdown_cell("# Why?\n\nAsked after [04_unmatched](04_unmatched.ipynb), daily.\n\nMore.")
    assert pages.lead_of(pages.nbformat.v4.new_notebook(cells=[cell])) == "Asked after 04_unmatched, daily."


def test_a_page_asks_no_host_for_anything(tmp_path):
    page = pages.write_page(pages.nbformat.read(BOOKS[0], as_version=4), tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'lang="en"' in page and "<details" in page
    assert re.findall(r"(?:src|href)=\"(?:https?:)?//[^\"]*", page) == [] and "@import" not in page and "No description has been provided" not in page


def test_a_notebook_that_stops_is_named_and_the_rest_go_on(tmp_path, capsys):
    book = pages.nbformat.v4.new_notebook(cells=[pages.nbformat.v4.new_code_cell("1 / 0")])
    pages.nbformat.write(book, tmp_path / "bad.ipynb")
    pages.nbformat.write(pages.nbformat.v4.new_notebook(cells=[pages.nbformat.v4.new_code_cell("1 + 1")]), tmp_path / "good.ipynb")
    assert pages.run(tmp_path, tmp_path / "out") == 1
    assert "bad.ipynb stopped: ZeroDivisionError" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good.html", "index.html"]


def test_a_folder_without_notebooks_is_named(tmp_path, capsys):
    assert pages.run(tmp_path, tmp_path / "out") == 2 and "No notebooks in" in capsys.readouterr().err


def test_the_picture_of_the_readme_is_the_first_notebooks_chart():
    picture = (ROOT / "notebooks" / f"{pages.PICTURED}.png").read_bytes()
    assert picture == pages.picture_of(BOOKS[0]) and f"notebooks/{pages.PICTURED}.png" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_stream_that_comes_in_pieces_is_kept_as_one():
    pieces = [pages.nbformat.v4.new_output("stream", name="stdout", text=t) for t in ("3", " before\n")]
    cell = pages.nbformat.v4.new_code_cell("x", outputs=pieces)
    assert [o.text for o in pages.tidy(pages.nbformat.v4.new_notebook(cells=[cell])).cells[0].outputs] == ["3 before\n"]
