import gzip
import hashlib
import json
import os
import random
import tempfile
import warnings
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from struct import pack
from zoneinfo import ZoneInfo

import pandas as pd
import pydicom
import pytest
from pydicom.data import get_charset_files, get_testdata_files

from pacs_helpers.readers.account import summarize_account
from pacs_helpers.readers.headerrows import _TEXTS as TEXT_KEYWORDS
from pacs_helpers.readers.headers import read_files, read_headers
from pacs_helpers.site import Site
from pacs_helpers.tables import TableError

CHICAGO = Site(time_zone="America/Chicago")
EXPLICIT, IMPLICIT, BIG, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
JPEG, MPPS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.3.1.2.3.3"
LONG = ("OB", "OW", "SQ", "UN", "UT")
PIXELS = 0x7FE00010
UNDEFINED = 0xFFFFFFFF


def el(tag, vr, value=b"", *, length=None, order="<"):
    """One explicit element; `length` declares another length than the value has."""
    value = value.encode("latin-1") if isinstance(value, str) else value
    if length is None and len(value) % 2:
        value += b"\0" if vr in ("UI", "OB") else b" "
    length = len(value) if length is None else length
    size = pack(order + "HL", 0, length) if vr in LONG else pack(order + "H", length)
    return pack(order + "HH", tag >> 16, tag & 0xFFFF) + vr.encode() + size + value


def implicit(tag, value=b""):
    value += b" " * (len(value) % 2)
    return pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def item(content, length=None):
    return pack("<HHL", 0xFFFE, 0xE000, len(content) if length is None else length) + content


ITEM_END, SEQUENCE_END = pack("<HHL", 0xFFFE, 0xE00D, 0), pack("<HHL", 0xFFFE, 0xE0DD, 0)


def meta(syntax=EXPLICIT, sop_class="1.2.840.10008.5.1.4.1.1.2", wrong=0):
    rest = el(0x00020002, "UI", sop_class) + (el(0x00020010, "UI", syntax) if syntax else b"") + el(0x00020016, "AE", "CT1_DEMO")
    return el(0x00020000, "UL", pack("<L", len(rest) + wrong)) + rest


def part10(dataset, syntax=EXPLICIT, preamble=b"\0" * 128, **how):
    return preamble + b"DICM" + meta(syntax, **how) + dataset


BASE = {
    0x00080016: ("UI", "1.2.840.10008.5.1.4.1.1.2"), 0x00080018: ("UI", "2.25.1"), 0x00080020: ("DA", "20240310"),
    0x00080030: ("TM", "101500"), 0x00080050: ("SH", "A1"), 0x00080060: ("CS", "CT"), 0x00100010: ("PN", "TEST^ANNA"),
    0x00100020: ("LO", "TEST1"), 0x0020000D: ("UI", "2.25.2"), 0x0020000E: ("UI", "2.25.3"), 0x00280010: ("US", pack("<H", 4)),
}


def dataset(changes=None, *, order="<", last=b""):
    whole = {**BASE, **(changes or {})}
    return b"".join(el(tag, *whole[tag], order=order) for tag in sorted(whole) if whole[tag] is not None) + last


def load(tmp_path, *contents, site=CHICAGO, **named):
    for n, content in enumerate(contents):
        (tmp_path / f"{n:03}").write_bytes(content)
    for name, content in named.items():
        (tmp_path / name).write_bytes(content)
    return read_headers(tmp_path, site=site)


def one(tmp_path, content, site=CHICAGO):
    got = load(tmp_path, content, site=site)
    assert len(got.instances) == 1, got.rejected["code"].tolist()
    return got.instances.iloc[0]


def test_clean_file_gives_its_values_and_no_problem(tmp_path):
    row = one(tmp_path, part10(dataset({0x00280008: ("IS", "12"), 0x0020_0013: ("IS", "007")})))
    assert row["problems"] == "" and row["raw"] == "" and row["precision"] == ""
    assert row[["sop_instance_uid", "study_instance_uid", "patient_id", "accession_number"]].tolist() == ["2.25.1", "2.25.2", "TEST1", "A1"]
    assert row[["instance_number", "source_ae_title", "transfer_syntax_uid"]].tolist() == ["007", "CT1_DEMO", EXPLICIT]
    assert row["n_frames"] == 12
    assert row["study_at"] == pd.Timestamp("2024-03-10T15:15Z")     # Chicago, after the change to summer time that morning
    assert row["n_bytes"] == (tmp_path / "000").stat().st_size


BARE = b"".join(implicit(t, v.encode()) for t, (_, v) in BASE.items() if t != 0x00280010)
OPEN_SEQUENCE = el(0x00290010, "SQ", length=UNDEFINED) + item(b"", UNDEFINED)


