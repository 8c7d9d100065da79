"""Transfer lists that a PACS or router exports, CSV or Excel, by a map of their columns -> associations and operations."""

import re
import time

import pandas as pd

from ..site import SIZE_UNITS, TRANSFER_FIELDS, require_site
from ..tables import ASSOCIATIONS, OPERATIONS, TableError, conform
from .account import close_account, list_files, run_over, source_row
from .columns import Form, check_map, read_columns
from .dicomlog import DicomLog

_WHOSE = r"(?:[ _]?(?:ae[ _]?title|aet|ae|device|node|station|system|modality))?"
TRANSFERS = Form("transfers", "a transfer", {     # what headers call a field
    "started": r"(?:transfer |send |association )?(?:start(?:ed)?|begin|began|opened)|received|date|timestamp",
    "ended": r"(?:transfer |send |association )?(?:end(?:ed)?|complet(?:e|ed|ion)|finish(?:ed)?|closed|stop(?:ped)?)",
    "calling_ae_title": rf"(?:calling|source|src|sending|from|origin(?:ating)?){_WHOSE}|sender", "called_ae_title": rf"(?:called|dest(?:ination)?|target|receiving|to){_WHOSE}|receiver",
    "peer_address": r"(?:source |client |remote |peer |calling )?(?:ip(?:[ _]?addr(?:ess)?)?|host(?:name)?|address)",
    "n_stored": r"(?:(?:no\.?|num(?:ber)?|#|count|total)(?: of)? )?(?:images?|instances?|objects?|files?)(?: (?:count|sent|stored|received|transferred|ok))?",
    "n_failed": r"(?:(?:no\.?|num(?:ber)?|#)(?: of)? )?(?:(?:images?|instances?|objects?|files?) )?(?:fail(?:ed|ures)?|errors)(?: (?:images?|instances?|objects?|files?))?",
    "n_bytes": r"(?:(?:transfer|total|data|study) )?(?:size|bytes|volume)(?: (?:sent|stored|received|transferred))?(?: ?[([]?[kmg]?i?b(?:ytes)?[)\]]?)?",
    "duration": r"(?:transfer )?(?:duration|elapsed|seconds)(?: ?[([]?s(?:ec(?:onds)?)?[)\]]?)?",
    "status": r"(?:transfer )?(?:status|result|outcome|state)", "reason": r"(?:status |failure )?(?:reason|message|comment|error(?: (?:text|message))?)",
    "sop_instance_uid": r"(?:sop )?instance[ _]?uid|sop[ _]?uid", "modality": r"modality|mod",
}, fields=TRANSFER_FIELDS, times=frozenset(("started", "ended")), ids=frozenset(("calling_ae_title", "called_ae_title", "sop_instance_uid")),
    distinct="sop_instance_uid", needed=("started", "ended"))
_OUTCOMES = {"released": r"ok|success\w*|complet\w*|done|finished|sent|stored|received|transferred|archived|0000|0x0000|0", "rejected": r"reject\w*|refus\w*|denied",
             "unfinished": r"in progress|running|active|sending|pending|queued|waiting",
             "aborted": r"abort\w*|cancel\w*|stopped", "failed": r"fail\w*|err\w*|partial\w*|incomplete|time[ -]?out\w*|warn\w*"}
_FACTORS = {name.casefold().replace("bytes", "b"): n for name, n in SIZE_UNITS.items()}
_NUMBER = re.compile(r"(\d{1,3}(?:([,.' ])\d{3})+|\d+)(?:([.,])(\d+))?\s*([KMG]?i?B(?:ytes)?|bytes)?", re.I)
_DURATION = re.compile(r"(?:(\d+):)?(\d+):(\d\d(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*(ms|s|sec|seconds|min|minutes)?", re.I)


def read_transfer_list(path, *, site, columns=None, executor=None):
    """DicomLog(associations, operations, rejected, sources) of the CSV and Excel lists of transfers at `path`: a file, a folder or a list.

    `columns` is {field: header}, else that of [transfers] in site.toml; propose_columns makes one. A line is an association, and a C-STORE operation that stands
    for `n_instances` of them (another one for those that failed); where the list names SOP Instance UIDs a line is one operation. Sizes are in `size_unit` unless a
    value has its own; all but bytes are mb_rounded. A number or status that cannot be read is missing, with BAD_NUMBER or UNKNOWN_STATUS; a list without seconds
    has NO_SECONDS.
    """
    require_site(site)
    wanted = site.transfers if columns is None else columns
    check_map(wanted, TRANSFERS)
    if wanted.get("size_unit", "bytes") not in SIZE_UNITS:
        raise TableError(f"columns: size_unit '{wanted['size_unit']}' is not one of {', '.join(SIZE_UNITS)}.")
    files, rejected = list_files(path)
    parts = list(run_over(read_file, [(file, site, wanted) for file in sorted(files)], executor))
    rejected = [*rejected, *(row for part in parts for row in part[2])]
    unlike = [r for r in rejected if r["code"] == "MISSING_COLUMN"]
    if unlike and not any(len(a) + len(o) for a, o, *_ in parts):
        raise TableError(f"columns: {unlike[0]['source_file']} has {unlike[0]['reason']}.")
    rejected, sources = close_account(rejected, [part[3] for part in parts], unit="bytes")
    associations, operations = (pd.concat([part[i] for part in parts], ignore_index=True) if parts else [] for i in (0, 1))
    return DicomLog(conform(associations, ASSOCIATIONS), conform(operations, OPERATIONS), rejected, sources)


