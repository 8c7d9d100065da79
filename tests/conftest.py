import os

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where REQUIRE_PROGRAMS is set, a test skipped for anything but absent recordings has failed: a machine that lacks a program proves nothing."""
    report = yield
    if os.environ.get("REQUIRE_PROGRAMS") and report.skipped and not hasattr(report, "wasxfail") and "no recordings beside this clone" not in str(report.longrepr):
        report.outcome = "failed"
    return report
