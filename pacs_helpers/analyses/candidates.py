"""Possible partners of what has none, with a score and the reasons in words."""

import pandas as pd
from rapidfuzz import process
from rapidfuzz.distance import OSA

from ..tables import CANDIDATES, conform
from .anatomy import modalities_conflict, regions_conflict, regions_of, side_of
from .identity import MAX_TYPO, edits, plain_id, same_birth_date, same_name
from .links import LEVELS

MOST = 5
LEAST_SCORE = 0.25
SUREST = 0.97          # a guess is never as sure as a number that is equal
STRONG_SCORE, STRONG_LEAD = 0.7, 0.15


def score_pair(item, study, merged, site, *, when, taken):
    """`(score 0..1, reasons)` for an order or report against a study. `taken`: the study already has a partner of that kind."""
    points, reasons = 0.0, []

    def add(worth, words):
        nonlocal points
        points += worth
        reasons.append(words)

    _score_person(item, study, merged, add)
    _score_accession(item, study, site, add)
    if item["modality"] and study["modality"]:
        clash = modalities_conflict(item["modality"], study["modality"])
        add(-0.25 if clash else 0.12, f"modality {item['modality']} against {study['modality']}" if clash else "same modality")
    wanted, seen = regions_of(item["procedure_name"], item["modality"]), regions_of(study["body_part_examined"] or study["study_description"], study["modality"])
    if wanted and seen:
        clash = regions_conflict(wanted, seen)
        add(-0.25 if clash else 0.1, "another body region" if clash else "body region fits")
    sides = side_of(item["procedure_name"]), side_of(study["laterality"]) or side_of(study["study_description"])
    if all(sides):
        add(0.03 if sides[0] == sides[1] else -0.2, "same side" if sides[0] == sides[1] else "other side")
    _score_time(item[when], study, add)
    if taken:
        add(-0.3, "already has a partner of its own")
    return max(0.0, min(SUREST, points)), "; ".join(reasons)


def _score_person(item, study, merged, add):
    one, other = (merged.get(p["patient_id"], p["patient_id"]) for p in (item, study))
    if one and other:
        if one == other:
            add(0.3, "same patient ID")
        elif plain_id(one) == plain_id(other):
            add(0.27, "patient ID equal but for its spelling")
        elif edits(one, other) <= MAX_TYPO:
            add(0.2, f"patient ID differs in {edits(one, other)} character(s)")
        else:
            add(-0.1, "another patient ID")
    if item["patient_name"] and study["patient_name"]:
        alike = same_name(item["patient_name"], study["patient_name"])
        add(0.15 if alike else -0.1, "name agrees" if alike else "another name")
    if item["patient_birth_date"] and study["patient_birth_date"]:
        alike = same_birth_date(item["patient_birth_date"], study["patient_birth_date"])
        add(0.1 if alike else -0.15, "birth date agrees" if alike else "another birth date")


def _score_accession(item, study, site, add):
    one, other = (site.clean_accession(x["accession_number"]) for x in (item, study))
    if one and other:
        n = edits(one, other)
        if n == 0:
            add(0.2, "same accession number")
        elif n <= MAX_TYPO:
            add(0.13, f"accession number differs in {n} character{'s' if n > 1 else ''}")


def _score_time(at, study, add):
    start = study["started_at"] if pd.notna(study["started_at"]) else study["study_at"]
    if pd.isna(at) or pd.isna(start):
        return
    hours = abs((start - at).total_seconds()) / 3600
    words = f"{hours * 60:.0f} min apart" if hours < 3 else f"{hours:.0f} h apart" if hours < 72 else f"{hours / 24:.0f} days apart"
    add(0.15 if hours <= 1 else 0.1 if hours <= 12 else 0.02 if hours <= 48 else -0.2, words)


def candidate_studies(item, links, site, *, of, when):
    """`[(score, reasons, study position)]` for an order or report, best first, at most 5. `of` is links.orders_of or links.reports_of."""
    near = _near(item, links.study_pool, links.merged, site)
    return _best((*score_pair(item, links.studies[s], links.merged, site, when=when, taken=bool(of.get(s))), s) for s in near)


def candidate_orders(study, links, site):
    """`[(score, reasons, order position)]` for a study, best first, at most 5."""
    scored = []
    for i in _near(study, links.order_pool, links.merged, site):
        when = "scheduled_at" if pd.notna(links.orders[i]["scheduled_at"]) else "ordered_at"
        scored.append((*score_pair(links.orders[i], study, links.merged, site, when=when, taken=bool(links.of_order[i][1])), i))
    return _best(scored)


def _near(item, pool, merged, site):
    """Positions worth scoring: an id or accession number within a typo, or the same birth date."""
    found = set(pool.by_birth_date.get(item["patient_birth_date"], []))
    wanted = plain_id(merged.get(item["patient_id"], item["patient_id"])), site.clean_accession(item["accession_number"])
    for value, choices in zip(wanted, (pool.ids, pool.accessions)):
        if len(value) > MAX_TYPO:
            found |= {i for _, _, i in process.extract(value, choices, scorer=OSA.distance, score_cutoff=MAX_TYPO, limit=None)}
    return found


def _best(scored):
    return sorted((c for c in scored if c[0] >= LEAST_SCORE), key=lambda c: (-c[0], c[2]))[:MOST]


def strong_candidate(report, links, site):
    """`(score, reasons, study position)` of the one study an unlinked report was surely meant for, or None.

    No order carries the report's accession number, the numbers are at most two edits apart or one is missing, patient and modality agree,
    the study has no report of its own, and no other study comes near.
    """
    if site.clean_accession(report["accession_number"]) in links.orders_by_accession:
        return None
    found = candidate_studies(report, links, site, of=links.reports_of, when="observed_at")
    if not found or found[0][0] < STRONG_SCORE or (len(found) > 1 and found[0][0] - found[1][0] < STRONG_LEAD):
        return None
    score, reasons, s = found[0]
    study = links.studies[s]
    one, other = (site.clean_accession(x["accession_number"]) for x in (report, study))
    person = same_name(report["patient_name"], study["patient_name"]) and same_birth_date(report["patient_birth_date"], study["patient_birth_date"])
    typo = not one or not other or edits(one, other) <= MAX_TYPO
    clash = modalities_conflict(report["modality"], study["modality"])
    return None if links.reports_of.get(s) or not typo or not person or clash else (score, reasons, s)


def candidates_table(finding_id, found, links, kind):
    """CANDIDATES rows of one finding from `candidate_studies` (kind "study") or `candidate_orders` (kind "order")."""
    rows = []
    for score, reasons, position in found:
        study = links.studies[position] if kind == "study" else None
        accession = study["accession_number"] if study else links.orders[position]["accession_number"]
        if study and not accession:
            accession = next((links.orders[o]["accession_number"] for o in links.orders_of.get(position, [])), "")
        uid = study["study_instance_uid"] if study else " ".join(links.studies[s]["study_instance_uid"] for s in links.of_order[position][1])
        rows.append({"finding_id": finding_id, "candidate_accession_number": accession, "candidate_study_instance_uid": uid, "score": round(score, 3), "reasons": reasons})
    return conform(rows, CANDIDATES)


def linked_candidate(finding_id, study, level):
    """The CANDIDATES row of a partner that is already linked: its score is that of the ladder's level."""
    return conform([{"finding_id": finding_id, "candidate_accession_number": study["accession_number"], "candidate_study_instance_uid": study["study_instance_uid"],
                     "score": LEVELS[level], "reasons": f"linked by {level}"}], CANDIDATES)
