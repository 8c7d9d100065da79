"""Every reader with the beginnings of its sample files: what the laws and the fuzzers damage."""

import gzip
from functools import cache
from pathlib import Path

import pacs_helpers as pacs

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "samples"
SITE = pacs.Site(time_zone="America/Chicago")
READERS = {
    "hl7": pacs.read_hl7_log, "dicom": pacs.read_headers,
    "network": lambda path, site: pacs.read_dicom_log(path, site=site, year=2025, start_date="2025-11-01"),
}
LONGEST = 3000


@cache
def seeds(kind):
    """The beginnings of the samples of one kind, cut at a line end so that a seed is whole."""
    files = sorted(f for f in (SAMPLES / kind).rglob("*") if f.is_file())
    datas = [gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes() for f in files]
    if kind == "dicom":
        return sorted(datas, key=len)[:40:4]
    return [d[:d.rfind(b"\n" if b"\n" in d[:LONGEST] else b"\r", 0, LONGEST) + 1] for d in datas]
