"""Who an identity is today: merges, changed IDs, merges taken back and temporary names, followed through the feed in order of time."""

from collections import Counter, defaultdict
from itertools import combinations

import pandas as pd

from ..schemas import COUNT, FLAG, INSTANT, TEXT
from ..tables import TableError, conform
from .identity import MAX_TYPO, edits, have_temporary_names, is_temporary, is_temporary_name, plain_id, same_birth_date, same_name

UNLINK = "A37"
MOVES = ("A43", "A44", "A45", "A50", "A51")      # an account or visit goes from the patient of MRG-1 to that of PID-3: both live on
STEPS = {
    "at": (INSTANT, "EVN-2, else MSH-7"), "trigger_event": (TEXT, "A40, A47, A37, A08 ..."), "issuer_of_patient_id": (TEXT, "PID-3.4"),
    "prior_patient_id": (TEXT, "MRG-1; where a name was given, the ID itself"), "patient_id": (TEXT, "PID-3.1"), "message_control_id": (TEXT, "MSH-10"),
    "current_id": (TEXT, "where the prior ID ends today"), "is_temporary": (FLAG, "the prior ID, or a name it had, is one given before anybody knows who somebody is"),
    "is_undone": (FLAG, "a later message took it back"), "n_studies": (COUNT, "studies in the archive that a step that stands was not applied to"), "evidence": (TEXT, "one sentence"),
}
_FIRST = pd.Timestamp.min.tz_localize("UTC")


class Merges(dict):
    """`{prior id: surviving id}`, and what it stands on.

    `steps` are the messages in order of time, `issuers` those that a number is known under, `ends` maps `(issuer, prior id)` to `(issuer, id)` or None,
    `stands` to the step that says so, `named` to the step that gave a temporary identity its name, `temporary` are those that had such a name;
    `undone` maps pairs of ids to the step that took their merge back.
    """

    steps, issuers, ends, stands, named, temporary, undone = (), {}, {}, {}, {}, (), {}


def merged_ids(patients):
    """The Merges of the PATIENTS table: `{prior id: surviving id}` with chains A to B to C followed to their end.

    A merge that A37 or the reverse merge takes back maps nothing, nor does a circle, nor an ID that one instant gives to two. A number known under
    two issuers is two people's: it maps only where all of them end as one.
    """
    merged, numbers = Merges(), defaultdict(set)
    tells = (patients["prior_patient_id"] != "") | (patients["trigger_event"] == UNLINK) | have_temporary_names(patients["patient_name"])
    patients = patients[patients["patient_id"].isin({*patients.loc[tells, "patient_id"], *patients.loc[tells, "prior_patient_id"]} - {""})]
    merged.issuers = known_issuers(patients)
    merged.steps = _steps(patients, merged.issuers)
    merged.stands = _replay(merged.steps)
    merged.ends = _ends({key: None if step["is_contested"] else step["to"] for key, step in merged.stands.items()})
    for key, end in merged.ends.items():
        others = ((issuer, key[1]) for issuer in merged.issuers.get(key[1], ()))
        numbers[key[1]] |= {end, *(merged.ends.get(other, other) for other in others)}
    merged.update({pid: next(iter(ends))[1] for pid, ends in numbers.items() if len(ends) == 1 and None not in ends})
    merged.undone = {frozenset(merged.get(pid, pid) for pid in (step["prior_patient_id"], step["patient_id"])): step["undone_by"] for step in merged.steps if step["undone_by"]}
    merged.named, merged.temporary = _names_given(patients, merged)
    return merged


def known_issuers(people):
    """`{id: {issuer}}` of the numbers in a table whose issuer is told; MRG-1 has none of its own, so that of the message counts where nothing else does."""
    known, rest, rows = defaultdict(set), defaultdict(set), people[people["issuer_of_patient_id"] != ""].drop_duplicates(["patient_id", "issuer_of_patient_id"])
    for pid, issuer in zip(rows["patient_id"].to_numpy(object), rows["issuer_of_patient_id"].to_numpy(object)):
        known[pid].add(_plain(issuer))
    rows = people[people["prior_patient_id"].ne("") & people["issuer_of_patient_id"].ne("")] if "prior_patient_id" in people else people.iloc[:0]
    for row in rows.to_dict("records"):
        rest[row["prior_patient_id"]].add(_plain(row["issuer_of_patient_id"]))
    return {**rest, **known}


def key_of(person, issuers):
    """`(issuer, id)` of a record's patient. An issuer that is not told, or unheard of for this number, is the only one that the feed knows it under."""
    pid, issuer = person["patient_id"], person["issuer_of_patient_id"]
    return _key(qualified if (qualified := f"{pid}^{issuer}") in issuers else pid, issuer, issuers)


