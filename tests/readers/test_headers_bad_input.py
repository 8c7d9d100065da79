"""Bad inputs from a PACS, numbered as in the table of known faults: first the account, then the exact code and what the row holds."""

import os
import zlib
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_helpers.readers.headers import read_headers
from tests.readers.test_headers import (
    BARE,
    BIG,
    CHICAGO,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    OPEN_SEQUENCE,
    PIXELS,
    SEQUENCE_END,
    UNDEFINED,
    dataset,
    el,
    item,
    load,
    meta,
    named,
    part10,
)

LONG_ID, DEEP = "9" * 80, 50
NESTED = b""
for _ in range(DEEP):
    NESTED = el(0x00290010, "SQ", item(NESTED))
BOMB = zlib.compress(dataset(last=el(0x00290010, "OB", bytes(33 << 20))), wbits=-15)
ICON = el(0x00880200, "SQ", item(el(0x00280010, "US", pack("<H", 4)) + el(PIXELS, "OB", bytes(24)), 10 + 12), length=8 + 10 + 12)


def changed(tag, vr, value):
    return part10(dataset({tag: (vr, value)}))


# number, content, codes ("" for none), columns of the row
KEPT = [
    (5, meta() + dataset(), "NO_PREAMBLE", {}),
    (6, BARE, "NO_PREAMBLE NO_META", {"patient_id": "TEST1"}),
    (7, part10(dataset(), syntax=None), "NO_TRANSFER_SYNTAX", {"transfer_syntax_uid": ""}),
    (8, changed(0x00100020, "LO", "0000045"), "", {"patient_id": "0000045"}),
    (10, part10(dataset(last=el(PIXELS, "OW", bytes(100), length=5000))), "PIXELS_TRUNCATED", {}),
    (11, part10(dataset(last=el(0x00290010, "OB", b"\1" * 8, length=0xFFFFFFF0))), "LENGTH_BEYOND_FILE", {}),
    (12, part10(dataset(last=NESTED)), "", {}),
    (13, part10(dataset(last=OPEN_SEQUENCE * 3000)), "NESTED_TOO_DEEP", {}),
    (14, part10(dataset(last=el(0x00400275, "SQ", item(b""), length=UNDEFINED))), "TRUNCATED", {}),
    (15, changed(0x00080020, "DA", "10.03.2024"), "BAD_DATE", {"raw": '{"study_at": "10.03.2024 101500"}'}),
    (16, changed(0x00200011, "IS", "1.5abc"), "BAD_NUMBER", {"series_number": "1.5abc"}),
    (17, changed(0x00181000, "ZZ", "abcd"), "UNKNOWN_VR", {}),
    (18, named("M\u00fcller".encode(), "ISO_IR 100"), "CHARSET_MISMATCH", {"patient_name": "M\u00fcller"}),
    (19, named(b"M\xfcller"), "CHARSET_MISSING", {"patient_name": "M\u00fcller"}),
    (20, changed(0x00080005, "CS", "Not Supplied\0"), "CHARSET_UNKNOWN", {}),
    (21, part10(dataset({0x00280010: ("US", pack(">H", 4))}, order=">"), BIG), "", {"accession_number": "A1"}),
    (22, changed(0x0020000D, "UI", "2.25.007"), "BAD_UID", {"study_instance_uid": "2.25.007"}),
    (23, changed(0x0020000D, "UI", "2.25." + "1" * 66), "BAD_UID", {"study_instance_uid": "2.25." + "1" * 66}),
    (24, changed(0x0020000D, "UI", "../../etc/passwd"), "BAD_UID", {"study_instance_uid": "../../etc/passwd"}),
    (25, changed(0x00080050, "SH", "  A 7  "), "", {"accession_number": "A 7", "raw": '{"accession_number": "  A 7   "}'}),
    (26, changed(0x00100020, "LO", r"00123\00456"), "MULTI_VALUE", {"patient_id": r"00123\00456"}),
    (27, changed(0x00100020, "LO", "1E5"), "", {"patient_id": "1E5"}),
    (28, part10(BOMB, DEFLATED), "TOO_LARGE_INFLATED", {"patient_id": "TEST1"}),
    (30, part10(BARE), "TRANSFER_SYNTAX_MISMATCH", {"patient_id": "TEST1"}),
    (31, part10(dataset(), wrong=2), "META_LENGTH_WRONG", {}),
    (32, part10(dataset(), preamble=b"MZ".ljust(128, b"\0")), "PREAMBLE_EXECUTABLE", {}),
    (33, changed(0x00081030, "LO", "<script>alert(1)</script>"), "", {"study_description": "<script>alert(1)</script>"}),
    (34, changed(0x00081030, "LO", "=1+1"), "", {"study_description": "=1+1"}),
    ("37 odd", part10(dataset(last=el(0x00290010, "LO", "abc", length=3))), "ODD_LENGTH", {}),
    ("37 falling", part10(dataset(last=el(0x00181030, "LO", "HEAD"))), "TAG_ORDER", {"protocol_name": "HEAD"}),
    (38, part10(dataset(last=el(0x00100020, "LO", "99999"))), "DUPLICATE_TAG", {"patient_id": "TEST1", "raw": '{"patient_id": ["TEST1", "99999"]}'}),
    ("39 wrong", changed(0x00080030, "TM", "256100"), "BAD_TIME", {"precision": "study_at=day"}),
    ("39 short", changed(0x00080030, "TM", "1405"), "", {"precision": "study_at=minute"}),
    (40, changed(0x00080020, "DA", "240310"), "BAD_DATE", {}),
    (41, changed(0x00100020, "LO", ""), "EMPTY_ID", {"patient_id": ""}),
    (42, changed(0x00100020, "LO", "AB\x1b[31mC\r\n"), "CONTROL_CHARS", {"patient_id": r"AB\x1b[31mC\x0d\x0a"}),
    (43, part10(dataset(last=el(PIXELS, "OW", b"\0\0") + b"X" * 3000)), "TRAILING_BYTES", {"patient_id": "TEST1"}),
    (44, part10(dataset(last=el(0x00290010, "UN", SEQUENCE_END, length=UNDEFINED))), "", {}),
    (45, part10(dataset(last=b"".join(el(0x00290000 + n, "LO", "X") for n in range(0x1000, 0x1000 + 30_000)))), "", {"patient_id": "TEST1"}),
    (47, changed(0x00100020, "LO", LONG_ID), "TOO_LONG", {"patient_id": LONG_ID}),
    (48, part10(dataset(last=ICON + el(PIXELS, "OW", bytes(8)))), "ITEM_LENGTH_WRONG", {"patient_id": "TEST1"}),
]

