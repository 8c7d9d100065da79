"""N-CREATE and N-SET of Modality Performed Procedure Steps (PS3.4 F.7) as they went over the wire -> one row per step."""

from functools import reduce
from struct import pack

from ..tables import add_problem
from .headerrows import OPENED, PERFORMED_STEP_CLASS, WANTED, header_row
from .part10 import read_elements

SERVICES = ("N-CREATE", "N-SET")
LONGEST_DATA_SET = 1 << 20


def step_row(operation, zone):
    """The row of one operation and its data set, with `service` and `at`; refused ones have REFUSED, those without a whole data set PACKETS_LOST."""
    data, syntax = operation.data_set or (b"", b"")
    head = bytes(128) + b"DICM" + b"".join(pack("<HH2sH", 2, element, b"UI", len(raw)) + raw for element, raw in ((2, PERFORMED_STEP_CLASS.encode() + b"\0"), (16, syntax)) if raw)
    file = head + data
    found, _ = read_elements(lambda at, n: file[at:at + n], len(file), WANTED, OPENED, is_remembered=False)
    row = header_row(found, zone)[1] if found else {"problems": "PACKETS_LOST"}
    told = operation.row
    problems = row["problems"] if told.get("status_category") != "Failure" else add_problem(row["problems"], "REFUSED")
    return {**row, "sop_instance_uid": told.get("sop_instance_uid", ""), "problems": problems, "source_file": told["source_file"], "source_offset": told["source_offset"],
            "service": told["service"], "at": told["started_at"]}


def join_steps(rows):
    """One row per step: what its operations said last, in the order they came; START_NOT_SEEN where its N-CREATE is missing."""
    steps = {}
    for row in sorted(rows, key=lambda row: row["at"]):
        steps.setdefault(row["sop_instance_uid"] or id(row), []).append(row)
    return [_joined(parts) for parts in steps.values()]


def _joined(parts):
    row = reduce(lambda known, later: {**known, **{name: value for name, value in later.items() if value not in ("", None)}}, parts)
    codes = " ".join(dict.fromkeys(code for part in parts for code in part["problems"].split()))
    if not any(part["service"] == "N-CREATE" for part in parts):
        codes = add_problem(codes, "START_NOT_SEEN")
    return {**{name: value for name, value in row.items() if name not in ("service", "at")}, "problems": codes,
            "source_file": parts[0]["source_file"], "source_offset": parts[0]["source_offset"]}
