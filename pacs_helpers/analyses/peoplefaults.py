"""What is wrong with the records of people: U12 (one person registered twice, or one ID for two), U17 (one ID, other demographics on images or report)."""

from collections import defaultdict
from itertools import combinations

import pandas as pd

from .identities import follow, key_of, known_issuers, told
from .identity import are_wholly_other_names, edits, have_other_first_names, is_not_a_patient, is_temporary, is_temporary_name, name_parts, plain_id, same_name
from .unmatched import describe_finding
from .wrongpatients import CLEAN, PLAIN_SEXES, contradictions, other_demographics

MOST_VERSIONS = 30      # of one ID that are held against each other
SHORT_NAME = 6          # letters, below which one keystroke makes another name
_NEVER = pd.Timestamp.max.tz_localize("UTC")
_WHO = ["patient_id", "issuer_of_patient_id", "patient_name", "patient_birth_date", "patient_sex"]


def find_people_faults(dept, links, fits):
    """Findings U12, one per person with several IDs, per ID with several people and per merge of two people, and U17, one per study and per exam for its reports.

    `fits` are the studies that nothing can be said against.
    """
    people, accused = people_told(dept), set()
    for said, evidence, correction in (*_registered_twice(people, links), *_two_people(people), *_wrongly_merged(links.merged.steps)):
        orders = [links.orders[o] for pid in {v["patient_id"] for v in said} for o in links.orders_by_patient.get(pid, [])]
        last = max(((pd.notna(o["ordered_at"]), o["ordered_at"].value, o["accession_number"]) for o in orders if o["accession_number"]), default=(0, 0, ""))[2]
        found_at = said[-1]["at"]
        # Two findings about one exam, or about none, must not pass for one.
        messages = said if not last or last in accused else []
        accused.add(last)
        yield describe_finding("U12", accession=last, messages=messages, found_at=found_at, owner="registration", confidence=0.7, evidence=evidence, correction=correction)
    names = defaultdict(set)
    for (_, pid), said in people.items():
        names[pid] |= {v["patient_name"] for v in said}
    for s, study in ((s, links.studies[s]) for s in range(len(links.studies)) if s not in fits):
        if not is_not_a_patient(study) and (found := _other_demographics(s, study, links, names)):
            yield found
    yield from _other_names_in_reports(links, names)


def people_told(dept):
    """`{(issuer, id): versions}` of everybody that registration or an order names: each distinct name, birth date and sex, as first said, in order of time."""
    tables = [table.rename(columns={when: "at"})[[*_WHO, "at", "message_control_id"]] for table, when in ((dept.patients, "at"), (dept.orders, "ordered_at"))]
    rows = pd.concat(tables, ignore_index=True)
    rows = rows[(rows["patient_id"] != "") & (rows["patient_name"] != "")].sort_values("message_control_id").sort_values("at", kind="stable").drop_duplicates(_WHO)
    issuers = known_issuers(rows)
    columns, people = [*_WHO, "message_control_id", "at"], defaultdict(list)
    for _, *values in sorted(zip(rows["at"].fillna(_NEVER).astype("int64"), *(rows[column].to_numpy(object) for column in columns))):
        version = dict(zip(columns, values), parts=name_parts(values[2]))
        people[key_of(version, issuers)].append(version)
    return people


def _registered_twice(people, links):
    """`(first versions, evidence, correction)` of IDs that seem to be one person's, in order of time."""
    firsts = [first for first, *_ in people.values() if first["patient_birth_date"] and not follow(first, links.merged)[1] and not is_temporary(first)]
    twice = [pair for pair in _near_pairs(firsts) if _is_one_person(*pair) and plain_id(pair[0]["patient_id"]) != plain_id(pair[1]["patient_id"])]
    settled, groups = _mixed_up(links) | set(links.merged.apart) if twice else set(), {}
    for one, other in twice:
        if frozenset((one["patient_id"], other["patient_id"])) not in settled:
            group = {id(v): v for v in (*groups.get(id(one), [one]), *groups.get(id(other), [other]))}
            groups.update(dict.fromkeys(group, list(group.values())))
    for said in {id(group): group for group in groups.values()}.values():
        said = sorted(said, key=lambda v: (pd.isna(v["at"]), v["at"].value, v["patient_id"]))
        ids = " and ".join(filter(None, (", ".join(v["patient_id"] for v in said[:-1]), said[-1]["patient_id"])))
        names = "the same name" if len({v["parts"] for v in said}) == 1 else "names one keystroke apart"
        yield (said, f"IDs {ids} have the same birth date and {names}, and no merge joins them",
               "Let the patient index team decide whether they are one person, and merge them there; do not join them in the archive")


def _near_pairs(persons):
    """Pairs of one birth date whose names begin or end alike, as names one keystroke apart do: comparing everybody with everybody would never end."""
    buckets, pairs = defaultdict(list), {}
    for person in persons:
        buckets[person["patient_birth_date"], person["parts"][:2], 0].append(person)
        buckets[person["patient_birth_date"], person["parts"][-2:], 1].append(person)
    for bucket in buckets.values():
        if len(bucket) > 1:
            pairs.update({(id(one), id(other)): (one, other) for one, other in combinations(bucket, 2)})
    return pairs.values()


