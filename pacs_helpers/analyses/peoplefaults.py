"""What is wrong with the records of people: U12 (one person registered twice), U17 (one ID, other demographics on the images)."""

from collections import defaultdict
from itertools import combinations

import pandas as pd

from .disagreements import CLEAN
from .identity import edits, is_not_a_patient, is_temporary, plain_id, same_name
from .unmatched import describe_finding

PLAIN_SEXES = ("F", "M")
_NEVER = pd.Timestamp.max.tz_localize("UTC")


def find_people_faults(dept, links):
    """Findings U12, one per pair of IDs, and U17, one per study."""
    yield from _registered_twice(dept, links)
    for s, study in enumerate(links.studies):
        if not is_not_a_patient(study) and (found := _other_demographics(s, study, links)):
            yield found


def _registered_twice(dept, links):
    people, mixed_up = _people(dept), _mixed_up(links)
    by_birth_date = defaultdict(list)
    for pid, person in people.items():
        if person["birth_date"] and pid not in links.merged and not is_temporary({"patient_id": pid, "patient_name": person["name"]}):
            by_birth_date[person["birth_date"]].append(pid)
    for ids in by_birth_date.values():
        for one, other in combinations(sorted(ids, key=lambda pid: people[pid]["at"]), 2):
            if plain_id(one) != plain_id(other) and frozenset((one, other)) not in mixed_up and _is_one_person(people[one], people[other]):
                yield _twins(one, other, people, links)


def _mixed_up(links):
    """Pairs of IDs that images, order and report of one exam have: a finding about that exam names them already."""
    exams = [(links.studies[s], links.orders[o]) for o, (_, hits) in enumerate(links.of_order) for s in hits]
    exams += [(links.studies[s], links.reports[r]) for r, (_, hits) in enumerate(links.of_report) for s in hits]
    exams += [(links.orders[o], links.reports[r]) for number, rows in links.reports_by_accession.items() for r in rows for o in links.orders_by_accession.get(number, [])]
    return {frozenset((one["patient_id"], other["patient_id"])) for one, other in exams}


def _people(dept):
    """`{patient_id: name, birth_date, sex, at}` of everybody that registration or an order names, as it was said first."""
    people = {}
    for table, when in ((dept.patients, "at"), (dept.orders, "ordered_at")):
        for row in table.to_dict("records"):
            at = row[when] if pd.notna(row[when]) else _NEVER
            if row["patient_id"] and row["patient_name"]:
                known = people.setdefault(row["patient_id"], {"name": row["patient_name"], "birth_date": row["patient_birth_date"], "sex": row["patient_sex"], "at": at})
                known["at"] = min(known["at"], at)
    return people


def _is_one_person(one, other):
    """Names alike but for one keystroke or the order of their parts, and no other sex: twins have other first names."""
    names = [_parts(person["name"]) for person in (one, other)]
    sexes = {person["sex"] for person in (one, other)} & set(PLAIN_SEXES)
    return len(sexes) < 2 and (names[0] == names[1] or min(map(len, names)) >= 6 and edits(*names) <= 1)


def _parts(name):
    """The parts of a name in one order."""
    return " ".join(sorted(name.upper().replace("^", " ").split()))


def _twins(one, other, people, links):
    orders = [o for pid in (other, one) for i in links.orders_by_patient.get(pid, []) for o in [links.orders[i]] if o["accession_number"]]
    last = max(orders, key=lambda o: (pd.notna(o["ordered_at"]), o["ordered_at"]), default=None)
    found_at = max(people[one]["at"], people[other]["at"])
    is_same = _parts(people[one]["name"]) == _parts(people[other]["name"])
    return describe_finding(
        "U12", accession=last["accession_number"] if last else "", found_at=pd.NaT if found_at == _NEVER else found_at, owner="registration", confidence=0.7,
        evidence=f"IDs {one} and {other} have the same birth date and {'the same name' if is_same else 'names one keystroke apart'}, and no merge joins them",
        correction="Let the patient index team decide whether they are one person, and merge them there; do not join them in the archive")


def _other_demographics(s, study, links):
    orders = [links.orders[o] for o in links.orders_of.get(s, []) if links.of_order[o][0] in CLEAN]
    partner = next((o for o in orders if o["patient_id"] and links.merged.get(o["patient_id"], o["patient_id"]) == study["patient_id"]), None)
    if partner is None:
        return None
    conflicts = [word for word, column in (("birth date", "patient_birth_date"), ("sex", "patient_sex"))
                 if study[column] and partner[column] and study[column] != partner[column] and (column != "patient_sex" or {study[column], partner[column]} <= set(PLAIN_SEXES))]
    if not conflicts:
        return None
    if not same_name(study["patient_name"], partner["patient_name"]):
        return describe_finding(
            "U05e", accession=study["accession_number"], studies=[study], found_at=study["study_at"], owner="technologist", confidence=0.6 + 0.15 * len(conflicts),
            evidence=f"patient ID and accession agree with the order, but name and {' and '.join(conflicts)} on the images are another person's",
            correction="Quarantine the study, call the technologist and its supervisor, and move it only when the patient is certain")
    return describe_finding(
        "U17", accession=partner["accession_number"], studies=[study], found_at=study["study_at"], owner="registration", confidence=0.85,
        evidence=f"images and order have one patient ID and name, and the {' and '.join(conflicts)} differ{'' if len(conflicts) > 1 else 's'}",
        correction="Find which is right with registration, then have the other system take the update (A08)")
