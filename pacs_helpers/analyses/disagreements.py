"""Partners that disagree: U05 (whose patient is it), U06 (accession missing or altered) and U07 (another exam of the patient)."""

from collections import defaultdict

import pandas as pd

from .identities import Merges, compare_ids, current_id, how_many_differ
from .identity import MAX_TYPO, are_wholly_other_names, edits, is_not_a_patient, is_stranger, plain_id, same_birth_date, same_name
from .imagefaults import find_foreign
from .unmatched import describe_finding
from .wrongpatients import CLEAN, contradictions, exam_conflicts, made_at, other_demographics, other_room, other_time

MAX_PREFIX = 5
WEEK = pd.Timedelta(days=7)
_OWNERS = {"U05a": "technologist", "U05b": "interface team", "U05c": "PACS administrator", "U05d": "registration", "U05e": "technologist",
           "U05d named": "PACS administrator", "U05e apart": "PACS administrator"}
_FIXES = {
    "U05a": "Correct the images' patient ID to the order's", "U05b": "Agree one spelling of patient IDs between the feeds and map the other",
    "U05c": "Apply the merge in the archive", "U05d": "Reconcile the patient once registration confirms the identity",
    "U05d named": "Bring the name, birth date and sex on the images up to the feed's, as for any update (A08)",
    "U05e": "Quarantine the study, call the technologist and its supervisor, and move it only when the patient is certain",
    "U05e apart": "Quarantine the study, ask registration whose exam it is, and move it only when the patient is certain",
}


def find_identity_faults(links, groups, rooms, fits, early):
    """Findings U05a to U05e, at most one per study and one per exam for its reports, and U07. `fits` are the studies that nothing can be said against, `early` those of `early_studies`."""
    foreign, namesakes = find_foreign(links), defaultdict(list)
    for pid in links.known if len(fits) < len(links.studies) else ():
        namesakes[plain_id(pid)].append(pid)
    for s, study in ((s, links.studies[s]) for s in range(len(links.studies)) if s not in fits or s in early):
        if not is_not_a_patient(study):
            found = _study_identity(s, study, links, namesakes, s in foreign) or _wrong_patient(s, study, links, groups, rooms) or s in early and _before_order(study, early[s])
            if found:
                yield found
    yield from _report_identity(links)


def _partner(s, links):
    orders = [links.orders[o] for o in links.orders_of.get(s, [])]
    reports = [links.reports[r] for r in links.reports_of.get(s, [])]
    same = [p for p in orders or reports if p["patient_id"] == links.studies[s]["patient_id"]]
    return next(iter(same or orders or reports), None)


def _study_identity(s, study, links, namesakes, foreign):
    partner = _partner(s, links) or _namesake(study, links, namesakes)
    # The number that images from elsewhere bring is not ours, though it may look like one that was merged here.
    found = compare_ids(study, partner, Merges() if foreign else links.merged, links.known)
    if not found:
        return _strangers_order(s, study, links)
    case, confidence, evidence = found
    accession = study["accession_number"] or (partner or {}).get("accession_number", "")
    return describe_finding(case[:4], accession=accession, studies=[study], found_at=study["study_at"], owner=_OWNERS[case], confidence=confidence,
                            evidence=evidence, correction=_FIXES[case])


def _strangers_order(s, study, links):
    """U05e of an order of somebody else that names these images by their UID or number, though they have an order of their own patient."""
    orders = [links.orders[o] for o in links.orders_of.get(s, [])] if len(links.orders_of.get(s, [])) > 1 else []
    other = next((o for o in orders if current_id(o, links.merged) != current_id(study, links.merged) and is_stranger(o, study)), None)
    return other and describe_finding(
        "U05e", accession=other["accession_number"], studies=[study], found_at=study["study_at"], owner=_OWNERS["U05e"], confidence=0.9,
        evidence=f"order {other['accession_number']} of patient {other['patient_id']} names the Study UID or number of these images, which are of {study['patient_id']}", correction=_FIXES["U05e"])


def _namesake(study, links, namesakes):
    """For a study without a partner: the known patient whose id is the same number in another spelling, if name and birth date agree."""
    if study["patient_id"] in links.known or not study["patient_id"]:
        return None
    for pid in sorted(namesakes.get(plain_id(study["patient_id"]), ())):
        name, born = links.known[pid]
        if same_name(name, study["patient_name"]) and same_birth_date(born, study["patient_birth_date"]):
            return {"patient_id": pid, "patient_name": name, "patient_birth_date": born, "accession_number": ""}
    return None


