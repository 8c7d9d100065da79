"""A short run of each fuzzer; a longer one is `python -m tests.fuzz.harness KIND -max_total_time=3600`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.seeds import READERS

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60 // len(READERS) if os.environ.get("REQUIRE_PROGRAMS") else 4


@pytest.mark.parametrize("kind", READERS)
def test_no_bytes_make_a_reader_raise_or_hang(kind):
    pytest.importorskip("atheris", reason="no atheris for this platform; it fuzzes on Linux")
    run = subprocess.run([sys.executable, "-m", "tests.fuzz.harness", kind, f"-max_total_time={SECONDS}", "-timeout=20", "-rss_limit_mb=4096", "-max_len=4000"],
                         cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert int(re.search(r"Done (\d+) runs", run.stderr)[1]) > 10
