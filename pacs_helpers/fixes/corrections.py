"""Reviewed decisions: recorded in the ledger, folded into a table, applied to a copy of the department."""

import pandas as pd

from ..tables import COUNT, TEXT, TableError, nearest
from .ledger import LedgerError, append_record, last_seq, read_ledger

KINDS = ("patient_id", "link", "dismiss", "merge")
SHOWN = {"seq": COUNT, "id": TEXT, "kind": TEXT, "target": TEXT, "field": TEXT, "old": TEXT, "new": TEXT, "reason": TEXT, "text": TEXT, "user": TEXT,
         "decided_at": TEXT, "finding_id": TEXT, "evidence": TEXT}


def record_correction(ledger, *, kind, target, field="", old="", new="", reason, text="", evidence="", decided_by, finding_id="", expect=None):
    """The ledger record of one decision, as written and synced. LedgerError when it was not recorded.

    `kind`: patient_id (a study's or report's ID becomes `new`), link (a study or report goes to accession number `new`), dismiss
    (reviewed: no partner, or no error), merge (several studies are one exam). `target`: a Study Instance UID, a message control id, or a finding_id.
    """
    if kind not in KINDS:
        raise TableError(f"kind: '{kind}' is not one of {', '.join(KINDS)}.{nearest(kind, KINDS)}")
    if not target or not decided_by.strip():
        raise TableError("target, decided_by: both are needed; a decision names what it is about and who made it.")
    if kind in ("patient_id", "link") and not new.strip():
        raise TableError(f"new: a {kind} correction needs the new value.")
    if kind == "patient_id":
        _refuse_circle(read_corrections(ledger), old, new)
    return append_record(ledger, op="decide", kind=kind, target=target, field=field or {"patient_id": "patient_id", "link": "accession_number"}.get(kind, ""),
                         old=old, new=new.strip(), reason=reason, text=text, evidence=evidence, user=decided_by, finding_id=finding_id, expect=expect)


def undo_correction(ledger, record_id, *, decided_by, text=""):
    """The record that takes back another; undoing an undo brings the decision back. Nothing is erased."""
    records = read_ledger(ledger)
    found = next((r for r in records if r["id"] == record_id), None)
    if found is None or found["op"] not in ("decide", "undo"):
        raise TableError(f"record_id: no decision '{record_id}' in this ledger; read_corrections lists those that stand.")
    return append_record(ledger, op="undo", undoes=record_id, target=found["target"], user=decided_by, text=text, kind=found.get("kind", ""))


def read_corrections(ledger):
    """The decisions that stand, oldest first: seq, id, kind, target, field, old, new, reason, text, user, decided_at (UTC), finding_id, evidence."""
    records = read_ledger(ledger)
    undone = set()
    for record in reversed(records):
        if record["op"] == "undo" and record["id"] not in undone:
            undone.add(record["undoes"])
    rows = [{**{name: record.get(name, "") for name in SHOWN}, "decided_at": record["ts_utc"]} for record in records if record["op"] == "decide" and record["id"] not in undone]
    return pd.DataFrame(rows, columns=list(SHOWN)).astype(SHOWN)


def verify_corrections(ledger):
    """`{is_whole, n_records, n_standing, head, problem}`: whether each record follows from the one before, and the digest of the last.

    A digest noted elsewhere shows a later cut of the file's end. The chain shows tampering; it cannot stop it.
    """
    try:
        records = read_ledger(ledger)
    except LedgerError as error:
        return {"is_whole": False, "n_records": 0, "n_standing": 0, "head": "", "problem": str(error)}
    return {"is_whole": True, "n_records": len(records), "n_standing": len(read_corrections(ledger)), "head": records[-1]["hash"] if records else "", "problem": ""}


def last_decision(ledger, target):
    """The seq of the last record about a target, to hand to `record_correction(expect=...)`."""
    return last_seq(read_ledger(ledger), target)


def apply_corrections(dept, ledger):
    """A Department with the standing decisions applied to copies of its tables, in the order they were made.

    Findings dismissed or merged are in `reviewed`. A decision whose old value is no longer there is left out: `find_stale` lists those.
    """
    return _fold(dept, ledger)[0]


def find_stale(dept, ledger):
    """The decisions that stand but could not be applied, as read_corrections gives them: their target or old value is not there any more."""
    return _fold(dept, ledger)[1]


def _fold(dept, ledger):
    decisions, stale = read_corrections(ledger), []
    dept = dept._replace(studies=dept.studies.copy(), reports=dept.reports.copy(), events=dept.events.copy())
    reviewed = list(dept.reviewed)
    for decision in decisions.to_dict("records"):
        if decision["kind"] in ("dismiss", "merge"):
            reviewed.append(decision["finding_id"] or decision["target"])
        elif not _apply_one(dept, decision):
            stale.append(decision["seq"])
    return dept._replace(reviewed=tuple(dict.fromkeys(reviewed))), decisions[decisions["seq"].isin(stale)].reset_index(drop=True)


def _apply_one(dept, decision):
    """True when the decision met its old value (or its new one, having been applied before) and now stands in the tables."""
    met = False
    for table, key in ((dept.studies, "study_instance_uid"), (dept.reports, "message_control_id")):
        rows = (table[key] == decision["target"]) & table[decision["field"]].isin([decision["old"], decision["new"]])
        if rows.any():
            met = True
            table.loc[rows, decision["field"]] = decision["new"]
            if decision["field"] == "patient_id":
                _follow_identity(table, rows, decision["new"], dept)
    if met and decision["field"] == "accession_number":
        _move_events(dept.events, decision)
    return met


def _follow_identity(table, rows, patient_id, dept):
    """Name, birth date and sex go with the ID, as registration and orders last gave them."""
    for known in (dept.orders, dept.patients):
        person = known[known["patient_id"] == patient_id]
        if len(person):
            for column in ("patient_name", "patient_birth_date", "patient_sex"):
                table.loc[rows, column] = person[column].iloc[-1]
            return


def _move_events(events, decision):
    rows = ((events["study_instance_uid"] == decision["target"]) & (events["source"] != "hl7")) | (events["source_id"] == decision["target"])
    events.loc[rows, "accession_number"] = decision["new"]


def _refuse_circle(standing, old, new):
    step = {r["old"]: r["new"] for r in standing[standing["kind"] == "patient_id"].to_dict("records")}
    here, seen = new.strip(), {old}
    while here in step:
        here = step[here]
        if here in seen:
            raise TableError("new: this would turn two patient IDs into each other in a circle; undo the earlier correction first.")
        seen.add(here)