def follow(person, merged):
    """`(id today, step)` of a record's patient: the surviving ID and the step that says so, or its own ID and None."""
    key = key_of(person, merged.issuers)
    if key in merged.ends and (len(merged.issuers.get(key[1], ())) > 1 or key[1] in merged):
        return (merged.ends[key][1], merged.stands[key]) if merged.ends[key] else (key[1], None)
    return key[1], None


def told(step):
    """The message that a step stands on, in words."""
    return f"{step['trigger_event'] or 'no trigger event'}, message {step['message_control_id'] or 'without control ID'}"


def compare_ids(study, partner, merged, known):
    """`(code, confidence, evidence)` of how a study's patient differs from its partner's in the HL7 feed, or None.

    Codes in order of precedence: U05c (merged id), U05d (temporary; `U05d named` once it has a name), U05b (spelling), U05e (another known person;
    `U05e undone` where a merge that was taken back moved the images), U05a (typo).
    """
    sid, pid = study["patient_id"], partner["patient_id"] if partner else ""
    now, step = follow(study, merged)
    if step:
        return "U05c", 0.95, f"images carry {sid}, which was merged into {now} ({told(step)}{'' if now == step['patient_id'] else ', and later ones'}); the archive still has the old ID"
    pid = merged.get(pid, pid)
    if named := is_temporary(study) and merged.named.get(key_of(study, merged.issuers)):
        if is_temporary_name(study["patient_name"]):
            return "U05d named", 0.95, f"images are filed under the temporary identity {sid}, which has a name since ({told(named)})" + (f"; the exam belongs to {pid}" if pid and pid != sid else "")
    elif is_temporary(study):
        return "U05d", 0.9, f"images are filed under the temporary identity {sid or '(no ID)'}" + (f"; the exam belongs to {pid}" if pid and pid != sid else "")
    if not pid or sid == pid:
        return None
    if undone := merged.undone.get(frozenset((sid, pid))):
        return "U05e undone", 0.95, f"images carry {sid}, the exam belongs to {pid}: a merge of the two was taken back ({told(undone)}), and one of them has not followed"
    if not sid:
        return "U05a", 0.8, f"images carry no patient ID; the exam belongs to {pid}"
    if plain_id(sid) == plain_id(pid):
        return "U05b", 0.95, f"images say {sid}, the feed says {pid}: the same number, written differently"
    return _other_id(study, partner, sid, pid, known)


def _other_id(study, partner, sid, pid, known):
    name_agrees = same_name(study["patient_name"], partner["patient_name"])
    born_agrees = same_birth_date(study["patient_birth_date"], partner["patient_birth_date"])
    if sid in known:
        return "U05e", 0.9, f"images carry {sid}, the ID of another known patient; the exam belongs to {pid}"
    n = edits(sid, pid)
    if n <= MAX_TYPO:
        agree = [w for w, ok in (("name", name_agrees), ("birth date", born_agrees)) if ok]
        swap = "two neighbouring characters swapped" if n == 1 and len(sid) == len(pid) and sorted(sid) == sorted(pid) else f"{n} character{'s' if n > 1 else ''} differ"
        return "U05a", 0.6 + 0.15 * len(agree), f"images say {sid}, the feed says {pid}: {swap}" + (f"; {' and '.join(agree)} agree" if agree else "")
    if name_agrees and born_agrees:
        return "U05b", 0.6, f"images say {sid}, the feed says {pid}; name and birth date agree, so this may be another system's number"
    return "U05e", 0.6, f"images carry {sid}, unknown to the feed, under another name or birth date; the exam belongs to {pid}"


def require_tables(dept, *names):
    """Nothing; TableError when `dept` lacks one of these tables of a Department."""
    for name in names:
        if not hasattr(dept, name):
            raise TableError(f"dept: a Department with its table {name} is needed, such as build_department makes, not {type(dept).__name__}.")


def trace_identities(dept, patient_id=None):
    """What became of each identity, one row per step in order of time: merges, changed IDs, merges taken back, and names given to temporary identities.

    With `patient_id` the steps of that person alone, under all IDs it ever had. An ID that no step names has none.
    """
    if patient_id is not None and not isinstance(patient_id, str):
        raise TableError(f"patient_id: give the ID as text, in quotes with its leading zeros, not as {type(patient_id).__name__}.")
    require_tables(dept, "patients", "studies")
    merged = merged_ids(dept.patients)
    n_left, mine = _left_behind(dept.studies, merged), _ids_of(patient_id, merged.steps)
    rows = [{**{c: step[c] for c in list(STEPS)[:6]}, "current_id": (merged.ends.get(step["from"]) or step["from"])[1], "is_undone": step["undone_by"] is not None,
             "is_temporary": step["from"] in merged.temporary or is_temporary({"patient_id": step["prior_patient_id"], "patient_name": ""}),
             "n_studies": n_left[id(step)], "evidence": _words(step, merged, n_left[id(step)])} for step in merged.steps if patient_id is None or step["patient_id"] in mine]
    return conform(rows, STEPS)


