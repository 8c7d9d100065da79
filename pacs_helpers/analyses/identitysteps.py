"""What became of each identity, step by step, in words."""

from collections import Counter

from ..schemas import COUNT, FLAG, INSTANT, TEXT
from ..tables import TableError, conform
from .identities import UNLINK, follow, key_of, merged_ids, require_tables, told
from .identity import is_temporary, is_temporary_name

STEPS = {
    "at": (INSTANT, "EVN-2, else MSH-7"), "trigger_event": (TEXT, "A40, A47, A37, A08 ..."), "issuer_of_patient_id": (TEXT, "PID-3.4"),
    "prior_patient_id": (TEXT, "MRG-1; where a name was given, the ID itself"), "patient_id": (TEXT, "PID-3.1"), "message_control_id": (TEXT, "MSH-10"),
    "current_id": (TEXT, "where the prior ID ends today"), "is_temporary": (FLAG, "the prior ID, or a name it had, is one given before anybody knows who somebody is"),
    "is_undone": (FLAG, "a later message took it back"), "n_studies": (COUNT, "studies in the archive that a step that stands was not applied to"), "evidence": (TEXT, "one sentence"),
}


def trace_identities(dept, patient_id=None):
    """What became of each identity, one row per step in order of time: merges, changed IDs, merges taken back, and names given to temporary identities.

    With `patient_id` the steps of that person alone, under all IDs it ever had. An ID that no step names has none.
    """
    if patient_id is not None and not isinstance(patient_id, str):
        raise TableError(f"patient_id: give the ID as text, in quotes with its leading zeros, not as {type(patient_id).__name__}.")
    require_tables(dept, "patients", "studies")
    merged = merged_ids(dept.patients, dept.orders, dept.reports)
    n_left, mine = _left_behind(dept.studies, merged), _ids_of(patient_id, merged.steps)
    rows = [{**{c: step[c] for c in list(STEPS)[:6]}, "current_id": (merged.ends.get(step["from"]) or step["from"])[1], "is_undone": step["undone_by"] is not None,
             "is_temporary": step["from"] in merged.temporary or is_temporary({"patient_id": step["prior_patient_id"], "patient_name": ""}),
             "n_studies": n_left[id(step)], "evidence": _words(step, merged, n_left[id(step)])} for step in merged.steps if patient_id is None or step["patient_id"] in mine]
    return conform(rows, STEPS)


def _left_behind(studies, merged):
    """How many studies each step that stands was not applied to, by the step's id()."""
    wanted = {pid for _, pid in (*merged.ends, *merged.named)}
    n = Counter()
    for study in studies.loc[studies["patient_id"].isin(wanted), ["patient_id", "issuer_of_patient_id", "patient_name", "started_at", "study_at"]].to_dict("records"):
        step = follow(study, merged)[1] or is_temporary_name(study["patient_name"]) and merged.named.get(key_of(study, merged.issuers))
        n[id(step or None)] += 1
    return n


def _ids_of(patient_id, steps):
    ids, size = {patient_id}, 0
    while len(ids) > size:
        size = len(ids)
        for step in steps:
            if ids & (pair := {step["prior_patient_id"], step["patient_id"]}):
                ids |= pair
    return ids


def _words(step, merged, n):
    prior, pid, end = step["prior_patient_id"], step["patient_id"], merged.ends.get(step["from"])
    left = f"; {n} {'study' if n == 1 else 'studies'} in the archive still {'has' if n == 1 else 'have'} the old {'name' if prior == pid else 'ID'}" if n else ""
    if prior == pid:
        return f"Name given to the temporary identity {pid} ({told(step)})" + (f", and taken back ({told(step['undone_by'])})" if step["undone_by"] else left) + "."
    if step["undoes"] or step["trigger_event"] == UNLINK:
        return f"{prior} and {pid} are two people ({told(step)}): " + ("a merge of them is taken back." if step["undoes"] else "no merge of them is known.")
    said = f"{prior} became {pid} ({told(step)})"
    if step["is_doubted"]:
        return f"{said}, but the feed has another name and another birth date or sex for each: they seem to be two people, and nobody is followed; ask registration."
    if step["undone_by"]:
        return f"{said}, and that was taken back ({told(step['undone_by'])}): both are alive."
    if step["later"] and not step["is_contested"] and merged.stands.get(step["from"]) is not step:
        return f"{said}; a later message says {step['later']['patient_id']} ({told(step['later'])})."
    if end is None:
        return f"{said}, and other messages contradict it: nobody is followed; ask registration."
    return said + (f"; today it is {end[1]}" if end[1] != pid else "") + left + "."