REFUSED = [
    (1, b"", "EMPTY_FILE"), (2, bytes(128) + b"DICM", "NO_DATASET"), (3, b"This is a text, line after line of it.", "NOT_DICOM"),
    (4, b"\xff\xd8\xff\xe0\0\x10JFIF\0" + b"\1" * 200, "NOT_DICOM"), (29, part10(zlib.compress(dataset(), wbits=-15)[:-9], DEFLATED), "BAD_DEFLATE"),
    (35, part10(el(0x00041220, "SQ"), sop_class="1.2.840.10008.1.3.10"), "DICOMDIR"),
]


def accounted(got, contents):
    """The tables, once every file is a row or a rejected row and every byte is in one of them."""
    assert len(got.instances) + len(got.performed_steps) + len(got.rejected) == len(contents)
    assert got.sources["n_bytes"].sum() == (got.sources["n_bytes_in_rows"] + got.sources["n_bytes_rejected"]).sum() == sum(map(len, contents))
    return got


@pytest.mark.parametrize(("number", "content", "codes", "columns"), KEPT, ids=lambda v: str(v) if isinstance(v, int) else "")
def test_fault_keeps_the_row_with_its_code(tmp_path, number, content, codes, columns):
    row = accounted(load(tmp_path, content), [content]).instances.iloc[0]
    assert row["problems"] == codes, number
    assert {column: row[column] for column in columns} == columns, number


