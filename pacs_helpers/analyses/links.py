"""Which study each order and each report belongs to, by the ladder: stop at the first level that hits, keep the level."""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from .anatomy import modalities_conflict, regions_conflict, regions_of
from .identities import merged_ids
from .identity import MAX_TYPO, edits, is_not_a_patient, is_temporary, known_people, plain_id, same_birth_date, same_name
from .rows import Rows, grouped

LEVELS = {"study UID": 1.0, "accession": 0.98, "cleaned accession": 0.95, "other number": 0.85, "patient and time": 0.6, "ambiguous": 0.0, "none": 0.0}
STATES = ("matched", "ambiguous", "no_key", "no_partner")
_PERSON = ("patient_id", "patient_name", "patient_birth_date", "patient_sex")
_OTHER_NUMBERS = ("placer_order_number", "filler_order_number", "requested_procedure_id")
WINDOW_HOURS = 12
_WHERE = ["source_file", "source_offset"]
_IN_ORDER = {"studies": ["study_instance_uid", *_WHERE], "orders": ["accession_number", "placer_order_number", "message_control_id", "patient_id", *_WHERE],
             "reports": ["message_at", "status_changed_at", "message_control_id", "accession_number", "patient_id", *_WHERE]}


class Links(NamedTuple):
    """The department as Rows, and how they hang together.

    `of_order[i]` and `of_report[i]` are `(level, [study positions])`, `orders_of[s]` and `reports_of[s]` list the positions that hit study s.
    `contested`: studies of several people under one number, none of whom is surely the order's or report's; `undecided`: `(item, position)`
    of what patient and time could give to several. `merged` maps prior ids to surviving ones; an id that two issuers give to two people
    reads `id^issuer`. `clean` is the site's clean_accession. `agreed_studies` and `agreed_reports` are flags of what agrees to the letter with
    its one order, or its one agreed study, on who and on the accession number: nothing about whose they are needs a second look.
    """

    studies: Rows
    orders: Rows
    reports: Rows
    of_order: list
    of_report: list
    orders_of: dict
    reports_of: dict
    orders_by_accession: dict
    reports_by_accession: dict
    orders_by_patient: dict
    merged: dict
    known: dict
    contested: set
    undecided: set
    clean: Callable
    agreed_studies: np.ndarray
    agreed_reports: np.ndarray


def link_exams(dept, site):
    """The Links of a Department. Items of one level may hit several studies (one accession, two studies).

    Keys are (issuer, identifier). Blank, multi-valued and reused numbers, and those a spreadsheet spoiled, never hit; nor does one that
    stands on studies of several people, none of them the item's. Positions are those of the Rows, in an order of their own.
    """
    dept = _qualified(dept)
    studies, orders, reports = (Rows(getattr(dept, name), keys) for name, keys in _IN_ORDER.items())
    studies.share_texts(orders, reports)
    # What hits one position, as nearly all do, is one list wherever it is kept: nobody changes it.
    (one_study, one_order, one_report), clean = ([[i] for i in range(len(rows))] for rows in (studies, orders, reports)), _cleaning(site)
    merged = merged_ids(dept.patients, dept.orders, dept.reports)
    people = _People(merged, {*orders.column("issuer_of_patient_id"), *reports.column("issuer_of_patient_id")} - {""})
    keys = _study_keys(studies, one_study, clean, _reused(orders, reports))
    contested, undecided = set(), set()
    of_order, of_report = (_climb_all(items, keys, clean, studies, people, contested) for items in (orders, reports))
    taken = {s for _, hits in of_order for s in hits} | contested
    undecided |= {("order", i) for i in _link_by_time(orders, of_order, studies, taken, people, "scheduled_at")}
    orders_by_accession = _by_accession(orders, one_order, clean)
    _link_reports_through_orders(reports, of_report, orders_by_accession, of_order, clean)
    taken |= {s for _, hits in of_report for s in hits} | {s for _, hits in of_order for s in hits}
    undecided |= {("report", i) for i in _link_by_time(reports, of_report, studies, taken, people, "observed_at")}
    # A report's own id proves nothing about who exists: only registration and orders do, where they are at hand.
    known = known_people(dept.patients, dept.orders) or known_people(dept.reports)
    orders_of = _turn(of_order, one_order)
    agreed = _agreed_studies(studies, orders, of_order, orders_of, merged)
    by_patient = grouped((pid, one) for pid, one in zip(orders.column("patient_id"), one_order) if pid)
    return Links(studies, orders, reports, of_order, of_report, orders_of, _turn(of_report, one_report), orders_by_accession, _by_accession(reports, one_report, clean), by_patient,
                 merged, known, contested, undecided, clean, agreed, _agreed_reports(reports, studies, of_report, agreed))


