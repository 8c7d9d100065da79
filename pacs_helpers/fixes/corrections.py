"""Reviewed decisions: recorded in the ledger, folded into the table of those that stand."""

import hashlib
import uuid

import pandas as pd

from ..tables import COUNT, TEXT, TableError, nearest
from .ledger import LedgerError, append_record, append_records, read_ledger

FIELDS = {"patient_id": "patient_id", "link": "accession_number", "unlink": "accession_number", "split": "accession_number", "merge": "accession_number",
          "merge_series": "study_instance_uid", "dismiss": ""}
KINDS = tuple(FIELDS)
REASONS = {
    "TYPED_WRONG": "typed wrong at the device or the desk", "WRONG_PICK": "picked from the worklist by mistake", "ID_FORMAT": "the same number, written differently",
    "MERGED": "registration merged the identities", "IDENTITY_CONFIRMED": "registration confirmed a temporary identity",
    "SPLIT_BY_DEVICE": "the device made several studies of one exam", "TWO_EXAMS": "two exams were stored as one study",
    "REPORT_MISFILED": "the report was dictated or sent under another exam", "NO_PARTNER": "there is no partner, and none is missing", "NO_ERROR": "right as it is",
    "NOT_HERE": "for another desk: passed on", "TEST": "test, service or phantom images", "OTHER": "see the note",
}
_NEEDS_NEW, _NEEDS_OLD, _NEEDS_SERIES = ("patient_id", "link", "split", "merge_series"), ("unlink",), ("split", "merge_series")
SHOWN = {"seq": COUNT, "id": TEXT, "kind": TEXT, "target": TEXT, "field": TEXT, "old": TEXT, "new": TEXT, "series": TEXT, "reason": TEXT, "text": TEXT, "user": TEXT,
         "decided_at": TEXT, "finding_id": TEXT, "evidence": TEXT}


def record_correction(ledger, *, kind, target, field="", old="", new="", series="", reason, text="", evidence="", decided_by, finding_id="", expect=None):
    """The ledger record of one decision, as written and synced. LedgerError when it was not recorded.

    `kind`: patient_id (a study's or report's ID becomes `new`), link (a study or report goes to accession number `new`), unlink (it is taken
    off the exam of accession number `old`), split (the `series` leave study `target` for accession number `new`, as study `split_study_uid`),
    merge (the studies of `target` become the first of them, under accession number `new`), merge_series (the `series` leave study `target`
    for study `new`), dismiss (reviewed: nothing to change). `target`: a Study Instance UID, message control ids (space-separated: the
    versions of one report; of one about several exams, `old` names those that move), for merge Study Instance UIDs, or a finding_id. `series`: Series Instance UIDs, space-separated. `reason`: a
    code of REASONS; OTHER needs `text`. `expect`: the `count_records` when the finding was looked at.
    """
    (record,) = record_corrections(ledger, [{name: value for name, value in locals().items() if name not in ("ledger", "expect")}], expect=expect)
    if isinstance(record, Exception):
        raise record
    return record


def record_corrections(ledger, decisions, *, expect=None):
    """For each decision, the arguments of record_correction, its record or the error that kept it out. They are synced together, and so are as slow as one."""
    steps = {r["old"]: r["new"] for r in read_corrections(ledger).to_dict("records") if r["kind"] == "patient_id"} if any(d["kind"] == "patient_id" for d in decisions) else {}
    contents, made = [], {}
    for at, decision in enumerate(decisions):
        try:
            contents.append(_content_of(decision, steps))
        except TableError as error:
            made[at] = error
    recorded = iter(append_records(ledger, contents, expect=expect) if contents else ())
    return [made.get(at) or next(recorded) for at in range(len(decisions))]


def _content_of(decision, steps):
    """The record of a decision before it is written; `steps` grow by what it does to a patient ID."""
    kind, new, series = decision["kind"], decision.get("new", "").strip(), " ".join(sorted(set(decision.get("series", "").split())))
    content = {"old": "", "text": "", "evidence": "", "finding_id": "", **decision, "field": decision.get("field") or FIELDS.get(kind, ""), "new": new, "series": series}
    _require(kind, content["target"], content["field"], content["old"], new, series)
    _require_reason(content["reason"], content["text"], content["decided_by"])
    if kind == "patient_id":
        _refuse_circle(steps, content["old"], new)
        steps[content["old"]] = new
    return {"op": "decide", "user": content.pop("decided_by"), **content}


