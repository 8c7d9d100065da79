"""Lines of logs in bulk: pieces cut between lines, which lines are worth a look, envelopes of syslog and journals."""

import json
import re
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PIECE_BYTES = 1 << 21       # read at a time; what the layout of a log is known by
LONGEST_LINE = 16 << 20
RECENT = 300                # lines looked back for a repeat
REPEATS_ARE_COPIES = ("zoned", "no_year")       # clocks so fine that a line never repeats by itself
CONTROLS = bytes(b for b in range(32) if b not in b"\t\n\r\x1b")
REASONS = {
    "DUPLICATE_LINE": "the same lines stand before, as rotation leaves them; read once",
    "LINE_TOO_LONG": f"a line of more than {LONGEST_LINE >> 20} MB; ask for the log again if it should be whole here",
    "PARTIAL_LINE": "the last line has no end, it is being written; it is read when the log is loaded again",
    "NOT_TEXT": "bytes that are not text; ask for the log again if it should be whole here",
    "UNKNOWN_FORMAT": "lines that are not in the layout of the rest of this log",
    "OTHER_PROGRAM": "lines of a program that is not read here; leave them out or load them with another reader",
}
VERDICTS = ("rows", "framing", *REASONS)
AS_ABOVE = -1               # the verdict of a line without prefix is that of the line it belongs to
STAMPED = r"\W{0,2}(?:\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d)"
_SECONDS = {"dated": (0, len("2026-11-24 03:00:00")), "no_year": (len("I"), len("1124 03:00:00")), "no_date": (0, len("03:00:00"))}
ENVELOPES = tuple((kind, re.compile(pattern)) for kind, pattern in (
    ("zoned", r"(?:<\d{1,3}>)1 (?P<stamp>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)) \S+ (?P<program>\S+) (?P<pid>\S+) \S+ "
              r"(?:-|(?:\[(?:[^\]\\]|\\.)*\])+)(?: \ufeff?(?P<text>.*))?"),
    *((kind, r"(?:<\d{1,3}>)?(?:\d )?(?P<stamp>" + stamp + r") \S+ (?P<program>[^\s:\[\]]+)(?:\[(?P<pid>\d+)\])?: ?(?P<text>.*)")
      for kind, stamp in (("zoned", r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)"), ("no_year", r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"))),
))
_PLAIN_ENVELOPE = re.compile(       # one match a line, with the groups of `open_envelope` when it is ASCII up to the text
    r"(?m)^(?:(?:<\d{1,3}>)?(?:(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))|([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)) [!-~]+ "
    r"([!-9;-Z^-~]+)(?:\[(\d+)\])?: ?(.*)|.*)$", re.ASCII)
NO_ENVELOPE = ("",) * 5
JSON_NAMES = {      # of journald, of rsyslog and of syslog-ng; the first that is there
    "text": ("MESSAGE", "message", "msg"), "program": ("SYSLOG_IDENTIFIER", "_COMM", "programname", "app-name", "PROGRAM", "syslogtag"),
    "pid": ("_PID", "SYSLOG_PID", "procid", "PID"), "stamp": ("__REALTIME_TIMESTAMP", "@timestamp", "timestamp", "timereported", "DATE", "time"),
}


def compile_layout(dialect, name, kind, pattern, *signs):
    """How lines begin that hold the EVENTS of a dialect, of a row of its LAYOUTS: `kind` is that of the clock.

    A file is in the first layout whose `signs` it begins with. `line` has groups `stamp`, `who` and, where the text begins, `body`; `event` is for
    the text only. `events` tells by the last group of either which handler takes what. `head`, `said`, `more` and `plain` are for RE2: a line of
    the layout, one that says something, one without prefix that may, one of the many that `follow_plain` takes at once.
    """
    head, _, rest = pattern.partition("(?P<text>")
    begin, is_whole = f"(?>{head})(?P<body>)", "" if rest == ".*)" else f"(?={rest}"
    said, events, places = [], {}, re.compile(begin + is_whole).groupindex
    n = len(places)
    for handler, event in dialect.EVENTS:
        names = re.findall(r"\(\?P<(\w+)>", event)
        said.append(f"(?:{re.sub(r'[(][?]P<[^>]+>', '(', event)})()")
        events[n + len(names) + 1] = handler, tuple(enumerate(names, n + 1)) if handler else (n + 1, n + 2)
        n += len(names) + 1
    text = f"{is_whole}(?:{'|'.join(said)}|)"
    whole = _for_re2(head if rest == ".*)" else f"{head}(?:{rest}")
    plain, follow_plain = getattr(dialect, "PLAIN", {}).get(name, (None, None))
    return SimpleNamespace(
        dialect=dialect, name=name, kind=kind, signs=signs or (f"(?m){whole}",), line=re.compile(begin + text, re.ASCII), event=re.compile("()" * re.compile(begin).groups + text, re.ASCII),
        body=places["body"], stamp=places.get("stamp"), who=places.get("who"), events=events, head=whole, said=_for_re2(f"{head}(?:{'|'.join(said)})"),
        more=dialect.MORE and _for_re2(dialect.MORE.pattern), plain=plain, follow_plain=follow_plain)


