"""DICOM and HL7 times as instants, with their precision and the doubts about them."""

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

# HL7 v2 DTM and DICOM DT (PS3.5 6.2) share one shape; DICOM TM has no date.
_DTM = re.compile(r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?)?)?)?([+-]\d{4})?$")
_TIME = re.compile(r"(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?$")
_SECOND = re.compile(r"(\d{10})([0-5]\d)([0-5]\d)(?:\.(\d{1,6}))?([+-]\d{4})?")
_NAMES = ("year", "month", "day", "hour", "minute", "second")


@lru_cache(maxsize=200_000)
def parse_time(text, zone):
    """`(instant, precision, code)` of an HL7 DTM or DICOM DT value; `(None, "", code)` when it is not one.

    Without an offset the time is in `zone`. Codes: BAD_TIME; NONEXISTENT_TIME (spring gap, moved past it) and
    AMBIGUOUS_TIME (repeated autumn hour, taken as the first) say the instant is a doubt; OTHER_OFFSET says that the
    value's own offset is not `zone`'s at that time (nor UTC), so times beside it without one may be hours off. A day is its local midnight
    with precision "day".
    """
    return _within_hour(text, zone) or _parse(text, zone)


def _within_hour(text, zone):
    """What `parse_time` gives of an instant that follows from when its hour begins, None of any other."""
    found = _SECOND.fullmatch(text)
    if not found:
        return None
    hour, minute, second, fraction, offset = found.groups()
    start, code = _hour(hour, offset or "", zone)
    return start and (start + timedelta(0, int(second), int(fraction.ljust(6, "0")) if fraction else 0, 0, int(minute)), "second", code)


@lru_cache(maxsize=1 << 14)
def _hour(text, offset, zone):
    """`(instant at which this hour begins, code)`; `(None, "")` where a clock change or the end of the calendar is near."""
    (first, _, code), (last, _, other) = (_parse(text + end + offset, zone) for end in ("0000", "5959"))
    is_even = first and last and code == other and last - first == timedelta(0, 3599) and 1 < first.year < 9999
    return (first, code) if is_even else (None, "")


def _parse(text, zone):
    found = _DTM.match(text.strip())
    if not found:
        return None, "", "BAD_TIME" if text.strip() else ""
    *parts, fraction, offset = found.groups()
    given = [int(p) for p in parts if p is not None]
    numbers = given + [1, 1, 1, 0, 0, 0][len(given):]
    try:
        local = datetime(*numbers, int((fraction or "0").ljust(6, "0")))
    except ValueError:
        return None, "", "BAD_TIME"
    instant, code = _to_utc(local, offset, zone)
    return instant, _NAMES[len(given) - 1] if instant else "", code


def parse_dicom_time(date, time, zone, offset=""):
    """`(instant, precision, code)` of a DICOM DA and TM pair; BAD_DATE or BAD_TIME when one is not in its form.

    The old DA form YYYY.MM.DD (PS3.5 6.2 note) is taken. `offset` is Timezone Offset From UTC (0008,0201).
    """
    date, time = date.strip().rstrip("\0"), time.strip().rstrip("\0")
    if not date:
        return None, "", ""
    usual = len(date) == 8 and time[-5:-4] not in "+-" and _within_hour(date + time + offset, zone)
    if usual:
        return usual
    if re.fullmatch(r"\d{4}\.\d\d\.\d\d", date):
        date = date.replace(".", "")
    if not re.fullmatch(r"\d{8}", date) or parse_time(date, zone)[0] is None:
        return None, "", "BAD_DATE"
    time = time.replace(":", "") if re.fullmatch(r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?", time) else time
    if not time:
        return parse_time(date, zone)
    if not _TIME.match(time):
        return *parse_time(date, zone)[:2], "BAD_TIME"
    whole = parse_time(date + time + offset.strip(), zone)
    return whole if whole[0] else (*parse_time(date, zone)[:2], "BAD_TIME")


def local_to_utc(local, zone):
    """`(instant, code)` of a naive local datetime, as `parse_time` treats the hours around a clock change."""
    return _to_utc(local, None, zone)


def _to_utc(local, offset, zone):
    if offset:
        sign = -1 if offset[0] == "-" else 1
        shift = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
        first = second = local.replace(tzinfo=timezone(sign * shift)) if shift < timedelta(hours=15) else None
    else:
        first, second = (local.replace(tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1))
    try:
        instant = first and first.astimezone(timezone.utc)
        there = instant and offset and shift and instant.astimezone(ZoneInfo(zone)).utcoffset()
    except OverflowError:       # the years 1 and 9999 stand for "no date" in many systems
        instant = None
    if instant is None:
        return None, "BAD_TIME"
    if offset:
        # UTC is a deliberate choice; any other offset than the site's own means that one of the two is wrong.
        return instant, "OTHER_OFFSET" if shift and there != first.utcoffset() else ""
    if first.utcoffset() == second.utcoffset():
        return instant, ""
    # PEP 495: in a gap fold=0 has the smaller offset, in a repeated hour the larger one.
    return instant, "NONEXISTENT_TIME" if first.utcoffset() < second.utcoffset() else "AMBIGUOUS_TIME"