def _wrong_patient(s, study, links, groups, rooms):
    """U05e where the identifiers agree and images or demographics do not fit the order, U07 when another order of the patient fits."""
    orders = [links.orders[o] for o in links.orders_of.get(s, []) if links.of_order[o][0] in CLEAN]
    is_one = len(orders) == 1 and s not in groups
    order = orders[0] if is_one else next((o for o in orders if o["patient_id"] and links.merged.get(o["patient_id"], o["patient_id"]) == study["patient_id"]), None)
    if order is None:
        return None
    images, room = (contradictions(order, study), other_room(order, study, rooms)) if is_one else ([], [])
    person = other_demographics(order, study) if order["patient_id"] and study["patient_id"] else []
    is_other = bool(person) and not same_name(study["patient_name"], order["patient_name"])
    meant = meant_order(s, links) if images and not is_other else None
    if meant is not None:
        return describe_finding(
            "U07", accession=study["accession_number"], studies=[study], found_at=study["study_at"], owner="technologist", confidence=0.85,
            evidence=f"the images do not fit the order they name ({'; '.join(images)}), and fit order {links.orders[meant]['accession_number']} of the same patient",
            correction=f"Ask the technologist which exam was done; if it is that one, move the study to accession {links.orders[meant]['accession_number']} and hold the report until then")
    if not (images or is_other or room and not person):
        return None
    person += ["name"] * (not is_other and are_wholly_other_names(study["patient_name"], order["patient_name"]))
    more = room + other_time(order, study) * is_one
    if is_other:
        words = "; ".join([f"name and {' and '.join(person)} on the images are another person's", *images, *more])
    else:
        words = "the images do not: " + "; ".join(images + [f"another {word}" for word in person] + more)
    return describe_finding(
        "U05e", accession=study["accession_number"], studies=[study], found_at=study["study_at"], owner="technologist",
        confidence=min(0.95, 0.6 + 0.15 * len(images + person) + 0.05 * len(room)) if images or is_other else 0.5,
        evidence=f"patient ID and accession agree with the order, but {words}", correction=_FIXES["U05e"])


def _before_order(study, days):
    return describe_finding(
        "U05e", accession=study["accession_number"], studies=[study], found_at=study["study_at"], owner="technologist", confidence=0.5,
        evidence=f"patient ID and accession agree with the order, but the images were made {days} days before the order was placed",
        correction="Hold the study and find out whether the accession number was given twice or typed wrong, the station's clock was wrong, or the order was placed late")


def meant_order(s, links):
    """The position of another order of the patient, due within 24 hours, that a study fits where the one it names does not; else None."""
    study, named = links.studies[s], [o for o in links.orders_of.get(s, []) if links.of_order[o][0] in CLEAN]
    if len(named) != 1 or not contradictions(links.orders[named[0]], study):
        return None
    at = made_at(study)
    for i in links.orders_by_patient.get(links.orders[named[0]]["patient_id"], []):
        other = links.orders[i]
        due = other["scheduled_at"] if pd.notna(other["scheduled_at"]) else other["ordered_at"]
        if i != named[0] and pd.notna(due) and abs(at - due) <= pd.Timedelta(hours=24) and not contradictions(other, study):
            return i
    return None


def misplaced_reports(links):
    """`{position of a report: (what differs from its order, position of the order that it fits or None)}` of the last reports about exams under whose number another one was read.

    Order and images must both speak against the report: a procedure that was changed on the way fits one of them.
    """
    found, ordered, read, is_again = {}, links.orders.column("procedure_name"), links.reports.column("procedure_name"), links.reports.column("is_duplicate")
    for number, rows in links.reports_by_accession.items():
        last, orders = next((r for r in reversed(rows) if not is_again[r]), rows[-1]), links.orders_by_accession.get(number, ())
        if read[last] and orders and links.of_report[last][1] and not any(ordered[o] == read[last] for o in orders):
            report, orders = links.reports[last], [links.orders[o] for o in orders]
            differs, today = [_other_exam(order, report) for order in orders], current_id(report, links.merged)
            is_theirs = any(current_id(order, links.merged) == today for order in orders)
            if is_theirs and all(differs) and all(other_images(report, links.studies[s]) for s in links.of_report[last][1]):
                found[last] = differs[0], _order_read(report, number, links)
    return found


