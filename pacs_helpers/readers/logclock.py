"""The instant of a log's stamp, which may lack its year, its date or its zone."""

import re
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

from ..site import DATE_ORDERS
from ..tables import TableError
from .times import local_to_utc

MICROSECOND = timedelta(microseconds=1)
STEP = timedelta(seconds=1)             # lines of several threads are out of order by less
HALF_DAY, HALF_YEAR = timedelta(hours=12), timedelta(days=183)
STRAGGLE = timedelta(seconds=10)        # how late a line of the old day or year may come
ISO_DATE, SLASHED_DATE = r"\d{4}-\d\d-\d\d ", r"\d{1,2}[/.]\d{1,2}[/.]\d\d(?:\d\d)?,? "
_SLASHED = re.compile(r"(\d{1,2})[/.](\d{1,2})[/.](?:20)?(\d\d),? (.*)")
_SCALES = {len("SS") + n + (n > 0): 10 ** (6 - n) for n in range(7)}     # microseconds of the last digit of a stamp's seconds, by their length
_MONTHS = {name: i for i, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_SYSLOG = re.compile(r"([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)()$")
_GLOG = re.compile(r"(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6})$")
_CLOCK = re.compile(r"(\d\d):(\d\d):(\d\d)(?:[.,](\d{3}))?$")


def new_clock(kind, zone, *, year, start_date, date_order, modified_at):
    """The state of one program's clock. `kind`: "dated", "zoned", "epoch", "no_year", "no_date" or "none".

    `year` or `start_date` are of the first line; without a year it is the latest that is not after `modified_at`, when the file was last
    written. A clock without date rolls over at midnight, one without year at New Year.
    """
    return SimpleNamespace(kind=kind, zone=zone, year=year, day=start_date, date_order=date_order, modified_at=modified_at, raw="", is_back=False,
                           seen="", minute="", begin=None, instant=None, problem="", passed=0)


def see_stamp(clock, text):
    """Nothing; keeps the clock's date up to the line. `clock.is_back` is set when it fell by more than a second."""
    clock.is_back = False
    if clock.kind in ("none", "zoned", "epoch") or text == clock.raw:
        return
    clock.raw = text
    minute, _, second = text.rpartition(":")
    if minute != clock.minute or second >= "60":
        _begin_minute(clock, text, minute)
        return
    passed = int(second[:2] + second[3:]) * _SCALES[len(second)]
    clock.is_back, clock.passed, clock.seen = clock.passed - passed > 1_000_000, passed, text


def _begin_minute(clock, text, minute):
    """Nothing; sets the clock by a line of another minute than the line before, unless it is no time, or of a day that is over."""
    now, last = _local(clock, text), _last(clock)
    fall = last - now if last and now else timedelta(0)
    clock.is_back = fall > STEP
    if clock.kind == "no_date" and fall > HALF_DAY:
        clock.day, now, clock.is_back = clock.day + timedelta(days=1), now + timedelta(days=1), False
    elif clock.kind == "no_year" and fall > HALF_YEAR:
        clock.year, clock.is_back = clock.year + 1, False
        now = _local(clock, text) or now
    elif now is None or _late(clock, now):
        return
    begin = now.replace(second=0, microsecond=0)
    clock.minute, clock.begin, clock.passed, clock.seen = minute, begin, (now - begin) // MICROSECOND, text
    clock.instant, clock.problem = local_to_utc(begin, clock.zone)


def _last(clock):
    return clock.begin and clock.begin + clock.passed * MICROSECOND


def stamp_instant(clock, text):
    """`(instant in UTC, problem code)` of a stamp `see_stamp` has seen: `(None, "")` without a clock, BAD_TIME for an impossible one."""
    if clock.kind == "none" or not text:
        return None, ""
    if text == clock.seen:
        return clock.instant and clock.instant + clock.passed * MICROSECOND, clock.problem
    if clock.kind == "epoch":
        seconds, _, part = text.partition(".")
        return datetime.fromtimestamp(int(seconds), UTC).replace(microsecond=int(f"{part[:6]:0<6}")), ""
    if clock.kind == "zoned":
        try:
            return datetime.fromisoformat(text), ""
        except ValueError:
            return None, "BAD_TIME"
    now = _local(clock, text)
    return local_to_utc(_late(clock, now) or now, clock.zone) if now else (None, "BAD_TIME")


def zoned_instants(stamps):
    """`stamp_instant` of many stamps with offset: `(instants, problem codes)`."""
    try:
        return [*map(datetime.fromisoformat, stamps)], [""] * len(stamps)
    except ValueError:
        clock = SimpleNamespace(kind="zoned", seen="")
        return map(list, zip(*[stamp_instant(clock, stamp) for stamp in stamps], strict=True))


def _late(clock, now):
    """The right time of a line that belongs before the midnight or New Year that another line has crossed already."""
    last = _last(clock)
    if not last or now <= last or clock.kind == "dated" or (clock.kind == "no_year" and now.month < 12):
        return None
    earlier = now - timedelta(days=1) if clock.kind == "no_date" else now.replace(year=now.year - 1)
    return earlier if abs(last - earlier) <= STRAGGLE else None


def _local(clock, text):
    try:
        if clock.kind == "dated":
            return datetime.fromisoformat(_iso(text, clock.date_order).replace(",", "."))
        if clock.kind == "no_date":
            *parts, milli = map(int, _CLOCK.match(text).groups("0"))
            return datetime(clock.day.year, clock.day.month, clock.day.day, *parts, milli * 1000)
        found = _GLOG.match(text) or _SYSLOG.match(text)
        month, *rest, micro = found.groups()
        parts = (int(_MONTHS.get(month, month)), *map(int, rest), int(micro or 0))
        if clock.year is None:
            clock.year = _latest_year(parts, clock)
        return datetime(clock.year, *parts)
    except (ValueError, TypeError, AttributeError):
        return None


def _iso(stamp, date_order):
    if not (found := _SLASHED.match(stamp)):
        return stamp
    first, second, year, clock = found.groups()
    month, day = (second, first) if date_order == DATE_ORDERS[0] else (first, second)
    return f"20{year}-{month:0>2}-{day:0>2} {clock}"


def _latest_year(parts, clock):
    written = clock.modified_at.astimezone(ZoneInfo(clock.zone)).replace(tzinfo=None)
    for year in range(written.year, written.year - 9, -1):
        try:
            if datetime(year, *parts) <= written + timedelta(days=1):
                return year
        except ValueError:
            continue
    return None


def check_year(year):
    """The year, or None; TableError when it is not a year of four digits."""
    if year is None:
        return None
    if isinstance(year, bool) or not isinstance(year, int) or not 1980 <= year <= 9998:
        raise TableError(f"year: {year!r} is not a year such as 2026; it is the year of the first line of each log.")
    return year


def check_date(start_date):
    """The date, or None, from a date or `YYYY-MM-DD`; TableError for anything else."""
    if start_date is None:
        return None
    if isinstance(start_date, date):
        return date(start_date.year, start_date.month, start_date.day)
    try:
        return date.fromisoformat(start_date)
    except (TypeError, ValueError):
        raise TableError(f"start_date: {start_date!r} is not a date such as '2026-11-24', the day of the first line of each log.") from None