def _for_re2(pattern):
    """The pattern as RE2 takes it, of which a line holds its end."""
    return "^" + re.sub(r"(?<!\\)\$(?=[)|]|$)", r"[\\r\\n]*$", re.sub(r"\(\?P<[^>]+>", "(?:", pattern))


def whole_lines(blocks):
    """Yields what `blocks` hold, cut behind line ends; the first piece holds all the layout is known by."""
    rest = bytearray()
    for block in blocks:
        rest += block
        if len(rest) < PIECE_BYTES:
            continue
        cut = rest.rfind(b"\n") + 1 or rest.rfind(b"\r", 0, -1) + 1 or (len(rest) if len(rest) >= LONGEST_LINE else 0)
        if cut:
            yield bytes(rest[:cut])
            del rest[:cut]
    if rest:
        yield bytes(rest)


def holds(data, pattern):
    return pc.match_substring_regex(pa.array([data], pa.binary()), pattern)[0].as_py()


def is_text(line):
    return len(line.translate(None, CONTROLS)) * 10 >= len(line) * 9


def line_ends(data):
    """Where the lines of `data` end: behind LF, CR LF and CR. What has no end is left out."""
    text = np.frombuffer(data, np.uint8)
    is_end = text == ord("\n")
    if b"\r" in data and data.count(b"\r") > data.count(b"\r\n"):
        is_end |= (text == ord("\r")) & (np.append(text[1:], 0) != ord("\n"))
    return np.flatnonzero(is_end) + 1


def text_ends(data, starts):
    """Where the text of the lines between `starts` ends: before LF, CR LF or CR."""
    text, ends = np.frombuffer(data, np.uint8), starts[1:] - 1
    return ends - ((text[ends] == ord("\n")) & (text[ends - 1] == ord("\r")) & (ends > starts[:-1]))


def last_lines(tail, data):
    """The RECENT last lines of a file, of which `tail` are those before `data`."""
    n_before = len(data.rsplit(b"\n", RECENT + 1)[0]) if data.count(b"\n") > RECENT else 0
    return (tail + data[n_before:].splitlines(keepends=True))[-RECENT:]


def n_repeated(tail, data):
    """How many bytes at the start are lines that stand at the end of the file before, too."""
    lines = data.splitlines(keepends=True)[:RECENT]
    return sum(map(len, next((lines[:n] for n in range(min(len(tail), len(lines)), 0, -1) if tail[-n:] == lines[:n]), [])))


def noisy_lines(data, offsets):
    """The numbers of the lines that are not text."""
    if len(data.translate(None, CONTROLS)) == len(data):
        return []
    return [number for number, (start, end) in enumerate(pairwise(offsets.tolist())) if not is_text(data[start:end])]


def sort_lines(layout, data, offsets, recent, noise):
    """`(verdicts, whether each line is to be looked at, whether it is in the layout, which are plain)` of lines between `offsets`; VERDICTS by number.

    `noise` are numbers of lines that are not text. To look at are lines that say something, and those the clock goes by: at the ends, where it steps back, where an hour or a month begins.
    """
    lines = pa.BinaryArray.from_buffers(pa.binary(), len(offsets) - 1, [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)])
    is_plain = hits(lines, layout.plain) if layout.plain else np.zeros(len(lines), bool)
    is_head, is_more = is_plain | _hits_where(~is_plain, lines, layout.head), np.zeros(len(lines), bool)
    verdicts = np.where(is_head, VERDICTS.index("framing"), AS_ABOVE)
    if not is_head.all():
        verdicts[_hits_where(~is_head, lines, "^" + STAMPED)] = VERDICTS.index("UNKNOWN_FORMAT")
        if layout.more:
            is_more = _hits_where(~is_head, lines, layout.more)
    is_head[noise], is_more[noise], verdicts[noise] = False, False, VERDICTS.index("NOT_TEXT")
    if layout.kind in REPEATS_ARE_COPIES:
        heads = lines.filter(pa.array(is_head)).to_numpy(zero_copy_only=False).tolist()
        repeats = np.flatnonzero(is_head)[find_repeats(recent, [line.rstrip(b"\r\n") for line in heads] if b"\r" in data else heads)]
        is_head[repeats], verdicts[repeats] = False, VERDICTS.index("DUPLICATE_LINE")
    is_plain &= is_head
    verdicts[is_plain] = VERDICTS.index("rows")
    is_looked_at = is_more | (is_head if is_plain.any() else is_head & hits(lines, layout.said))
    is_looked_at[_clock_lines(layout, data, offsets, np.flatnonzero(is_head))] = True
    return verdicts, is_looked_at & ~is_plain, is_head, np.flatnonzero(is_plain)