@pytest.mark.parametrize(("number", "content", "code"), REFUSED, ids=lambda v: str(v) if isinstance(v, int) else "")
def test_unusable_file_is_rejected_with_its_code(tmp_path, number, content, code):
    assert accounted(load(tmp_path, content), [content]).rejected["code"].tolist() == [code], number


def test_9_uid_cut_by_the_end_of_the_file_is_empty(tmp_path):
    whole = part10(dataset())
    content = whole[:whole.index(b"2.25.2") + 3]
    row = accounted(load(tmp_path, content), [content]).instances.iloc[0]
    assert row["study_instance_uid"] == "" and "TRUNCATED" in row["problems"].split()


def test_36_one_uid_of_two_patients_marks_both(tmp_path):
    contents = [part10(dataset()), changed(0x00100020, "LO", "OTHER")]
    assert accounted(load(tmp_path, *contents), contents).instances["problems"].tolist() == ["DUPLICATE_SOP_UID"] * 2


def test_46_the_name_of_a_file_does_not_matter(tmp_path):
    names = ["a", "b.DCM", ".hidden", "line\nbreak", "c.txt"]
    contents = [changed(0x00080018, "UI", f"2.25.{n + 10}") for n in range(len(names))]
    for name, content in zip(names, contents, strict=True):
        (tmp_path / name).write_bytes(content)
    assert (accounted(read_headers(tmp_path, site=CHICAGO), contents).instances["problems"] == "").all()


def test_111_and_112_links_and_pipes_are_rejected_unopened(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert read_headers(tmp_path, site=CHICAGO).rejected["code"].tolist() == ["LINK_SKIPPED", "NOT_A_FILE"]


def test_113_what_is_no_image_is_named_and_a_part_is_said_to_be_one(tmp_path):
    for name in ("Thumbs.db", "image.part", "~$report.docx"):
        (tmp_path / name).write_bytes(b"PK\3\4 or anything else")
    rejected = read_headers(tmp_path, site=CHICAGO).rejected
    assert rejected["code"].tolist() == ["NOT_DICOM"] * 3
    assert rejected["reason"].str.contains("still being written").tolist() == [False, True, False]


def test_115_copies_and_hard_links_are_marked(tmp_path):
    (tmp_path / "a").write_bytes(part10(dataset()))
    (tmp_path / "b").write_bytes(part10(dataset()))
    os.link(tmp_path / "a", tmp_path / "c")
    assert read_headers(tmp_path, site=CHICAGO).instances["problems"].tolist() == ["", "DUPLICATE_FILE", "DUPLICATE_FILE"]


@pytest.mark.parametrize("content", [part10(dataset()), BARE, part10(dataset(last=ICON), EXPLICIT), part10(BARE, IMPLICIT)], ids=["explicit", "bare", "icon", "implicit"])
def test_a_file_cut_anywhere_is_accounted_for(tmp_path, content):
    cuts = [content[:n] for n in range(len(content))]
    accounted(load(tmp_path, *cuts), cuts)


@given(at=st.integers(0, 500), noise=st.binary(max_size=20).filter(lambda noise: noise[:2] != b"PK"))       # an archive has a line for each member
def test_noise_anywhere_is_accounted_for_and_reading_twice_gives_the_same(tmp_path_factory, at, noise):
    content = part10(dataset(last=ICON))
    content = content[:at] + noise + content[at:]
    folder = tmp_path_factory.mktemp("noise")
    first, second = accounted(load(folder, content), [content]), read_headers(folder, site=CHICAGO)
    assert first.instances.equals(second.instances) and first.rejected.equals(second.rejected)
