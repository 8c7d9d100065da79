"""Why are the images not matched with the reports? Findings with owner, confidence and evidence, and their possible partners."""

from collections import defaultdict
from typing import NamedTuple

import pandas as pd

from ..readers.headers import uncollected
from ..tables import FINDINGS, TableError, conform
from .candidates import rank_all
from .disagreements import find_accession_faults, find_identity_faults, find_misplaced_reports, meant_order, misplaced_reports, other_images
from .feedfaults import clock_runs, find_impossible_times, find_refusals, refused_reports
from .imagefaults import find_foreign, find_image_faults
from .links import link_exams
from .peoplefaults import find_people_faults
from .splits import ONE_EXAM, SH_LENGTH, find_group_cases, find_shared_accessions, find_splits, longer_numbers
from .unmatched import describe_finding, find_missing_partners
from .wrongpatients import early_studies, fitting, made_at, usual_rooms


@uncollected()
def find_mismatches(dept, *, as_of, site):
    """FINDINGS U01 to U18 of a Department at `as_of`, one row per thing that is wrong, in a stable order.

    What follows from another finding is not one of its own: no U01 of imported images, no U02 of an exam whose report was refused, no U04 of
    the order that images under another number were made for.

    What happened after `as_of` is ignored; findings in `dept.reviewed` are left out. The tests are those of the match ladder: Study UID,
    accession number, cleaned accession number, other order numbers with the patient, patient with modality and time.
    """
    if not isinstance(as_of, pd.Timestamp) or as_of.tz is None:
        raise TableError("as_of: give a pandas Timestamp with a time zone, such as pd.Timestamp('2025-12-01', tz='UTC').")
    dept = _until(dept, as_of, site)
    links = link_exams(dept, site)
    splits, groups = find_splits(links, site), find_group_cases(links)
    (runs, n_off, n), rooms = clock_runs(dept, links), usual_rooms(links)
    fits, misplaced = fitting(links, rooms), misplaced_reports(links)
    doubted = {s for run in runs for s in run.studies}
    found = [*_several_studies(links, site, splits, groups), *find_identity_faults(links, groups, rooms, fits, early_studies(links, doubted)),
             *find_accession_faults(links, site, groups), *find_missing_partners(dept, links, site, as_of, splits, _explained(links, fits, misplaced)),
             *find_misplaced_reports(links, misplaced),
             *find_image_faults(links, site, doubted), *find_people_faults(dept, links, fits),
             *find_impossible_times(dept, links, site, runs, n_off, n), *find_refusals(links, site)]
    table = conform(found, FINDINGS)
    table = table[~table["finding_id"].isin(list(dept.reviewed))].drop_duplicates("finding_id")
    return table.sort_values(["code", "found_at", "finding_id"], kind="stable").reset_index(drop=True)


class Explained(NamedTuple):
    studies: set
    orders: set
    reports: set
    read: set       # studies whose report stands under another exam of the patient
    answered: set   # reports about a part of what the images of another number show


def _explained(links, fits, misplaced):
    """The Explained positions: what lacks a partner because of a fault that has its own finding."""
    meant = (meant_order(s, links) for s in range(len(links.studies)) if s not in fits)
    return Explained(links.contested | find_foreign(links), {o for o in meant if o is not None}, set(refused_reports(links)),
                     {s for _, o in misplaced.values() if o is not None for s in links.of_order[o][1]},
                     _answered(links))


def _answered(links):
    """Positions of reports whose number has an order and no images, while their message also reports another number whose images are of that day and may show it too."""
    messages = list(zip(*(links.reports.column(name) for name in ("source_file", "source_offset", "message_control_id", "patient_id"))))
    alone, others = [r for r, (level, _) in enumerate(links.of_report) if level == "none" and (messages[r][0] or messages[r][2])], defaultdict(list)
    asked = {messages[r] for r in alone}
    for message, (_, hits) in zip(messages, links.of_report):
        if hits and message in asked:
            others[message] += hits
    return {r for r in alone if any(_may_show(links.studies[s], links.reports[r], links) for s in others[messages[r]])}


def _may_show(study, report, links):
    orders = [links.orders[o] for o in links.orders_by_accession.get(links.clean(report["accession_number"]), ())]
    return not other_images(report, study) and any(pd.isna(t["scheduled_at"]) or abs(made_at(study) - t["scheduled_at"]) < ONE_EXAM for t in orders)


@uncollected()
def rank_candidates(findings, dept, *, site):
    """CANDIDATES of the findings: up to five possible partners each, best first, with score 0..1 and reasons in words."""
    return rank_all(findings.to_dict("records"), link_exams(dept, site))