def read_file(unit):
    """`(ASSOCIATIONS table, OPERATIONS table, rejected rows, source row)` of `(file, site, columns)`."""
    file, site, wanted = unit
    started = time.perf_counter()
    table, found = read_columns(file, wanted, TRANSFERS, site.time_zone)
    rows = [_transfer(row, wanted) for row in table.to_dict("records")]
    is_list = "sop_instance_uid" in wanted
    associations = [] if is_list else [{**row, "association_id": f"{file}#{n}"} for n, row in enumerate(rows, 1)]
    operations = [operation for n, row in enumerate(rows, 1) for operation in _operations(row, "" if is_list else f"{file}#{n}", is_list)]
    return _conformed(associations, ASSOCIATIONS), _conformed(operations, OPERATIONS), found.rejected, source_row(
        file, n_bytes=found.n_bytes, n_bytes_in_rows=found.n_in_rows, n_bytes_rejected=sum(r["n_bytes"] for r in found.rejected), n_bytes_framing=found.n_framing,
        n_rows=len(found.rows), n_rejected=len(found.rejected), sha256=found.digest, started=started)


def _conformed(rows, schema):
    return conform([{name: value for name, value in row.items() if name in schema} for row in rows], schema)


def _transfer(row, wanted):
    """The columns of an association, and `sop_instance_uid` and `modality`, of the fields of one line."""
    codes = row["problems"].split()
    numbers = {name: _count(row.get(name, ""), codes) for name in ("n_stored", "n_failed")}
    n_bytes, unit = _size(row.get("n_bytes", ""), wanted.get("size_unit", ""), codes)
    begun, ended = (None if pd.isna(row.get(name)) else row[name] for name in ("started_at", "ended_at"))
    seconds = _seconds(row.get("duration", ""), codes)
    if seconds is not None and (begun is None) != (ended is None):
        begun, ended = (begun, begun + seconds) if ended is None else (ended - seconds, ended)
    codes += ["NO_SECONDS"] if "=minute" in row["precision"] else ["NO_TIME_OF_DAY"] if "=day" in row["precision"] else []
    word = row.get("status", "").strip().casefold()
    outcome = next((name for name, words in _OUTCOMES.items() if re.fullmatch(rf"(?:{words})\b.*", word)), None) if word else None
    codes += ["UNKNOWN_STATUS"] if word and outcome is None else []
    known = [n for n in numbers.values() if n is not None]
    return {**{name: row.get(name, "") for name in ("calling_ae_title", "called_ae_title", "peer_address", "reason", "sop_instance_uid", "modality")}, **numbers,
            "started_at": begun, "ended_at": ended, "outcome": outcome, "n_operations": sum(known) if known else None, "n_bytes": n_bytes,
            "n_bytes_source": "missing" if n_bytes is None else "exact" if unit == "b" else "mb_rounded", "is_ambiguous": False,
            "source_file": row["source_file"], "source_offset": row["source_offset"], "problems": " ".join(dict.fromkeys(codes))}


def _operations(row, association_id, is_list):
    """A C-STORE for what was stored and one for what failed, as far as the line counts them; one for the instance that it names."""
    is_failed = row["outcome"] in ("rejected", "aborted", "failed")
    counted = [("Failure" if is_failed else None if row["outcome"] in (None, "unfinished") else "Success", 1)] if is_list else [
        (category, n) for category, n in (("Success", row["n_stored"]), ("Failure", row["n_failed"])) if n]
    for category, n in counted:
        size = (row["n_bytes"], row["n_bytes_source"]) if category != "Failure" else (None, "missing")
        yield {**row, "service": "C-STORE", "association_id": association_id, "status_category": category, "n_instances": n, "n_bytes": size[0], "n_bytes_source": size[1]}


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
    unit = (own or unit or "bytes").casefold().replace("bytes", "b")
    if unit not in _FACTORS or mark and (mark == point or not decimals and unit != "b" and whole.count(mark) == 1):
        codes.append("BAD_NUMBER")
        return None, ""
    return round(float(f"{re.sub(r'[^0-9]', '', whole)}.{decimals or 0}") * _FACTORS[unit]), unit


def _seconds(text, codes):
    found = _DURATION.fullmatch(text.strip())
    if not found:
        codes += ["BAD_NUMBER"] if text.strip() else []
        return None
    hours, minutes, seconds, number, unit = found.groups()
    if number is None:
        return pd.Timedelta(hours=int(hours or 0), minutes=int(minutes), seconds=float(seconds))
    return pd.Timedelta(seconds=float(number) * {"ms": 0.001, "min": 60, "minutes": 60}.get((unit or "s").casefold(), 1))
