"""The fix bench as a page without code: on this computer only, behind a token."""

import urllib.error
import urllib.request

import pytest

from pacs_helpers.fixes.corrections import read_corrections


def test_who_has_the_token_decides_in_the_kiosk_and_no_file_is_served(kiosk, page):
    base, address, ledger = kiosk
    page.goto(base, wait_until="domcontentloaded")
    assert "login" in page.url and page.locator(".pacs-keys").count() == 0
    token = address.split("?")[1]
    for name in ("00_start_here.png", "05_fix_bench.ipynb"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{base}/voila/files/{name}?{token}", timeout=10)
    page.goto(address, wait_until="domcontentloaded", timeout=180_000)      # Voila runs the notebook first
    bench = page.locator(".pacs-keys").last
    bench.get_by_role("button", name="Undo").wait_for(timeout=120_000)
    assert page.get_by_text("import pacs_helpers").count() == 0
    bench.get_by_label("What to do").select_option(label="Not here: another desk")
    bench.get_by_text("Would record").wait_for(timeout=30_000)
    bench.get_by_label("Note").fill("told the ward")
    page.keyboard.press("Control+Enter")
    bench.get_by_text("Saved. Record").wait_for(timeout=30_000)
    assert read_corrections(ledger)[["kind", "reason", "text"]].iloc[-1].tolist() == ["dismiss", "NOT_HERE", "told the ward"]
    outside = [url for url in page.asked if not url.startswith((base, base.replace("http", "ws"), "data:", "blob:", "about:"))]
    assert outside == []
