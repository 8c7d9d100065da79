import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("quick", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=2_000)
settings.load_profile("thorough" if os.environ.get("REQUIRE_PROGRAMS") else "quick")

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
