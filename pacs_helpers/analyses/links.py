"""Which study each order and each report belongs to, by the ladder: stop at the first level that hits, keep the level."""

from collections import defaultdict
from typing import NamedTuple

import pandas as pd

from .anatomy import modalities_conflict
from .identity import known_people, plain_id

LEVELS = {"study UID": 1.0, "accession": 0.98, "cleaned accession": 0.95, "other number": 0.85, "patient and time": 0.6, "none": 0.0}
WINDOW_HOURS = 12


class Pool(NamedTuple):
    """Records by what may point at one: merged patient ids, cleaned accession numbers, birth dates."""

    ids: list
    accessions: list
    by_birth_date: dict


class Links(NamedTuple):
    """The department as plain records, and how they hang together.

    `orders`, `reports`, `studies` are lists of dicts; `of_order[i]` and `of_report[i]` are `(level, [study positions])`;
    `orders_of[s]` and `reports_of[s]` list the positions that hit study s. `merged` maps prior ids to surviving ones.
    """

    studies: list
    orders: list
    reports: list
    of_order: list
    of_report: list
    orders_of: dict
    reports_of: dict
    orders_by_accession: dict
    reports_by_accession: dict
    orders_by_patient: dict
    merged: dict
    known: dict
    study_pool: Pool
    order_pool: Pool


def merged_ids(patients):
    """`{prior id: surviving id}` with chains A to B to C followed to their end; a circle of merges maps nothing."""
    merges = patients[(patients["prior_patient_id"] != "") & (patients["prior_patient_id"] != patients["patient_id"])].sort_values("at", kind="stable")
    step = dict(zip(merges["prior_patient_id"], merges["patient_id"]))
    ends = {}
    for start in step:
        seen, here = {start}, step[start]
        while here in step and here not in seen:
            seen.add(here)
            here = step[here]
        if here not in seen:
            ends[start] = here
    return ends


def link_exams(dept, site):
    """The Links of a Department. Items of one level may hit several studies (one accession, two studies); blank keys never hit."""
    studies, orders, reports = (t.to_dict("records") for t in (dept.studies, dept.orders, dept.reports))
    merged = merged_ids(dept.patients)
    keys = _study_keys(studies, site)
    of_order = [_climb(o, keys, site, studies, merged) for o in orders]
    of_report = [_climb(r, keys, site, studies, merged) for r in reports]
    taken = {s for _, hits in of_order for s in hits}
    _link_by_time(orders, of_order, studies, taken, merged, "scheduled_at")
    _link_reports_through_orders(reports, of_report, orders, of_order, site)
    taken |= {s for _, hits in of_report for s in hits} | {s for _, hits in of_order for s in hits}
    _link_by_time(reports, of_report, studies, taken, merged, "observed_at")
    # A report's own id proves nothing about who exists: only registration and orders do, where they are at hand.
    known = known_people(dept.patients, dept.orders) or known_people(dept.reports)
    return Links(studies, orders, reports, of_order, of_report, _turn(of_order), _turn(of_report), _by_accession(orders, site),
                 _by_accession(reports, site), _by_patient(orders), merged, known,
                 _pool(studies, merged, site), _pool(orders, merged, site))


def links_table(links):
    """The links as a table: item (order or report), accession_number, message_control_id, study_instance_uid, level, confidence."""
    rows = []
    for item, records, hits in (("order", links.orders, links.of_order), ("report", links.reports, links.of_report)):
        for record, (level, found) in zip(records, hits):
            for s in found or [None]:
                rows.append({"item": item, "accession_number": record["accession_number"], "message_control_id": record["message_control_id"],
                             "study_instance_uid": links.studies[s]["study_instance_uid"] if s is not None else "", "level": level, "confidence": LEVELS[level]})
    return pd.DataFrame(rows, columns=["item", "accession_number", "message_control_id", "study_instance_uid", "level", "confidence"])


def _study_keys(studies, site):
    keys = {level: defaultdict(list) for level in ("uid", "exact", "clean", "procedure")}
    for s, study in enumerate(studies):
        if study["study_instance_uid"]:
            keys["uid"][study["study_instance_uid"]].append(s)
        for number in {study["accession_number"], *study["requested_accession_numbers"].split(" ")} - {""}:
            keys["exact"][number].append(s)
            keys["clean"][site.clean_accession(number)].append(s)
        for number in set(study["requested_procedure_ids"].split()):
            keys["procedure"][number].append(s)
    return keys