def _plain(issuer):
    return issuer.strip().upper()


def _key(pid, issuer, issuers):
    known = issuers.get(pid, ())
    return (next(iter(known)), pid) if len(known) == 1 else (_plain(issuer), pid)


def _steps(patients, issuers):
    """Merges, changes of ID and their undoing, in order of time; what shares an instant is in an order of its own, whatever that of the rows."""
    is_unlink = patients["trigger_event"] == UNLINK
    tells = (patients["prior_patient_id"] != "") & (patients["prior_patient_id"] != patients["patient_id"]) & ~patients["trigger_event"].isin(MOVES)
    steps, pairs = [_step(row, row["prior_patient_id"], issuers) for row in patients[tells].to_dict("records")], defaultdict(dict)
    for row in patients[is_unlink & ~tells & (patients["patient_id"] != "")].to_dict("records"):        # A37 has no MRG but a PID for each of the two
        if row["message_control_id"] or row["source_file"]:
            pairs[row["source_file"], str(row["source_offset"]), row["message_control_id"]][row["patient_id"]] = row
    steps += [_step(rows[new], old, issuers) for rows in pairs.values() for old, new in combinations(sorted(rows), 2)]
    return sorted(steps, key=_order)


def _step(row, prior, issuers):
    at = row["at"] if pd.notna(row["at"]) else _FIRST
    return {**row, "prior_patient_id": prior, "from": _key(prior, row["issuer_of_patient_id"], issuers), "to": _key(row["patient_id"], row["issuer_of_patient_id"], issuers),
            "when": at, "is_contested": False, "undone_by": None, "undoes": [], "later": None}


def _order(step):
    return step["when"], step["trigger_event"] == UNLINK, step["prior_patient_id"], step["patient_id"], step["trigger_event"], step["message_control_id"]


def _replay(steps):
    """`{prior key: step}` of what stands after all steps; marks what was undone, said otherwise later, or said twice at once."""
    stands = {}
    for step in steps:
        one, other = step["from"], step["to"]
        if step["trigger_event"] == UNLINK or other in stands and stands[other]["to"] == one:
            for here, there in ((one, other), (other, one)):
                if there in _path(here, stands):
                    step["undoes"].append(stands[here])
                    stands.pop(here)["undone_by"] = step
        else:
            if earlier := stands.get(one):
                earlier["later"] = step
                step["is_contested"] = earlier["when"] == step["when"] and (earlier["is_contested"] or earlier["to"] != other)
            stands[one] = step
    return stands


def _path(here, stands):
    seen = {}
    while here in stands and here not in seen:
        seen[here] = here = stands[here]["to"]
    return seen.values()


def _ends(into):
    ends = {}
    for here in into:
        path = {}
        while here in into and here not in ends and here not in path:
            path[here] = here = into[here]
        end = None if here in path else ends.get(here, here)
        ends.update(dict.fromkeys(path, end))
    return ends


def _names_given(patients, merged):
    """`({key: step}, keys)`: temporary identities that have a name by now, and all that once had a temporary one. Adds the steps to `merged.steps`."""
    temporary = {name: is_temporary_name(name) for name in patients["patient_name"].unique()}
    rows = [_step(row, row["patient_id"], merged.issuers) for row in patients[(patients["patient_id"] != "") & (patients["patient_name"] != "")].to_dict("records")]
    named, nameless, once = {}, set(), set()
    for step in sorted(rows, key=lambda step: (step["when"], not temporary[step["patient_name"]], *_order(step))):
        key = step["to"]
        if temporary[step["patient_name"]]:
            nameless.add(key)
            once.add(key)
            if key in named:
                named.pop(key)["undone_by"] = step
        elif key in nameless:
            nameless.remove(key)
            named[key] = step
            merged.steps.append(step)
    merged.steps.sort(key=_order)
    return named, once


def _left_behind(studies, merged):
    """How many studies each step that stands was not applied to, by the step's id()."""
    wanted = {pid for _, pid in (*merged.ends, *merged.named)}
    n = Counter()
    for study in studies.loc[studies["patient_id"].isin(wanted), ["patient_id", "issuer_of_patient_id", "patient_name"]].to_dict("records"):
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
    if step["undone_by"]:
        return f"{said}, and that was taken back ({told(step['undone_by'])}): both are alive."
    if step["later"] and not step["is_contested"] and merged.stands.get(step["from"]) is not step:
        return f"{said}; a later message says {step['later']['patient_id']} ({told(step['later'])})."
    if end is None:
        return f"{said}, and other messages contradict it: nobody is followed; ask registration."
    return said + (f"; today it is {end[1]}" if end[1] != pid else "") + left + "."
