"""Recordings of real systems lie beside the clone, not in it; without them these checks say so and are skipped."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("PACS_RECORDINGS", Path(__file__).resolve().parents[3] / "shared"))


@pytest.fixture(scope="session")
def shared():
    if not (SHARED / "rig").is_dir():
        pytest.skip("no recordings beside this clone (set PACS_RECORDINGS to their folder)")
    return SHARED