def _require(kind, target, field, old, new, series):
    if kind not in KINDS:
        raise TableError(f"kind: '{kind}' is not one of {', '.join(KINDS)}.{nearest(kind, KINDS)}")
    if not target.strip():
        raise TableError("target: a decision names what it is about.")
    if field != FIELDS[kind]:
        raise TableError(f"field: a {kind} correction is about '{FIELDS[kind]}', not '{field}'.")
    for name, value, kinds in (("new", new, _NEEDS_NEW), ("old", old.strip(), _NEEDS_OLD), ("series", series, _NEEDS_SERIES)):
        if kind in kinds and not value:
            raise TableError(f"{name}: {kind} needs the {name} value." if name != "series" else f"series: a {kind} correction names the Series Instance UIDs that move.")
    if kind == "unlink" and new or series and kind not in _NEEDS_SERIES:
        raise TableError("new: what is unlinked goes nowhere; to move it, link it." if kind == "unlink" else f"series: a {kind} correction moves no series; split and merge_series do.")
    if kind in ("patient_id", "link") and old.strip() == new:
        raise TableError("new: this is the old value: nothing would change. To close a finding that is right as it is, dismiss it.")
    if kind == "merge" and len(set(target.split())) < 2:
        raise TableError("target: a merge names two or more Study Instance UIDs, space-separated; the first is the study that stays.")
    if kind == "merge_series" and new in target.split():
        raise TableError("new: the series are in this study already; name the study they go to.")


def _require_reason(reason, text, decided_by):
    if reason not in REASONS:
        raise TableError(f"reason: '{reason}' is not one of {', '.join(REASONS)}.{nearest(reason, REASONS)}")
    if reason == "OTHER" and not text.strip():
        raise TableError("text: the reason OTHER needs a note that says why.")
    if not decided_by.strip():
        raise TableError("decided_by: a decision names who made it.")


def split_study_uid(target, series):
    """The Study Instance UID of the study that `series` (Series Instance UIDs, space-separated) form when they leave study `target`."""
    return made_uid("study", target, *sorted(set(series.split())))


def made_uid(*parts):
    """A UID made of `parts`: the same parts give the same UID on every computer."""
    return f"2.25.{uuid.UUID(bytes=hashlib.sha256(chr(0).join(parts).encode()).digest()[:16], version=4).int}"


def undo_correction(ledger, record_id, *, decided_by, text=""):
    """The record that takes back another; undoing an undo brings the decision back. Nothing is erased."""
    records = read_ledger(ledger)
    found = next((r for r in records if r["id"] == record_id), None)
    if found is None or found["op"] not in ("decide", "undo"):
        raise TableError(f"record_id: no decision '{record_id}' in this ledger; read_corrections lists those that stand.")
    if record_id in _undone(records):
        raise TableError("record_id: this was taken back already; undo that undo to bring it back.")
    return append_record(ledger, op="undo", undoes=record_id, target=found["target"], finding_id=found.get("finding_id", ""), user=decided_by, text=text,
                         kind=found.get("kind", ""), expect=len(records))


def _undone(records):
    """{id of what is taken back: the undo that does it}."""
    undone = {}
    for record in reversed(records):
        if record["op"] == "undo" and record["id"] not in undone:
            undone[record["undoes"]] = record
    return undone


def read_corrections(ledger):
    """The decisions that stand, oldest first: seq, id, kind, target, field, old, new, reason, text, user, decided_at (UTC), finding_id, evidence."""
    records = read_ledger(ledger)
    undone = _undone(records)
    return _shown([{**record, "decided_at": record["ts_utc"]} for record in records if record["op"] == "decide" and record["id"] not in undone])


def read_undone(ledger):
    """The decisions that were taken back, as read_corrections gives them, with who took them back and when; without those whose target has been decided on again."""
    records, again = read_ledger(ledger), {(row["target"], row["field"]) for row in read_corrections(ledger).to_dict("records")}
    undone = [({**record, "user": undo["user"], "decided_at": undo["ts_utc"]}) for record in records if (undo := _undone(records).get(record["id"])) and record["op"] == "decide"]
    return _shown([row for row in undone if row["kind"] != "dismiss" and (row["target"], row["field"]) not in again]).drop_duplicates(["target", "field", "old", "new", "series"], keep="last")


def _shown(rows):
    return pd.DataFrame([{name: row.get(name, "") for name in SHOWN} for row in rows], columns=list(SHOWN)).astype(SHOWN)


def verify_corrections(ledger):
    """`{is_whole, n_records, n_standing, n_sealed, head, problem}`: whether each record follows from the one before, and the digest of the last.

    `n_sealed` counts lines that a crash left torn.
    A digest noted elsewhere shows a later cut of the file's end. The chain shows tampering; it cannot stop it.
    """
    try:
        records, n_standing, problem = read_ledger(ledger), len(read_corrections(ledger)), ""
    except LedgerError as error:
        records, n_standing, problem = [], 0, str(error)
    return {"is_whole": not problem, "n_records": len(records), "n_standing": n_standing, "n_sealed": sum(r["op"] == "recovered" for r in records),
            "head": records[-1]["hash"] if records else "", "problem": problem}


def count_records(ledger):
    """How many records there are, to hand to `record_correction(expect=...)`: what comes later about the same thing is a conflict."""
    return len(read_ledger(ledger))


def _refuse_circle(steps, old, new):
    here, seen = new, {old}
    while steps.get(here, here) != here:
        here = steps[here]
        if here in seen:
            raise TableError("new: this would turn two patient IDs into each other in a circle; undo the earlier correction first.")
        seen.add(here)
