"""Reviewed decisions: recorded in the ledger, folded into a table, applied to a copy of the department."""

import pandas as pd

from ..tables import COUNT, TEXT, TableError, nearest
from .ledger import LedgerError, append_record, read_ledger

KINDS = ("patient_id", "link", "dismiss", "merge")
FIELDS = {"patient_id": "patient_id", "link": "accession_number"}
_TABLES = (("studies", "study_instance_uid"), ("reports", "message_control_id"))
SHOWN = {"seq": COUNT, "id": TEXT, "kind": TEXT, "target": TEXT, "field": TEXT, "old": TEXT, "new": TEXT, "reason": TEXT, "text": TEXT, "user": TEXT,
         "decided_at": TEXT, "finding_id": TEXT, "evidence": TEXT}


def record_correction(ledger, *, kind, target, field="", old="", new="", reason, text="", evidence="", decided_by, finding_id="", expect=None):
    """The ledger record of one decision, as written and synced. LedgerError when it was not recorded.

    `kind`: patient_id (a study's or report's ID becomes `new`), link (a study or report goes to accession number `new`), dismiss
    (reviewed: no partner, or no error), merge (several studies are one exam). `target`: a Study Instance UID, message control ids
    (space-separated: the versions of one report), or a finding_id. `expect`: the `count_records` when the finding was looked at.
    """
    if kind not in KINDS:
        raise TableError(f"kind: '{kind}' is not one of {', '.join(KINDS)}.{nearest(kind, KINDS)}")
    if not target or not decided_by.strip():
        raise TableError("target, decided_by: both are needed; a decision names what it is about and who made it.")
    if kind in ("patient_id", "link") and not new.strip():
        raise TableError(f"new: a {kind} correction needs the new value.")
    field = field or FIELDS.get(kind, "")
    if field != FIELDS.get(kind, ""):
        raise TableError(f"field: a {kind} correction is about '{FIELDS.get(kind, '')}', not '{field}'.")
    if kind == "patient_id":
        _refuse_circle(read_corrections(ledger), old, new)
    return append_record(ledger, op="decide", kind=kind, target=target, field=field, old=old, new=new.strip(), reason=reason,
                         text=text, evidence=evidence, user=decided_by, finding_id=finding_id, expect=expect)


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
    undone = set()
    for record in reversed(records):
        if record["op"] == "undo" and record["id"] not in undone:
            undone.add(record["undoes"])
    return undone


def read_corrections(ledger):
    """The decisions that stand, oldest first: seq, id, kind, target, field, old, new, reason, text, user, decided_at (UTC), finding_id, evidence."""
    records = read_ledger(ledger)
    undone = _undone(records)
    rows = [{**{name: record.get(name, "") for name in SHOWN}, "decided_at": record["ts_utc"]} for record in records if record["op"] == "decide" and record["id"] not in undone]
    return pd.DataFrame(rows, columns=list(SHOWN)).astype(SHOWN)


def verify_corrections(ledger):
    """`{is_whole, n_records, n_standing, n_sealed, head, problem}`: whether each record follows from the one before, and the digest of the last.

    `n_sealed` counts lines that a crash left torn.
    A digest noted elsewhere shows a later cut of the file's end. The chain shows tampering; it cannot stop it.
    """
    try:
        records = read_ledger(ledger)
    except LedgerError as error:
        return {"is_whole": False, "n_records": 0, "n_standing": 0, "n_sealed": 0, "head": "", "problem": str(error)}
    return {"is_whole": True, "n_records": len(records), "n_standing": len(read_corrections(ledger)),
            "n_sealed": sum(r["op"] == "recovered" for r in records), "head": records[-1]["hash"] if records else "", "problem": ""}


def count_records(ledger):
    """How many records there are, to hand to `record_correction(expect=...)`: what comes later about the same thing is a conflict."""
    return len(read_ledger(ledger))


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
    dept = dept._replace(studies=dept.studies.copy(), reports=dept.reports.copy(), events=dept.events.copy(), trace=dept.trace.copy())
    reviewed, rows = list(dept.reviewed), decisions.to_dict("records")
    for i, decision in enumerate(rows):
        if decision["kind"] in ("dismiss", "merge"):
            reviewed.append(decision["finding_id"] or decision["target"])
        elif not _apply_one(dept, decision) and not _is_overtaken(dept, decision, rows[i + 1:]):
            stale.append(decision["seq"])
    return dept._replace(reviewed=tuple(dict.fromkeys(reviewed))), decisions[decisions["seq"].isin(stale)].reset_index(drop=True)


def _apply_one(dept, decision):
    """True when the decision met its old value (or its new one, having been applied before) and now stands in the tables."""
    met = False
    for table, key in _TABLES:
        table = getattr(dept, table)
        rows = _about(table[key], decision) & table[decision["field"]].isin(_olds(decision) + [decision["new"]])
        if not rows.any():
            continue
        met = True
        if decision["field"] == "patient_id":
            table.loc[rows, "patient_id"] = decision["new"]
            _follow_identity(table, rows, decision["new"], dept)
        else:
            _move_records(dept, table[rows], key, decision)
            table.loc[rows, "accession_number"] = decision["new"]
            if key == "message_control_id":
                uids = dept.studies.loc[dept.studies["accession_number"] == decision["new"], "study_instance_uid"]
                table.loc[rows, "study_instance_uid"] = uids.iloc[0] if len(uids) == 1 else ""      # the UID is asked before the number
    return met


def _olds(decision):
    """The versions of one report may carry several spellings of its number."""
    return [decision["old"], *(decision["old"].split() if " " in decision["target"] else [])]


def _about(keys, decision):
    return keys.isin([decision["target"], *decision["target"].split()])


def _is_overtaken(dept, decision, later):
    """True when a later decision on the same thing was applied to these tables before."""
    ends = [d["new"] for d in later if d["target"] == decision["target"] and d["field"] == decision["field"]]
    return any((_about(getattr(dept, t)[key], decision) & getattr(dept, t)[decision["field"]].isin(ends)).any() for t, key in _TABLES)


def _follow_identity(table, rows, patient_id, dept):
    """Name, birth date and sex go with the ID, as orders and else registration last gave them."""
    for known in (dept.orders, dept.patients):
        person = known[known["patient_id"] == patient_id]
        if len(person):
            for column in ("patient_name", "patient_birth_date", "patient_sex"):
                given = person.loc[person[column] != "", column]
                table.loc[rows, column] = given.iloc[-1] if len(given) else table.loc[rows, column]
            return


def _move_records(dept, moved, key, decision):
    """The events and the trace of what was linked go along; of a message about several exams only those of the old number."""
    numbers = {*_olds(decision), decision["new"], ""}
    for name, spoken in (("events", "source"), ("trace", "lane")):
        table = getattr(dept, name)
        if key == "study_instance_uid":
            rows = table["study_instance_uid"].isin(moved[key]) & ~table[spoken].isin(["hl7", "patient", "order", "report", "acknowledgment"])
        else:
            several = dept.reports.loc[dept.reports[key].isin(moved[key]), "accession_number"].nunique() > 1
            rows = table["source_id"].isin(moved[key]) & (table["accession_number"].isin(numbers) | (not several))
        table.loc[rows, "accession_number"] = decision["new"]


def _refuse_circle(standing, old, new):
    step = {r["old"]: r["new"] for r in standing[standing["kind"] == "patient_id"].to_dict("records")}
    here, seen = new.strip(), {old}
    while here in step:
        here = step[here]
        if here in seen:
            raise TableError("new: this would turn two patient IDs into each other in a circle; undo the earlier correction first.")
        seen.add(here)