def settle_verdicts(verdicts, looked_at, told, is_head, last):
    """`(verdicts, that of the last line)` once lines were looked at; `told` are theirs other than rows by number, "" like the line above, `last` is that above all."""
    numbers = {verdict: number for number, verdict in enumerate(VERDICTS)} | {"": AS_ABOVE}
    verdicts[looked_at] = VERDICTS.index("rows")
    verdicts[[*told]] = [numbers[verdict] for verdict in told.values()]
    is_above = is_head | (verdicts == VERDICTS.index("UNKNOWN_FORMAT"))
    is_above[looked_at] = verdicts[looked_at] != AS_ABOVE
    above = np.maximum.accumulate(np.where(is_above, np.arange(1, len(verdicts) + 1), 0))
    settled = np.append(VERDICTS.index(last), verdicts)[above]
    return np.where(verdicts == AS_ABOVE, settled, verdicts), VERDICTS[settled[-1]]


def hits(lines, pattern):
    return pc.match_substring_regex(lines, pattern).to_numpy(zero_copy_only=False)


def _hits_where(mask, lines, pattern):
    """`hits`, only looked for in lines of the mask."""
    if mask.all():
        return hits(lines, pattern)
    mask[mask] = hits(lines.filter(pa.array(mask)), pattern)
    return mask


def _clock_lines(layout, data, offsets, heads):
    place, width = _SECONDS.get(layout.kind, (0, 0)) if len(heads) else (0, 0)
    if not width:
        return heads[:0]
    seconds = np.ndarray(len(data) - width + 1, f"S{width}", data, strides=(1,))[offsets[heads] + place]
    steps = np.flatnonzero((seconds[1:] < seconds[:-1]) | (seconds[1:].astype("S2") != seconds[:-1].astype("S2")))
    return heads[np.concatenate(([0, -1], steps, steps + 1))]


def find_repeats(recent, lines):
    """The numbers of the lines that stand among the RECENT before them, too; `recent` are those, and is brought up to date."""
    if len(known := set(lines)) == len(lines) and known.isdisjoint(recent):
        recent |= dict.fromkeys(lines[-RECENT:])
        for line in [*recent][:-RECENT]:
            del recent[line]
        return []
    repeats = []
    for number, line in enumerate(lines):
        if line in recent:
            repeats.append(number)
            continue
        recent[line] = None
        if len(recent) > RECENT:
            del recent[next(iter(recent))]
    return repeats


def open_envelopes(data, offsets):
    """`open_envelope` of each line between `offsets`, NO_ENVELOPE for None."""
    text = data[:offsets[-1]].decode("utf-8", "replace").encode().decode("latin-1")
    outers = [NO_ENVELOPE] * (len(offsets) - 1) if "\r" in text else _PLAIN_ENVELOPE.findall(text)[:len(offsets) - 1]
    for number in [number for number, outer in enumerate(outers) if not (outer[0] or outer[1])]:
        outers[number] = open_envelope(data[offsets[number]:offsets[number + 1]]) or NO_ENVELOPE
    return outers


def open_envelope(line):
    """What a line of syslog (RFC 3164, RFC 3339 stamps, RFC 5424) or a journal's JSON holds, or None.

    `(stamp with date and zone, or stamp without year, program, pid, text)`; bytes of the text that are not ASCII are as in Latin-1.
    """
    line = line.decode("utf-8", "replace").rstrip("\r\n").removeprefix("\ufeff")
    if line.startswith("{"):
        return _open_json(line)
    for kind, pattern in ENVELOPES:
        if found := pattern.match(line):
            pid, stamps = found["pid"] or "", (found["stamp"], "") if kind == "zoned" else ("", found["stamp"])
            return *stamps, found["program"], "" if pid == "-" else pid, (found["text"] or "").encode().decode("latin-1")
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
    stamp = told["stamp"]
    if re.fullmatch(r"[0-9]{16}", stamp):
        stamp = f"{stamp[:10]}.{stamp[10:]}"
    elif not re.match(r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)$", stamp):
        return None
    return stamp, "", told["program"].rstrip(":").partition("[")[0], told["pid"].strip("-"), told["text"].encode("utf-8", "replace").decode("latin-1")
