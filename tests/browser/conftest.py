"""JupyterLab on loopback and Debian's Chromium; both are stopped by their own process."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import workbook

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
LAB = ["jupyterlab", "--no-browser", "--ip=127.0.0.1", "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password=", "--allow-root",
       "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly", "--expose-app-in-browser"]


def need_chromium():
    if not CHROMIUM:
        say = pytest.fail if os.environ.get("REQUIRE_PROGRAMS") else pytest.skip
        say("no Chromium on this machine; install it (Debian: chromium) or set CHROMIUM to run the browser tests")


@pytest.fixture(scope="session")
def browser():
    need_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    asked = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("requestfailed", lambda request: asked.remove(request.url) if request.failure == "csp" else None)     # the browser did not send it
    page = context.new_page()
    page.asked = asked
    yield page
    context.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """`(address, ledger)` of a JupyterLab in a folder with the notebooks and the samples, with none of the user's settings."""
    need_chromium()
    tmp = tmp_path_factory.mktemp("lab")
    copy_notebooks(tmp)
    quiet = tmp / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    with serving(LAB, tmp, "/api") as base:
        yield base, tmp / "corrections.jsonl"


@pytest.fixture(scope="session")
def kiosk(tmp_path_factory):
    """`(address, address with the token, ledger)` of the fix bench as workbook.py's kiosk serves it."""
    need_chromium()
    if importlib.util.find_spec("voila") is None:
        (pytest.fail if os.environ.get("REQUIRE_PROGRAMS") else pytest.skip)("no voila in this environment; install the extra `kiosk` to run its test")
    tmp = tmp_path_factory.mktemp("kiosk")
    copy_notebooks(tmp)
    with serving(["voila", "notebooks/05_fix_bench.ipynb", "--no-browser", *workbook.KIOSK], tmp, "/") as base:
        token = re.search(r"token=[0-9a-f]+", (tmp / "server.log").read_text())[0]
        yield base, f"{base}/?{token}", tmp / "corrections.jsonl"


def copy_notebooks(tmp):
    """Nothing; the notebooks and the samples are in tmp/work, and the ledger of the fix bench is tmp/corrections.jsonl."""
    shutil.copytree(ROOT / "notebooks", tmp / "work" / "notebooks")
    (tmp / "work" / "data").symlink_to(ROOT / "data")
    bench = tmp / "work" / "notebooks" / "05_fix_bench.ipynb"
    bench.write_text(bench.read_text(encoding="utf-8").replace('tempfile.mkdtemp() + \\"/corrections.jsonl\\"', json.dumps(json.dumps(str(tmp / "corrections.jsonl")))[1:-1]), encoding="utf-8")


@contextlib.contextmanager
def serving(arguments, tmp, path):
    """The address of a server on a free port of loopback, with none of the user's settings; it is stopped by its own process."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = os.environ | {"PYTHONPATH": str(ROOT), **{f"JUPYTER_{k}_DIR": str(tmp / k.lower()) for k in ("CONFIG", "DATA", "RUNTIME")},
                        "JUPYTERLAB_SETTINGS_DIR": str(tmp / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(tmp / "workspaces")}
    log = open(tmp / "server.log", "wb")
    server = subprocess.Popen([sys.executable, "-m", *arguments, f"--port={port}"], cwd=tmp / "work", env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield _when_it_answers(server, f"http://127.0.0.1:{port}", path, tmp / "server.log")
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def _when_it_answers(server, base, path, log):
    until = time.monotonic() + 90
    while time.monotonic() < until:
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(base + path, timeout=5)
            return base
        except urllib.error.HTTPError:
            return base
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(log.read_text(errors="replace")[-2000:])