def named(name, charset=None):
    return part10(dataset({0x00100010: ("PN", name), **({0x00080005: ("CS", charset)} if charset else {})}))


DOUBTS = {
    "no preamble": (meta() + dataset(), "NO_PREAMBLE"),
    "bare data set": (BARE, "NO_PREAMBLE NO_META"),
    "no syntax": (part10(dataset(), syntax=None), "NO_TRANSFER_SYNTAX"),
    "pixels cut": (part10(dataset(last=el(PIXELS, "OW", b"\0" * 100, length=5000))), "PIXELS_TRUNCATED"),
    "fragments never end": (part10(dataset(last=el(PIXELS, "OB", item(b"\1" * 8), length=UNDEFINED)), JPEG), "PIXELS_TRUNCATED"),
    "element of 4 GB": (part10(dataset(last=el(0x00290010, "OB", b"\1" * 8, length=0xFFFFFFF0))), "LENGTH_BEYOND_FILE"),
    "sequence never closed": (part10(dataset(last=el(0x00400275, "SQ", item(b""), length=UNDEFINED))), "TRUNCATED"),
    "cut in an element header": (part10(dataset(last=b"\x29\0\x10")), "TRUNCATED"),
    "3000 sequences deep": (part10(dataset(last=OPEN_SEQUENCE * 3000)), "NESTED_TOO_DEEP"),
    "German date": (part10(dataset({0x00080020: ("DA", "10.03.2024")})), "BAD_DATE"),
    "six-digit date": (part10(dataset({0x00080020: ("DA", "240310")})), "BAD_DATE"),
    "birth date": (part10(dataset({0x00100030: ("DA", "1950")})), "BAD_DATE"),
    "time 25:61": (part10(dataset({0x00080030: ("TM", "256100")})), "BAD_TIME"),
    "zone in words": (part10(dataset({0x00080201: ("SH", "CST")})), "BAD_TIME"),
    "number": (part10(dataset({0x00200011: ("IS", "1.5abc")})), "BAD_NUMBER"),
    "frames": (part10(dataset({0x00280008: ("IS", "1A")})), "BAD_NUMBER"),
    "unknown VR": (part10(dataset({0x00181000: ("ZZ", "abcd")})), "UNKNOWN_VR"),
    "unknown long VR": (part10(dataset({0x00181000: ("OB", b"abcdef")}).replace(b"OB\0\0", b"ZZ\0\0")), "UNKNOWN_VR"),
    "UTF-8 as latin-1": (named("M\u00fcller".encode(), "ISO_IR 100"), "CHARSET_MISMATCH"),
    "latin-1 as UTF-8": (named(b"M\xfcller", "ISO_IR 192"), "CHARSET_MISMATCH"),
    "8 bits, no charset": (named(b"M\xfcller"), "CHARSET_MISSING"),
    "unknown charset": (part10(dataset({0x00080005: ("CS", "Not Supplied\0")})), "CHARSET_UNKNOWN"),
    "UID with leading zero": (part10(dataset({0x0020000D: ("UI", "2.25.007")})), "BAD_UID"),
    "UID of 71": (part10(dataset({0x0020000D: ("UI", "2.25." + "1" * 66)})), "BAD_UID"),
    "UID is a path": (part10(dataset({0x0020000D: ("UI", "../../etc/passwd")})), "BAD_UID"),
    "two ids in one": (part10(dataset({0x00100020: ("LO", r"00123\00456")})), "MULTI_VALUE"),
    "implicit under explicit label": (part10(BARE), "TRANSFER_SYNTAX_MISMATCH"),
    "explicit under implicit label": (part10(dataset(), IMPLICIT), "TRANSFER_SYNTAX_MISMATCH"),
    "big endian under little label": (part10(dataset(order=">"), EXPLICIT), "TRANSFER_SYNTAX_MISMATCH"),
    "group length": (part10(dataset(), wrong=2), "META_LENGTH_WRONG"),
    "program in the preamble": (part10(dataset(), preamble=b"MZ".ljust(128, b"\0")), "PREAMBLE_EXECUTABLE"),
    "odd length": (part10(dataset(last=el(0x00290010, "LO", "abc", length=3))), "ODD_LENGTH"),
    "falling tags": (part10(dataset(last=el(0x00181030, "LO", "HEAD"))), "TAG_ORDER"),
    "tag twice": (part10(dataset(last=el(0x00100020, "LO", "99999"))), "DUPLICATE_TAG"),
    "no patient id": (part10(dataset({0x00100020: ("LO", "")})), "EMPTY_ID"),
    "control characters": (part10(dataset({0x00100020: ("LO", "AB\x1b[31mC\r\n")})), "CONTROL_CHARS"),
    "junk after the pixels": (part10(dataset(last=el(PIXELS, "OW", b"\0\0") + b"X" * 3000)), "TRAILING_BYTES"),
    "another data set after the pixels": (part10(dataset(last=el(PIXELS, "OW", b"\0\0") + dataset())), "TRAILING_BYTES"),
    "zeros after the pixels": (part10(dataset(last=el(PIXELS, "OW", b"\0\0") + b"\0" * 512)), "TRAILING_BYTES"),
    "id of 80": (part10(dataset({0x00100020: ("LO", "9" * 80)})), "TOO_LONG"),
    "deflate bomb": (part10(zlib.compress(dataset(last=el(0x00290010, "OB", bytes(33 << 20))), wbits=-15), DEFLATED), "TOO_LARGE_INFLATED"),
    "gap of summer time": (part10(dataset({0x00080030: ("TM", "023000")})), "NONEXISTENT_TIME"),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_each_doubt_keeps_the_row_and_gives_its_code(tmp_path, name):
    content, codes = DOUBTS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = one(tmp_path, content)
    assert row["problems"] == codes
    assert row["sop_instance_uid"] == "2.25.1"


REJECTED = {
    "0 bytes": (b"", "EMPTY_FILE"),
    "preamble only": (b"\0" * 128 + b"DICM", "NO_DATASET"),
    "meta information only": (part10(b""), "NO_DATASET"),
    "text": (b"This is the readme of the folder, line after line of it.", "NOT_DICOM"),
    "JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF\0" + b"\1" * 200, "NOT_DICOM"),
    "zeros": (b"\0" * 500, "NOT_DICOM"),
    "data set inside another format": (implicit(0x4D424D42, b"") + BARE, "NOT_DICOM"),
    "directory record": (part10(el(0x00041220, "SQ"), sop_class="1.2.840.10008.1.3.10"), "DICOMDIR"),
    "bare directory record": (el(0x00041130, "CS", "DISC1") + el(0x00041220, "SQ"), "DICOMDIR"),
    "cut deflate": (part10(zlib.compress(dataset(), wbits=-15)[:-9], DEFLATED), "BAD_DEFLATE"),
    "worklist entry": (part10(dataset({0x00080016: None, 0x00080018: None}, last=el(0x00400100, "SQ"))), "WORKLIST_ENTRY"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_each_unusable_file_is_rejected_with_its_code_and_size(tmp_path, name):
    content, code = REJECTED[name]
    got = load(tmp_path, content)
    assert got.instances.empty
    assert got.rejected[["code", "n_bytes"]].values.tolist() == [[code, len(content)]]


def test_every_file_is_a_row_or_rejected_and_every_byte_is_counted(tmp_path):
    contents = [*(c for c, _ in DOUBTS.values()), *(c for c, _ in REJECTED.values())]
    got = load(tmp_path, *contents)
    assert len(got.instances) == len(DOUBTS) and len(got.rejected) == len(REJECTED) and len(got.sources) == len(contents)
    assert got.sources["n_bytes_in_rows"].sum() + got.sources["n_bytes_rejected"].sum() == sum(map(len, contents))
    assert f"; 0 bytes unaccounted in {len(contents)} files" in summarize_account(got)


def test_reasons_show_no_patient_value(tmp_path):
    got = load(tmp_path, *(c for c, _ in REJECTED.values()))
    assert not got.rejected["reason"].str.contains("TEST|2.25|A1").any()


def test_value_cut_by_the_end_of_the_file_is_empty_not_short(tmp_path):
    whole = part10(dataset())
    row = one(tmp_path, whole[:whole.index(b"2.25.2") + 4])
    assert row["study_instance_uid"] == "" and row["patient_id"] == "TEST1"
    assert row["problems"] == "TRUNCATED EMPTY_ID"


@pytest.mark.parametrize("dataset_end", [b"", el(0x00080201, "SH", "+0900")], ids=["without offset", "with offset"])
def test_cut_file_gives_no_time_that_the_whole_file_would_not_give(tmp_path, dataset_end):
    changes = {0x00080201: ("SH", "+0900")} if dataset_end else {}
    whole = part10(dataset({**changes, 0x00080022: ("DA", "20240310"), 0x00080032: ("TM", "1117")}))
    (tmp_path / "whole").mkdir()
    truth = one(tmp_path / "whole", whole)
    load(tmp_path, **{f"cut{n:04}": whole[:n] for n in range(300, len(whole))})
    rows = read_headers([tmp_path / f"cut{n:04}" for n in range(300, len(whole))], site=CHICAGO).instances
    for column in ("study_at", "acquired_at"):
        assert set(rows[column].dropna()) == {truth[column]}
    assert rows.loc[rows["study_at"].isna(), "problems"].str.contains("TRUNCATED").all()


def test_nested_element_is_never_taken_for_the_top_level_one(tmp_path):
    nested = el(0x00080050, "SH", "WRONG") + el(0x00100020, "LO", "WRONG") + el(0x00401001, "SH", "P9")
    closed = el(0x00081140, "SQ", item(nested))
    opened = el(0x00081115, "SQ", item(nested, UNDEFINED) + ITEM_END + SEQUENCE_END, length=UNDEFINED)
    unknown = el(0x00091010, "UN", item(implicit(0x00100020, b"WRONG"), UNDEFINED) + ITEM_END + SEQUENCE_END, length=UNDEFINED)
    request = el(0x00400275, "SQ", item(el(0x00080050, "SH", "A1") + el(0x00401001, "SH", "P1")) + item(el(0x00080050, "SH", "A2")))
    ds = dataset({0x00080050: None, 0x00100020: None})
    at = ds.index(el(0x00100010, "PN", "TEST^ANNA"))
    row = one(tmp_path, part10(ds[:at] + opened + closed + unknown + ds[at:] + el(0x0040A730, "SQ", item(request))))
    assert row["accession_number"] == row["patient_id"] == row["requested_accession_numbers"] == row["requested_procedure_ids"] == ""
    assert row["problems"] == "EMPTY_ID"
    row = one(tmp_path, part10(ds[:at] + opened + closed + unknown + ds[at:] + request))
    assert row["requested_accession_numbers"] == "A1 A2" and row["requested_procedure_ids"] == "P1"
    assert row["accession_number"] == row["patient_id"] == ""


def test_request_attributes_are_read_in_every_encoding_of_a_sequence(tmp_path):
    inside = el(0x00080050, "SH", "A1") + el(0x00401001, "SH", "P1")
    forms = [
        el(0x00400275, "SQ", item(inside, UNDEFINED) + ITEM_END + SEQUENCE_END, length=UNDEFINED),
        el(0x00400275, "SQ", item(inside) + SEQUENCE_END, length=UNDEFINED),
        el(0x00400275, "SQ", item(inside, UNDEFINED) + ITEM_END),
        el(0x00400275, "UN", item(implicit(0x00080050, b"A1") + implicit(0x00401001, b"P1"))),
    ]
    got = load(tmp_path, *(part10(dataset({0x00080018: ("UI", f"2.25.{n}")}, last=form)) for n, form in enumerate(forms, 1)))
    assert got.instances["requested_accession_numbers"].tolist() == ["A1"] * 4
    assert got.instances["requested_procedure_ids"].tolist() == ["P1"] * 4
    assert got.instances["problems"].tolist() == [""] * 4


def test_fifty_sequences_deep_is_read_to_the_end(tmp_path):
    deep = OPEN_SEQUENCE * 50 + (ITEM_END + SEQUENCE_END) * 50
    row = one(tmp_path, part10(dataset(last=deep + el(0x00400244, "DA", "20240310") + el(0x00400245, "TM", "101700"))))
    assert row["performed_started_at"] == pd.Timestamp("2024-03-10T15:17Z") and row["problems"] == ""


def icon(short):
    """An icon whose item and sequence say `short` bytes less than they hold."""
    fragments = item(b"") + item(b"\xff\xd8\xff\xdb" * 20) + SEQUENCE_END
    inside = el(0x00280010, "US", pack("<H", 9)) + el(PIXELS, "OB", fragments, length=UNDEFINED)
    whole = item(inside, len(inside) - short)
    return el(0x00880200, "SQ", whole, length=len(whole) - short)


def test_icon_with_a_short_length_is_flagged_and_does_not_hide_the_pixels(tmp_path):
    pixels = el(PIXELS, "OB", item(b"") + item(b"\1" * 8) + SEQUENCE_END, length=UNDEFINED)
    cut = pixels[:-12]
    got = load(tmp_path, part10(dataset(last=icon(0) + pixels), JPEG), part10(dataset(last=icon(24) + pixels), JPEG),
               part10(dataset(last=icon(24) + cut), JPEG))
    assert [p.replace(" DUPLICATE_SOP_UID", "").replace("DUPLICATE_SOP_UID", "") for p in got.instances["problems"]] == [
        "", "ITEM_LENGTH_WRONG", "ITEM_LENGTH_WRONG PIXELS_TRUNCATED"]
    assert got.instances["study_instance_uid"].tolist() == ["2.25.2"] * 3


def test_item_longer_than_its_sequence_does_not_lift_its_elements_to_the_top(tmp_path):
    inside = el(0x00080050, "SH", "WRONG") + el(0x00401001, "SH", "WRONG")
    shut = el(0x00400275, "SQ", item(inside, 4000), length=len(inside) + 8)
    got = one(tmp_path, part10(dataset({0x00080050: None}, last=shut + el(0x00402017, "LO", "F1"))))
    assert got["problems"] == "ITEM_LENGTH_WRONG" and got["accession_number"] == "" and got["requested_procedure_ids"] == ""


def test_elements_after_a_short_item_are_not_lifted_to_the_top(tmp_path):
    inside = el(0x00080050, "SH", "A1A2A3A4") + el(0x00100020, "LO", "WRONG")
    short = el(0x00400275, "SQ", item(inside, 12), length=20)
    row = one(tmp_path, part10(dataset({0x00100020: None}, last=short)))
    assert row["patient_id"] == row["requested_accession_numbers"] == "" and "ITEM_LENGTH_WRONG" in row["problems"]


def test_element_longer_than_its_item_is_left_out_and_what_follows_is_still_checked(tmp_path):
    inside = el(0x00080050, "SH", "A1") + el(0x00401001, "SH", "P1", length=20)
    row = one(tmp_path, part10(dataset(last=el(0x00400275, "SQ", item(inside)) + el(PIXELS, "OW", b"\0" * 60, length=80))))
    assert row["requested_accession_numbers"] == "A1" and row["requested_procedure_ids"] == ""
    assert row["problems"] == "ITEM_LENGTH_WRONG PIXELS_TRUNCATED"


def test_items_use_the_character_set_of_the_file_unless_they_have_their_own(tmp_path):
    first = item(el(0x00401001, "SH", "\u00c41".encode("latin-1")))
    second = item(el(0x00080005, "CS", "ISO_IR 192") + el(0x00401001, "SH", "\u00c42".encode()))
    row = one(tmp_path, part10(dataset({0x00080005: ("CS", "ISO_IR 100")}, last=el(0x00400275, "SQ", first + second))))
    assert row["requested_procedure_ids"] == "\u00c41 \u00c42" and row["problems"] == ""


def test_first_of_a_repeated_tag_is_shown_and_both_are_kept(tmp_path):
    row = one(tmp_path, part10(dataset({0x00100020: ("LO", "00123")}, last=el(0x00100020, "LO", "99999"))))
    assert row["patient_id"] == "00123"
    assert json.loads(row["raw"]) == {"patient_id": ["00123", "99999"]}


def test_raw_keeps_what_the_table_shows_otherwise_but_not_a_single_pad(tmp_path):
    changes = {0x00080050: ("SH", " A 1  "), 0x00100020: ("LO", "TEST1\0"), 0x00100010: ("PN", "TEST^ANNA^^^"), 0x00081030: ("LO", "a\tbc")}
    row = one(tmp_path, part10(dataset(changes)))
    shown = row[["accession_number", "patient_id", "patient_name", "study_description"]].tolist()
    assert shown == ["A 1", "TEST1", "TEST^ANNA", r"a\x09bc"]
    assert json.loads(row["raw"]) == {"accession_number": " A 1  ", "patient_name": "TEST^ANNA^^^", "study_description": "a\tbc"}


@pytest.mark.parametrize("value", ["00123", "0000045", "1E5", "1234567890123456", "NA"])
def test_ids_stay_the_text_they_are(tmp_path, value):
    row = one(tmp_path, part10(dataset({0x00100020: ("LO", value), 0x00080050: ("SH", value)})))
    assert row["patient_id"] == row["accession_number"] == value and row["problems"] == ""


def test_doubtful_text_is_shown_right_and_its_bytes_are_kept(tmp_path):
    name = "M\u00fcller^Zo\u00eb"
    row = one(tmp_path, DOUBTS["UTF-8 as latin-1"][0])
    assert row["patient_name"] == "M\u00fcller"
    assert json.loads(row["raw"])["patient_name"].encode("latin-1").strip() == "M\u00fcller".encode()
    assert one(tmp_path, named(name.encode(), "ISO_IR 192"))["patient_name"] == name


def test_cyrillic_that_happens_to_be_valid_utf8_stays_cyrillic(tmp_path):
    russian = "\u0422\u0410"
    row = one(tmp_path, named(russian.encode("iso8859_5"), "ISO_IR 144"))
    assert row["patient_name"] == russian and row["problems"] == ""
    row = one(tmp_path, named(russian.encode("utf-8"), "ISO_IR 144"))
    assert row["patient_name"] == russian and row["problems"] == "CHARSET_MISMATCH"


def test_times_take_the_offset_of_the_file_else_the_zone_of_the_site(tmp_path):
    local = dataset({0x0008002A: ("DT", "20240710101530.5")})
    shifted = dataset({0x0008002A: ("DT", "20240710101530"), 0x00080201: ("SH", "+0900")})
    told = dataset({0x0008002A: ("DT", "20240710101530.5-0400"), 0x00080201: ("SH", "+0900")})
    assert one(tmp_path, part10(local))["acquired_at"] == pd.Timestamp("2024-07-10T15:15:30.5Z")
    assert one(tmp_path, part10(shifted))["acquired_at"] == pd.Timestamp("2024-07-10T01:15:30Z")
    row = one(tmp_path, part10(told))
    assert row["acquired_at"] == pd.Timestamp("2024-07-10T14:15:30.5Z")
    assert row["study_at"] == pd.Timestamp("2024-03-10T01:15:00Z")


def test_short_times_say_how_precise_they_are(tmp_path):
    row = one(tmp_path, part10(dataset({0x00080030: ("TM", "14"), 0x00080021: ("DA", "20240310"), 0x00080022: ("DA", "20240310"),
                                        0x00080032: ("TM", "1405")})))
    assert set(row["precision"].split()) == {"study_at=hour", "series_at=day", "acquired_at=minute"}
    assert row["acquired_at"] == pd.Timestamp("2024-03-10T19:05Z") and pd.isna(row["created_at"])


def test_bad_acquisition_datetime_falls_back_on_date_and_time_and_is_flagged(tmp_path):
    row = one(tmp_path, part10(dataset({0x00080022: ("DA", "20240310"), 0x0008002A: ("DT", "yesterday"), 0x00080032: ("TM", "101600")})))
    assert row["acquired_at"] == pd.Timestamp("2024-03-10T15:16Z")
    assert row["problems"] == "BAD_TIME" and json.loads(row["raw"]) == {"acquired_at": "yesterday"}


def test_bad_date_stays_readable_in_raw(tmp_path):
    row = one(tmp_path, DOUBTS["German date"][0])
    assert pd.isna(row["study_at"]) and json.loads(row["raw"]) == {"study_at": "10.03.2024 101500"}
    assert one(tmp_path, DOUBTS["birth date"][0])["patient_birth_date"] == "1950"


@pytest.mark.parametrize("frames, rows, expected", [("30", True, 30), (None, True, 1), (None, False, pd.NA), ("0", True, pd.NA)])
def test_frames_are_one_when_pixels_are_described_and_unknown_when_not(tmp_path, frames, rows, expected):
    changes = {0x00280008: ("IS", frames) if frames else None, 0x00280010: BASE[0x00280010] if rows else None}
    got = one(tmp_path, part10(dataset(changes)))["n_frames"]
    assert (pd.isna(got) and pd.isna(expected)) or got == expected


def test_every_encoding_of_one_data_set_gives_the_same_row(tmp_path):
    plain = dataset()
    big = dataset({0x00280010: ("US", pack(">H", 4))}, order=">")
    bare = b"".join(implicit(t, v if isinstance(v, bytes) else v.encode()) for t, (_, v) in BASE.items())
    deflated = zlib.compress(plain, wbits=-15)
    got = load(tmp_path, part10(plain), part10(big, BIG), part10(bare, IMPLICIT), part10(deflated, DEFLATED), plain, big,
               gzip.compress(part10(plain, preamble=b"a" * 128)), b"DICM" + meta() + plain)
    same = got.instances.drop(columns=["transfer_syntax_uid", "source_ae_title", "n_bytes", "source_file", "problems"]).drop_duplicates()
    assert len(got.instances) == 8 and len(same) == 1


def test_packed_file_counts_its_unpacked_bytes_and_a_broken_one_is_flagged(tmp_path):
    whole = part10(dataset(last=el(PIXELS, "OW", random.Random(1).randbytes(9000))))
    got = load(tmp_path, gzip.compress(whole), gzip.compress(whole)[:-4000], gzip.compress(b"only text"))
    assert got.instances["n_bytes"].iloc[0] == len(whole)
    assert "TRUNCATED_GZIP" in got.instances["problems"].iloc[1] and got.instances["patient_id"].iloc[1] == "TEST1"
    assert got.rejected["code"].tolist() == ["NOT_DICOM"]


def test_content_decides_and_not_the_name(tmp_path):
    names = ["IM0001", "a.dcm", "B.DCM", ".hidden", "line\nbreak", "report.txt", "x.part", "Thumbs.db"]
    for n, name in enumerate(names):
        (tmp_path / name).write_bytes(part10(dataset({0x00080018: ("UI", f"2.25.{n + 1}")})))
    (tmp_path / "y.dcm").write_bytes(b"<html>not found</html>")
    (tmp_path / "z.part").write_bytes(b"~" * 300)
    got = read_headers(tmp_path, site=CHICAGO)
    assert sorted(Path(f).name for f in got.instances["source_file"]) == sorted(names) and (got.instances["problems"] == "").all()
    assert got.rejected["code"].tolist() == ["NOT_DICOM"] * 2
    assert got.rejected["reason"].str.contains("still being written").tolist() == [False, True]


def test_same_uid_with_other_content_marks_both_and_a_copy_marks_the_second(tmp_path):
    ann, bob = part10(dataset()), part10(dataset({0x00100020: ("LO", "TEST2")}))
    other = part10(dataset({0x00080018: ("UI", "2.25.9")}))
    got = load(tmp_path, ann, bob, other, other, gzip.compress(other, mtime=0))
    assert got.instances["problems"].tolist() == ["DUPLICATE_SOP_UID", "DUPLICATE_SOP_UID", "", "DUPLICATE_FILE", "DUPLICATE_FILE"]


def test_missing_uids_are_not_repeats_of_each_other(tmp_path):
    nameless = {0x00080018: None}
    got = load(tmp_path, part10(dataset(nameless)), part10(dataset({**nameless, 0x00100020: ("LO", "TEST2")})))
    assert got.instances["problems"].tolist() == ["EMPTY_ID", "EMPTY_ID"]


def test_performed_steps_go_to_their_own_table(tmp_path):
    scheduled = b"".join(item(el(0x00080050, "SH", a) + el(0x0020000D, "UI", "2.25.2")) for a in ("A1", "A2"))
    step = {
        0x00080016: ("UI", MPPS), 0x0020000D: None, 0x0020000E: None, 0x00280010: None, 0x00400241: ("AE", "CT1_DEMO"),
        0x00400244: ("DA", "20240311"), 0x00400245: ("TM", "100000"), 0x00400250: ("DA", "20240311"), 0x00400251: ("TM", "101230"),
        0x00400252: ("CS", "DISCONTINUED"), 0x00400253: ("SH", "STEP1"), 0x00400270: ("SQ", scheduled),
        0x00400281: ("SQ", item(el(0x00080100, "SH", "110514") + el(0x00080104, "LO", "Incorrect worklist entry selected"))),
    }
    got = load(tmp_path, part10(dataset(step), sop_class=MPPS), part10(dataset()))
    assert len(got.instances) == 1 and got.rejected.empty
    row = got.performed_steps.iloc[0]
    assert (row["performed_procedure_step_id"], row["status"], row["station_ae_title"]) == ("STEP1", "DISCONTINUED", "CT1_DEMO")
    assert (row["study_instance_uid"], row["accession_number"]) == ("2.25.2", "A1 A2")
    assert row["discontinuation_reason"] == "Incorrect worklist entry selected"
    assert (row["started_at"], row["ended_at"]) == (pd.Timestamp("2024-03-11T15:00Z"), pd.Timestamp("2024-03-11T15:12:30Z"))


def test_long_file_is_read_in_pieces_and_hashed_whole(tmp_path):
    content = part10(dataset(last=el(PIXELS, "OW", bytes(17 << 20)) + el(0xFFFCFFFC, "OB", b"\0" * 4)))
    got = load(tmp_path, content, content[:-30])
    assert got.sources["sha256"].iloc[0] == hashlib.sha256(content).hexdigest()
    assert got.instances["problems"].tolist() == ["DUPLICATE_SOP_UID", "PIXELS_TRUNCATED DUPLICATE_SOP_UID"]
    assert got.instances["patient_id"].tolist() == ["TEST1"] * 2


def test_links_pipes_and_copies_in_a_folder_are_accounted_for(tmp_path):
    load(tmp_path, part10(dataset()))
    os.link(tmp_path / "000", tmp_path / "001")
    os.symlink(tmp_path / "000", tmp_path / "link")
    os.symlink(tmp_path, tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    got = read_headers(tmp_path, site=CHICAGO)
    assert got.instances["problems"].tolist() == ["", "DUPLICATE_FILE"]
    assert sorted(got.rejected["code"]) == ["LINK_SKIPPED", "LINK_SKIPPED", "NOT_A_FILE"]


def test_vanished_file_is_rejected_and_the_scan_goes_on(tmp_path):
    (tmp_path / "here").write_bytes(part10(dataset()))
    read = read_files((((str(tmp_path / "gone"), None), (str(tmp_path / "here"), None)), "UTC", True))
    assert read["rejected"]["code"] == ["IO_ERROR"] and len(read["instances"]["source_file"]) == 1 and len(read["sources"]["source_file"]) == 2


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no file permissions of this kind here")
def test_forbidden_file_and_folder_are_rejected_and_the_scan_goes_on():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "closed").mkdir()
        for file in ("a", "b"):
            (folder / file).write_bytes(part10(dataset()))
        (folder / "a").chmod(0)
        (folder / "closed").chmod(0)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            got = read_headers(folder, site=CHICAGO)
        finally:
            if is_root:
                os.seteuid(0)
            (folder / "closed").chmod(0o755)
    assert got.rejected["code"].tolist() == ["PERMISSION", "PERMISSION"] and len(got.instances) == 1
    assert got.sources["n_bytes_rejected"].tolist() == [len(part10(dataset())), 0]


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_any_executor_gives_the_same_tables(tmp_path, pool):
    here = load(tmp_path, *(c for c, _ in DOUBTS.values() if len(c) < 1 << 20))
    with pool(2) as executor:
        there = read_headers(tmp_path, site=CHICAGO, executor=executor)
    pd.testing.assert_frame_equal(here.instances, there.instances)


def test_callers_mistakes_are_named(tmp_path):
    with pytest.raises(TableError, match="site: a Site is needed, not str"):
        read_headers(tmp_path, site="America/Chicago")
    with pytest.raises(TableError, match="no file or folder"):
        read_headers(tmp_path / "missing", site=CHICAGO)


# pydicom as the judge, over the files it ships.

def judged():
    for file in sorted({*get_testdata_files(), *get_charset_files("*.dcm")}):
        if os.path.isfile(file) and not file.endswith((".gz", ".json", ".dump")):
            yield file


def said(ds, keyword):
    """A text value as pydicom has it, padding and a name's trailing ^ aside."""
    value = ds.get(keyword)
    values = list(value) if isinstance(value, pydicom.multival.MultiValue) else [] if value is None else [value]
    texts = [getattr(v, "original_string", str(v)) if isinstance(v, pydicom.valuerep.IS) else str(v) for v in values]
    if pydicom.datadict.dictionary_VR(keyword) == "PN":
        texts = ["=".join(group.rstrip("^ ") for group in text.split("=")).rstrip("=") for text in texts]
    return "\\".join(texts).strip(" \0")


def instant(ds, date, time):
    """Date and time as pydicom's own DA and TM read them, in Chicago where the file names no offset."""
    if not said(ds, date):
        return pd.NaT
    day, moment = pydicom.valuerep.DA(said(ds, date)), pydicom.valuerep.TM(said(ds, time).replace(":", "")) if said(ds, time) else None
    offset = said(ds, "TimezoneOffsetFromUTC")
    zone = datetime.strptime(offset, "%z").tzinfo if offset and moment else ZoneInfo("America/Chicago")
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    return pd.Timestamp(midnight if moment is None else midnight.replace(hour=moment.hour, minute=moment.minute, second=moment.second,
                                                                         microsecond=moment.microsecond))


def test_every_value_of_pydicoms_own_files_is_what_pydicom_says():
    got = read_headers(list(judged()), site=CHICAGO)
    assert len(got.instances) > 160 and set(got.rejected["code"]) <= {"NOT_DICOM", "DICOMDIR"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = [found for row in got.instances.to_dict("records") for found in disagreements(row)]
    assert wrong == []


def disagreements(row):
    ds = pydicom.dcmread(row["source_file"], force=True, stop_before_pixels=True)
    expected = {column: said(ds, keyword) for column, keyword in TEXT_KEYWORDS.items()}
    expected["patient_birth_date"] = said(ds, "PatientBirthDate")
    expected["transfer_syntax_uid"] = said(ds.file_meta, "TransferSyntaxUID")
    expected["source_ae_title"] = said(ds.file_meta, "SourceApplicationEntityTitle")
    expected["laterality"] = said(ds, "Laterality") or said(ds, "ImageLaterality")
    requests = ds.get("RequestAttributesSequence") or []
    expected["requested_procedure_ids"] = " ".join(dict.fromkeys(filter(None, (said(r, "RequestedProcedureID") for r in requests))))
    expected["requested_accession_numbers"] = " ".join(dict.fromkeys(filter(None, (said(r, "AccessionNumber") for r in requests))))
    expected["n_bytes"] = os.path.getsize(row["source_file"])
    if "BAD_NUMBER" not in row["problems"]:
        frames = said(ds, "NumberOfFrames")
        expected["n_frames"] = int(frames) if frames else 1 if "Rows" in ds else pd.NA
    pairs = {"study_at": "Study", "series_at": "Series", "created_at": "InstanceCreation",
             "performed_started_at": "PerformedProcedureStepStart"}
    pairs |= {} if said(ds, "AcquisitionDateTime") else {"acquired_at": "Acquisition"}
    if "TRUNCATED" not in row["problems"].split():      # a time is left out when its offset may be in the lost part
        expected |= {column: instant(ds, word + "Date", word + "Time") for column, word in pairs.items()}
    both_missing = {c for c, v in expected.items() if pd.isna(v) and pd.isna(row[c])}
    return [(Path(row["source_file"]).name, c, v, row[c]) for c, v in expected.items() if c not in both_missing and v != row[c]]


def test_a_trace_that_is_not_there_is_refused_in_words():
    with pytest.raises(TableError, match="cannot be told without this kind of trace"):
        read_headers(None, site=CHICAGO)