def _cleaning(site):
    @cache
    def clean(number):
        cleaned = site.clean_accession(number)
        return number if cleaned == number else cleaned     # not the same text a second time

    return clean


class _People(NamedTuple):
    merged: dict
    issuers: set        # those that the HL7 feed knows: only two of them make two numbers different

    def id_of(self, row):
        return self.merged.get(row["patient_id"], row["patient_id"])

    def are_one(self, one, other):
        ids, issuers = [self.id_of(row) for row in (one, other)], {row["issuer_of_patient_id"] for row in (one, other)} & self.issuers
        return bool(ids[0] and ids[1]) and len(issuers) < 2 and plain_id(ids[0]) == plain_id(ids[1])


def _qualified(dept):
    """The Department with `id^issuer` for ids that two issuers give to people of different birth dates."""
    columns = ["patient_id", "issuer_of_patient_id", "patient_birth_date"]
    told = pd.concat([t[columns].drop_duplicates() for t in (dept.orders, dept.reports, dept.patients)]).drop_duplicates()
    told = told[told.ne("").all(axis=1)]
    several = told[told.groupby("patient_id")["issuer_of_patient_id"].transform("nunique") > 1]
    shared = {pid for pid, rows in several.groupby("patient_id") if not rows.duplicated("patient_birth_date", keep=False).any()}
    if not shared:
        return dept

    def qualify(table):
        told = {c: table[c].where(~table[c].isin(shared) | (table["issuer_of_patient_id"] == ""), table[c] + "^" + table["issuer_of_patient_id"])
                for c in ("patient_id", "prior_patient_id") if c in table.columns}
        return table.assign(**told)

    return dept._replace(**{name: qualify(getattr(dept, name)) for name in ("orders", "studies", "reports", "patients")})


def _reused(orders, reports):
    """Accession numbers that two authorities gave to two people: without the authority they name nobody's exam."""
    return {number.partition("^")[0] for items in (orders, reports) for number, problems in zip(items.column("accession_number"), items.column("problems"))
            if "ACCESSION_REUSED" in problems}


def _is_key(number, problems=""):
    return bool(number) and "\\" not in number and "EXCEL_NUMBER" not in problems


def links_table(links):
    """The links as a table: item (order or report), accession_number, message_control_id, study_instance_uid, level, confidence, state.

    `state` is matched, no_key, no_partner or ambiguous.
    """
    rows, uids = [], links.studies.column("study_instance_uid")
    for item, records, hits in (("order", links.orders, links.of_order), ("report", links.reports, links.of_report)):
        for i, (accession, control, (level, found)) in enumerate(zip(records.column("accession_number"), records.column("message_control_id"), hits)):
            for s in found or [None]:
                rows.append((item, accession, control, uids[s] if s is not None else "", level, LEVELS[level], state_of(item, i, links)))
    return pd.DataFrame(rows, columns=["item", "accession_number", "message_control_id", "study_instance_uid", "level", "confidence", "state"])


def state_of(item, position, links):
    """What became of an order, report or study in the matching: one of STATES."""
    if item == "study":
        row, keys = links.studies[position], ("accession_number", "requested_accession_numbers", "requested_procedure_ids", "patient_id")
        is_matched, is_ambiguous = bool(links.orders_of.get(position) or links.reports_of.get(position)), position in links.contested
    else:
        row, keys = (links.orders if item == "order" else links.reports)[position], ("accession_number", "study_instance_uid", *_OTHER_NUMBERS, "patient_id")
        level, hits = (links.of_order if item == "order" else links.of_report)[position]
        is_matched, is_ambiguous = bool(hits), level == "ambiguous" or (item, position) in links.undecided
    return STATES[0] if is_matched else STATES[1] if is_ambiguous else STATES[3] if any(_is_key(row[k], row["problems"]) for k in keys) else STATES[2]


