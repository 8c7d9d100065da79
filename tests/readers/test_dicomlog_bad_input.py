"""What each kind of damage to a log does: the account first, then the code and what is kept."""

import gzip
import os
import re
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_helpers.readers import account, dicomlog, loglayouts, loglines
from pacs_helpers.readers.account import show_rejected
from pacs_helpers.readers.dicomlog import read_dicom_log
from pacs_helpers.site import Site
from pacs_helpers.tables import TableError

SITE = Site(time_zone="UTC")
SAMPLES = "data/samples/network"
LEVELS = "I: Association Received\nI: Association Acknowledged (Max Send PDV: 16372)\nI: Association Release\n"


def dated(*lines):
    """Lines `HH:MM:SS text` of a DCMTK log file."""
    return "".join(f"2026-11-24 {line[:8]},000 INFO: {line[9:]}\n" for line in lines)


def whole(start="03:00:00", end="03:00:02"):
    return dated(f"{start} Association Received (a:CT1 -> ARC)", f"{start} Association Acknowledged (Max Send PDV: 16372)", f"{end} Association Release")


def load(tmp_path, files, **options):
    """The log of files {name: bytes or text}, after the account of every byte."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        os.utime(tmp_path / name, (1795500000, 1795500000))
    log = read_dicom_log(tmp_path, site=SITE, **options)
    parts = log.sources["n_bytes_in_rows"] + log.sources["n_bytes_rejected"] + log.sources["n_bytes_framing"]
    assert parts.tolist() == log.sources["n_bytes"].tolist()
    assert log.rejected["n_bytes"].sum() == log.sources["n_bytes_rejected"].sum()
    assert log.rejected["reason"].str.len().gt(20).all()
    return log


def rejected(log):
    return log.rejected[["code", "source_offset", "n_bytes"]].values.tolist()


def test_line_being_written_is_read_when_it_is_whole(tmp_path):
    cut = whole()[:-8]
    log = load(tmp_path, {"a.log": cut})
    start = cut.rindex("\n") + 1
    assert rejected(log) == [["PARTIAL_LINE", start, len(cut) - start]] and log.associations["outcome"].tolist() == ["unfinished"]
    assert load(tmp_path, {"a.log": whole()}).associations["outcome"].tolist() == ["released"]


def test_processes_that_interleave_are_told_apart_by_their_id(tmp_path):
    lines = [f"2026-11-24 03:00:0{n},000 [{pid}] INFO: {text}\n" for n, text in enumerate(re.findall("I: (.*)", LEVELS)) for pid in (7, 8)]
    log = load(tmp_path, {"a.log": "".join(lines)})
    assert log.associations["outcome"].tolist() == ["released"] * 2 and not log.associations["is_ambiguous"].any() and rejected(log) == []


def test_stack_trace_belongs_to_the_line_above(tmp_path):
    trace = "Traceback (most recent call last):\n  File \"x.py\", line 1\nValueError: y\n"
    log = load(tmp_path, {"a.log": whole() + dated("03:00:03 something else") + trace + whole("03:00:04", "03:00:05")})
    assert rejected(log) == [] and len(log.associations) == 2
    assert log.sources["n_bytes_framing"].sum() == len(dated("03:00:03 something else") + trace)


def test_bytes_that_are_no_text_are_one_row_and_the_rest_is_read(tmp_path):
    junk = b"\x00\x01\x02\x03\xff\n" * 3
    log = load(tmp_path, {"a.log": whole().encode() + junk + whole("03:00:04", "03:00:05").encode()})
    assert rejected(log) == [["NOT_TEXT", len(whole()), len(junk)]] and len(log.associations) == 2


def test_clock_that_is_set_back_marks_what_is_open_and_lines_keep_their_order(tmp_path):
    log = load(tmp_path, {"a.log": whole("03:00:00", "02:59:50") + whole("03:00:04", "03:00:05")})
    assert rejected(log) == [] and log.associations["problems"].tolist() == ["TIME_GOES_BACK", ""]


def test_clock_set_back_on_a_line_that_says_nothing_marks_what_is_open(tmp_path):
    first, second, third = whole().splitlines(keepends=True)
    log = load(tmp_path, {"a.log": first + second + dated("03:00:05 nothing", "03:00:01 nothing") + third})
    assert rejected(log) == [] and log.associations["problems"].tolist() == ["TIME_GOES_BACK"]


def test_date_whose_month_cannot_be_told_is_never_guessed(tmp_path):
    text = "03/04/24 10:00:00 INFO: Association Received\n"
    log = load(tmp_path, {"a.log": text})
    assert rejected(log) == [["DATE_AMBIGUOUS", 0, len(text)]] and "date_order, 'day first' or 'month first'" in log.rejected["reason"].iloc[0]
    assert rejected(load(tmp_path, {"a.log": "03/04/24 10:00:00 INFO of another program\n"}, date_order="day first"))[0][0] == "UNKNOWN_FORMAT"
    with pytest.raises(TableError, match="date_order: 'dmy' is not one of day first, month first"):
        load(tmp_path, {"a.log": text}, date_order="dmy")


SLASHED = ("{} 23:59:58  INFO: Association Received", "{} 23:59:59.250  INFO: Association Acknowledged (Max Send PDV: 16372)", "{} 00:00:01 INFO: Association Release")


@pytest.mark.parametrize(("days", "order", "day"), [
    (("03/04/24", "03/04/24", "04/04/24"), "day first", "2024-04-03"), (("3/4/2024", "3/4/2024", "3/5/2024"), "month first", "2024-03-04"),
    (("12/04/2024", "12/04/2024", "13/04/2024"), None, "2024-04-12"), (("12/31/2024", "12/31/2024", "1/1/2025"), None, "2024-12-31"),
    (("03.04.2024", "03.04.2024", "04.04.2024"), None, "2024-04-03"), (("12/04/2024", "12/04/2024", "13/04/2024"), "day first", "2024-04-12")])
def test_order_of_day_and_month_is_given_or_told_by_one_date_of_the_log(tmp_path, days, order, day):
    log = load(tmp_path, {"a.log": "".join(f"{line}\n" for line in SLASHED).format(*days)}, date_order=order)
    assert rejected(log) == [] and log.associations[["outcome", "problems"]].values.tolist() == [["released", ""]]
    assert log.associations["started_at"].tolist() == [pd.Timestamp(f"{day}T23:59:58Z")]
    assert (log.associations["ended_at"] - log.associations["started_at"]).tolist() == [pd.Timedelta("3s")]


def test_dates_that_contradict_each_other_are_not_guessed(tmp_path):
    text = "".join(f"{line}\n" for line in SLASHED).format("13/04/2024", "13/04/2024", "04/13/2024")
    assert rejected(load(tmp_path, {"a.log": text})) == [["DATE_AMBIGUOUS", 0, len(text)]]


def test_line_ends_of_old_macs_change_nothing(tmp_path):
    log = load(tmp_path, {"a.log": whole().replace("\n", "\r")})
    assert rejected(log) == [] and log.associations["outcome"].tolist() == ["released"]


def test_line_of_another_layout_is_one_row_and_shows_no_value(tmp_path):
    other = "2026/11/24 03:00:01 Doe^John something else\n[2026-11-24 03:00:01] Doe^John\n"
    log = load(tmp_path, {"a.log": whole() + other.splitlines(keepends=True)[1] + whole("03:00:04", "03:00:05")})
    assert rejected(log) == [["UNKNOWN_FORMAT", len(whole()), 31]] and len(log.associations) == 2
    assert not log.rejected["reason"].str.contains("Doe").any() and b"Doe" in show_rejected(log, 0)


def test_clock_without_date_waits_for_one_and_rolls_at_midnight(tmp_path):
    text = "".join(f"{at}   INFO: {line}\n" for at, line in zip(("23:59:58", "23:59:59", "00:00:01"), re.findall("I: (.*)", LEVELS), strict=True))
    assert rejected(load(tmp_path, {"a.log": text})) == [["NO_DATE", 0, len(text)]]
    log = load(tmp_path, {"a.log": text}, start_date="2026-11-24")
    assert log.associations["ended_at"].tolist() == [pd.Timestamp("2026-11-25T00:00:01Z")] and rejected(log) == []


def test_two_packed_members_are_one_log_and_bytes_behind_them_are_told(tmp_path):
    log = load(tmp_path, {"a.log.gz": gzip.compress(whole().encode()) + gzip.compress(whole("03:00:04", "03:00:05").encode()) + b"junk"})
    assert rejected(log) == [["TRAILING_BYTES", len(whole() * 2), 0]] and len(log.associations) == 2


def test_packed_log_that_is_cut_keeps_its_whole_lines(tmp_path):
    lines = whole() + dated(*(f"03:00:{n % 60:02} nothing {n * n}" for n in range(3000)))
    log = load(tmp_path, {"a.log.gz": gzip.compress(lines.encode())[:-4000]})
    assert set(log.rejected["code"]) <= {"TRUNCATED_GZIP", "PARTIAL_LINE", "BAD_GZIP"} and "TRUNCATED_GZIP" in set(log.rejected["code"])
    assert log.associations["outcome"].tolist() == ["released"]


def test_terminal_codes_in_a_title_are_escaped(tmp_path):
    log = load(tmp_path, {"a.log": whole().replace("CT1", "C\x1b[31mT")})
    assert rejected(log) == [] and log.associations["calling_ae_title"].tolist() == ["C\\x1b[31mT"]
    assert log.associations["problems"].tolist() == ["CONTROL_CHARS"]


def test_packed_bomb_stops_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(account, "INFLATE_LIMIT", 3 << 20)
    monkeypatch.setattr(dicomlog, "LONGEST_LINE", 1 << 20)
    monkeypatch.setattr(loglines, "LONGEST_LINE", 1 << 20)
    log = load(tmp_path, {"a.log.gz": gzip.compress(whole().encode() + b"a" * (8 << 20))})
    assert log.rejected["code"].tolist() == ["TOO_LARGE_INFLATED", "LINE_TOO_LONG"]
    assert log.sources["n_bytes"].tolist() == [3 << 20] and log.associations["outcome"].tolist() == ["released"]


def test_rotated_files_are_read_oldest_first_and_copied_lines_once(tmp_path):
    lines = (whole() + whole("03:00:04", "03:00:05")).splitlines(keepends=True)
    log = load(tmp_path, {"a.log.1": "".join(lines[:4]), "a.log": "".join(lines[2:])})
    assert rejected(log) == [["DUPLICATE_LINE", 0, len("".join(lines[2:4]))]]
    assert log.associations["outcome"].tolist() == ["released", "released"] and log.associations["problems"].eq("").all()


# laws

def tables(log):
    return [table.drop(columns="seconds", errors="ignore").to_csv() for table in log]


def each_line():
    """The layouts, when every line is looked at one by one."""
    return tuple(SimpleNamespace(**vars(layout) | {"said": layout.head, "plain": None}) for layout in loglayouts.LAYOUTS)


@pytest.mark.parametrize("name", ["archive_orthanc_1.log.gz", "edview_storescp_xcr.log", "workstation_dcmqrscp.log"])
@pytest.mark.parametrize("block", [97, 4096])
def test_blocks_and_runs_change_nothing(request, monkeypatch, name, block):
    file = request.config.rootpath / SAMPLES / name
    at_once = tables(read_dicom_log(file, site=SITE, year=2026))
    monkeypatch.setattr(account, "BLOCK_BYTES", block)
    monkeypatch.setattr(loglines, "PIECE_BYTES", 4096)
    assert tables(read_dicom_log(file, site=SITE, year=2026)) == at_once
    monkeypatch.setattr(loglayouts, "LAYOUTS", each_line())
    assert tables(read_dicom_log(file, site=SITE, year=2026)) == at_once


QUIET = [whole(), dated("03:00:02 nothing"), dated("03:00:02 nothing").replace("\n", "\r\n"), "  more\n", "...\n", "\x00\x01\x02\n", "Müller\n",
         dated("03:00:01 Association Aborted"), dated("03:00:09 nothing"), "2026-11-24 03:00:02,000 INFO:\n", "[2026-11-24 03:00:02] x\n", "\r", "no end",
         "2026-11-24 03:00:02,000 \rINFO: nothing\n", "2026-11-24 03:00:02,000 INFO: nothing\rAssociation Aborted\n"]
TALKATIVE = ["2026-11-24 03:00:00,250 pynetdicom.acse Thread-1 (run) \r[INFO] nothing\n",
             "2026-11-24 03:00:00,250 pynetdicom.acse Thread-1 (run) [INFO] nothing\n", "2026-11-24 03:00:00,250 pynetdicom.acse T [INFO] Accepting Association\n"]


OBJECT = "2026-11-24T03:00:00,123456789+02:00|CT1|ARC|ct1|CT.1.2.3|100\n"
OBJECTS = [OBJECT, OBJECT.replace("CT.1.2.3", "DXm.2.25.7"), OBJECT.replace("1.2.3", "1.2.3.dcm"), OBJECT.replace("CT.1.2.3", "no name"), OBJECT.replace("CT1", "CT 1 "),
           OBJECT.replace("CT1", ""), OBJECT.replace("03:00", "25:61"), OBJECT.replace("+02:00", "Z"), OBJECT.replace("CT1", "M\u00fcller"), OBJECT.replace("\n", "\r\n"),
           OBJECT.replace("ct1", "a|b"), OBJECT.replace("CT1", "Reason: CT1"), OBJECT.replace("CT1", "$dcmtk: 1"), OBJECT.replace("|100", "|"), "x\n", "2026-11-24T03:00:01Z|\r\n"]


def expect_the_same_line_by_line(tmp_path_factory, lines):
    file = tmp_path_factory.mktemp("lines") / "a.log"
    file.write_bytes("".join(lines).encode())
    at_once = tables(read_dicom_log(file, site=SITE))
    known, loglayouts.LAYOUTS = loglayouts.LAYOUTS, each_line()
    try:
        assert tables(read_dicom_log(file, site=SITE)) == at_once
    finally:
        loglayouts.LAYOUTS = known


@given(st.lists(st.sampled_from(OBJECTS), max_size=12).map(lambda lines: [OBJECT.replace("+02:00", f"+0{n % 10}:00") + line for n, line in enumerate(lines)]))
def test_objects_in_columns_are_those_of_single_lines(tmp_path_factory, lines):
    expect_the_same_line_by_line(tmp_path_factory, lines)


def test_objects_are_in_the_order_of_the_log_whichever_way_they_are_read(tmp_path):
    log = load(tmp_path, {"a.log": OBJECT + OBJECTS[4] + OBJECTS[6] + OBJECTS[1]})
    assert log.operations["sop_instance_uid"].tolist() == ["1.2.3", "1.2.3", "1.2.3", "2.25.7"] and log.operations["source_offset"].is_monotonic_increasing
    assert log.operations["problems"].tolist() == ["", "", "BAD_TIME", ""] and log.operations["calling_ae_title"].tolist() == ["CT1", "CT 1", "CT1", "CT1"]
    assert log.operations["ended_at"].tolist() == [at := pd.Timestamp("2026-11-24T01:00:00.123456Z"), at, pd.NaT, at] and log.operations["n_bytes"].sum() == 400


@given(st.lists(st.sampled_from(QUIET), max_size=12).map(lambda lines: [whole(), *lines]) | st.lists(st.sampled_from(TALKATIVE), max_size=6))
def test_runs_read_what_single_lines_do(tmp_path_factory, lines):
    expect_the_same_line_by_line(tmp_path_factory, lines)


@pytest.mark.parametrize("name", ["archive_orthanc_1.log.gz", "edview_storescp_xcr.log", "workstation_dcmqrscp.log"])
def test_beginning_of_any_length_is_accounted_for(request, tmp_path, name):
    data = b"".join(account.Blocks(request.config.rootpath / SAMPLES / name))[:3000]
    file = tmp_path / "a.log"
    n_before = 0
    for n in range(1, len(data) + 1):
        file.write_bytes(data[:n])
        part = dicomlog.read_rotation(((file.as_posix(),), "UTC", 2026, None, None))
        source = part["sources"][0]
        assert source["n_bytes_in_rows"] + source["n_bytes_rejected"] + source["n_bytes_framing"] == source["n_bytes"] == n
        assert sum(row["n_bytes"] for row in part["rejected"]) == source["n_bytes_rejected"]
        assert len(part["operations"]["service"]) >= n_before
        n_before = len(part["operations"]["service"])


def test_a_size_of_a_hundred_digits_is_no_size(tmp_path):
    line = "2025-11-01T16:39:18.505-05:00|CR2|EDVIEW|10.20.0.17|CR.2.25.6|8300000\n"
    log = load(tmp_path, {"xcr.log": line + line.replace("18.505", "19.505").replace("8300000", "8" * 100)})
    assert log.operations["n_bytes"].tolist() == [8_300_000] and log.rejected["code"].tolist() == ["UNKNOWN_FORMAT"]


def test_a_stored_objects_uid_ends_where_the_files_suffix_begins(tmp_path):
    line = "2025-11-01T16:39:18.505-05:00|CR2|EDVIEW|10.20.0.17|CR.2.25.6|8300000\n"
    log = load(tmp_path, {"xcr.log": line + line.replace("2.25.6", "2.25.7.dcm").replace("18.505", "19.505")})
    assert log.operations["sop_instance_uid"].tolist() == ["2.25.6", "2.25.7"]


def test_vertical_tab_in_the_name_of_a_thread_costs_that_line_only(tmp_path):
    line = "I1124 03:00:0{}.000000 {}CommandDispatcher.cpp:333] (dicom) Association Received from AET {} on IP 10.0.0.1\n"
    log = load(tmp_path, {"Orthanc.log": line.format(1, "", "CT1") + line.format(2, "\vDICOM-2 ", "CT2") + line.format(3, "", "CT3")})
    assert log.associations["calling_ae_title"].tolist() == ["CT1", "CT3"]
    assert log.rejected["code"].tolist() == ["UNKNOWN_FORMAT"] and log.rejected["n_bytes"].tolist() == [len(line.format(2, "\vDICOM-2 ", "CT2"))]
