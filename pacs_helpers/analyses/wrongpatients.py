"""Wrong patient, clean match (U05e): what speaks against the exam that images or a report name, though the numbers agree."""

import re
from collections import Counter, defaultdict
from functools import lru_cache

import numpy as np
import pandas as pd

from ..schemas import COUNT, FLAG, TEXT
from ..site import require_site
from ..tables import FINDINGS, TableError, conform, nearest
from .anatomy import age_bound, modalities_conflict, regions_conflict, regions_of, sex_bound, side_of
from .identities import require_tables
from .identity import is_temporary, same_name
from .links import link_exams
from .unmatched import FINAL

CLEAN = ("study UID", "accession", "cleaned accession")
PLAIN_SEXES = ("F", "M")
ROOM_EXAMS, ROOM_STRAYS = 20, 500       # matches that make a habit of a station; one in so many may be elsewhere
EARLY, FAR = pd.Timedelta(days=1), pd.Timedelta(days=7)
TOO_EARLY, HABIT = np.timedelta64(2, "D"), 3       # images before their order; so many on one station are its clock, or are brought from elsewhere
_FROM_ELSEWHERE = re.compile(r"OUTSIDE|IMPORT|FOREIGN|EXTERNAL|SECOND OPINION|CONSULT|OVER ?READ|\bCD\b", re.I)
OLDEST = 120            # years; a birth date beyond is a placeholder
WRONG_PATIENTS = {
    "finding_id": (TEXT, "finding U05e"), "accession_number": (TEXT, "exam"), "study_instance_uid": (TEXT, "study or studies, space-separated"),
    "n_conflicts": (COUNT, "how much speaks against it"), "conflicts": (TEXT, "what does, in words"), "report_is_final": (FLAG, "somebody may act on it already"),
    "warning": (TEXT, "one sentence"),
}
_ALONE = "and correct nothing on this evidence alone"


def contradictions(order, study):
    """What in a study speaks against an order, in words: body region, side, modality, a sex or age that the procedure is not for. Empty when nothing does."""
    sex = study["patient_sex"] if study["patient_sex"] in PLAIN_SEXES else order["patient_sex"]
    out = exam_conflicts(order["procedure_name"], order["modality"], study["body_part_examined"] or study["study_description"],
                           study["laterality"] or study["study_description"], study["modality"], sex)
    return [*out, *_by_age(order["procedure_name"], study["patient_birth_date"] or order["patient_birth_date"], made_at(study))]


@lru_cache(maxsize=1 << 14)
def exam_conflicts(procedure, wanted, seen, side, modality, sex=""):
    """What of body region, side and modality, and of what only one sex has, differs between a procedure and what was seen: a tuple of words."""
    out, sides = [], (side_of(procedure), side_of(side))
    if regions_conflict(regions_of(procedure, wanted), regions_of(seen, modality)):
        out.append(f"body part {seen} for {procedure}")
    if all(sides) and sides[0] != sides[1]:
        out.append(f"laterality {side} for {procedure}")
    if modalities_conflict(wanted, modality):
        out.append(f"modality {modality} for an order of {wanted}")
    if sex in PLAIN_SEXES and (bound := next((text for text in (procedure, seen) if sex_bound(text) not in ("", sex)), "")):
        out.append(f"sex of the patient for {bound}")
    return tuple(out)


def _by_age(procedure, born, at):
    if pd.isna(at) or not (born.isdecimal() and len(born) == 8):
        return []
    age, limit = (at.year * 10_000 + at.month * 100 + at.day - int(born)) // 10_000, age_bound(procedure)
    if age < 0 and f"{at + EARLY:%Y%m%d}" < born:       # a day is left for time zones
        return ["images from before the birth date"]
    return [f"age of the patient for {procedure}"] if limit and limit <= age <= OLDEST else []


def made_at(study):
    """When a study was acquired, else when it began by its header."""
    return study["started_at"] if pd.notna(study["started_at"]) else study["study_at"]


def other_demographics(one, other):
    """Which of birth date and sex two records give differently."""
    return [word for word, column in (("birth date", "patient_birth_date"), ("sex", "patient_sex"))
            if one[column] and other[column] and one[column] != other[column] and (column != "patient_sex" or {one[column], other[column]} <= set(PLAIN_SEXES))]


