"""RIS exports, CSV or Excel, by a map of their columns -> one row per exam with the milestones that the RIS knows."""

import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pandas as pd

from ..site import DATE_ORDERS, RIS_FIELDS, require_site
from ..tables import EXAMS, INSTANT, TableError, conform, nearest
from .account import close_account, list_files, reject, run_over, source_row
from .delimited import read_records
from .times import local_to_utc, parse_time

SAMPLE = 500                # records that a proposal looks at
_IDS = ("accession_number", "patient_id", "placer_order_number", "filler_order_number", "study_instance_uid")
_WORDS = {      # what headers call a field
    "accession_number": r"acc(?:ession)?(?:[ _]?(?:number|no|nr|num|#))?|exam (?:number|id)",
    "patient_id": r"mrn|(?:patient|pat|pt)[ _]?(?:id|number|no|nr)|medical record (?:number|no)", "patient_name": r"(?:patient|pat|pt)?[ _]?name",
    "patient_birth_date": r"dob|birth[ _]?date|date of birth", "patient_sex": r"sex|gender", "modality": r"modality|mod",
    "procedure_code": r"(?:procedure|exam|proc)[ _]?code|cpt", "procedure_name": r"(?:procedure|exam|study|proc)(?:[ _]?(?:name|description|desc))?",
    "patient_class": r"(?:patient|pt)[ _]?(?:class|type|status)|in.?/?out.?patient", "priority": r"priority|urgency|stat",
    "section": r"section|department|dept|location|site",
    "placer_order_number": r"(?:placer[ _]?)?order(?:[ _]?(?:number|no|id))?|placer(?:[ _]?(?:number|no))?",
    "filler_order_number": r"filler(?:[ _]?(?:order[ _]?)?(?:number|no))?", "study_instance_uid": r"study[ _]?(?:instance[ _]?)?uid",
    "result_status": r"(?:report|result|exam)?[ _]?status", "principal_interpreter": r"radiologist|reading (?:physician|doctor)|reader|interpret\w+",
    "ordered": r"order(?:ed|ing)?(?: created| entered)?", "scheduled": r"sched(?:uled|ule)?|appointment|appt",
    "arrived": r"arriv(?:ed|al)|check(?:ed)?[ -]?in", "exam_started": r"(?:exam )?(?:begin|began|start(?:ed)?)(?: exam)?",
    "exam_ended": r"(?:exam )?(?:end(?:ed)?|complet(?:e|ed|ion)|finish(?:ed)?)(?: exam)?",
    "images_available": r"images? (?:available|received)|availability", "opened": r"opened|read(?:ing)? start(?:ed)?",
    "dictated": r"dictat(?:ed|ion)", "preliminary": r"prelim(?:inary)?", "final": r"final(?:i[sz]ed)?|sign(?:ed)?|verif(?:ied|y)|approved",
    "addended": r"addend(?:ed|um)", "delivered": r"deliver(?:ed|y)|sent", "cancelled": r"cancel(?:l?ed)?",
}
_TIME_WORDS = r"(?:[ _]?(?:date(?:[ _/&]*time)?|time|dt|dttm|datetime|timestamp|at|on))"
_DATE = re.compile(r"(\d{1,4})([-/.])(\d{1,2})\2(\d{1,4})(?:[T ,]+(\d{1,2}):(\d\d)(?::(\d\d)(?:\.\d+)?)?(?: ?([AP])\.?M\.?)?)?\s*", re.I)
_COMPACT = re.compile(r"\d{8}(?:\d{4}(?:\d\d)?)?(?:[+-]\d{4})?")
_SERIAL = re.compile(r"[2-8]\d{4}(?:\.\d+)?")       # days since 1900, as Excel keeps dates: 1954 to 2119
_GUARDED = re.compile(r'="([^"]*)"')
_SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?E\+?\d{1,2}", re.I)


class RisExport(NamedTuple):
    exams: pd.DataFrame
    rejected: pd.DataFrame
    sources: pd.DataFrame


def read_ris_export(path, *, site, columns=None, executor=None):
    """RisExport(exams, rejected, sources) of the CSV and Excel exports at `path`: a file, a folder or a list.

    `columns` is {field: header}, else that of [ris] in site.toml; propose_columns makes one. Fields are those of EXAMS, milestones without `_at`; a header
    that stands twice is named `MRN#1` and `MRN#2`. Identifiers are text; what Excel has rounded is kept in `raw` only, and so is a date of which day and
    month cannot be told apart until `date_order` ("day first" or "month first") says so. A line whose fields do not fit the header is rejected, never shifted.
    """
    require_site(site)
    wanted = site.ris if columns is None else columns
    _check(wanted)
    files, rejected = list_files(path)
    tables, sources = [], []
    for table, refused, source in run_over(read_file, [(file, site, wanted) for file in sorted(files)], executor):
        tables.append(table)
        rejected += refused
        sources.append(source)
    unlike = [r for r in rejected if r["code"] == "MISSING_COLUMN"]
    if unlike and not any(map(len, tables)):
        raise TableError(f"columns: {unlike[0]['source_file']} has {unlike[0]['reason']}.")
    rejected, sources = close_account(rejected, sources, unit="bytes")
    return RisExport(conform(pd.concat(tables, ignore_index=True) if tables else [], EXAMS), rejected, sources)