def summarize_matching(links):
    """One row for orders, reports and studies each: n, and how many are matched, ambiguous, no_key, no_partner. The four add up to n."""
    rows = []
    for item, records in (("order", links.orders), ("report", links.reports), ("study", links.studies)):
        counts = Counter(state_of(item, i, links) for i in range(len(records)))
        rows.append({"item": item, "n": len(records), **{state: counts[state] for state in STATES}})
    return pd.DataFrame(rows)


def _study_keys(studies, one_study, clean, reused):
    """`{"uid" | "clean" | "procedure" | "exact": {number: [study positions]}}`; `clean` holds cleaned accession numbers, those of the requests too.

    `exact` holds the accession numbers, as written, under which there is one study alone however the others are spelled, with the level of their hit.
    """
    accessions, wanted, procedures = (studies.column(name) for name in ("accession_number", "requested_accession_numbers", "requested_procedure_ids"))

    def cleaned():
        for one, accession, requested in zip(one_study, accessions, wanted):
            numbers = (accession,) if not requested or requested == accession else (accession, *requested.split(" "))
            for number in dict.fromkeys(clean(number) for number in numbers if number not in reused and _is_key(number)):
                yield number, one

    by_number = grouped(cleaned())
    asked = grouped((number, one) for one, numbers in zip(one_study, procedures) if numbers for number in set(numbers.split()))
    exact = {number: ("accession", one) for one, number in zip(one_study, accessions) if number and by_number.get(clean(number)) is one}
    return {"uid": grouped(zip(studies.column("study_instance_uid"), one_study)), "clean": by_number, "procedure": asked, "exact": exact}


def _climb_all(items, keys, clean, studies, people, contested):
    """`(level, [study positions])` of each item."""
    uids, exact, found = keys["uid"], keys["exact"], []
    for i, (accession, uid, problems) in enumerate(zip(*(items.column(name) for name in ("accession_number", "study_instance_uid", "problems")))):
        named, hit = uids.get(uid) if uid else None, exact.get(accession) if "EXCEL_NUMBER" not in problems else None
        if hit and not named:
            found.append(hit)
            continue
        usable = accession if _is_key(accession, problems) else ""
        near = keys["clean"].get(clean(usable), []) if usable else []
        if named:
            found.append(_with_sisters(items[i], named, near, studies, people) if near != named else ("study UID", named))
        elif near:
            same = [s for s in near if studies.column("accession_number")[s] == usable or usable in studies.column("requested_accession_numbers")[s].split()]
            own = _of_the_patient(items[i], same or near, studies, people)
            found.append(("accession" if same else "cleaned accession", own) if own else ("ambiguous", []))
            contested.update(() if own else same or near)
        else:
            found.append(_by_other_numbers(items[i], keys, clean, studies, people))
    return found


def _with_sisters(item, named, near, studies, people):
    """The study that the UID names, and others of the patient under the same number: they belong to the exam too, though the order names only the first."""
    return "study UID", sorted({*named, *(s for s in near if people.are_one(item, studies[s]))})


def _by_other_numbers(item, keys, clean, studies, people):
    """A number other than the accession is reused too freely to stand alone: the patient must agree."""
    numbers = {*item.get("other_accession_numbers", "").split(), *(item[name] for name in _OTHER_NUMBERS[:2])} - {""}
    hits = {s for n in numbers for s in keys["clean"].get(clean(n), [])} | set(keys["procedure"].get(item["requested_procedure_id"], []))
    hits = sorted(s for s in hits if people.are_one(item, studies[s]))
    return ("other number", hits) if hits else ("none", [])


def _of_the_patient(item, hits, studies, people):
    """Of several studies under one number those of the item's patient; none where they are of several people and it is anybody's guess whose."""
    if len(hits) == 1:
        return hits
    own = [s for s in hits if people.are_one(item, studies[s])] or [s for s in hits if _is_alike(item, studies[s])]
    return own or (hits if len({plain_id(people.id_of(studies[s])) for s in hits}) == 1 else [])


def _is_alike(item, study):
    ids = item["patient_id"], study["patient_id"]
    return all(ids) and edits(*ids) <= MAX_TYPO or same_name(item["patient_name"], study["patient_name"]) and same_birth_date(item["patient_birth_date"], study["patient_birth_date"])


