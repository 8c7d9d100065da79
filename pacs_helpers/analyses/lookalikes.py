"""Patients who are easily taken for each other: a list to be warned by, no findings."""

from collections import defaultdict
from itertools import combinations

import pandas as pd
from rapidfuzz.fuzz import ratio

from ..schemas import COUNT, INSTANT, MEASURE, TEXT
from ..tables import conform
from .identities import follow, merged_ids, require_tables
from .identity import LAST_PLACEHOLDER, SAME_NAME, edits, is_not_a_patient, is_temporary
from .peoplefaults import PLAIN_SEXES, people_told

SAME_DAY = pd.Timedelta(hours=12)
LOOKALIKES = {
    "patient_id": (TEXT, "one of the two"), "other_patient_id": (TEXT, "the other"), "score": (MEASURE, "0..1, how easily they are mixed up"),
    "reasons": (TEXT, "what they have in common, without saying it"), "n_same_day": (COUNT, "days on which both had an exam of one modality within 12 hours"),
    "last_same_day_at": (INSTANT, "the last of them"),
}


def list_lookalikes(dept):
    """Pairs of different patients with the same or nearly the same name and birth date, the likeliest to be mixed up first.

    Those who were examined on one modality within 12 hours of each other come before others like them. IDs that a merge joins are one patient;
    two IDs may still be one person registered twice (finding U12). Temporary names, phantoms and birth dates that stand for none are left out.
    """
    require_tables(dept, "patients", "orders", "studies")
    merged = merged_ids(dept.patients, dept.orders)
    people = [said[-1] for said in people_told(dept).values()]
    people = [p for p in people if p["patient_birth_date"] > LAST_PLACEHOLDER and not (follow(p, merged)[1] or is_temporary(p) or is_not_a_patient(p))]
    visits = _visits(dept, merged)
    rows = [row for one, other in _pairs(people) if (row := _pair(*sorted((one, other), key=lambda p: (p["patient_id"], p["issuer_of_patient_id"])), visits))]
    table = conform(rows, LOOKALIKES).sort_values(["score", "n_same_day", "patient_id", "other_patient_id"], ascending=[False, False, True, True])
    return conform(table.reset_index(drop=True), LOOKALIKES)


def _pairs(people):
    """Pairs of one birth date and family name, or of birth dates at most a digit or a swap apart and names alike that share their initials."""
    buckets, pairs = defaultdict(list), {}
    for p in people:
        born, initials = p["patient_birth_date"], "".join(part[0] for part in p["parts"].split())
        for date in {born[:i] + "*" + born[i + 1:] for i in range(len(born))} | {born[:4] + "".join(sorted(born[4:]))}:
            buckets[date, initials].append(p)
        buckets[born, _family(p)].append(p)
    for bucket in buckets.values():
        pairs.update({(id(one), id(other)): (one, other) for one, other in combinations(bucket, 2) if ratio(one["parts"], other["parts"]) >= SAME_NAME or _are_like_twins(one, other)})
    return pairs.values()


def _family(person):
    return person["patient_name"].partition("^")[0].strip().upper()


def _are_like_twins(one, other):
    return one["patient_birth_date"] == other["patient_birth_date"] and _family(one) == _family(other) != ""


def _pair(one, other, visits):
    born, is_alike = [p["patient_birth_date"] for p in (one, other)], ratio(one["parts"], other["parts"]) >= SAME_NAME
    is_same_day = born[0] == born[1]
    if not is_same_day and edits(*born) > 1 and born[0][:4] + born[0][6:] + born[0][4:6] != born[1]:
        return None
    is_same = one["parts"] == other["parts"]
    score = 0.3 * is_same_day + (0.3 if is_same else 0.2 if is_alike else 0.1)
    reasons = ["the same name" if is_same else "names alike" if is_alike else "the same family name",
               "the same birth date" if is_same_day else "birth dates one digit or a swap apart"]
    if edits(one["patient_id"], other["patient_id"]) <= 2:
        score += 0.1
        reasons.append("IDs alike")
    if {p["patient_sex"] for p in (one, other)} >= set(PLAIN_SEXES):
        score -= 0.1
        reasons.append("but another sex")
    theirs = visits[other["patient_id"]]
    met = [(modality, max(at, then)) for modality, at in visits[one["patient_id"]] for kind, then in theirs if kind == modality and abs(at - then) <= SAME_DAY]
    if met:
        reasons.append(f"both on {' and '.join(sorted({modality for modality, _ in met}))} on one day")
    return {"patient_id": one["patient_id"], "other_patient_id": other["patient_id"], "score": round(score + 0.3 * bool(met), 2), "reasons": "; ".join(reasons),
            "n_same_day": len({(modality, f"{at:%Y%m%d}") for modality, at in met}), "last_same_day_at": max((at for _, at in met), default=pd.NaT)}


def _visits(dept, merged):
    """`{patient id today: {(modality, at)}}` of the exams that were ordered for or made of somebody."""
    visits = defaultdict(set)
    for table, due, otherwise in ((dept.orders, "scheduled_at", "ordered_at"), (dept.studies, "started_at", "study_at")):
        at = table[due].fillna(table[otherwise])
        known = table[(table["patient_id"] != "") & (table["modality"] != "") & at.notna()]
        for pid, modality, when in zip(*(column.to_numpy(object) for column in (known["patient_id"], known["modality"], at.reindex(known.index)))):
            visits[merged.get(pid, pid)].add((modality, when))
    return visits
