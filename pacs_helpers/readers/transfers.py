"""Transfer lists that a PACS or router exports, CSV or Excel, by a map of their columns -> associations and operations."""

import re
import time

import pandas as pd

from ..site import DURATION_UNITS, SIZE_UNITS, TRANSFER_FIELDS, require_site
from ..tables import ASSOCIATIONS, OPERATIONS, add_problem, conform
from .columns import Form, export_source, read_columns, read_exports
from .dicomlog import DicomLog
from .dimse import status_category

_WHOSE = r"(?:[ _]?(?:ae[ _]?title|aet|ae|device|node|station|system|modality))?"
_DONE = r"(?:sent|stored|received|transferred|completed|ok|success(?:ful)?)"
_THINGS = r"(?:images?|instances?|objects?|files?)"
_COUNT = r"(?:(?:no\.?|num(?:ber)?|#|count|total)(?: of)? )?"
TRANSFERS = Form("transfers", "a transfer", {     # what headers call a field
    "started": r"(?:transfer |send |association )?(?:start(?:ed)?|begin|began|opened|received|date|time|date/time|timestamp)",
    "ended": r"(?:transfer |send |association )?(?:end(?:ed)?|complet(?:e|ed|ion)|finish(?:ed)?|closed|stop(?:ped)?)",
    "calling_ae_title": rf"(?:calling|source|src|sending|from|origin(?:ating)?){_WHOSE}|sender", "called_ae_title": rf"(?:called|dest(?:ination)?|target|receiving|to){_WHOSE}|receiver",
    "peer_address": r"(?:source |client |remote |peer |calling )?(?:ip(?:[ _]?addr(?:ess)?)?|host(?:name)?|address)",
    "n_instances": rf"{_COUNT}{_THINGS}(?: count)?", "n_stored": rf"{_COUNT}(?:{_THINGS} )?{_DONE}(?: {_THINGS})?", "n_failed": rf"{_COUNT}(?:{_THINGS} )?(?:fail(?:ed|ures)?|errors)(?: {_THINGS})?",
    "n_bytes": r"(?:(?:transfer|total|data|study) )?(?:size|bytes|volume)(?: (?:sent|stored|received|transferred))?(?: ?[([]?[kmg]?i?b(?:ytes)?[)\]]?)?",
    "duration": r"(?:transfer )?(?:duration|elapsed|seconds)(?: ?[([]?(?:m?s|sec(?:onds)?|min(?:utes)?|h+:mm?)[)\]]?)?",
    "status": r"(?:transfer )?(?:status|result|outcome|state)", "reason": r"(?:status |failure )?(?:reason|message|comment|error(?: (?:text|message))?)",
    "sop_instance_uid": r"(?:sop )?instance[ _]?uid|sop[ _]?uid", "modality": r"modality|mod",
}, fields=TRANSFER_FIELDS, times=frozenset(("started", "ended")), span=("started", "ended"), ids=frozenset(("calling_ae_title", "called_ae_title", "sop_instance_uid")),
    distinct="sop_instance_uid", needed=("started", "ended"), least_cover=0.5)
# "partial" is no outcome of an association: what was stored of it is not known.
_OUTCOMES = {"unfinished": r"in progress|running|active|sending|pending|queued|waiting", "partial": r"partial\w*|incomplete|\w+ with (?:errors?|failures?)",
             "released": r"ok|success|successful|complet\w*|done|finished|sent|stored|received|transferred|archived", "rejected": r"reject\w*|refus\w*|denied",
             "aborted": r"abort\w*|cancel\w*|stopped", "failed": r"fail\w*|err\w*|time[ -]?out\w*"}
