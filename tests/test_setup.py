"""A newcomer's road: the conda file, the package file and the lock agree, and workbook.py does what the README says."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"tzdata": "python-tzdata", "dask": "dask-core"}
PRESCRIBED = {"jupyterlab", "pandas", "pydicom", "hl7", "matplotlib", "ipywidgets", "nbval"}


def wanted():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = [r for listed in project["project"]["optional-dependencies"].values() for r in listed]
    requirements = [Requirement(r) for r in [*project["project"]["dependencies"], *extras, *project["dependency-groups"]["dev"]]]
    # The conda file cannot say that the fuzzer is for one platform only.
    return {canonicalize_name(r.name): r.specifier for r in requirements if not r.marker}, project["project"]["requires-python"]


def locked():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = {}
    for line in lines:
        found = re.match(r"([a-z0-9_.-]+)==([^ ;\\]+)(?: ; ([^\\]+))?", line)
        if found:
            pins.setdefault(canonicalize_name(found[1]), []).append((found[2], found[3]))
    return pins, lines


def test_the_prescribed_packages_are_there():
    assert PRESCRIBED <= set(wanted()[0])


def test_conda_file_and_package_file_name_the_same_packages_and_versions():
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    flat = [line for d in content["dependencies"] for line in (d["pip"] if isinstance(d, dict) else [d])]
    conda = {canonicalize_name(r.name): r.specifier for r in map(Requirement, flat)}
    packages, python = wanted()
    assert str(conda.pop("python")) == python
    conda.pop("pip")
    assert conda == {CONDA_NAMES.get(name, name): spec for name, spec in packages.items()}


def test_the_lock_covers_the_package_file_with_hashes():
    pins, lines = locked()
    for name, spec in wanted()[0].items():
        assert name in pins and all(spec.contains(version) for version, _ in pins[name]), name
    assert sum("--hash=sha256:" in line for line in lines) >= len(pins)


def test_the_lock_serves_every_platform_and_python():
    pins, _ = locked()
    markers = [Marker(m) for versions in pins.values() for _, m in versions if m]
    assert any(m.evaluate({"sys_platform": "win32"}) for m in markers) and any(m.evaluate({"sys_platform": "darwin"}) for m in markers)


def test_the_lock_names_no_host_and_no_path():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text and "file:" not in text and "--index" not in text and "--find" not in text


@pytest.fixture
def workbook(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("workbook", ROOT / "workbook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def test_new_makes_a_folder_whose_notebooks_read_its_own_traces(workbook, tmp_path, capsys):
    assert workbook.new(["radiology"]) == 0
    folder = tmp_path / "my" / "radiology"
    assert {p.name for p in folder.iterdir() if p.is_dir()} == {"hl7", "dicom", "network", "ris", "transfers"}
    books = sorted(folder.glob("*.ipynb"))
    assert [b.name for b in books] == [b.name for b in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    for book in books:
        content = json.loads(book.read_text(encoding="utf-8"))
        assert all(not c.get("outputs") for c in content["cells"])
        parameters = "".join(next(c for c in content["cells"] if "parameters" in c["metadata"].get("tags", []))["source"])
        assert "samples" not in parameters and "2025" not in parameters.replace('month = "', "").split('"')[0]
        assert "tempfile" not in parameters
    assert "patient data" in capsys.readouterr().out


def test_new_never_touches_a_folder_that_is_there(workbook):
    workbook.new(["radiology"])
    with pytest.raises(SystemExit, match="there already; nothing was changed"):
        workbook.new(["radiology"])


def test_a_folder_that_is_not_there_is_named_before_anything_is_set_up(workbook):
    with pytest.raises(SystemExit, match="No folder 'my/nosuch'"):
        workbook.main(["run", "my/nosuch"])


@pytest.mark.parametrize("name", ["", "../x", "a b", "a/b"])
def test_new_refuses_names_that_are_paths(workbook, name):
    with pytest.raises(SystemExit, match="Give one name"):
        workbook.new([name])


def test_the_new_site_file_asks_for_the_time_zone_in_one_sentence(workbook, tmp_path):
    from pacs_helpers.site import Site
    from pacs_helpers.tables import TableError

    workbook.new(["radiology"])
    path = tmp_path / "my" / "radiology" / "site.toml"
    with pytest.raises(TableError, match="not an IANA time zone"):
        Site.load(path)
    path.write_text(path.read_text(encoding="utf-8").replace('time_zone = ""', 'time_zone = "Europe/London"'), encoding="utf-8")
    assert Site.load(path).target("exam_ended", "final") == (1440.0, 0.95)


def test_an_old_python_is_told_in_one_sentence(workbook, monkeypatch):
    monkeypatch.setattr(workbook.sys, "version_info", (3, 10, 2))
    with pytest.raises(SystemExit, match="needs Python 3.11 or newer; this is"):
        workbook.setup()


def test_a_deep_windows_folder_is_told_before_anything_is_installed(workbook, monkeypatch):
    monkeypatch.setattr(workbook, "VENV", "C:\\" + "deep\\" * 20 + ".venv")
    monkeypatch.setattr(workbook.os, "name", "nt")
    with pytest.raises(SystemExit, match="too deep for Windows' paths. Set WORKBOOK_VENV to a short folder"):
        workbook.setup()


def test_the_own_notebooks_look_at_now_and_at_nobodys_name(workbook):
    given = 'site_file = "../data/samples/site.toml"\nas_of = "2025-12-01 06:00Z"\nlog_year = 2025\npage = "../out/briefing.html"\ndecided_by = "A. Trainee"\n'
    assert workbook.own_parameters(given) == 'site_file = "site.toml"\nas_of = None  # the end of the traces\nlog_year = None\npage = "out/briefing.html"\ndecided_by = "your name"\n'


def test_only_the_files_a_newcomer_needs_lie_at_the_top(git):
    assert {n for n in git("ls-files").splitlines() if "/" not in n} <= {"README.md", "SECURITY.md", "environment.yml", "pyproject.toml", "requirements.lock", "workbook.py", ".gitignore"}


def test_own_data_never_enters_git(git):
    own = ["my/radiology/00_start_here.ipynb", "out/briefing.html", "corrections.jsonl", "notebooks/corrections.jsonl", ".venv/x"]
    assert git("check-ignore", *own).splitlines() == own


def test_the_linter_and_the_tests_are_among_what_is_installed():
    assert {"pytest", "ruff", "hypothesis", "playwright"} <= set(locked()[0])


def test_an_unknown_command_shows_the_help(workbook, capsys):
    assert workbook.main(["dance"]) == 2 and "workbook.py run" in capsys.readouterr().out


@pytest.mark.parametrize("given", [["nosuch"], ["../notebooks/.."], ["--Voila.ip=0.0.0.0"]])
def test_the_kiosk_takes_no_other_folder_and_no_other_address(workbook, given):
    with pytest.raises(SystemExit, match="Give the name of a folder in my/"):
        workbook.kiosk(given)
