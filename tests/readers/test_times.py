from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_helpers.readers.times import local_to_utc, parse_dicom_time, parse_time

CHICAGO = "America/Chicago"


def utc(*parts):
    return datetime(*parts, tzinfo=timezone.utc)


@pytest.mark.parametrize("text, at, precision", [
    ("2025", utc(2025, 1, 1, 6), "year"), ("202503", utc(2025, 3, 1, 6), "month"), ("20250304", utc(2025, 3, 4, 6), "day"),
    ("2025030408", utc(2025, 3, 4, 14), "hour"), ("202503040830", utc(2025, 3, 4, 14, 30), "minute"),
    ("20250304083015", utc(2025, 3, 4, 14, 30, 15), "second"), ("20250304083015.25", utc(2025, 3, 4, 14, 30, 15, 250000), "second"),
    ("202503040830+0000", utc(2025, 3, 4, 8, 30), "minute"), (" 20250304083015-0600 ", utc(2025, 3, 4, 14, 30, 15), "second"),
])
def test_a_time_has_the_precision_it_was_written_with(text, at, precision):
    assert parse_time(text, CHICAGO) == (at, precision, "")


@pytest.mark.parametrize("text", ["20250304 0830", "2025030408301", "20251304", "20250230", "202503042400", "202503042561", "20250304083060", "00000000",
                                  "20250304083000+9999", "04.03.2025", "yesterday", "2025-03-04"])
def test_what_is_no_time_is_told_and_not_guessed(text):
    assert parse_time(text, CHICAGO) == (None, "", "BAD_TIME")


@pytest.mark.parametrize("text, zone", [("00010101000000+0500", CHICAGO), ("00010101", "Europe/Berlin"), ("99991231235959", CHICAGO), ("99991231235959-0600", CHICAGO),
                                        ("99991231160000+0100", "Asia/Tokyo")])
def test_years_that_stand_for_no_date_do_not_raise(text, zone):
    assert parse_time(text, zone) == (None, "", "BAD_TIME")


def test_nothing_written_is_missing_and_not_wrong():
    assert parse_time(" ", CHICAGO) == (None, "", "") and parse_dicom_time("", "083000", CHICAGO) == (None, "", "")


def test_the_repeated_autumn_hour_is_taken_as_the_first_and_told():
    assert parse_time("20251102013000", CHICAGO) == (utc(2025, 11, 2, 6, 30), "second", "AMBIGUOUS_TIME")
    assert parse_time("20251102020000", CHICAGO) == (utc(2025, 11, 2, 8), "second", "")


def test_the_skipped_spring_hour_is_moved_past_and_told():
    assert parse_time("20250309023000", CHICAGO) == (utc(2025, 3, 9, 8, 30), "second", "NONEXISTENT_TIME")
    assert parse_time("20250309030000", CHICAGO) == (utc(2025, 3, 9, 8), "second", "")


@pytest.mark.parametrize("text, at", [("202503040830+0100", utc(2025, 3, 4, 7, 30)), ("20250309033000-0600", utc(2025, 3, 9, 9, 30))])
def test_an_offset_that_is_not_the_sites_at_that_time_is_kept_and_flagged(text, at):
    assert parse_time(text, CHICAGO)[::2] == (at, "OTHER_OFFSET")


@pytest.mark.parametrize("text", ["20251102013000-0600", "20251102013000-0500"])
def test_an_offset_leaves_no_doubt_about_a_clock_change(text):
    assert parse_time(text, CHICAGO)[2] == ""


def test_a_log_stamp_has_the_same_doubts():
    assert local_to_utc(datetime(2025, 11, 2, 1, 30), CHICAGO) == (utc(2025, 11, 2, 6, 30), "AMBIGUOUS_TIME")
    assert local_to_utc(datetime(2025, 7, 2, 1, 30), CHICAGO) == (utc(2025, 7, 2, 6, 30), "")


@pytest.mark.parametrize("zone, day", [(CHICAGO, "20250309"), (CHICAGO, "20251102"), ("Australia/Lord_Howe", "20250406"), ("Australia/Lord_Howe", "20251005"),
                                       ("Africa/Monrovia", "19720107"), ("Europe/Berlin", "20250304")])
def test_every_minute_of_a_day_is_the_instant_that_the_zone_says_however_many_were_read_before(zone, day):
    for minute in range(24 * 60):
        local = datetime.strptime(day, "%Y%m%d") + timedelta(minutes=minute, seconds=59)
        assert parse_time(local.strftime("%Y%m%d%H%M%S"), zone)[::2] == parse_dicom_time(day, local.strftime("%H%M%S"), zone)[::2] == local_to_utc(local, zone)


@pytest.mark.parametrize("date, time, offset, want", [
    ("20250304", "083015+0600", "", (utc(2025, 3, 4, 6), "day", "BAD_TIME")), ("20250304", "083015.25", "+0000", (utc(2025, 3, 4, 8, 30, 15, 250000), "second", "")),
    ("20250304", "083015.5", "", (utc(2025, 3, 4, 14, 30, 15, 500000), "second", "")),
    ("20250304", "1405", "", (utc(2025, 3, 4, 20, 5), "minute", "")), ("20250304", "14", "", (utc(2025, 3, 4, 20), "hour", "")),
    ("20250304", "", "", (utc(2025, 3, 4, 6), "day", "")), ("20250304", "0830", "-0500", (utc(2025, 3, 4, 13, 30), "minute", "OTHER_OFFSET")),
    ("2025.03.04", "08:30:15", "", (utc(2025, 3, 4, 14, 30, 15), "second", "")), ("20250304\0", "0830\0", "", (utc(2025, 3, 4, 14, 30), "minute", "")),
    ("20250304", "2400", "", (utc(2025, 3, 4, 6), "day", "BAD_TIME")), ("20250304", "25:61:00", "", (utc(2025, 3, 4, 6), "day", "BAD_TIME")),
    ("10.03.2024", "0830", "", (None, "", "BAD_DATE")), ("240310", "0830", "", (None, "", "BAD_DATE")), ("20250230", "0830", "", (None, "", "BAD_DATE")),
])
def test_dicom_date_and_time_make_one_instant(date, time, offset, want):
    assert parse_dicom_time(date, time, CHICAGO, offset) == want


@given(st.text(alphabet="0123456789+-. ", max_size=24), st.sampled_from([CHICAGO, "Europe/Berlin", "UTC", "Australia/Lord_Howe"]))
def test_any_digits_give_an_instant_or_a_code_and_never_raise(text, zone):
    at, precision, code = parse_time(text, zone)
    assert (at is None) == (precision == "") and (at is not None or code == "BAD_TIME" or not text.strip())
