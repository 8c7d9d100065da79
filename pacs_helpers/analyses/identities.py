"""Who an identity is today: merges, changed IDs, merges taken back and temporary names, followed through the feed in order of time."""

from collections import defaultdict
from itertools import combinations

import pandas as pd

from ..tables import TableError
from .identity import MAX_TYPO, edits, have_other_first_names, have_temporary_names, is_stranger, is_temporary, is_temporary_name, plain_id, same_birth_date, same_name

UNLINK = "A37"
CHANGES = ("A46", "A47")      # one patient gets another ID
MOVES = ("A43", "A44", "A45", "A50", "A51")      # an account or visit goes from the patient of MRG-1 to that of PID-3: both live on
WHO = ["patient_name", "patient_birth_date", "patient_sex"]
_FIRST = pd.Timestamp.min.tz_localize("UTC")


class Merges(dict):
    """`{prior id: surviving id}`, and what it stands on.

    `steps` are the messages in order of time, `issuers` those that a number is known under, `ends` maps `(issuer, prior id)` to `(issuer, id)` or None,
    `stands` to the step that says so, `named` to the step that gave a temporary identity its name, `temporary` are those that had such a name;
    `apart` maps pairs of ids that no merge joins any more to why, in words, `lives` a temporary identity given again to its merges in order of time.
    A step that `is_doubted` joins two people whom the feed tells apart by first name and birth date or sex: it stands nowhere.
    """

    steps, issuers, ends, stands, named, temporary, apart, lives = (), {}, {}, {}, {}, (), {}, {}


def merged_ids(patients, *others):
    """The Merges of the PATIENTS table: `{prior id: surviving id}` with chains A to B to C followed to their end.

    A merge that A37 or the reverse merge takes back maps nothing, nor does a circle, nor an ID that one instant gives to two, nor a merge of two
    people who are evidently different; a change of ID that is changed back leads to the first. A number known under two issuers is two people's: it
    maps only where all of them end as one. `others` are tables that tell people too. A temporary ID that was given again maps nothing by itself:
    `follow` looks at when.
    """
    merged, numbers = Merges(), defaultdict(set)
    tells = (patients["prior_patient_id"] != "") | (patients["trigger_event"] == UNLINK) | have_temporary_names(patients["patient_name"])
    patients = patients[patients["patient_id"].isin({*patients.loc[tells, "patient_id"], *patients.loc[tells, "prior_patient_id"]} - {""})]
    merged.issuers = known_issuers(patients)
    for pid, issuer in _issuers_of_strangers(patients, others):
        merged.issuers[pid] = {*merged.issuers.get(pid, ()), issuer}
    merged.steps = _steps(patients, merged.issuers)
    _doubt(merged.steps, _told_people((patients, *(t for t in others if "ordered_at" in t)), merged))
    merged.stands = _replay(merged.steps)
    merged.ends = _ends({key: None if step["is_contested"] else step["to"] for key, step in merged.stands.items()})
    for key, end in merged.ends.items():
        others = ((issuer, key[1]) for issuer in merged.issuers.get(key[1], ()))
        numbers[key[1]] |= {end, *(merged.ends.get(other, other) for other in others)}
    merged.update({pid: next(iter(ends))[1] for pid, ends in numbers.items() if len(ends) == 1 and None not in ends})
    merged.lives = _lives(merged.steps)
    for _, pid in merged.lives:
        merged.pop(pid, None)
    merged.apart = {frozenset(merged.get(pid, pid) for pid in (step["prior_patient_id"], step["patient_id"])):
                    f"a merge of the two is doubted, for they seem to be two people ({told(step)})" if step["is_doubted"] else f"a merge of the two was taken back ({told(step['undone_by'])})"
                    for step in merged.steps if step["undone_by"] or step["is_doubted"]}
    merged.named, merged.temporary = _names_given(patients, merged)
    return merged


def _issuers_of_strangers(patients, others):
    """`(id, issuer)` that other tables tell of an ID which a merge names, about somebody with another birth date than the merge's patient."""
    born = defaultdict(set)
    for prior, date in zip(patients["prior_patient_id"], patients["patient_birth_date"]):
        born[prior].add(date)
    for table in others:
        rows = table.loc[table["patient_id"].isin([pid for pid in born if pid]) & table["issuer_of_patient_id"].ne("") & table["patient_birth_date"].ne("")]
        for pid, issuer, date in zip(rows["patient_id"], rows["issuer_of_patient_id"], rows["patient_birth_date"]):
            if date not in born[pid] and "" not in born[pid]:
                yield pid, _plain(issuer)


def _told_people(tables, merged):
    """`{key: records}` of what registration and orders say of those that a step joins."""
    people, ids, who = defaultdict(list), {step[end] for step in merged.steps for end in ("prior_patient_id", "patient_id")}, ["patient_id", "issuer_of_patient_id", *WHO]
    for table in tables if ids else ():
        for row in table.loc[table["patient_id"].isin(ids) & table["patient_name"].ne(""), who].drop_duplicates().to_dict("records"):
            people[key_of(row, merged.issuers)].append(row)
    return people