FAILED = ("rejected", "aborted", "failed")
_CATEGORIES = {"Success": "released", "Warning": "released", "Failure": "failed", "Cancel": "aborted", "Pending": "unfinished"}
_FACTORS = {name.casefold().replace("bytes", "b"): n for name, n in SIZE_UNITS.items()}
_NUMBER = re.compile(r"(\d{1,3}(?:([,.' ])\d{3})+|\d+)(?:([.,])(\d+))?\s*([KMG]?i?B(?:ytes?)?|bytes)?", re.I)
_DURATION = re.compile(r"(?:(\d+):)?(\d+):(\d\d(?:[.,]\d+)?)|(\d+(?:[.,]\d+)?)\s*(ms|s|sec|seconds|min|minutes)?", re.I)
_COUNTS = ["n_operations", "n_stored", "n_failed", "n_bytes"]
_UNIT = {"size_unit": re.compile(r"\b([kmg]i?b|bytes)\b", re.I), "duration_unit": re.compile(r"[([]?\b(ms|s|sec|seconds|min|minutes|h+:mm?)[)\]]?$", re.I)}


def read_transfer_list(path, *, site, columns=None, executor=None):
    """DicomLog(associations, operations, rejected, sources) of the CSV and Excel lists of transfers at `path`: a file, a folder or a list.

    `columns` is {field: header}, else that of [transfers] in site.toml; propose_columns makes one. A line is an association, and a C-STORE operation that stands
    for `n_instances` of them (another one for those that failed); where the list names SOP Instance UIDs a line is one operation. Without a count of what was stored
    or failed the status tells which of the two all instances are. Sizes and durations are in `size_unit` and `duration_unit` unless value or header name another, else in
    bytes and seconds; sizes in other units are mb_rounded. What cannot be read is missing and counts nowhere: BAD_NUMBER, UNKNOWN_STATUS, PARTLY_FAILED, NO_COUNT, NO_SECONDS,
    NOT_A_TRANSFER (a line of totals), DUPLICATE_LINE (the same transfer in two lists).
    """
    require_site(site)
    parts, rejected, sources = read_exports(path, site, site.transfers if columns is None else columns, TRANSFERS, read_file, executor)
    associations, operations = (conform(pd.concat([part[i] for part in parts], ignore_index=True) if parts else [], schema) for i, schema in ((0, ASSOCIATIONS), (1, OPERATIONS)))
    return DicomLog(*_without_copies(associations, operations), rejected, sources)


def _without_copies(associations, operations):
    """Both tables; a transfer that an earlier list has too is flagged and has no counts, so that overlapping exports count once."""
    same = [c for c in ASSOCIATIONS if not c.startswith("source_") and c not in ("association_id", "problems")]
    is_copy = associations.duplicated(same) & ~associations["problems"].str.contains("NO_SECONDS|NO_TIME_OF_DAY|NOT_A_TRANSFER") & associations["started_at"].notna()
    copies = set(associations.loc[is_copy, "association_id"])
    counts = associations[_COUNTS].mask(is_copy)
    problems = associations["problems"].where(~is_copy, associations["problems"].map(lambda text: add_problem(text, "DUPLICATE_LINE")))
    operations = operations[~operations["association_id"].isin(copies)].reset_index(drop=True)
    is_again = operations["sop_instance_uid"].ne("") & operations.duplicated(["sop_instance_uid", "calling_ae_title", "called_ae_title", "started_at", "status_category"])
    operations.loc[is_again, "problems"] = [add_problem(add_problem(text, "DUPLICATE_LINE"), "NO_COUNT") for text in operations.loc[is_again, "problems"]]
    operations.loc[is_again, ["n_instances", "n_bytes"]] = pd.NA
    operations.loc[is_again, "n_bytes_source"] = "missing"
    return associations.assign(**counts, problems=problems), operations