def _check(wanted):
    if not isinstance(wanted, dict):
        raise TableError("columns: {field: header} is needed, such as {'accession_number': 'Acc. No.'}.")
    for field in wanted:
        if field not in RIS_FIELDS:
            raise TableError(f"columns: '{field}' is no field of an exam.{nearest(field, RIS_FIELDS)}")
    if not set(wanted) - {"date_order"}:
        raise TableError("columns: nothing says which column is what; propose_columns(path) makes a map to check, for [ris] in site.toml.")
    if wanted.get("date_order", DATE_ORDERS[0]) not in DATE_ORDERS:
        raise TableError(f"columns: date_order '{wanted['date_order']}' is not one of {', '.join(DATE_ORDERS)}.")
    if not {"accession_number", "study_instance_uid"} & {*wanted}:
        raise TableError("columns: no header is named for accession_number, by which exams are known; add it to the map.")


def read_file(unit):
    """`(EXAMS table, rejected rows, source row)` of `(file, site, columns)`."""
    file, site, wanted = unit
    started = time.perf_counter()
    found = read_records(file)
    names = _unique(found.header)
    missing = [header for field, header in wanted.items() if field != "date_order" and header not in names and header not in found.header]
    if found.header and missing:
        reason = f"no column '{missing[0]}'.{nearest(missing[0], names)} It has: {', '.join(names)}"
        found = found._replace(rows=[], n_in_rows=0, n_framing=0, rejected=[reject(file, 0, found.n_bytes, "MISSING_COLUMN", reason)])
    table = _exams(found, names, wanted, site.time_zone)
    table["source_file"] = file
    return conform(table, EXAMS), found.rejected, source_row(
        file, n_bytes=found.n_bytes, n_bytes_in_rows=found.n_in_rows, n_bytes_rejected=sum(r["n_bytes"] for r in found.rejected), n_bytes_framing=found.n_framing,
        n_rows=len(found.rows), n_rejected=len(found.rejected), sha256=found.digest, started=started)


def _unique(header):
    """Header names, those that stand more than once with their number."""
    words = [str(h).strip() for h in header]
    return [f"{word}#{words[:i + 1].count(word)}" if words.count(word) > 1 else word for i, word in enumerate(words)]


def _exams(found, names, wanted, zone):
    codes, raw, precision = [list(found.codes) for _ in found.rows], [{} for _ in found.rows], [[] for _ in found.rows]
    table = {"source_offset": [at for at, _ in found.rows]}
    for field, header in wanted.items():
        if field == "date_order":
            continue
        if header not in names:     # it stands twice, and nobody has said which is meant
            _flag_all(codes, "DUPLICATE_HEADER")
            continue
        values = [row[names.index(header)] for _, row in found.rows]
        if field == "patient_birth_date":
            parsed = _instants(values, wanted.get("date_order"), zone)
            table[field] = ["" if at is None else at.astimezone(ZoneInfo(zone)).strftime("%Y%m%d") for at, _, _ in parsed]
            for i, (at, _, code) in enumerate(parsed):
                codes[i] += [{"BAD_TIME": "BAD_DATE"}.get(code, code)] if code and at is None else []
                if at is None and str(values[i]).strip():
                    raw[i][field] = str(values[i])
        elif f"{field}_at" in EXAMS:
            parsed = _instants(values, wanted.get("date_order"), zone)
            table[f"{field}_at"] = [at for at, _, _ in parsed]
            for i, (at, kind, code) in enumerate(parsed):
                codes[i] += [code] if code else []
                if at is None and str(values[i]).strip():
                    raw[i][f"{field}_at"] = str(values[i])
                elif at is not None and kind != "second":
                    precision[i].append(f"{field}_at={kind}")
        else:
            cleaned = [_text(value, field) for value in values]
            table[field] = [text for text, _ in cleaned]
            for i, (_, code) in enumerate(cleaned):
                codes[i] += [code] if code else []
                if code:
                    raw[i][field] = str(values[i])
    return pd.DataFrame({**table, "problems": [" ".join(dict.fromkeys(c)) for c in codes], "raw": [json.dumps(r, ensure_ascii=False) if r else "" for r in raw],
                         "precision": [" ".join(p) for p in precision]}).astype({c: INSTANT for c in table if c.endswith("_at")})


def _flag_all(codes, code):
    for own in codes:
        own.append(code)