def _doubt(steps, people):
    """Marks the steps that join two people: no record of the one fits any of the other. A temporary identity becomes somebody else by right."""
    for step in steps:
        pairs = [(one, other) for one in people[step["from"]] for other in people[step["to"]]]
        is_doubted = pairs and all(is_stranger(*pair) and have_other_first_names(*pair) and not any(map(is_temporary, pair)) for pair in pairs)
        step["is_doubted"] = bool(is_doubted) and step["trigger_event"] != UNLINK


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
    if key in merged.lives:
        at = next((person[name] for name in ("started_at", "study_at", "ordered_at", "message_at") if pd.notna(person.get(name, pd.NaT))), pd.NaT)
        step = next((step for step in merged.lives[key] if step["when"] >= at), None)
        return (merged.ends.get(step["to"]) or step["to"])[1] if step else key[1], step
    if key in merged.ends and (len(merged.issuers.get(key[1], ())) > 1 or key[1] in merged):
        return (merged.ends[key][1], merged.stands[key]) if merged.ends[key] else (key[1], None)
    return key[1], None


def current_id(person, merged):
    """The ID that a record's patient has today."""
    return follow(person, merged)[0] if merged.lives and key_of(person, merged.issuers) in merged.lives else merged.get(person["patient_id"], person["patient_id"])


def told(step):
    """The message that a step stands on, in words."""
    return f"{step['trigger_event'] or 'no trigger event'}, message {step['message_control_id'] or 'without control ID'}"


def compare_ids(study, partner, merged, known):
    """`(code, confidence, evidence)` of how a study's patient differs from its partner's in the HL7 feed, or None.

    Codes in order of precedence: U05c (merged id), U05d (temporary; `U05d named` once it has a name), U05b (spelling), U05e (another known person;
    `U05e apart` where a merge that was taken back, or is doubted, moved the images), U05a (typo).
    """
    sid, pid = study["patient_id"], partner["patient_id"] if partner else ""
    if sid != pid and partner and is_stranger(study, partner):
        if sid in known and sid not in merged:
            return "U05e", 0.9, f"images carry {sid}, the ID of another known patient; the exam belongs to {merged.get(pid, pid)}"
        whose = f"images carry {sid}" if sid else "images carry no patient ID"
        return "U05e", 0.9, f"{whose} and another person's name and birth date or sex than the exam, which belongs to {merged.get(pid, pid)}"
    now, step = follow(study, merged)
    if step:
        return "U05c", 0.95, f"images carry {sid}, which was merged into {now} ({told(step)}{'' if now == step['patient_id'] else ', and later ones'}); the archive still has the old ID"
    pid = merged.get(pid, pid)
    if named := is_temporary(study) and merged.named.get(key_of(study, merged.issuers)):
        if is_temporary_name(study["patient_name"]):
            return "U05d named", 0.95, f"images are filed under the temporary identity {sid}, which has a name since ({told(named)})" + (f"; the exam belongs to {pid}" if pid and pid != sid else "")
    elif is_temporary(study):
        return "U05d", 0.9, f"images are filed under the temporary identity {sid or '(no ID)'}" + (f"; the exam belongs to {pid}" if pid and pid != sid else "")
    # Images without an issuer cannot say which of two people with one number they mean.
    if not pid or sid == pid or sid == pid.partition("^")[0]:
        return None
    if why := merged.apart.get(frozenset((sid, pid))):
        return "U05e apart", 0.95, f"images carry {sid}, the exam belongs to {pid}: {why}"
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
        swap = "two neighbouring characters swapped" if n == 1 and len(sid) == len(pid) and sorted(sid) == sorted(pid) else how_many_differ(n)
        return "U05a", 0.6 + 0.15 * len(agree), f"images say {sid}, the feed says {pid}: {swap}" + (f"; {' and '.join(agree)} agree{'s' * (len(agree) == 1)}" if agree else "")
    if name_agrees and born_agrees:
        return "U05b", 0.6, f"images say {sid}, the feed says {pid}; name and birth date agree, so this may be another system's number"
    return "U05e", 0.6, f"images carry {sid}, unknown to the feed, under another name or birth date; the exam belongs to {pid}"


def how_many_differ(n):
    return f"{n} character{' differs' if n == 1 else 's differ'}"


def require_tables(dept, *names):
    """Nothing; TableError when `dept` lacks one of these tables of a Department."""
    for name in names:
        if not hasattr(dept, name):
            raise TableError(f"dept: a Department with its table {name} is needed, such as build_department makes, not {type(dept).__name__}.")


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
            "when": at, "is_contested": False, "is_doubted": False, "undone_by": None, "undoes": [], "later": None}


def _order(step):
    return step["when"], step["trigger_event"] == UNLINK, step["prior_patient_id"], step["patient_id"], step["trigger_event"], step["message_control_id"]


def _replay(steps):
    """`{prior key: step}` of what stands after all steps; marks what was undone, said otherwise later, or said twice at once."""
    stands = {}
    for step in (step for step in steps if not step["is_doubted"]):
        one, other = step["from"], step["to"]
        if _is_changed_back(step, stands):
            stands.pop(other)["later"] = step
            stands[one] = step
        elif step["trigger_event"] == UNLINK or other in stands and stands[other]["to"] == one:
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


def _is_changed_back(step, stands):
    """Whether one patient's ID, changed once or more, becomes again what it was."""
    here, seen = step["to"], set()
    while here in stands and here not in seen and stands[here]["trigger_event"] in CHANGES:
        seen.add(here)
        here = stands[here]["to"]
    return step["trigger_event"] in CHANGES and bool(seen) and here == step["from"]


def _lives(steps):
    """`{key: steps}` of temporary identities that were merged into several people, one after another: each merge ends one life of the ID."""
    lives = defaultdict(list)
    for step in steps:
        if step["trigger_event"] != UNLINK and step["undone_by"] is None and not step["is_doubted"] and is_temporary({"patient_id": step["from"][1], "patient_name": ""}):
            lives[step["from"]].append(step)
    return {key: some for key, some in lives.items() if len({step["to"] for step in some}) > 1 and len({step["when"] for step in some}) == len(some)}


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
