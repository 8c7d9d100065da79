"""The fix bench as a page without code: on this computer only, behind a token."""

import urllib.error
import urllib.request

import pytest


def test_the_kiosk_shows_the_bench_to_who_has_the_token_and_serves_no_file(kiosk, page):
    base, address = kiosk
    page.goto(base, wait_until="domcontentloaded")
    assert "login" in page.url and page.locator(".pacs-keys").count() == 0
    token = address.split("?")[1]
    for name in ("00_start_here.png", "05_fix_bench.ipynb"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{base}/voila/files/{name}?{token}", timeout=10)
    page.goto(address, wait_until="domcontentloaded", timeout=180_000)      # Voila runs the notebook first
    page.get_by_role("button", name="Undo").wait_for(timeout=120_000)
    assert page.get_by_text("import pacs_helpers").count() == 0
    outside = [url for url in page.asked if not url.startswith((base, base.replace("http", "ws"), "data:", "blob:", "about:"))]
    assert outside == []