def _link_reports_through_orders(reports, of_report, orders_by_accession, of_order, clean):
    """A report that hits no study itself takes the studies of the order whose accession it names."""
    for r, (level, _) in enumerate(of_report):
        if level == "none":
            hits = (of_order[o] for o in orders_by_accession.get(clean(reports[r]["accession_number"]), []))
            of_report[r] = next((hit for hit in hits if hit[1]), of_report[r])


def _link_by_time(items, of_item, studies, taken, people, when):
    """Leftover items and leftover studies of one patient and modality within 12 h, only where each has no other choice; the positions of those that have several."""
    left = [i for i, (level, _) in enumerate(of_item) if level == "none" and items[i]["patient_id"] and pd.notna(items[i][when])]
    free = defaultdict(list)
    for s in sorted(set(range(len(studies))) - taken) if left else ():
        if studies[s]["patient_id"]:
            free[plain_id(people.id_of(studies[s]))].append(s)
    wanted, choices = defaultdict(list), {}
    for i in left:
        choices[i] = [s for s in free.get(plain_id(people.id_of(items[i])), []) if people.are_one(items[i], studies[s]) and _near(items[i], studies[s], when)]
        for s in choices[i]:
            wanted[s].append(i)
    only = {i: near for i, near in choices.items() if len(near) == 1 and len({items[j]["accession_number"] or j for j in wanted[near[0]]}) == 1}
    for i, near in only.items():
        of_item[i] = ("patient and time", near)
    return [i for i, near in choices.items() if near and i not in only]


def _near(item, study, when):
    start = study["started_at"] if pd.notna(study["started_at"]) else study["study_at"]
    known = bool(item["modality"]) and bool(study["modality"]) and not modalities_conflict(item["modality"], study["modality"])
    wanted, seen = regions_of(item["procedure_name"], item["modality"]), regions_of(study["body_part_examined"] or study["study_description"], study["modality"])
    return known and not regions_conflict(wanted, seen) and pd.notna(start) and abs((start - item[when]).total_seconds()) <= WINDOW_HOURS * 3600


def _agreed_studies(studies, orders, of_order, orders_of, merged):
    one = np.full(len(studies), -1)
    for s, found in orders_of.items():
        if len(found) == 1 and LEVELS[of_order[found[0]][0]] >= LEVELS["cleaned accession"]:
            one[s] = found[0]
    flags = one >= 0
    if not flags.any():
        return flags
    for name in (*_PERSON, "accession_number"):
        flags &= (studies.column(name) == orders.column(name)[one]) & ((studies.column(name) != "") | (name not in ("patient_id", "accession_number")))
    issuers, requested, pids = (studies.column(name) for name in ("issuer_of_patient_id", "requested_accession_numbers", "patient_id"))
    moved = {pid for _, pid in (*merged.ends, *merged.named)} | {pid for pair in merged.apart for pid in pair} | set(merged)
    doubtful = moved | {pid for pid in set(pids) if "^" in pid or is_temporary({"patient_id": pid, "patient_name": ""}) or is_not_a_patient({"patient_id": pid, "patient_name": ""})}
    nameless = {name for name in set(studies.column("patient_name")) if is_temporary({"patient_id": "", "patient_name": name}) or is_not_a_patient({"patient_id": "", "patient_name": name})}
    flags &= ((issuers == "") | (issuers == orders.column("issuer_of_patient_id")[one])) & ((requested == "") | (requested == studies.column("accession_number")))
    return flags & np.array([pid not in doubtful and name not in nameless for pid, name in zip(pids, studies.column("patient_name"))], dtype=bool)


def _agreed_reports(reports, studies, of_report, agreed):
    flags, rows = np.zeros(len(reports), dtype=bool), zip(reports.column("accession_number"), reports.column("patient_id"), reports.column("other_accession_numbers"), of_report)
    numbers, pids = studies.column("accession_number"), studies.column("patient_id")
    for r, (number, pid, others, (_, hits)) in enumerate(rows):
        flags[r] = len(hits) == 1 and agreed[hits[0]] and number == numbers[hits[0]] and pid == pids[hits[0]] and number not in others
    return flags


def _by_accession(records, ones, clean):
    return grouped((clean(number), one) for number, one in zip(records.column("accession_number"), ones) if number)


def _turn(hits, ones):
    return grouped((s, one) for (_, found), one in zip(hits, ones) for s in found)
