"""Set up and start the PACS workbook. Needs only Python 3.11 or newer; works on Windows, macOS and Linux.

    python3 workbook.py run [FOLDER]   set up, run the notebooks, write the pages and the briefing to out/
    python3 workbook.py lab            open JupyterLab on the notebooks
    python3 workbook.py kiosk [NAME]   open the fix bench of the samples, or of my/NAME, as a page without code, on this computer only and behind a token
    python3 workbook.py new NAME       make my/NAME: notebooks, site.toml and folders for your own department
    python3 workbook.py test           run all tests
    python3 workbook.py refresh        re-make the notebook outputs that are kept, from data/samples (--check: only compare)
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE / "requirements.lock"
VENV = Path(os.environ.get("WORKBOOK_VENV", HERE / ".venv"))
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / ".lock-sha256"
LONGEST_WINDOWS_PATH = 90
QUIET_LAB = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
# Voila's template asks a public host for a font; its page may fetch only what this server has.
OWN_HOST_ONLY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws://127.0.0.1:* data: blob:; frame-ancestors 'self'"
KIOSK = ["--token", "--Voila.ip=127.0.0.1", "--VoilaConfiguration.file_denylist=.*", f'--Voila.tornado_settings={{"headers": {{"Content-Security-Policy": "{OWN_HOST_ONLY}"}}}}',
         "--MappingKernelManager.cull_idle_timeout=3600", "--MappingKernelManager.cull_interval=300"]
OWN_PARAMETERS = (                  # what a parameters cell says of the samples -> what it says of one's own folder
    (r"\.\./data/samples/", ""), (r"(?m)^import tempfile\n\n?", ""), (r"(?m)^ledger = .*$", 'ledger = "corrections.jsonl"'), (r"log_year = \d+", "log_year = None"),
    (r'as_of = "[^"]*"', "as_of = None  # the end of the traces"), (r'month = "[^"]*"', "month = None  # the month the traces end in"),
    (r'page = "[^"]*"', 'page = "out/briefing.html"'), (r'decided_by = "[^"]*"', 'decided_by = "your name"'), (r'ask = "[^"]*"', 'ask = ""'),
)
OWN_SITE = '''# What differs between sites. Only time_zone must be set; take the # off a line to use it.
name = "{name}"
time_zone = ""                  # such as "America/Chicago" or "Europe/London"

[accession]
hl7_field = "auto"              # measured against the images; or "OBR-18", "OBR-3.1", "ORC-3.1", "OBR-20"
# strip_prefixes = ["CL-"]      # prefixes that one system writes and another does not
# ignore_leading_zeros = true

# [ae_titles]
# CT1 = {{ name = "CT 1", place = "Main", modality = "CT", owner = "CT lead" }}

# [statuses]                    # your RIS's words -> HL7 letters
# "Wet Read" = "P"
# "Final" = "F"

[targets]                       # minutes, and the share of exams that should make it
"exam_ended>final" = {{ minutes = 1440, share = 0.95 }}
# "exam_ended>final/STAT" = {{ minutes = 60, share = 0.90 }}

# [ris]                         # which column of a RIS export is what; propose_columns writes it
# accession_number = "Accession"
# ordered = ["Order Date", "Order Time"]        # date and time of day in two columns
# final = "Signed"
# date_order = "month first"    # only for dates such as 03/04/2026

# [transfers]                   # and of a list of transfers
# started = "Start"
# ended = "End"                 # or duration = "Duration (s)"
# calling_ae_title = "Source AE"
# called_ae_title = "Destination AE"
# n_stored = "Images Sent"      # n_instances: all that the line is about, n_failed: those that failed
# n_bytes = "Size (MB)"         # size_unit = "MB" where the header does not say so
# status = "Status"
'''


def setup():
    """Make the environment that requirements.lock names, unless it is there."""
    if sys.version_info < (3, 11):
        sys.exit(f"The workbook needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
    if os.name == "nt" and len(str(VENV)) > LONGEST_WINDOWS_PATH:
        sys.exit(f"{VENV} is too deep for Windows' paths. Set WORKBOOK_VENV to a short folder, such as C:\\wb.")
    wanted = hashlib.sha256(LOCK.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    packages = LOCK.read_text(encoding="utf-8").count("==")
    print(f"Setting up, once: {packages} packages into {VENV.name} with {'uv' if shutil.which('uv') else 'pip, a few minutes'} ...", flush=True)
    try:
        _install()
    except subprocess.CalledProcessError:
        sys.exit("Setting up did not succeed; the lines above say why. It needs a package index once: check the network or the proxy, then run this again.")
    (VENV / "etc" / "ipython").mkdir(parents=True, exist_ok=True)
    # Typed medical record numbers must not stay in a history database.
    (VENV / "etc" / "ipython" / "ipython_config.py").write_text("c = get_config()\nc.HistoryManager.enabled = False\nc.InteractiveShell.xmode = 'Minimal'\n")
    settings = VENV / "share" / "jupyter" / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "overrides.json").write_text(json.dumps(QUIET_LAB))
    _find_package()
    STAMP.write_text(wanted)


def _find_package():
    """Let `.venv`'s Python find pacs_helpers from anywhere."""
    where = subprocess.run([PYTHON, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], check=True, capture_output=True, text=True).stdout.strip()
    (Path(where) / "pacs_workbook.pth").write_text(f"{HERE}\n", encoding="utf-8")