def usual_rooms(links):
    """`(rooms, equipped)`: `{(station, modality): section}` of stations that work for one section alone, and the `(section, modality)` that have such a station."""
    seen, (s, o) = defaultdict(Counter), _sure_pairs(links)
    for station, modality, section in zip(links.studies.column("station_name")[s], links.studies.column("modality")[s], links.orders.column("section")[o]):
        if station and section:
            seen[station, modality][section] += 1
    rooms = {}
    for room, sections in seen.items():
        section, n = min(sections.items(), key=lambda one: (-one[1], one[0]))
        if sections.total() >= ROOM_EXAMS and sections.total() - n <= max(1, sections.total() // ROOM_STRAYS):
            rooms[room] = section
    return rooms, {(section, modality) for (_, modality), section in rooms.items()}


def _sure_pairs(links):
    """Positions of the studies that have one order, by a number of the exam, and of those orders: two arrays."""
    pairs = [(s, orders[0]) for s, orders in links.orders_of.items() if len(orders) == 1 and links.of_order[orders[0]][0] in CLEAN]
    return np.array(pairs, dtype=int).reshape(-1, 2).T


def fitting(links, rooms=({}, ())):
    """Positions of studies that nothing can be said against: one order of the same person, told in the same words, whom and which the images fit.

    Nearly all studies are, and to see it by column takes a tenth of the time of looking at each.
    """
    (s, o), columns = _sure_pairs(links), ("patient_id", "patient_name", "patient_birth_date", "patient_sex")
    same = np.logical_and.reduce([links.studies.column(c)[s] == links.orders.column(c)[o] for c in columns] + [links.studies.column("patient_id")[s] != ""])
    s, o = s[same.astype(bool)], o[same.astype(bool)]
    started, begun = links.studies.column("started_at")[s], links.studies.column("study_at")[s]
    of_study = (links.studies.column(c)[s] for c in (*columns, "body_part_examined", "study_description", "laterality", "modality", "station_name"))
    of_order = (links.orders.column(c)[o] for c in ("procedure_name", "modality", "section"))
    found, years = set(), np.datetime_as_string(np.where(np.isnat(started), begun, started), unit="Y")
    for i, year, pid, name, born, sex, part, text, side, modality, station, procedure, wanted, section in zip(s.tolist(), years, *of_study, *of_order):
        person = {"patient_id": pid, "patient_name": name, "patient_birth_date": born}
        is_known = pid not in links.merged and (pid not in links.merged.issuers or len(links.merged.issuers[pid]) == 1) and not is_temporary(person)
        fits = born[:4] < year and not age_bound(procedure) and not exam_conflicts(procedure, wanted, part or text, side or text, modality, sex)
        if is_known and fits and rooms[0].get((station, modality), section) == section:
            found.add(i)
    return found


def early_studies(links, doubted):
    """`{position: days}` of studies made more than two days before the one order of their number was placed, as where a number was given twice.

    The order was due then too, or else the feed goes back to before the images. Left out are images from elsewhere, by the procedure or the
    institution, those of a station of which a third are early, and `doubted`, whose clock is known to be wrong.
    """
    s, o = _sure_pairs(links)
    started, begun, told = links.studies.column("started_at")[s], links.studies.column("study_at")[s], links.orders.column("ordered_at")
    made, placed, due = np.where(np.isnat(started), begun, started), told[o], links.orders.column("scheduled_at")[o]
    is_early = (placed - made > TOO_EARLY) & np.where(np.isnat(due), made >= min(told[~np.isnat(told)], default=np.datetime64("NaT")), due - made > TOO_EARLY)
    stations, places, procedures = links.studies.column("station_name")[s], links.studies.column("institution_name")[s], links.orders.column("procedure_name")[o]
    own, n, often = {*places[~is_early]} - {""}, Counter(stations), Counter(stations[is_early])
    return {int(s[k]): (placed - made)[k] // np.timedelta64(1, "D") for k in np.flatnonzero(is_early)
            if s[k] not in doubted and not _FROM_ELSEWHERE.search(procedures[k]) and not (own and places[k] and places[k] not in own)
            and (often[stations[k]] < HABIT or often[stations[k]] * 3 <= n[stations[k]])}


def other_room(order, study, rooms):
    """In words that a study was made on a station that works for another section than the order's, which has stations of its own; else an empty list."""
    usual, equipped = rooms
    section = usual.get((study["station_name"], study["modality"]), order["section"])
    is_other = order["section"] and section != order["section"] and (order["section"], study["modality"]) in equipped
    return [f"made on {study['station_name']}, which works for {section}, for an order of {order['section']}"] if is_other else []


def other_time(order, study):
    """In words that a study was made a day before its order or a week from its appointment; else an empty list. It proves nothing alone: clocks and desks are late."""
    at = made_at(study)
    if pd.notna(at) and pd.notna(order["ordered_at"]) and order["ordered_at"] - at > EARLY:
        return ["made more than a day before the order was placed"]
    return ["made more than a week from its appointment"] if pd.notna(at) and pd.notna(order["scheduled_at"]) and abs(order["scheduled_at"] - at) > FAR else []


def list_wrong_patients(findings, dept, *, site):
    """The findings U05e with all that speaks against each, most first, then those with a final report: a warning list, no work list.

    No names are shown. What to do is the warning: nobody may correct a patient on this evidence alone.
    """
    require_site(site)
    require_tables(dept, "orders", "studies", "reports", "patients")
    for column in FINDINGS:
        if column not in getattr(findings, "columns", ()):
            raise TableError(f"findings: the table that find_mismatches returns is needed; it has no column '{column}'.{nearest(column, getattr(findings, 'columns', ()))}")
    links = link_exams(dept, site)
    rooms, by_uid = usual_rooms(links), {study["study_instance_uid"]: s for s, study in enumerate(links.studies)}
    rows = [_wrong_patient(finding, links, rooms, by_uid) for finding in findings[findings["code"] == "U05e"].to_dict("records")]
    return conform(conform(rows, WRONG_PATIENTS).sort_values(["n_conflicts", "report_is_final", "finding_id"], ascending=[False, False, True]).reset_index(drop=True), WRONG_PATIENTS)


def _wrong_patient(finding, links, rooms, by_uid):
    numbers, accession = set(finding["message_control_id"].split()), links.clean(finding["accession_number"])
    positions = [by_uid[uid] for uid in finding["study_instance_uid"].split() if uid in by_uid]
    about = [links.reports[r] for r in links.reports_by_accession.get(accession, [])] if accession else []
    about += [links.reports[r] for s in positions for r in links.reports_of.get(s, [])]
    said = [t for t in about if t["message_control_id"] in numbers]
    orders = [links.orders[o] for o in links.orders_by_accession.get(accession, [])] or [links.orders[o] for s in positions for o in links.orders_of.get(s, [])]
    record = _as_study(said[0]) if said else links.studies[positions[0]] if positions else None
    conflicts = _conflicts(record, orders or about, links, rooms) if record else []
    is_final = any(t["result_status"] in FINAL for t in about)
    if said:
        warning = f"Hold the report, call its author, {_ALONE}"
    elif is_final:
        warning = f"A final report is out: quarantine the study, call the technologist and the report's author, {_ALONE}"
    else:
        warning = f"Quarantine the study before anybody reads it, call the technologist, {_ALONE}"
    return {**{c: finding[c] for c in ("finding_id", "accession_number", "study_instance_uid")}, "n_conflicts": max(1, len(conflicts)),
            "conflicts": "; ".join(conflicts) or "see the evidence of the finding", "report_is_final": is_final, "warning": warning + "."}


def _as_study(report):
    told = {c: report[c] for c in ("patient_id", "patient_name", "patient_birth_date", "patient_sex", "modality")}
    seen = dict.fromkeys(("body_part_examined", "laterality"), report["procedure_name"])
    return {**told, **seen, "study_description": "", "station_name": "", "started_at": report["observed_at"], "study_at": report["observed_at"]}


def _conflicts(record, partners, links, rooms):
    def today(person):
        return links.merged.get(person["patient_id"], person["patient_id"])

    partners = sorted(partners, key=lambda t: (today(t) != today(record), t["accession_number"], t["message_control_id"]))
    if not partners:
        return []
    order, named = partners[0], record["patient_name"] and partners[0]["patient_name"]
    person = ["patient ID"] * (today(order) != today(record)) + ["name"] * bool(named and not same_name(record["patient_name"], order["patient_name"]))
    more = other_room(order, record, rooms) + other_time(order, record) if order.get("scheduled_at") is not None else []
    return [f"another {word}" for word in person + other_demographics(order, record)] + contradictions(order, record) + more
