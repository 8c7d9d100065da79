"""HL7 v2 times of many messages at once, as instants; `parse_time` has the word on every form that is not the usual one."""

from datetime import datetime, timedelta, timezone
from functools import lru_cache

import numpy as np

from .times import local_to_utc, parse_time

MISSING = np.iinfo(np.int64).min       # NaT
CODES = ("", "NONEXISTENT_TIME", "AMBIGUOUS_TIME", "OTHER_OFFSET", "BAD_TIME")
PRECISIONS = ("second", "year", "month", "day", "hour", "minute")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_YEARS = (1900, 2100)
_MONTHS = np.arange(f"{_YEARS[0]}-01", f"{_YEARS[1]}-02", dtype="M8[M]").astype("M8[D]").astype(np.int64)   # first day of each, since 1970
_ZEROS = np.uint64(0x3030303030303030)
_KEEP = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)       # the first n of eight bytes
_UNKNOWN, _CHANGES = 1 << 30, 1 << 29       # of a day's offset: not looked up yet, not the same all day


def read_instants(text, words, starts, lengths, zone):
    """`(microseconds since 1970, places in PRECISIONS, places in CODES)` of the values at `starts` of the bytes `text`; MISSING where there is none.

    `words` are the eight bytes from each place on, as one number. A BAD_TIME is MISSING too.
    """
    at, precision, code = np.full(len(starts), MISSING), np.zeros(len(starts), np.int8), np.zeros(len(starts), np.int8)
    filled = np.flatnonzero(lengths)
    start, length = starts[filled], lengths[filled]
    sign = text[start + np.maximum(length - 5, 0)]
    has_offset = (length > 12) & ((sign == 43) | (sign == 45))
    core = length - 5 * has_offset
    n_fraction = core - 15
    is_usual = (core == 14) | (core == 12) | (core == 8) | (n_fraction > 0) & (n_fraction < 7) & (text[start + 14] == 46)
    date, is_date = _pairs(words[start], 8)
    clock, is_clock = _pairs(words[start + 8], np.clip(core, 8, 14) - 8)
    day, is_day = _days(*date)
    hour, minute, second, _ = clock
    is_usual &= is_date & is_clock & is_day & (hour < 24) & (minute < 60) & (second < 60)
    offset = _offsets(np.where(is_usual, day, 0), zone)
    if has_offset.any():
        (hours, minutes, _, _), is_offset = _pairs(words[start + length - 4], 4)
        given = np.where(sign == 45, -1, 1) * (hours * 3600 + minutes * 60)
        is_usual &= ~has_offset | is_offset & (minutes < 60) & (hours < 15) & ((given == 0) | (given == offset))
        offset = np.where(has_offset, given, offset)
    is_usual &= offset < _CHANGES
    value = (day * 86400 + hour * 3600 + minute * 60 + second - offset) * 1_000_000
    if (n_fraction > 0).any():
        (tens, hundreds, thousands, _), is_fraction = _pairs(words[start + 15], np.clip(n_fraction, 0, 6))
        is_usual &= is_fraction
        value += np.where(n_fraction > 0, tens * 10_000 + hundreds * 100 + thousands, 0)
    at[filled] = value
    precision[filled] = np.where(core == 8, 3, np.where(core == 12, 5, 0))
    for i in np.flatnonzero(~is_usual).tolist():
        row = filled[i]
        instant, name, problem = parse_time(text[start[i]:start[i] + length[i]].tobytes().decode(), zone)
        at[row] = (instant - _EPOCH) // timedelta(microseconds=1) if instant else MISSING
        precision[row], code[row] = PRECISIONS.index(name or "second"), CODES.index(problem or ("" if instant else "BAD_TIME"))
    return at, precision, code


def _pairs(words, n_digits):
    """The four two-digit numbers of eight bytes, of which the first `n_digits` count and the others are 0; and whether all were digits."""
    words = (words & _KEEP[n_digits]) | (_ZEROS & ~_KEEP[n_digits])
    high, six = np.uint64(0xF0F0F0F0F0F0F0F0), np.uint64(0x0606060606060606)
    is_digits = ((words & high) == _ZEROS) & (((words + six) & high) == _ZEROS)
    words = (words & ~high) * np.uint64(10) + ((words & ~high) >> np.uint64(8))
    return [((words >> np.uint64(16 * i)) & np.uint64(0xFF)).astype(np.int64) for i in range(4)], is_digits


def _days(century, year, month, day):
    """Days since 1970, and whether they are of the calendar."""
    months = (century * 100 + year - _YEARS[0]) * 12 + month - 1
    is_known = (months >= 0) & (months < len(_MONTHS) - 2) & (month > 0) & (month < 13)
    months = np.where(is_known, months, 0)
    first = _MONTHS[months]
    return first + day - 1, is_known & (day > 0) & (day <= _MONTHS[months + 1] - first)


def _offsets(days, zone):
    """Seconds that the zone is ahead of UTC on each of these days; from _CHANGES on where that is not the same all day."""
    known = _known_offsets(zone)
    offsets = known[days - _MONTHS[0]]
    for day in np.unique(days[offsets == _UNKNOWN]).tolist():
        midnight = datetime(1970, 1, 1) + timedelta(days=day)
        clocks = [midnight + timedelta(seconds=s) for s in (*range(0, 86400, 3600), 86399)]
        found = {(clock - instant.replace(tzinfo=None), code) for clock in clocks for instant, code in [local_to_utc(clock, zone)]}
        (shift, code), *others = found
        known[day - _MONTHS[0]] = _CHANGES if code or others else shift.total_seconds()
    return known[days - _MONTHS[0]]


@lru_cache(maxsize=16)
def _known_offsets(zone):
    return np.full(_MONTHS[-1] - _MONTHS[0], _UNKNOWN, np.int64)
