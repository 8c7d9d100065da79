"""Exports whose columns a map names: `{field: header}` -> a table of the fields, with every doubt as a code, and the proposal of a map."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pandas as pd

from ..site import DATE_ORDERS, OPTIONS, check_options
from ..tables import INSTANT, TableError, nearest
from .account import close_account, list_files, reject, run_over, source_row
from .delimited import read_records
from .times import local_to_utc, parse_time

SAMPLE = 500                # records that a proposal looks at
TIME_WORDS = r"(?:[ _]?(?:date(?:[ _/&]*time)?|time|dt|dttm|datetime|timestamp|at|on))"
_DATE = re.compile(r"(\d{1,4})([-/.])(\d{1,2})\2(\d{1,4})(?:[T ,]+(\d{1,2}):(\d\d)(?::(\d\d)(?:\.\d+)?)?(?: ?([AP])\.?M\.?)?)?\s*", re.I)
_COMPACT = re.compile(r"\d{8}(?:\d{4}(?:\d\d)?)?(?:[+-]\d{4})?")
_CLOCK = re.compile(r"(\d{1,2}):?(\d\d)(?::?(\d\d)(?:\.\d+)?)?(?: ?([AP])\.?M\.?)?", re.I)
_SERIAL = re.compile(r"[2-8]\d{4}(?:\.\d+)?")       # days since 1900, as Excel keeps dates: 1954 to 2119
_GUARDED = re.compile(r'="([^"]*)"')
_SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?E\+?\d{1,2}", re.I)


class Form(NamedTuple):
    """What an export of one kind holds. `section` is that of its map in site.toml, `words` {field: pattern of what headers call it}; `needed`: one of these must be named."""

    section: str
    thing: str
    words: dict
    fields: tuple
    times: frozenset
    span: tuple             # the two of them that should come in this order
    ids: frozenset
    distinct: str           # the field whose values seldom come twice
    needed: tuple
    least_cover: float = 0  # of the header by the words of a time


def check_map(wanted, form):
    """Nothing; TableError when `wanted` is no map for such an export."""
    if not isinstance(wanted, dict):
        raise TableError(f"columns: {{field: header}} is needed, such as {{'{form.needed[0]}': 'its header'}}.")
    for field, header in wanted.items():
        if field and field not in form.fields:
            raise TableError(f"columns: '{field}' is no field of {form.thing}.{nearest(field, form.fields)}")
        if field and not isinstance(header, str) and not (field in form.times and isinstance(header, (list, tuple)) and len(header) == 2):
            raise TableError(f"columns: '{field}' needs one header" + (", or a list of two: of its date and of its time." if field in form.times else "."))
    if not set(wanted) - {*OPTIONS, ""}:
        raise TableError(f"columns: nothing says which column is what; propose_columns(path) makes a map to check, for [{form.section}] in site.toml.")
    check_options(wanted)
    if not {*form.needed} & {*wanted}:
        raise TableError(f"columns: no header is named for {form.needed[0]}, by which {form.thing} is known; add it to the map.")


def read_exports(path, site, wanted, form, worker, executor):
    """`(what worker gives for each file, REJECTED, SOURCES)`; the last two things that `worker` gives of `(file, site, wanted)` are rejected rows and source row."""
    check_map(wanted, form)
    files, rejected = list_files(path)
    parts = list(run_over(worker, [(file, site, wanted) for file in sorted(files)], executor))
    rejected = [*rejected, *(row for *_, refused, _ in parts for row in refused)]
    unlike = [row for row in rejected if row["code"] == "MISSING_COLUMN"]
    if unlike and not any(source["n_rows"] for *_, source in parts):
        raise TableError(f"columns: {unlike[0]['source_file']} has {unlike[0]['reason']}.")
    return parts, *close_account(rejected, [source for *_, source in parts], unit="bytes")


def export_source(file, found, started):
    """The source row of the Records of a file."""
    return source_row(file, n_bytes=found.n_bytes, n_bytes_in_rows=found.n_in_rows, n_bytes_rejected=sum(r["n_bytes"] for r in found.rejected), n_bytes_framing=found.n_framing,
                      n_rows=len(found.rows), n_rejected=len(found.rejected), sha256=found.digest, started=started)


def read_columns(file, wanted, form, zone):
    """`(DataFrame of the fields, Records)` of a file: instants as `field_at`, `problems`, `raw` of what is shown otherwise, `precision`, `source_offset`."""
    found = read_records(file)
    names = unique_names(found.header)
    missing = [name for field, header in wanted.items() if field not in (*OPTIONS, "") for name in _headers(header) if name not in names and name not in found.header]
    if found.header and missing:
        reason = f"no column '{missing[0]}'.{nearest(missing[0], names)} It has: {', '.join(names)}"
        found = found._replace(rows=[], n_in_rows=0, n_framing=0, rejected=[reject(file, 0, found.n_bytes, "MISSING_COLUMN", reason)])
    return _fields(found, names, wanted, form, zone).assign(source_file=file), found


def _headers(header):
    return [header] if isinstance(header, str) else list(header)


def unique_names(header):
    """Header names, those that stand more than once with their number."""
    words = [str(h).strip() for h in header]
    return [f"{word}#{words[:i + 1].count(word)}" if words.count(word) > 1 else word for i, word in enumerate(words)]


def _fields(found, names, wanted, form, zone):
    codes, raw, precision = [list(found.codes) for _ in found.rows], [{} for _ in found.rows], [[] for _ in found.rows]
    table = {"source_offset": [at for at, _ in found.rows]}
    for field, header in wanted.items():
        if field in (*OPTIONS, ""):
            continue
        if any(name not in names for name in _headers(header)):     # it stands twice, and nobody has said which is meant
            for own in codes:
                own.append("DUPLICATE_HEADER")
            continue
        cells = [[row[names.index(name)] for name in _headers(header)] for _, row in found.rows]
        values = [own[0] if len(own) == 1 else _with_clock(*own) for own in cells]
        if field in form.times or field == "patient_birth_date":
            column = f"{field}_at" if field in form.times else field
            parsed = _instants(values, wanted.get("date_order"), zone)
            table[column] = [at for at, _, _ in parsed]
            if column == field:
                table[field] = ["" if at is None else at.astimezone(ZoneInfo(zone)).strftime("%Y%m%d") for at, _, _ in parsed]
            for i, (at, kind, code) in enumerate(parsed):
                codes[i] += [{"BAD_TIME": "BAD_DATE"}.get(code, code) if column == field else code] if code and (at is None or column != field) else []
                if at is None and str(values[i]).strip():
                    raw[i][column] = str(values[i])
                elif at is not None and kind != "second" and column != field:
                    precision[i].append(f"{column}={kind}")
        else:
            cleaned = [_text(value, field in form.ids) for value in values]
            table[field] = [text for text, _ in cleaned]
            for i, (_, code) in enumerate(cleaned):
                codes[i] += [code] if code else []
                if code:
                    raw[i][field] = str(values[i])
    return pd.DataFrame({**table, "problems": [" ".join(dict.fromkeys(c)) for c in codes], "raw": [json.dumps(r, ensure_ascii=False) if r else "" for r in raw],
                         "precision": [" ".join(p) for p in precision]}).astype({c: INSTANT for c in table if c.endswith("_at")}).pipe(_flag_backward, form)


def _flag_backward(table, form):
    """`table` with END_BEFORE_START on rows that end before they start: an exam over midnight with one date, or two clocks."""
    start, end = (f"{field}_at" for field in form.span)
    if start in table and end in table:
        backward = (table[end] < table[start]).to_numpy()
        table["problems"] = [f"{text} END_BEFORE_START".strip() if wrong else text for text, wrong in zip(table["problems"], backward)]
    return table


def _with_clock(date, clock):
    """The text of a date and the time of day that stands in a column of its own."""
    day = f"{date:%Y-%m-%d}" if isinstance(date, datetime) else re.sub(r"[T ]0?0:00(:00(\.0+)?)?$", "", str(date).strip())
    text = f"{clock:%H:%M:%S}" if isinstance(clock, datetime) else re.sub(r"^(1899-12-3[01]|1900-01-0[01])[T ]", "", str(clock).strip())       # day 0 of databases and Excel
    found = _CLOCK.fullmatch(text)
    if not day or not found:
        return f"{day} {text}".strip()
    day = f"{day[:4]}-{day[4:6]}-{day[6:]}" if re.fullmatch(r"\d{8}", day) else day
    hour, minute, second, half = found.groups()
    return f"{day} {':'.join(filter(None, (hour, minute, second)))}" + (f" {half}M" if half else "")


def _text(value, is_id):
    """`(text, problem code)` of a cell: an identifier without what spreadsheets put around it, or empty when its digits are lost."""
    text = str(value)
    if isinstance(value, datetime):
        return value.strftime("%Y%m%d"), ""
    if not is_id:
        return text.strip(), ""
    clean = text.replace("\xa0", " ").strip()
    guarded = _GUARDED.fullmatch(clean)     # ="00123", as exports write what Excel must not take for a number
    clean = guarded[1] if guarded else clean.removeprefix("'").strip()
    if _SCIENTIFIC.fullmatch(clean):
        return "", "EXCEL_NUMBER"
    return clean, "ID_CLEANED" if clean != text and text.strip() else ""


def _instants(values, order, zone):
    """`(instant, precision, problem code)` of each value of a column; one order of day and month holds for all of it."""
    found = [_DATE.fullmatch(v.strip()) if isinstance(v, str) else None for v in values]
    day_first = {"day first": True, "month first": False}.get(order, _is_day_first(found))
    return [_instant(v, f, day_first, zone) for v, f in zip(values, found)]


def _is_day_first(found):
    """Whether the dates that `_DATE` found have the day first, as a first number above 12 shows; None when they do not tell. With dots all have."""
    pairs = [(int(f[1]), int(f[3])) for f in found if f and len(f[1]) <= 2 and len(f[4]) == 4 and f[2] != "."]
    is_day, is_month = any(a > 12 for a, _ in pairs), any(b > 12 for _, b in pairs)
    return is_day if is_day != is_month else None


def _instant(value, found, day_first, zone):
    if isinstance(value, datetime):
        return *local_to_utc(value, zone)[:1], "second", local_to_utc(value, zone)[1]
    text = value.strip()
    if not text:
        return None, "", ""
    if _COMPACT.fullmatch(text):
        return parse_time(text, zone)
    if not found:
        return None, "", "EXCEL_DATE" if _SERIAL.fullmatch(text) else "BAD_TIME"
    first, _, second, third, hour, minute, seconds, half = found.groups()
    if len(first) == 4:
        year, month, day = first, second, third
    elif len(third) != 4:
        return None, "", "TWO_DIGIT_YEAR"
    elif day_first is None and first != second and found[2] != ".":
        return None, "", "DATE_AMBIGUOUS"
    else:
        year, month, day = third, *((second, first) if day_first or found[2] == "." else (first, second))
    hours = int(hour or 0) % 12 + 12 * (half.upper() == "P") if half else int(hour or 0)
    return parse_time(f"{year}{int(month):02}{int(day):02}" + (f"{hours:02}{minute}{seconds or ''}" if hour else ""), zone)


def propose(path, forms, *, write_to=None):
    """DataFrame(field, header, share_filled, evidence) of which column of an export is what, by the one of `forms` that fits best."""
    files, _ = list_files(path)
    found = read_records(sorted(files)[0])
    if not found.header or not all(str(name).isprintable() for name in found.header):
        raise TableError(f"path: {files[0]} holds no table: {found.rejected[0]['reason'] if found.rejected else 'its first line is no header'}.")
    names, rows = unique_names(found.header), [values for _, values in found.rows[:SAMPLE]]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    form, proposal = max(((form, _assign(form, columns)) for form in forms), key=lambda pair: (bool({*pair[0].needed} & {*pair[1]}), len(pair[1])))
    taken = {name for _, header, *_ in proposal.values() for name in _headers(header)}
    timed = {name: _is_day_first([_DATE.fullmatch(v.strip()) for v in columns[name] if isinstance(v, str)])
             for field, header, *_ in proposal.values() if field in (*form.times, "patient_birth_date") for name in _headers(header)}
    orders = {order for order in timed.values() if order is not None}
    if len(orders) == 1:
        proof = next(name for name, order in timed.items() if order is not None)
        proposal["date_order"] = "date_order", DATE_ORDERS[not orders.pop()], None, f"dates of '{proof}' can only be read so; all columns of an export are taken to be alike"
    if not proposal:
        raise TableError(f"path: no header of {files[0]} names a field of an exam in English; it has: {', '.join(names)[:200]}. Write [{form.section}] by hand: {', '.join(form.words)}.")
    rest = [("", name, None, f"not known by this name; if it is needed, give it a field in [{form.section}] by hand") for name in names if name not in taken]
    table = pd.DataFrame([*(proposal[f] for f in (*form.words, *OPTIONS) if f in proposal), *rest], columns=["field", "header", "share_filled", "evidence"])
    if write_to is not None:
        _write(Path(write_to), table, form.section)
    return table


def _assign(form, columns):
    """`{field: (field, header, share filled, evidence)}`, each column given once, the best first."""
    paired = _with_dates(columns)
    scored = sorted(((*_score(form, field, name, values), field, name) for name, (_, values) in paired.items() for field in form.words), key=lambda s: -s[0])
    proposal, taken = {}, set()
    for score, share, evidence, field, name in scored:
        if score > 0 and field not in proposal and name not in taken:
            header = paired[name][0]
            proposal[field] = (field, header, share, evidence + ("; date and time of day stand in two columns" if isinstance(header, list) else ""))
            taken.add(name)
    return proposal


def _with_dates(columns):
    """`columns`, those of times of day together with their date: that of the same name, else the nearest before them, else the only one."""
    is_clock = {name: _looks([v if ":" in str(v) or "time" in _words(name) else "" for v in values], _CLOCK) > 0.5 for name, values in columns.items()}
    dates = [name for name, values in columns.items() if not is_clock[name] and _looks(values, _DATE, _COMPACT) > 0.5
             and not any(_DATE.fullmatch(str(v).strip()) and _DATE.fullmatch(str(v).strip())[5] for v in values if not isinstance(v, datetime))]
    paired, names, used = {}, list(columns), set()
    for at, name in enumerate(names):
        alike = [d for d in dates if _words(d).replace("date", "") == _words(name).replace("time", "")]
        date = next(iter(alike or [d for d in reversed(names[:at]) if d in dates] or (dates if len(dates) == 1 else [])), None)
        if is_clock[name] and date:
            used.add(date)
            paired[name] = [date, name], [_with_clock(*both) for both in zip(columns[date], columns[name], strict=True)]
    return {name: paired.get(name, (name, values)) for name, values in columns.items() if name not in used}


def _words(name):
    return re.sub(r"#\d+$", "", name).casefold().replace("_", " ").strip()


def _looks(values, *patterns):
    """The share of the filled values that are dates or match a pattern."""
    filled = [v for v in values if isinstance(v, datetime) or str(v).strip()]
    return sum(isinstance(v, datetime) or any(p.fullmatch(str(v).strip()) for p in patterns) for v in filled) / len(filled) if filled else 0


def _score(form, field, name, values):
    """`(score, share of filled values, evidence)` of a column as a field; score 0 when its header or its values say otherwise."""
    is_time = field in form.times
    words = _words(name)
    hit = re.fullmatch(rf"(?:{form.words[field]}){TIME_WORDS + '*' if is_time else ''}", words) or re.search(rf"\b(?:{form.words[field]})\b", words)
    filled = [v for v in values if isinstance(v, datetime) or str(v).strip()]
    share = len(filled) / len(values) if values else 0.0
    looks = _looks(values, _DATE, _COMPACT, _SERIAL)
    covers = len(hit.group()) / len(words) if hit else 0
    if not is_time and field != "patient_birth_date" and re.search(rf"[ ]{TIME_WORDS.replace('[ _]?', '')}$", words):
        return 0, share, ""     # an order's time is no order
    if covers < (form.least_cover if is_time else 0.5) or not hit or filled and is_time != (looks > 0.5) and field not in (*form.ids, "patient_birth_date"):
        return 0, share, ""
    distinct = len(set(map(str, filled))) / len(filled) if filled else 0
    if field == form.distinct and distinct < 0.5:
        return 0, share, ""
    evidence = f"the header says so; {share:.0%} filled, " + (f"{looks:.0%} look like times" if is_time else f"{distinct:.0%} of them distinct")
    return covers + 0.1 * share + 0.1 * (distinct if field == form.distinct else 0), share, evidence


def _write(site_file, table, section):
    if not site_file.is_file():
        raise TableError(f"write_to: no file '{site_file}'. `python3 workbook.py new NAME` makes a site.toml to fill in.")
    text = site_file.read_text(encoding="utf-8")
    if re.search(rf"(?m)^\s*\[{section}\]", text):
        raise TableError(f"write_to: {site_file} has a [{section}] table; change it there or take it out first.")
    lines = "".join(f"{field} = {json.dumps(header, ensure_ascii=False)}\n" for field, header in zip(table["field"], table["header"]) if field)
    heading = f"[{section}]".ljust(32) + "# which column of the export is what; check each"
    site_file.write_text(f"{text.rstrip()}\n\n{heading}\n{lines}", encoding="utf-8", newline="\n")