def _other_exam(order, report):
    return exam_conflicts(order["procedure_name"], order["modality"], report["procedure_name"], report["procedure_name"], report["modality"])


def other_images(report, study):
    """What of region, side and modality in a study differs from what a report is about: a tuple of words."""
    return exam_conflicts(report["procedure_name"], report["modality"], study["body_part_examined"] or study["study_description"], study["laterality"] or study["study_description"], study["modality"])


def _order_read(report, number, links):
    """The position of another order of the patient that a report fits, with images that it fits from within a week before it; else None."""
    for o in links.orders_by_patient.get(report["patient_id"], []):
        if links.clean(links.orders[o]["accession_number"]) != number and not _other_exam(links.orders[o], report):
            studies = [links.studies[s] for s in links.of_order[o][1]]
            if any(not other_images(report, t) and pd.Timedelta(0) <= report["message_at"] - made_at(t) <= WEEK for t in studies):
                return o
    return None


def find_misplaced_reports(links, misplaced):
    """Findings U07, one per report that `misplaced_reports` gave."""
    for r, (differs, meant) in misplaced.items():
        report, other = links.reports[r], "" if meant is None else links.orders[meant]["accession_number"]
        fits = f", and fits order {other} of the same patient" if other else ", and fits no other order of the patient that has images"
        yield describe_finding(
            "U07", accession=report["accession_number"], studies=[links.studies[s] for s in links.of_report[r][1]], messages=[report], found_at=report["message_at"], owner="radiologist",
            confidence=0.85 if other else 0.6, evidence=f"the report speaks of another exam than its order and the images ({'; '.join(differs)}){fits}: this exam may be unread",
            correction=f"Hold the report and ask its author which exam was read{f'; if it is that one, have it re-sent under accession {other} and this exam read' if other else ''}")


def _report_identity(links):
    wrong, ordered_for, named = defaultdict(list), links.orders.column("patient_id"), links.orders.column("patient_name")
    said = zip(*(links.reports.column(c) for c in ("patient_id", "patient_name", "accession_number", "is_duplicate")))
    for r, (pid, name, accession, is_duplicate) in enumerate(said):
        hits = links.of_report[r][1]
        orders = [*links.orders_by_accession.get(links.clean(accession), ()), *(o for s in hits for o in links.orders_of.get(s, ()))]
        if orders and pid and not is_duplicate and not any(ordered_for[o] == pid and (named[o] == name or not is_stranger(links.orders[o], links.reports[r])) for o in orders):
            own = next((o for o in orders if ordered_for[o] == pid), orders[0])
            one, other = current_id(links.reports[r], links.merged), current_id(links.orders[own], links.merged)
            if other and (one != other or ordered_for[own] == pid):
                wrong[links.orders[own]["accession_number"], one, other].append((links.reports[r], hits))
    for (accession, one, other), rows in wrong.items():
        reports, studies = [t for t, _ in rows], [links.studies[s] for s in sorted({s for _, hits in rows for s in hits})]
        order = next(iter(links.orders[o] for o in links.orders_by_accession.get(links.clean(accession), ())), None)
        code, words, owner = _how_reports_differ(one, other, links)
        if code != "U05e" and order and is_stranger(reports[0], order):
            code, words, owner = "U05e", "name and birth date or sex are another person's", "radiologist"
        heard = min((t["message_at"] for t in reports if pd.notna(t["message_at"])), default=pd.NaT)
        yield describe_finding(code, accession=accession, studies=studies, messages=reports, found_at=heard, owner=owner, confidence=0.9 if code != "U05a" else 0.7,
                               evidence=f"the report says patient {one}, the exam of accession {accession} belongs to {other}: {words}",
                               correction="Hold the report and ask its author whose exam was read" if code == "U05e" else "Have the report re-sent with the order's patient ID")