def _text(value, field):
    """`(text, problem code)` of a cell: an identifier without what spreadsheets put around it, or empty when its digits are lost."""
    text = str(value)
    if isinstance(value, datetime):
        return value.strftime("%Y%m%d"), ""
    if field not in _IDS:
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
    """Whether the dates that `_DATE` found have the day first, as all with dots do and those with a first number above 12; None when they do not tell."""
    pairs = [(int(f[1]), int(f[3]), f[2]) for f in found if f and len(f[1]) <= 2]
    is_day, is_month = any(a > 12 or mark == "." for a, _, mark in pairs), any(b > 12 for _, b, mark in pairs if mark != ".")
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
    elif day_first is None and first != second:
        return None, "", "DATE_AMBIGUOUS"
    else:
        year, month, day = third, *((second, first) if day_first else (first, second))
    hours = int(hour or 0) % 12 + 12 * (half.upper() == "P") if half else int(hour or 0)
    return parse_time(f"{year}{int(month):02}{int(day):02}" + (f"{hours:02}{minute}{seconds or ''}" if hour else ""), zone)


def propose_columns(path, *, write_to=None):
    """DataFrame(field, header, share_filled, evidence) of which column of an export is what, to be checked by a person.

    A field goes to the column whose header names it best, in English, and whose values look like it; headers without a field come last. `write_to` is a site.toml that gets the map as its [ris]
    table; TableError when it has one.
    """
    files, _ = list_files(path)
    found = read_records(sorted(files)[0])
    if not found.header:
        raise TableError(f"path: {files[0]} holds no table: {found.rejected[0]['reason']}.")
    names, rows = _unique(found.header), [values for _, values in found.rows[:SAMPLE]]
    scored = sorted(((*_score(field, name, [row[i] for row in rows]), field, name) for i, name in enumerate(names) for field in _WORDS), key=lambda s: -s[0])
    proposal, taken = {}, set()
    for score, share, evidence, field, name in scored:
        if score > 0 and field not in proposal and name not in taken:
            proposal[field] = (field, name, share, evidence)
            taken.add(name)
    found_dates = [_DATE.fullmatch(v.strip()) for row in rows for v in row if isinstance(v, str)]
    day_first = _is_day_first(found_dates)
    if day_first is not None:
        n = sum(bool(f and len(f[1]) <= 2) for f in found_dates)
        proposal["date_order"] = "date_order", DATE_ORDERS[not day_first], n / len(found_dates), "some of the dates can only be read so; all columns of an export are taken to be alike"
    if not proposal:
        raise TableError(f"path: no header of {files[0]} names a field of an exam in English; it has: {', '.join(names)[:200]}. Write [ris] by hand: {', '.join(_WORDS)}.")
    rest = [("", name, None, "not known by this name; if it is needed, give it a field in [ris] by hand") for name in names if name not in taken]
    table = pd.DataFrame([*(proposal[f] for f in (*_WORDS, "date_order") if f in proposal), *rest], columns=["field", "header", "share_filled", "evidence"])
    if write_to is not None:
        _write(Path(write_to), table)
    return table


def _score(field, name, values):
    """`(score, share of filled values, evidence)` of a column as a field; score 0 when its header or its values say otherwise."""
    is_time = field in _WORDS and f"{field}_at" in EXAMS
    words = re.sub(r"#\d+$", "", name).casefold().replace("_", " ").strip()
    hit = re.fullmatch(rf"(?:{_WORDS[field]}){_TIME_WORDS + '*' if is_time else ''}", words) or re.search(rf"\b(?:{_WORDS[field]})\b", words)
    texts = [v if isinstance(v, datetime) else str(v).strip() for v in values]
    filled = [t for t in texts if t]
    share = len(filled) / len(texts) if texts else 0.0
    looks = sum(isinstance(t, datetime) or bool(_DATE.fullmatch(t) or _COMPACT.fullmatch(t) or _SERIAL.fullmatch(t)) for t in filled) / len(filled) if filled else 0
    covers = len(hit.group()) / len(words) if hit else 0
    if not is_time and field != "patient_birth_date" and re.search(rf"[ ]{_TIME_WORDS.replace('[ _]?', '')}$", words):
        return 0, share, ""     # an order's time is no order
    if covers < (0 if is_time else 0.5) or not hit or filled and is_time != (looks > 0.5) and field not in (*_IDS, "patient_birth_date"):
        return 0, share, ""
    distinct = len(set(map(str, filled))) / len(filled) if filled else 0
    if field == "accession_number" and distinct < 0.5:
        return 0, share, ""
    evidence = f"the header says so; {share:.0%} filled, " + (f"{looks:.0%} look like times" if is_time else f"{distinct:.0%} of them distinct")
    return covers + 0.1 * share + 0.1 * (distinct if field == "accession_number" else 0), share, evidence


def _write(site_file, table):
    if not site_file.is_file():
        raise TableError(f"write_to: no file '{site_file}'. `python3 workbook.py new NAME` makes a site.toml to fill in.")
    text = site_file.read_text(encoding="utf-8")
    if re.search(r"(?m)^\s*\[ris\]", text):
        raise TableError(f"write_to: {site_file} has a [ris] table; change it there or take it out first.")
    lines = "".join(f"{field} = {json.dumps(header, ensure_ascii=False)}\n" for field, header in zip(table["field"], table["header"]) if field)
    site_file.write_text(f"{text.rstrip()}\n\n[ris]                           # which column of the RIS export is what; check each\n{lines}", encoding="utf-8", newline="\n")
