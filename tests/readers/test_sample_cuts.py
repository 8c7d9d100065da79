"""Every sample file, cut at every byte: all of it is accounted for, and no cut value passes for a whole one.

The byte law is checked by the readers on every call. Here the beginning of each HL7 and network sample is cut, and of the headers one file of each layout;
with PACS_CUT_WHOLE=1 in the environment every sample file is cut whole, which takes hours.
"""

import os
from functools import cache

import pydicom
import pytest

from tests.seeds import READERS, SAMPLES, SITE, seeds

TOGETHER = 500
ALL = os.environ.get("PACS_CUT_WHOLE") == "1"
# What may differ in the row that a cut goes through; the rest is the whole row's value or empty.
ABOUT_THE_CUT = {"source_file", "problems", "raw", "precision", "n_bytes", "n_frames"}


def layout(file):
    header = pydicom.dcmread(file, force=True, stop_before_pixels=True)
    return tuple(header.keys()), str(header.file_meta.get("TransferSyntaxUID"))


@cache
def samples(kind):
    files = sorted(f for f in (SAMPLES / kind).rglob("*") if f.is_file())
    if kind == "dicom" and not ALL:
        files = {layout(f): f for f in sorted(files, key=lambda f: -f.stat().st_size)}.values()
    return [f.read_bytes() for f in files] if ALL or kind == "dicom" else seeds(kind)


def cuts(kind, data, folder):
    """`(tables of many prefixes, tables of the whole)`; the name of a prefix is its length. Rows have `size`, that of their prefix."""
    (folder / "whole").write_bytes(data)
    whole = READERS[kind](folder / "whole", site=SITE)
    (folder / "whole").unlink()
    for first in range(1, len(data), TOGETHER):
        names = [folder / f"{n:07}" for n in range(first, min(first + TOGETHER, len(data)))]
        for name in names:
            name.write_bytes(data[:int(name.name)])
        got = READERS[kind](folder, site=SITE)
        assert len(got.sources) == len(names)
        yield [table.assign(size=table["source_file"].str.rsplit("/", n=1).str[-1].astype("int64")) for table in got], whole
        for name in names:
            name.unlink()


def differences(cut, whole, on, columns):
    """The rows of `cut` whose `columns` are not those of the row of `whole` at their place."""
    pairs = cut.merge(whole[list(dict.fromkeys([*on, *columns]))], on=on, how="left", suffixes=("", "_whole"), indicator=True)
    is_same = pairs["_merge"] == "both"
    for column in set(columns) - set(on):
        one, other = (pairs[c].astype(object).where(pairs[c].notna(), None) for c in (column, column + "_whole"))
        is_same &= (one == other) | one.isna() & other.isna()
    return pairs[~is_same]


@pytest.mark.parametrize("number", range(len(samples("dicom"))))
def test_a_cut_header_has_true_values_or_none(number, tmp_path):
    for tables, whole in cuts("dicom", samples("dicom")[number], tmp_path):
        for cut, true in zip(tables[:2], whole[:2], strict=True):
            assert set(cut["size"]) <= set(range(len(samples("dicom")[number]))) and (len(true) or cut.empty)
            for column in set(true) - ABOUT_THE_CUT:
                value = true[column].iloc[0] if len(true) else None
                is_empty = cut[column].isna() | (cut[column].astype(object) == "")
                wrong = cut[~is_empty & ~(cut[column].astype(object) == value)]
                assert wrong.empty, (column, wrong["size"].tolist())
            assert (cut["problems"] != "").all()


@pytest.mark.parametrize("number", range(len(samples("hl7"))))
def test_messages_that_ended_before_a_cut_are_whole(number, tmp_path):
    for (cut, *_, sources), (true, *_) in cuts("hl7", samples("hl7")[number], tmp_path):
        starts = sorted(set(true["source_offset"]))
        ends = dict(zip(starts, [*starts[1:], 1 << 60], strict=True))
        true = true.assign(end=true["source_offset"].map(ends), part=true.groupby("source_offset").cumcount())
        # Marks of repeats and the choice of one field of the accession number are about all files together.
        same = [c for c in cut if c not in ("source_file", "problems", "accession_number", "size")]
        cut = cut.assign(part=cut.groupby(["size", "source_offset"]).cumcount())
        ended = cut[cut["source_offset"].map(ends).fillna(1 << 60) <= cut["size"]]
        assert differences(ended, true, ["source_offset", "part"], same).empty
        assert ended.groupby("size").size().reindex(sources["size"], fill_value=0).tolist() == [(true["end"] <= size).sum() for size in sources["size"]]


@pytest.mark.parametrize("number", range(len(samples("network"))))
def test_associations_that_ended_before_a_cut_are_whole(number, tmp_path):
    same = ["calling_ae_title", "called_ae_title", "peer_address", "started_at", "ended_at", "outcome", "n_operations", "n_stored", "n_failed"]
    for (cut, *_), (true, *_) in cuts("network", samples("network")[number], tmp_path):
        assert cut["source_offset"].isin(true["source_offset"]).all()
        assert differences(cut[cut["ended_at"].notna() & cut["n_operations"].notna()], true, ["source_offset"], same).empty