def _how_reports_differ(one, other, links):
    if why := links.merged.apart.get(frozenset((one, other))):
        return "U05e", why, "radiologist"
    if plain_id(one) == plain_id(other):
        return "U05b", "the same number, written differently", "interface team"
    if one in links.known or edits(one, other) > MAX_TYPO:
        return "U05e", "it was dictated under another patient", "radiologist"
    return "U05a", how_many_differ(edits(one, other)), "radiologist"


def find_accession_faults(links, site, groups):
    """Findings U06 for linked studies and reports whose accession number is missing or another one than their partner's."""
    known = links.studies.column("accession_number")
    habit = sum(bool(_prefixed(links.reports[r], [links.clean(known[hits[0]])])) for r, (_, hits) in enumerate(links.of_report) if hits and not links.agreed_reports[r]) * 2 > len(links.reports)
    for s, study in enumerate(links.studies):
        if links.agreed_studies[s] and all(links.agreed_reports[r] for r in links.reports_of.get(s, ())):
            continue
        orders = [links.orders[o] for o in links.orders_of.get(s, [])]
        reports = [links.reports[r] for r in links.reports_of.get(s, [])]
        if s in groups or not (orders or reports):
            continue
        numbers = {links.clean(n) for n in (study["accession_number"], *study["requested_accession_numbers"].split()) if n}
        ordered = {links.clean(o["accession_number"]) for o in orders if o["accession_number"]}
        level = links.of_order[links.orders_of[s][0]][0] if orders else links.of_report[links.reports_of[s][0]][0]
        if not numbers:
            yield _missing(study, orders, reports, level)
        elif ordered and not numbers & ordered:
            yield _altered(study, orders, level)
        yield from _odd_reports(study, reports, numbers | ordered, links, habit)


def _missing(study, orders, reports, level):
    partner = next((p for p in orders + reports if p["accession_number"]), None)
    where = f"its partner has accession {partner['accession_number']}" if partner else "its report has none either"
    return describe_finding(
        "U06", accession=partner["accession_number"] if partner else "", studies=[study], messages=[] if partner else reports, found_at=study["study_at"], owner="technologist",
        confidence=0.95 if level in CLEAN else 0.65, evidence=f"the images carry no accession number; only {'the ' + level if level in CLEAN else level} links them, and {where}",
        correction=f"Write accession {partner['accession_number']} into the images" if partner else "Find the order, then write its accession number into images and report")


def _altered(study, orders, level):
    order = orders[0]
    n = edits(study["accession_number"], order["accession_number"])
    return describe_finding(
        "U06", accession=order["accession_number"], studies=[study], found_at=study["study_at"], owner="technologist", confidence=0.9 if level in CLEAN else 0.65,
        evidence=f"the images say accession {study['accession_number']}, the order linked by {level} says {order['accession_number']}: {how_many_differ(n)}",
        correction=f"Correct the images' accession number to {order['accession_number']}")


def _prefixed(report, numbers):
    """A number in one of the report's other fields that is an exam's accession number behind a prefix, else an empty text."""
    others = report["other_accession_numbers"].split()
    return next((o for o in others for n in numbers if n and o.upper() != n and o.upper().endswith(n) and len(o) - len(n) <= MAX_PREFIX), "")


def _odd_reports(study, reports, numbers, links, habit):
    mine = [r for r in reports if numbers and not r["is_duplicate"]]
    odd = [r for r in mine if links.clean(r["accession_number"]) not in numbers]
    prefixed = [] if habit else [r for r in mine if _prefixed(r, numbers)]
    if not odd and not prefixed:
        return
    number, plain = (odd[0]["accession_number"] if odd else _prefixed(prefixed[0], numbers)), study["accession_number"] or sorted(numbers)[0]
    if not number:
        owner, words = "interface team", "the report carries no accession number"
    elif number.upper().endswith(plain.upper()) or plain.upper().endswith(number.upper()):
        owner, words = "interface team", f"the report says {number}{'' if odd else ' in one of its fields'}, images and order say {plain}: the same number with a prefix"
    else:
        owner, words = "radiologist", f"the report says accession {number}, its study says {plain}"
    yield describe_finding("U06", accession=plain, studies=[study], messages=odd or prefixed, found_at=(odd or prefixed)[0]["message_at"], owner=owner, confidence=0.9,
                           evidence=words + "; another number or the Study UID links them",
                           correction=f"If this is the feed's habit, add the prefix to strip_prefixes in site.toml; else have the report re-sent under {plain}")
