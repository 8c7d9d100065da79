"""The notebooks as they are kept in git and as pages to read: run, refresh, write HTML. No page asks any host for anything."""

import argparse
import base64
import copy
import html
import re
import sys
from pathlib import Path

import nbformat
from jinja2 import DictLoader
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from tqdm import tqdm
from traitlets.config import Config

from pacs_helpers.views.briefing import HEAD

ROOT = Path(__file__).resolve().parents[1]
PICTURED = "00_start_here"
WIDGET = "application/vnd.jupyter.widget-view+json"
STYLE = """
body{font:16px/1.5 system-ui,"Segoe UI",Arial,sans-serif;color:#1d1d1f;max-width:64rem;margin:2rem auto;padding:0 1.5rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .6rem}h2{font-size:1.35rem;margin:2.2rem 0 .5rem}h3{font-size:1.1rem}
table{border-collapse:collapse;font-size:.86rem;margin:.6rem 0}table.dataframe{border:0}th,td{border:0;border-bottom:1px solid #d8d8dc;padding:.28rem .6rem;text-align:left;vertical-align:top}
.output{overflow-x:auto;margin:.4rem 0 1rem}img{max-width:100%;height:auto}pre{white-space:pre-wrap;font-size:.86rem}
details.code>summary{color:#5a5a60;font-size:.8rem;cursor:pointer}details.code pre{background:#f6f6f8;padding:.6rem;border-radius:4px}
dt{font-weight:600;margin-top:.9rem}dd{margin:.1rem 0 0;color:#444}
a.anchor-link{display:none}.prompt{display:none}
@page{size:A4;margin:16mm}@media print{body{margin:0;max-width:none;padding:0;font-size:10.5pt}details.code{display:none}img,table{break-inside:avoid}}
"""
TEMPLATE = """{%- extends 'basic/index.html.j2' -%}
{%- block input_group -%}<details class="code"><summary>code</summary>{{ super() }}</details>{%- endblock -%}
{%- block output_group -%}{%- if 'solution' in cell.metadata.get('tags', []) -%}<details class="answer"><summary>answer</summary>{{ super() }}</details>
{%- else -%}<div class="output">{{ super() }}</div>{%- endif -%}{%- endblock -%}
"""


def run_notebook(path):
    """The executed notebook, run in its own folder with a fresh kernel."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False, store_widget_state=False, extra_arguments=["--IPKernelApp.log_level=40"],
                   resources={"metadata": {"path": str(Path(path).parent)}}).execute()
    return tidy(notebook)


def tidy(notebook):
    """The notebook without what changes from run to run: timing, widget state and ids, stream pieces, execution numbers."""
    notebook.metadata = nbformat.from_dict({"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}})
    count = 0
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
            output.get("data", {}).pop(WIDGET, None)
        cell.outputs = _joined([o for o in cell.outputs if o.output_type != "display_data" or o.data])
    return notebook


def _joined(outputs):
    """The outputs with the pieces of one stream put together: where they are cut depends on the kernel's timing."""
    joined = []
    for output in outputs:
        if joined and output.output_type == "stream" and joined[-1].output_type == "stream" and joined[-1].name == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def text_of(notebook):
    """The notebook as the bytes of its file."""
    return nbformat.writes(notebook) + "\n"


def title_of(notebook):
    """The question a notebook asks: its first heading."""
    return next((line.lstrip("# ").strip() for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines() if line.startswith("# ")), "Notebook")


def lead_of(notebook):
    """Who asks the question and when, as plain text: the first paragraph under the title."""
    paragraphs = notebook.cells[0].source.split("\n\n") if notebook.cells else []
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", paragraphs[1].strip()) if len(paragraphs) > 1 else ""


def write_page(notebook, target):
    """The path of an HTML page of an executed notebook: code folded, print CSS, an alt text on every chart, no script run and nothing fetched."""
    notebook = _describe_charts(notebook)
    config = Config({"NbConvertBase": {"display_data_priority": ["text/html", "image/png", "image/svg+xml", "text/markdown", "text/plain"]}})
    exporter = HTMLExporter(config=config, extra_loaders=[DictLoader({"page.html.j2": TEMPLATE})], template_file="page.html.j2", exclude_input_prompt=True,
                            exclude_output_prompt=True, exclude_anchor_links=True)
    body, _ = exporter.from_notebook_node(notebook)
    title = title_of(notebook)
    body = re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="\1.html"', body)
    page = (f'<!DOCTYPE html>\n<html lang="en"><head>{HEAD}<title>{html.escape(title)}</title>'
            f"<style>{STYLE}</style></head><body><main>\n{body}\n</main></body></html>\n")
    Path(target).write_text(page, encoding="utf-8", newline="\n")
    return Path(target)