def _climb(item, keys, site, studies, merged):
    accession = item["accession_number"]
    rungs = [("study UID", keys["uid"].get(item["study_instance_uid"], []) if item["study_instance_uid"] else [])]
    if accession:
        rungs += [("accession", keys["exact"].get(accession, [])), ("cleaned accession", keys["clean"].get(site.clean_accession(accession), []))]
    for level, hits in rungs:
        if hits:
            # A second study under the same number belongs to the exam too, though the order names only the first.
            more = [s for s in keys["clean"].get(site.clean_accession(accession), []) if _same_id(item, studies[s], merged)] if level == "study UID" else []
            return level, sorted({*_of_the_patient(item, hits, studies, merged), *more})
    numbers = {*item.get("other_accession_numbers", "").split(), item["placer_order_number"], item["filler_order_number"]} - {""}
    # A number other than the accession is reused too freely to stand alone: the patient must agree.
    hits = sorted({s for n in numbers for s in keys["clean"].get(site.clean_accession(n), [])} | set(keys["procedure"].get(item["requested_procedure_id"], [])))
    hits = [s for s in hits if _same_id(item, studies[s], merged)]
    return ("other number", hits) if hits else ("none", [])


def _of_the_patient(item, hits, studies, merged):
    """Of several studies under one number, those of the item's patient; all of them when none is."""
    own = [s for s in hits if _same_id(item, studies[s], merged)] if len(hits) > 1 else []
    return own or list(hits)


def _same_id(one, other, merged):
    ids = [merged.get(p["patient_id"], p["patient_id"]) for p in (one, other)]
    return bool(ids[0] and ids[1]) and plain_id(ids[0]) == plain_id(ids[1])


def _link_reports_through_orders(reports, of_report, orders, of_order, site):
    """A report that hits no study itself takes the studies of the order whose accession it names."""
    by_accession = _by_accession(orders, site)
    for r, report in enumerate(reports):
        for order in by_accession.get(site.clean_accession(report["accession_number"]), []):
            if of_report[r][0] == "none" and of_order[order][1]:
                of_report[r] = of_order[order]


def _link_by_time(items, of_item, studies, taken, merged, when):
    """Leftover items and leftover studies of one patient and modality within 12 h, only where each has no other choice."""
    free = defaultdict(list)
    for s, study in enumerate(studies):
        if s not in taken and study["patient_id"]:
            free[plain_id(merged.get(study["patient_id"], study["patient_id"]))].append(s)
    wanted, choices = defaultdict(list), {}
    for i, item in enumerate(items):
        if of_item[i][0] != "none" or not item["patient_id"] or pd.isna(item[when]):
            continue
        near = [s for s in free[plain_id(merged.get(item["patient_id"], item["patient_id"]))] if _near(item, studies[s], when)]
        choices[i] = near
        for s in near:
            wanted[s].append(i)
    for i, near in choices.items():
        if len(near) == 1 and len({items[j]["accession_number"] or j for j in wanted[near[0]]}) == 1:
            of_item[i] = ("patient and time", near)


def _near(item, study, when):
    start = study["started_at"] if pd.notna(study["started_at"]) else study["study_at"]
    known = bool(item["modality"]) and bool(study["modality"]) and not modalities_conflict(item["modality"], study["modality"])
    return known and pd.notna(start) and abs((start - item[when]).total_seconds()) <= WINDOW_HOURS * 3600


def _by_accession(records, site):
    positions = defaultdict(list)
    for i, record in enumerate(records):
        if record["accession_number"]:
            positions[site.clean_accession(record["accession_number"])].append(i)
    return positions


def _by_patient(records):
    positions = defaultdict(list)
    for i, record in enumerate(records):
        if record["patient_id"]:
            positions[record["patient_id"]].append(i)
    return positions


def _pool(records, merged, site):
    by_birth_date = defaultdict(list)
    for i, record in enumerate(records):
        if record["patient_birth_date"]:
            by_birth_date[record["patient_birth_date"]].append(i)
    return Pool([plain_id(merged.get(r["patient_id"], r["patient_id"])) for r in records],
                [site.clean_accession(r["accession_number"]) for r in records], by_birth_date)


def _turn(hits):
    back = defaultdict(list)
    for i, (_, found) in enumerate(hits):
        for s in found:
            back[s].append(i)
    return back
