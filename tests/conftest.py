import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def git():
    """What `git ARGUMENTS` prints in this clone; a copy without git has nothing to ask."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("no git, or a copy that is no clone: what is tracked cannot be told")

    def ask(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout

    return ask


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where REQUIRE_PROGRAMS is set, a test skipped for anything but absent recordings has failed: a machine that lacks a program proves nothing."""
    report = yield
    if os.environ.get("REQUIRE_PROGRAMS") and report.skipped and not hasattr(report, "wasxfail") and "no recordings beside this clone" not in str(report.longrepr):
        report.outcome = "failed"
    return report