def _describe_charts(notebook):
    """A copy whose charts without an alt text have the heading they stand under; the text below a chart says how to read it."""
    notebook, heading = copy.deepcopy(notebook), title_of(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = ([line.lstrip("# ").strip() for line in cell.source.splitlines() if line.startswith("#")] or [heading])[-1]
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                words = f"Chart under the heading “{heading}”; the text around it says how to read it."
                output.setdefault("metadata", {}).setdefault("image/png", {}).setdefault("alt", words)
    return notebook


def write_index(pages, folder):
    """The path of index.html: the briefing first, then each question with its page and who asks it."""
    items = "".join(f'<dt><a href="{html.escape(name)}">{html.escape(title)}</a></dt><dd>{html.escape(lead)}</dd>' for name, title, lead in pages)
    briefing = '<p><a href="briefing.html"><strong>The director’s briefing</strong></a>: one page a month, without patients; print it or send it.</p>' if (folder / "briefing.html").exists() else ""
    text = (f'<!DOCTYPE html>\n<html lang="en"><head>{HEAD}<title>PACS workbook</title><style>{STYLE}</style></head><body><main><h1>PACS workbook</h1>{briefing}'
            f"<dl>{items}</dl><p>Made on this machine; nothing was sent anywhere.</p></main></body></html>\n")
    (folder / "index.html").write_text(text, encoding="utf-8", newline="\n")
    return folder / "index.html"


def run(source, out):
    """The exit code of running every notebook of `source` with a progress bar and writing its page to `out`; one that stops is named, the rest go on."""
    notebooks = sorted(Path(source).glob("*.ipynb"))
    if not notebooks:
        sys.stderr.write(f"No notebooks in {source}. Name a folder made by `python3 workbook.py new NAME`, or none for the samples.\n")
        return 2
    out.mkdir(parents=True, exist_ok=True)
    pages, stopped = [], []
    for path in (bar := tqdm(notebooks, unit="notebook", bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}]{postfix}")):
        bar.set_postfix_str(path.stem)
        try:
            notebook = run_notebook(path)
        except CellExecutionError as error:
            stopped.append(f"{path.name} stopped: {error.ename}: {error.evalue}\n")
            continue
        pages.append((write_page(notebook, out / f"{path.stem}.html").name, title_of(notebook), lead_of(notebook)))
    index = write_index(pages, out)
    if stopped:
        sys.stderr.write("\n" + "".join(stopped) + "Mend what it says, or open the notebook with `python3 workbook.py lab`. The other pages are made.\n")
    where = out.relative_to(ROOT) if out.is_relative_to(ROOT) else out
    if (out / "briefing.html").exists():
        sys.stdout.write(f"\nOpen first:  {where / 'briefing.html'}   the director's page\n")
    sys.stdout.write(f"Then:        {where / index.name}   every question and its page\n")
    return int(bool(stopped))


def refresh(folder, *, check):
    """The exit code of re-making the kept outputs; with `check` nothing is written and a difference is 1."""
    changed = []
    for path in sorted(Path(folder).glob("*.ipynb")):
        new = text_of(run_notebook(path))
        if new != path.read_text(encoding="utf-8"):
            changed.append(path.name)
            if not check:
                path.write_text(new, encoding="utf-8", newline="\n")
                _keep_picture(path)
    sys.stdout.write(f"changed: {', '.join(changed) or 'none'}\n")
    return int(bool(changed and check))


def picture_of(path):
    """The last chart of a notebook file, as PNG bytes."""
    outputs = [o for cell in nbformat.read(path, as_version=4).cells for o in cell.get("outputs", [])]
    return base64.b64decode([o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})][-1])


def _keep_picture(path):
    """The README shows the last chart of the first notebook."""
    if path.stem == PICTURED:
        path.with_name(f"{PICTURED}.png").write_bytes(picture_of(path))


def main(arguments=None):
    """The exit code of the command line `run [FOLDER]` or `refresh [--check]`."""
    parser = argparse.ArgumentParser(prog="workbook.py")
    parser.add_argument("command", choices=["run", "refresh"])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "notebooks")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    own = ROOT / "my" / given.folder
    folder = (own if own.is_dir() and not given.folder.is_dir() else given.folder).resolve()
    if given.command == "refresh":
        return refresh(folder, check=given.check)
    return run(folder, ROOT / "out" if folder == ROOT / "notebooks" else folder / "out")


if __name__ == "__main__":
    sys.exit(main())