def _install():
    uv = shutil.which("uv")
    if uv:
        subprocess.run([uv, "venv", "-q", "--allow-existing", "--python", sys.executable, VENV], check=True)
        subprocess.run([uv, "pip", "sync", "-q", "--require-hashes", "--python", PYTHON, LOCK], check=True)
        return
    if not PYTHON.exists():
        if importlib.util.find_spec("ensurepip") is None:
            sys.exit("This Python comes without pip. Install it first (Debian and Ubuntu: apt install python3-venv), then run this again.")
        venv.create(VENV, with_pip=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--require-hashes", "--no-deps", "-r", LOCK], check=True)


def start(*arguments):
    """The exit code of `python -m ARGUMENTS` in the environment."""
    setup()
    paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    try:
        return subprocess.call([PYTHON, "-m", *arguments], cwd=HERE, env=os.environ | {"PYTHONPATH": paths, "PYTHONUTF8": "1"})
    except KeyboardInterrupt:
        return 130


def lab(arguments):
    quiet = ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly", "--ServerApp.ip=127.0.0.1"]
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return start("jupyterlab", "--notebook-dir", str(HERE), "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb", *quiet, *root, *arguments)


def kiosk(arguments):
    """The fix bench by Voila: bound to this computer, opened by a token, serving no file that lies beside the notebook."""
    names = [a for a in arguments if not a.startswith("-")]
    folder = HERE / "my" / names[0] if names else HERE / "notebooks"
    if not (folder / "05_fix_bench.ipynb").exists() or not set(arguments) <= {*names[:1], "--no-browser"}:
        sys.exit("Give the name of a folder in my/ that has a 05_fix_bench.ipynb, or none for the samples; the only option is --no-browser.")
    return start("voila", str(folder / "05_fix_bench.ipynb"), *KIOSK, *(a for a in arguments if a not in names))


def test(arguments):
    """All tests, then every notebook from top to bottom with its outputs compared."""
    if arguments:
        return start("pytest", *arguments)
    return start("pytest", "-n", "auto", "--dist", "worksteal", "tests") or start("pytest", "--nbval", "--nbval-kernel-name=python3", "notebooks")


def new(arguments):
    """Make my/NAME with copies of the notebooks, without outputs, that read its own folders."""
    if len(arguments) != 1 or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", arguments[0]):
        sys.exit("Give one name of letters, digits, - or _: python3 workbook.py new radiology")
    folder = HERE / "my" / arguments[0]
    if folder.exists():
        sys.exit(f"my/{arguments[0]} is there already; nothing was changed. Choose another name.")
    for part in ("hl7", "dicom", "network", "ris", "transfers"):
        (folder / part).mkdir(parents=True)
    (folder / "site.toml").write_text(OWN_SITE.format(name=arguments[0]), encoding="utf-8")
    for notebook in sorted((HERE / "notebooks").glob("*.ipynb")):
        content = json.loads(notebook.read_text(encoding="utf-8"))
        content["cells"] = [c for c in content["cells"] if not is_exercise(c)]
        for cell in content["cells"]:
            if cell["cell_type"] == "code":
                cell.update(outputs=[], execution_count=None)
            if "parameters" in cell["metadata"].get("tags", []):
                cell["source"] = own_parameters("".join(cell["source"])).splitlines(keepends=True)
        (folder / notebook.name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"Made my/{arguments[0]}. Copy your traces into its hl7, dicom and network folders, set time_zone in site.toml,\n"
          f"then: python3 workbook.py lab, and open my/{arguments[0]}/00_start_here.ipynb. Git ignores my/: what you see there is patient data.")
    return 0


def is_exercise(cell):
    """Exercises are about the sample department."""
    return "solution" in cell["metadata"].get("tags", []) or "".join(cell["source"]).startswith("## Exercise")


def own_parameters(source):
    """A parameters cell that pointed at the samples, pointing at the folder the notebook lies in."""
    for pattern, own in OWN_PARAMETERS:
        source = re.sub(pattern, own, source)
    return source


def main(arguments):
    command, rest = (arguments[:1] or ["help"])[0], arguments[1:]
    if command == "run":
        if rest and not (HERE / rest[0]).is_dir() and not rest[0].startswith("-"):
            sys.exit(f"No folder '{rest[0]}'. `python3 workbook.py new NAME` makes my/NAME.")
        return start("notebooks.pages", "run", *rest)
    if command == "refresh":
        return start("notebooks.pages", "refresh", *rest)
    if command in ("lab", "kiosk", "test", "new"):
        return {"lab": lab, "kiosk": kiosk, "test": test, "new": new}[command](rest)
    if command == "setup":
        return setup()
    print(__doc__.strip())
    return 0 if command in ("help", "-h", "--help") else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