def _until(dept, as_of, site):
    """The Department without what came after `as_of`. A study that a kept report belongs to was there, whatever its device's clock says."""
    def later(table, *columns):
        at = table[columns[0]]
        for column in columns[1:]:
            at = at.fillna(table[column])
        return at > as_of

    def keep(table, *columns):
        is_later = later(table, *columns)
        return table[~is_later].reset_index(drop=True) if is_later.any() else table

    dept = dept._replace(orders=keep(dept.orders, "ordered_at"), reports=keep(dept.reports, "message_at", "status_changed_at"),
                         patients=keep(dept.patients, "at"), events=keep(dept.events, "at"))
    is_later = later(dept.studies, "started_at", "study_at")
    if is_later.any():
        later_ones = dept.studies[is_later]
        links = link_exams(dept._replace(studies=later_ones, orders=dept.orders.iloc[:0]), site)
        named = [s for s, found in links.reports_of.items() if any(links.of_report[r][0] != "patient and time" for r in found)]
        is_later.loc[later_ones.index[links.studies.places[named]]] = False
    return dept._replace(studies=dept.studies[~is_later].reset_index(drop=True)) if is_later.any() else dept


def _several_studies(links, site, splits, groups):
    in_split = {s for chain, _, _ in splits for s in chain}
    for chain, confidence, why in splits:
        studies = [links.studies[s] for s in chain]
        parts = ", ".join(t["body_part_examined"] or t["study_description"] or "?" for t in studies)
        yield describe_finding(
            "U08", accession=studies[0]["accession_number"], studies=studies, found_at=studies[-1]["started_at"], owner="modality service", confidence=confidence,
            evidence=f"{len(chain)} studies of one visit on {studies[0]['station_name']} ({parts}) under accessions "
                     f"{', '.join(t['accession_number'] or '(none)' for t in studies)}, with {why}",
            correction="Treat them as one exam: merge or link them by the site's rule, and ask the modality's application team why the scanner splits it")
    for s in groups:
        study = links.studies[s]
        numbers = study["requested_accession_numbers"].split() or study["requested_procedure_ids"].split()
        yield describe_finding(
            "U09", accession=study["accession_number"] or numbers[0], studies=[study], found_at=study["started_at"], owner="nobody", confidence=0.95,
            evidence=f"one study was acquired for {len(numbers)} orders ({', '.join(numbers)}), as its Request Attributes say: a group case, not an error",
            correction="Link all orders to this study")
    for accession, positions, what in find_shared_accessions(links):
        studies = [links.studies[s] for s in positions]
        if what == "one exam" and set(positions) <= in_split:
            continue
        code, owner, confidence, evidence, correction = _one_number(accession, studies, what, links, site)
        yield describe_finding(code, accession=accession, studies=studies, found_at=max(t["study_at"] for t in studies), owner=owner, confidence=confidence, evidence=evidence, correction=correction)


def _one_number(accession, studies, what, links, site):
    if what == "one exam":
        stations = ", ".join(sorted({t["station_name"] for t in studies} - {""})) or "an unnamed station"
        return ("U10", "modality service", 0.95, f"{len(studies)} Study Instance UIDs under accession {accession} for one patient, from {stations}",
                "Merge them into one study after the modality says why it started a new one (restart, second console, re-send)")
    if what == "cut off":
        return ("U06", "interface team", 0.9, f"{len(studies)} studies carry {accession}, with which the orders' accession numbers {', '.join(longer_numbers(accession, links))} begin: "
                f"they were cut at the {SH_LENGTH} characters that DICOM allows (VR SH)",
                f"Have the RIS issue numbers of at most {SH_LENGTH} characters, or the worklist send shorter ones, then give each study its own")
    if what == "several exams":
        days = ", ".join(dict.fromkeys(f"{made_at(t).tz_convert(site.time_zone):%d %b %Y}" for t in studies))
        return ("U06", "technologist", 0.7, f"accession {accession} stands on {len(studies)} studies of one patient from days apart ({days}): rather several exams than one in parts",
                "Find which order each study was made for and correct the others' accession number; only delayed images of one exam (nuclear medicine) stay together")
    ids = sorted({t["patient_id"] or "(none)" for t in studies})
    return ("U06", "technologist", 0.9, f"accession {accession} stands on studies of {len(ids) if len(ids) > 1 else 'several'} patients ({', '.join(ids)}): it was typed or issued twice",
            "Find which patient the order is for, correct the other study's accession number, and tell the RIS team if the RIS issued it twice")