def read_file(unit):
    """`(ASSOCIATIONS table, OPERATIONS table, rejected rows, source row)` of `(file, site, columns)`."""
    file, site, wanted = unit
    started = time.perf_counter()
    table, found = read_columns(file, wanted, TRANSFERS, site.time_zone)
    units = {option: wanted.get(option) or _unit_of(wanted.get(field), pattern) for (option, pattern), field in zip(_UNIT.items(), ("n_bytes", "duration"))}
    is_list = "sop_instance_uid" in wanted
    rows = [{**_transfer(row, units, is_list), "association_id": "" if is_list else f"{file}#{n}"} for n, row in enumerate(table.to_dict("records"), 1)]
    operations = [operation for row in rows for operation in _operations(row, is_list)]
    return _conformed([] if is_list else rows, ASSOCIATIONS), _conformed(operations, OPERATIONS), found.rejected, export_source(file, found, started)


def _unit_of(header, pattern):
    found = pattern.search(header.strip()) if header else None
    return found[1].casefold() if found else ""


def _conformed(rows, schema):
    return conform([{name: value for name, value in row.items() if name in schema} for row in rows], schema)


def _transfer(row, units, is_list):
    """The columns of an association, and `sop_instance_uid`, `modality` and `status_code`, of the fields of one line."""
    codes = row["problems"].split()
    begun, ended = (None if pd.isna(row.get(name)) else row[name] for name in ("started_at", "ended_at"))
    seconds = _seconds(row.get("duration", ""), units["duration_unit"], codes)
    if seconds is not None and (begun is None) != (ended is None):
        begun, ended = (begun, begun + seconds) if ended is None else (ended - seconds, ended)
    codes += ["NO_SECONDS"] if "=minute" in row["precision"] else ["NO_TIME_OF_DAY"] if "=day" in row["precision"] else []
    told = {name: row.get(name, "") for name in ("calling_ae_title", "called_ae_title", "peer_address", "reason", "sop_instance_uid", "modality")}
    (outcome, status_code), is_told = _outcome(row.get("status", ""), codes), bool(row.get("status", "").strip())
    counts = {name: _count(row.get(name, ""), codes) for name in ("n_instances", "n_stored", "n_failed")}
    n_bytes, unit = _size(row.get("n_bytes", ""), units["size_unit"], codes)
    if begun is None and ended is None and not any(told[name] for name in ("calling_ae_title", "called_ae_title", "peer_address", "sop_instance_uid")):
        counts, n_bytes, codes = dict.fromkeys(counts), None, [*codes, "NOT_A_TRANSFER"]
    elif not is_list:
        counts = _settled(**counts, outcome=outcome, is_told=is_told, codes=codes)
    known = [n for n in (counts["n_stored"], counts["n_failed"]) if n is not None]
    return {**told, "is_told": is_told, "started_at": begun, "ended_at": ended, "outcome": "failed" if outcome == "partial" else outcome, "status_code": status_code, "n_stored": counts["n_stored"],
            "n_failed": counts["n_failed"], "n_operations": sum(known) if known else None, "n_bytes": n_bytes, "is_ambiguous": False,
            "n_bytes_source": "missing" if n_bytes is None else "exact" if unit == "b" else "mb_rounded",
            "source_file": row["source_file"], "source_offset": row["source_offset"], "problems": " ".join(dict.fromkeys(codes))}


def _outcome(text, codes):
    """`(outcome or None, DICOM status code or "")` of a status in words or in hex digits."""
    word = text.strip().casefold()
    found = re.fullmatch(r"(?:0x)?([0-9a-f]{4}|0)h?(?:\s*[:;(-].*)?", word)
    if found:
        code = found[1].upper().zfill(4)
        return _CATEGORIES[status_category(code)], code
    outcome = next((name for name, words in _OUTCOMES.items() if re.fullmatch(rf"(?:{words})\b.*", word)), None) if word else None
    codes += ["UNKNOWN_STATUS"] if word and outcome is None else []
    return outcome, ""


