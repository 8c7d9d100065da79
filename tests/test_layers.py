"""The house: who may import whom, how big a room may be, and what must not be in the files."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pacs_helpers"
MODULES = sorted(PACKAGE.rglob("*.py"))
FLOORS = ("schemas", "tables", "site", "locks", "readers", "parts", "store", "acknowledgments", "milestones", "department", "analyses", "fixes", "views")
BANNED_NAMES = {"utils", "helpers", "misc", "core", "constants", "base"}
BANNED_CALLS = {"eval", "exec"}
BANNED_MODULES = {"pickle", "scapy", "pm4py", "lifelines", "requests", "urllib.request"}


def floor_of(parts):
    return FLOORS.index(parts[0]) if parts and parts[0] in FLOORS else None


def imports_of(path):
    """`(parts of the imported module below the package, node)` of every import of our own."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[:len(here) - node.level]
            named = tuple((node.module or "").split(".")) if node.module else ()
            yield (*base, *named), node
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pacs_helpers"):
            yield tuple(node.module.split(".")[1:]), node


@pytest.mark.parametrize("path", [m for m in MODULES if m != PACKAGE / "__init__.py"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_point_down(path):
    mine = floor_of(path.relative_to(PACKAGE).with_suffix("").parts)
    assert mine is not None, "a module outside the layers"
    for parts, _ in imports_of(path):
        assert floor_of(parts) is not None and floor_of(parts) <= mine, f"{path.name} imports {'.'.join(parts)}"


def test_there_is_no_circle_of_imports():
    edges = {m.relative_to(PACKAGE).with_suffix("").parts: {p for p, _ in imports_of(m)} for m in MODULES if m.name != "__init__.py"}
    done, path = set(), []

    def walk(node):
        assert node not in path, f"circle: {path + [node]}"
        if node in done or node not in edges:
            return
        path.append(node)
        for other in sorted(edges[node]):
            walk(other)
        path.pop()
        done.add(node)

    for node in edges:
        walk(node)


def test_rooms_stay_small():
    sizes = {str(m.relative_to(ROOT)): len(m.read_text(encoding="utf-8").splitlines()) for m in MODULES}
    assert {k: n for k, n in sizes.items() if n > 300} == {}
    written = sum(bool(line.strip()) for m in MODULES for line in m.read_text(encoding="utf-8").splitlines())
    assert written < 14_450, "lines that are not blank"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_room_breaks_the_rules_of_the_house(path):
    assert path.stem not in BANNED_NAMES
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None and getattr(node.type, "id", "") not in ("Exception", "BaseException"), f"line {node.lineno} catches everything"
        if isinstance(node, ast.Call):
            assert getattr(node.func, "id", "") not in BANNED_CALLS | {"print"}, f"line {node.lineno}"
            assert not any(k.arg == "shell" and getattr(k.value, "value", False) for k in node.keywords), f"line {node.lineno} uses a shell"
        if isinstance(node, ast.ImportFrom):
            assert all(a.name != "*" for a in node.names), f"line {node.lineno}: star import"
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not BANNED_MODULES & set(names), f"line {node.lineno}"


def tracked_texts(git):
    for name in filter(None, git("ls-files", "-z").split("\0")):
        path = ROOT / name
        if path.suffix not in (".dcm", ".gz", ".png", "") and path.is_file() and "data/samples/dicom" not in name:
            yield name, path.read_text(encoding="utf-8", errors="replace")


def test_no_file_names_a_machine_or_a_package_index(git):
    index = re.compile(r"py" + r"pi\.org|pythonho" + r"sted|registry\.np" + r"mjs|deb\.debian", re.I)
    place = re.compile(r"(?<![\w.])/(?:work|farm|root|home)/[a-z]")
    found = [name for name, text in tracked_texts(git) if index.search(text) or (place.search(text) and name != "tests/test_layers.py")]
    assert found == []


def test_notebook_outputs_hold_no_number_that_looks_like_a_real_persons(git):
    pattern = re.compile(r"\b\d{3}-\d{2}-\d{4}\b|\bMRN\d{5,}\b|\(\d{3}\) ?\d{3}-\d{4}")
    assert [name for name, text in tracked_texts(git) if name.endswith((".ipynb", ".csv", ".hl7", ".toml")) and pattern.search(text)] == []
