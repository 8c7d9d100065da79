"""Which order does each series belong to? A proposal with reasons for split exams and group cases; a person decides."""

from collections import defaultdict

import pandas as pd

from ..schemas import NOT_IMAGES, TEXT
from ..tables import TableError, nearest
from .anatomy import modalities_conflict, regions_adjoin, regions_of, side_of
from .identity import plain_id
from .links import WINDOW_HOURS, link_exams
from .splits import numbers_of
from .visits import GAP_MINUTES, find_visits
from .wrongpatients import other_time


def propose_series(dept, exams, *, site):
    """The series of `exams`, and of all studies of the same visit, each with the order it most likely belongs to and why.

    `exams`: accession numbers or Study Instance UIDs, one text or a list. `proposed_accession_number` is empty where it is not clear: nothing
    speaks for an order, something speaks against the best, or the next is as likely. What counts: one order alone in Request Attributes,
    body part and descriptions against the procedure, the side, the number of its study, and a schedule that only one order fits.
    An order under another patient ID, or of another week, is never proposed. A person decides.
    """
    links = link_exams(dept, site)
    visits = find_visits(links)
    orders = {links.studies[s]["study_instance_uid"]: _possible_orders(next((visit for visit in visits if s in visit), [s]), links, site) for s in _positions(exams, visits, links, site)}
    studies = {study["study_instance_uid"]: study for study in links.studies if study["study_instance_uid"] in orders}
    series = dept.series[dept.series["study_instance_uid"].isin(list(orders))].sort_values(["started_at", "series_instance_uid"], kind="stable").reset_index(drop=True)
    proposals = [_propose(_as_in_study(one, studies[one["study_instance_uid"]]), orders[one["study_instance_uid"]], links, site) for one in series.to_dict("records")]
    return series.assign(**{name: pd.Series([p[i] for p in proposals], dtype=TEXT) for i, name in enumerate(("proposed_accession_number", "procedure_name", "reasons"))})


def _as_in_study(series, study):
    """The series with its study's ID, which says of two people of one number which it is, unless the series carries another."""
    is_same = study["patient_id"].startswith(series["patient_id"] + "^")
    return {**series, "study_at": study["study_at"], "patient_id": study["patient_id"] if is_same else series["patient_id"]}


def _person(record, links):
    return plain_id(links.merged.get(record["patient_id"], record["patient_id"]))


def _positions(exams, visits, links, site):
    """Positions of the studies that `exams` names, and of all studies of the same visit."""
    by_name = defaultdict(set)
    for s, study in enumerate(links.studies):
        for name in (study["study_instance_uid"], *map(site.clean_accession, numbers_of(study)), *(site.clean_accession(links.orders[o]["accession_number"]) for o in links.orders_of.get(s, []))):
            if name:
                by_name[name].add(s)
    given = [exams] if isinstance(exams, str) else list(exams)
    names = [name for text in given for name in ([text] if site.clean_accession(text) in by_name else text.split() or [text])]
    found = set()
    for name in names:
        hit = by_name.get(name) or by_name.get(site.clean_accession(name))
        if not hit:
            raise TableError(f"exams: '{name}' is no accession number or Study Instance UID with images in this department.{nearest(name, by_name)}")
        found |= hit
    return sorted(found.union(*(visit for visit in visits if found & set(visit))))


def _possible_orders(positions, links, site):
    """The orders of these studies and all others of the patient for about that time, one per accession number."""
    studies = [links.studies[s] for s in positions]
    own = [o for s in positions for o in links.orders_of.get(s, [])] + [o for t in studies for n in numbers_of(t) for o in links.orders_by_accession.get(site.clean_accession(n), [])]
    start, end = pd.Series([t["started_at"] for t in studies]).agg(["min", "max"])
    near = [o for i in {t["patient_id"] for t in studies} - {""} for o in links.orders_by_patient.get(i, [])
            if not links.orders[o]["is_cancelled"] and start - pd.Timedelta(hours=WINDOW_HOURS) <= links.orders[o]["scheduled_at"] <= end + pd.Timedelta(hours=WINDOW_HOURS)]
    orders = {site.clean_accession(links.orders[o]["accession_number"]): links.orders[o] for o in reversed([*own, *near])}
    return {key: orders[key] for key in reversed(orders) if key}


def _propose(series, orders, links, site):
    fits = {key: _fit(series, key, orders, links, site) for key in orders}
    order = sorted(fits, key=lambda key: -fits[key][0])
    best = fits[order[0]] if order else (0, [], [])
    if best[0] >= 1 and not best[2] and (len(order) == 1 or best[0] - fits[order[1]][0] >= 1):
        return orders[order[0]]["accession_number"], orders[order[0]]["procedure_name"], "; ".join(best[1])
    words = [f"{orders[key]['accession_number']}: {'; '.join([*fits[key][1], *fits[key][2]]) or 'nothing for or against it'}" for key in order[:3]]
    return "", "", "not clear" + (": " + " | ".join(words) if words else ": no order")


def _fit(series, key, orders, links, site):
    """`(score, what speaks for it, what speaks against it)` of a series and an order."""
    order, score, yes, no = orders[key], 0, [], []
    name = order["procedure_name"] or "the order"
    asked = {site.clean_accession(n) for n in series["requested_accession_numbers"].split()} & set(orders)
    if asked == {key}:
        score, yes = score + 3, [*yes, "Request Attributes name it alone"]
    if _person(series, links) != _person(order, links):
        no.append("the patient IDs differ")
    if order["is_cancelled"]:
        no.append("it was cancelled")
    no += other_time(order, series)
    if series["modality"] not in NOT_IMAGES and modalities_conflict(series["modality"], order["modality"]):
        no.append(f"{series['modality']} is not {order['modality']}")
    words = " ".join(series[c] for c in ("body_part_examined", "series_description", "protocol_name"))
    made, wanted = regions_of(words, series["modality"]), regions_of(name, order["modality"])
    part = series["body_part_examined"] or series["series_description"] or series["protocol_name"]
    if made & wanted:
        score, yes = score + 2 * len(made & wanted) / len(made | wanted), [*yes, f"{part} fits {name}"]
    elif made and wanted and not regions_adjoin(made, wanted):
        no.append(f"{part} does not fit {name}")
    sides = side_of(series["laterality"]) or side_of(words), side_of(name)
    if all(sides) and sides[0] != sides[1]:
        no.append(f"side {sides[0]} does not fit {name}")
    if site.clean_accession(series["accession_number"]) == key:
        score, yes = score + 1, [*yes, "its study carries the number"]
    away = {k: abs((series["started_at"] - o["scheduled_at"]).total_seconds()) / 60 for k, o in orders.items()}
    if len(away) > 1 and all(away[key] + GAP_MINUTES <= minutes for k, minutes in away.items() if k != key):
        score, yes = score + 1, [*yes, "only its schedule is near"]
    return score - 2 * len(no), yes, no