def _settled(*, n_instances, n_stored, n_failed, outcome, is_told, codes):
    """`n_stored` and `n_failed` as far as counts and status tell them; NO_COUNT where neither does."""
    if n_instances is not None and n_stored is None and n_failed is not None and n_failed <= n_instances:
        n_stored = n_instances - n_failed
    elif n_instances is not None and n_failed is None and n_stored is not None and n_stored <= n_instances and outcome != "unfinished":
        n_failed = n_instances - n_stored
    elif n_failed is None and (n := n_instances if n_stored is None else n_stored) is not None:
        is_failed = outcome in FAILED
        is_known = outcome == "released" or not is_told
        n_stored, n_failed = (0, n) if is_failed else (n, None) if is_known else (None, None)
    if n_stored is None:
        codes += ["PARTLY_FAILED"] if outcome == "partial" else [] if "UNKNOWN_STATUS" in codes else ["NO_COUNT"]
    return {"n_stored": n_stored, "n_failed": n_failed}


def _operations(row, is_list):
    """A C-STORE for what was stored and one for what failed, as far as the line counts them; one for the instance that it names."""
    is_failed, is_over = row["outcome"] in FAILED, row["outcome"] == "released" or not row["is_told"]
    is_untold = row["is_told"] and not is_failed and not is_over
    counted = [("Failure" if is_failed else "Success" if is_over and row["is_told"] else None, None if is_untold else 1)] if is_list else [
        (category, n) for category, n in (("Success", row["n_stored"]), ("Failure", row["n_failed"])) if n]
    if not is_list and row["n_stored"] is None and is_over and row["n_bytes"] is not None:
        counted = [("Success", None)]       # how many is not told, how much is
    for category, n in counted:
        size = (row["n_bytes"], row["n_bytes_source"]) if category != "Failure" and not is_untold else (None, "missing")
        problems = add_problem(row["problems"], "NO_COUNT") if is_list and n is None else row["problems"]
        yield {**row, "problems": problems, "service": "C-STORE", "status_category": category, "n_instances": n, "n_bytes": size[0], "n_bytes_source": size[1]}


def _count(text, codes):
    found = re.fullmatch(r"\d{1,3}(?:[,.' ]\d{3})+|\d{1,12}", text.strip())
    if text.strip() and not found:
        codes.append("BAD_NUMBER")
    return int(re.sub(r"\D", "", text)) if found else None


def _size(text, unit, codes):
    """`(bytes, unit)` of a size; None where a comma or point may part thousands or decimals, or the unit is not told."""
    found = _NUMBER.fullmatch(text.strip())
    if not found:
        codes += ["BAD_NUMBER"] if text.strip() else []
        return None, ""
    whole, mark, point, decimals, own = found.groups()
    unit = re.sub("bytes?", "b", (own or unit or "bytes").casefold())
    if mark and not point and re.fullmatch(r"0[.,]\d{3}", whole):       # no thousands begin with a nought
        whole, mark, point, decimals = "0", None, mark, whole[2:]
    if unit not in _FACTORS or decimals and unit == "b" or mark and (mark == point or not decimals and unit != "b" and whole.count(mark) == 1):
        codes.append("BAD_NUMBER")
        return None, ""
    return round(float(f"{re.sub(r'[^0-9]', '', whole)}.{decimals or 0}") * _FACTORS[unit]), unit


def _seconds(text, unit, codes):
    found = _DURATION.fullmatch(text.strip())
    if not found:
        codes += ["BAD_NUMBER"] if text.strip() else []
        return None
    hours, minutes, seconds, number, own = found.groups()
    unit = {"sec": "s", "seconds": "s", "minutes": "min", "": "s"}.get((own or unit).casefold(), (own or unit).casefold())
    if number is None:
        values = [int(minutes), float(seconds.replace(",", "."))] if hours is None else [int(hours), int(minutes), float(seconds.replace(",", "."))]
        names = ("hours", "minutes", "seconds") if hours is not None or unit.startswith("h") else ("minutes", "seconds")
        return pd.Timedelta(**dict(zip(names, values)))
    return pd.Timedelta(seconds=float(number.replace(",", ".")) * DURATION_UNITS.get(unit, 60 if unit.startswith("h") else 1))
