"""Lines of logs in bulk: blocks cut between lines, runs of lines that say nothing of an association, envelopes of syslog and journals."""

import json
import re
from itertools import islice
from types import SimpleNamespace

from .associations import mark_open
from .logclock import see_stamp

HEAD_BYTES = 1 << 21        # what the layout of a log is known by
LONGEST_LINE = 16 << 20
RECENT = 300                # lines looked back for a repeat, and at most that many in a run
REPEATS_ARE_COPIES = ("zoned", "no_year")       # clocks so fine that a line never repeats by itself
_REST = r"[^\x00-\x08\x0a-\x1f]*\r?\n"
_CLOCKS = r":\d\d:\d\d"
ENVELOPES = tuple((kind, re.compile(pattern)) for kind, pattern in (
    ("zoned", r"(?:<\d{1,3}>)1 (?P<stamp>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)) \S+ (?P<program>\S+) (?P<pid>\S+) \S+ "
              r"(?:-|(?:\[(?:[^\]\\]|\\.)*\])+)(?: \ufeff?(?P<text>.*))?"),
    *((kind, r"(?:<\d{1,3}>)?(?:\d )?(?P<stamp>" + stamp + r") \S+ (?P<program>[^\s:\[\]]+)(?:\[(?P<pid>\d+)\])?: ?(?P<text>.*)")
      for kind, stamp in (("zoned", r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)"), ("no_year", r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"))),
))
JSON_NAMES = {      # of journald, of rsyslog and of syslog-ng; the first that is there
    "text": ("MESSAGE", "message", "msg"), "program": ("SYSLOG_IDENTIFIER", "_COMM", "programname", "app-name", "PROGRAM", "syslogtag"),
    "pid": ("_PID", "SYSLOG_PID", "procid", "PID"), "stamp": ("__REALTIME_TIMESTAMP", "@timestamp", "timestamp", "timereported", "DATE", "time"),
}


def whole_lines(blocks):
    """Yields what `blocks` hold, cut behind line ends; the first piece holds all the layout is known by."""
    rest, least = bytearray(), HEAD_BYTES
    for block in blocks:
        rest += block
        if len(rest) < least:
            continue
        cut = rest.rfind(b"\n") + 1 or rest.rfind(b"\r", 0, -1) + 1 or (len(rest) if len(rest) >= LONGEST_LINE else 0)
        if cut:
            yield bytes(rest[:cut])
            del rest[:cut]
            least = 0
    if rest:
        yield bytes(rest)


STAMPED = r"\W{0,2}(?:\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d)"


def compile_run(pattern, events, more):
    """What matches lines that say nothing, one after another; None where it would not pay.

    Either lines of a layout, all of the same second, that no event begins, or lines without prefix that `more` does not begin.
    """
    head, _, rest = pattern.partition("(?P<text>")
    if events is None or rest != ".*)":
        return None
    found = re.search(r"\(\?P<stamp>(.*?" + re.escape(_CLOCKS) + r")((?:\(\?:.*?\)\?|[^()])*)\)", head)
    first = again = head
    if found:
        first = head.replace(found[0], f"(?P<first>(?P<second>{found[1]}){found[2]})")
        again = head.replace(found[0], f"(?P<last>(?P=second){found[2]})")
    first, again = (re.sub(r"\(\?P<who>", "(?:", part) for part in (first, again))
    silent = re.sub(r"(?<!\\)\((?!\?)", "(?:", _nameless(events.pattern))
    quiet = f"(?!{silent}){_REST}"
    source = (f"(?m)(?={_REST})(?>{first}){quiet}(?:(?={_REST})(?>{again}){quiet}){{0,{RECENT}}}+|(?P<more>(?:(?!{_nameless(head)})(?!{STAMPED})"
              f"(?!{_nameless(more)}){_REST}){{1,{RECENT}}}+)")
    for old, new in ((r"(?<!\\)\$", r"\\r?$"), (r"\[\^(?!\\x00)", r"[^\\n"), (r"\\W", r"[^\\w\\n]")):     # one line at a time, whatever its end
        source = re.sub(old, new, source)
    return re.compile(source.encode())


def compile_events(patterns):
    """One pattern for the text of lines: `lastindex` of its match says which of `patterns` fits first, counted from 1."""
    return re.compile("|".join(f"({_nameless(pattern.pattern)})" for pattern in patterns))


def _nameless(pattern):
    return re.sub(r"\(\?P<[^>]+>", "(?:", pattern)


def skip_run(stream, run):
    """Where the bytes of a run belong, which the clock has seen; "" when its lines must be looked at one by one."""
    if run["more"]:
        return stream.last
    if stream.layout.kind in REPEATS_ARE_COPIES:
        lines = dict.fromkeys(run[0].decode("utf-8", "replace").replace("\r\n", "\n").split("\n")[:-1])
        if len(lines) != run[0].count(b"\n") or not stream.recent.keys().isdisjoint(lines):
            return ""
        stream.recent.update(lines)
        for line in list(islice(stream.recent, max(0, len(stream.recent) - RECENT))):
            del stream.recent[line]
    for stamp in run.group("first", "last") if "first" in run.re.groupindex else ():
        if stamp:
            see_stamp(stream.clock, stamp.decode())
            if stream.clock.is_back:
                mark_open(stream.record, "TIME_GOES_BACK")
    stream.layout.dialect.follow_line(stream.record, "", "", None)
    stream.last = "framing"
    return stream.last


def open_envelope(line):
    """What a line of syslog (RFC 3164, RFC 3339 stamps, RFC 5424) or a journal's JSON holds: kind of clock, stamp, program, pid, text; or None."""
    if line.startswith("{"):
        return _open_json(line)
    for kind, pattern in ENVELOPES:
        if found := pattern.match(line):
            pid = found["pid"] or ""
            return SimpleNamespace(kind=kind, stamp=found["stamp"], program=found["program"], pid="" if pid == "-" else pid, text=found["text"] or "")
    return None


def _open_json(line):
    try:
        cells = json.loads(line)
    except (ValueError, RecursionError):
        return None
    told = {name: next((cells[n] for n in names if n in cells), "") for name, names in JSON_NAMES.items()}
    if isinstance(told["text"], list) and all(isinstance(b, int) and 0 <= b < 256 for b in told["text"]):     # how journald writes bytes
        told["text"] = bytes(told["text"]).decode("utf-8", "replace")
    if not (told["text"] and told["stamp"] and all(isinstance(value, str) for value in told.values())):
        return None
    stamp, kind = told["stamp"], "zoned"
    if re.fullmatch(r"[0-9]{16}", stamp):
        stamp, kind = f"{stamp[:10]}.{stamp[10:]}", "epoch"
    elif not re.match(r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)$", stamp):
        return None
    return SimpleNamespace(**told | {"kind": kind, "stamp": stamp, "program": told["program"].rstrip(":").partition("[")[0],
                                     "pid": told["pid"].strip("-")})