def _two_people(people):
    """`(versions, evidence, correction)` of each ID under which the feed has two people: other first name and other birth date, each more than a correction."""
    for (_, pid), versions in people.items():
        if len(versions) > 1:
            real = [v for v in versions if v["patient_birth_date"] and not is_temporary_name(v["patient_name"])][:MOST_VERSIONS]
            pair = next((pair for pair in combinations(real, 2) if _are_two(*pair)), None)
            if pair:
                yield (pair, f"ID {pid} stands for two people: the feed has two birth dates and two names under it, and neither is the other misspelt, married or temporary",
                       "Ask registration whose ID it is and have the other person given one; hold images and reports under it until each is with its own")


def _wrongly_merged(steps):
    """`([the merge], evidence, correction)` of each that joins two people whom the feed tells apart."""
    for step in steps:
        if step["is_doubted"]:
            yield ([step], f"a merge joins IDs {step['prior_patient_id']} and {step['patient_id']} ({told(step)}), and the feed has another first name and another birth date or sex for each: "
                   "it is not followed here", "Ask registration whether they are one person; if not, have the merge taken back (A37) there and wherever it was applied")


def _are_two(one, other):
    return have_other_first_names(one, other) and edits(one["patient_birth_date"], other["patient_birth_date"]) > 1


def _mixed_up(links):
    """Pairs of IDs that images, order and report of one exam have: a finding about that exam names them already."""
    imaged, ordered, reported = (rows.column("patient_id").tolist() for rows in (links.studies, links.orders, links.reports))
    pairs = {(imaged[s], pid) for pids, of_item in ((ordered, links.of_order), (reported, links.of_report)) for pid, (_, hits) in zip(pids, of_item) for s in hits if imaged[s] != pid}
    pairs |= {(ordered[o], reported[r]) for number, rows in links.reports_by_accession.items() for r in rows for o in links.orders_by_accession.get(number, ()) if ordered[o] != reported[r]}
    return {frozenset(pair) for pair in pairs}


def _is_one_person(one, other):
    """Names alike but for one keystroke or the order of their parts, and no other sex or issuer: twins have other first names, and each hospital its own IDs."""
    names = one["parts"], other["parts"]
    if names[0] != names[1] and (min(map(len, names)) < SHORT_NAME or edits(*names) > 1):
        return False
    issuers = {v["issuer_of_patient_id"] for v in (one, other)} - {""}
    return len(issuers) < 2 and {v["patient_sex"] for v in (one, other)} != set(PLAIN_SEXES)


def _has_another_name(record, order, names):
    """Whether birth date and sex agree and the name is wholly another than any that the feed ever gave to the order's ID, as no marriage or spelling makes it."""
    is_alike = record["patient_birth_date"] == order["patient_birth_date"] != "" and not other_demographics(record, order)
    return is_alike and all(are_wholly_other_names(record["patient_name"], name) for name in {order["patient_name"], *names[order["patient_id"]]})


def _other_names_in_reports(links, names):
    wrong, of_order = defaultdict(list), [links.orders.column(c) for c in ("patient_id", "patient_name")]
    rows = (links.reports.column(c) for c in ("patient_id", "patient_name", "accession_number", "is_duplicate"))
    for r, (pid, name, number, is_duplicate) in enumerate(zip(*rows)):
        o = next((o for o in links.orders_by_accession.get(links.clean(number), ()) if of_order[0][o] == pid != ""), None) if name and not is_duplicate else None
        if o is not None and of_order[1][o] != name and _has_another_name(links.reports[r], links.orders[o], names):
            wrong[links.orders[o]["accession_number"]].append(links.reports[r])
    for accession, reports in wrong.items():
        yield describe_finding(
            "U17", accession=accession, messages=reports, found_at=reports[0]["message_at"], owner="registration", confidence=0.6,
            evidence="report and order have one patient ID, birth date and sex, and wholly other names, and no message gave that name to the ID",
            correction="Hold the report and ask its author whose exam was read; then find with registration which name is right")


def _other_demographics(s, study, links, names):
    orders = [links.orders[o] for o in links.orders_of.get(s, []) if links.of_order[o][0] in CLEAN]
    orders = [o for o in orders if o["patient_id"] and links.merged.get(o["patient_id"], o["patient_id"]) == study["patient_id"]]
    partner = min(orders, key=lambda o: (o["accession_number"], o["message_control_id"]), default=None)
    conflicts = other_demographics(study, partner) if partner else []
    if partner and (len(orders) > 1 or not contradictions(partner, study)) and _has_another_name(study, partner, names):
        return describe_finding(
            "U17", accession=partner["accession_number"], studies=[study], found_at=study["study_at"], owner="registration", confidence=0.6,
            evidence="images and order have one patient ID, birth date and sex, and wholly other names, and no message gave the images' name to the ID",
            correction="Hold the study and ask the technologist who was examined; then find with registration which name is right, and have the other system take it (A08)")
    # Another name, or images that do not fit, make it another person: U05e.
    if not conflicts or not same_name(study["patient_name"], partner["patient_name"]) or len(orders) == 1 and contradictions(partner, study):
        return None
    return describe_finding(
        "U17", accession=partner["accession_number"], studies=[study], found_at=study["study_at"], owner="registration", confidence=0.85,
        evidence=f"images and order have one patient ID and name, and the {' and '.join(conflicts)} differ{'' if len(conflicts) > 1 else 's'}",
        correction="Find which is right with registration, then have the other system take the update (A08)")
