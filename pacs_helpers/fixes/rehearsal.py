"""What the standing decisions would move, and what stands against them, before anybody touches an archive."""

import re
from itertools import combinations

import pandas as pd

from ..analyses.anatomy import modalities_conflict
from ..analyses.identities import merged_ids
from ..analyses.identity import is_temporary, same_name
from ..schemas import NOT_IMAGES
from ..tables import REHEARSAL, conform, require_columns
from .applied import about_old, apply_decision, known_person
from .corrections import FIELDS, read_corrections, split_study_uid

ONE_VISIT = pd.Timedelta("1h")           # what is ordered for one visit is placed together
_MERGED = [(None,) * 3, {}]
_STALE = "stale: the target or its old value is not in these traces any more; look at the finding again"


def rehearse(dept, ledger, *, site=None, instances=None, findings=None):
    """REHEARSAL of the standing decisions, in their order, each on what those before it left.

    Counts are of what moves, and of where it goes before and after: a person, an exam or a study. With `site`, an accession number is
    known however it is spelled. With `instances`, the table of `read_headers`, SOP Instance UIDs that are on both sides are found;
    without it only those that the studies of two patients share. With `findings`, those of `dept`, nothing is joined or split while a
    wrong patient or exam (U05e, U07) stands on it.
    """
    return rehearse_steps(list(walk_decisions(dept, ledger)), site, instances, findings)


def rehearse_steps(steps, site, instances=None, findings=None):
    """REHEARSAL of what walk_decisions gave."""
    wrong, rows, final = _wrong_patients(findings), [], next((after for _, _, after in reversed(steps) if after), None)
    for decision, before, after in steps:
        against = list(_collisions(decision, before, after, final or before, site, instances, wrong))
        if after:
            wrong.pop(decision["finding_id"], None)
        counts = _counts(decision, before, after or before)
        rows.append({"seq": decision["seq"], "correction_id": decision["id"], "finding_id": decision["finding_id"], "kind": decision["kind"], **counts,
                     "collisions": "; ".join(dict.fromkeys(against)), "is_safe": not against})
    return conform(rows, REHEARSAL)


def collisions_of(decision, dept, *, site=None, instances=None, findings=None):
    """What stands against one decision, recorded or only planned, in sentences; [] when nothing does."""
    decision = {"field": FIELDS[decision["kind"]], "old": "", "new": "", "series": "", **decision}
    after = dept if decision["kind"] == "dismiss" else apply_decision(dept, decision)
    return list(dict.fromkeys(_collisions(decision, dept, after, after or dept, site, instances, _wrong_patients(findings))))


def _wrong_patients(findings):
    """`{finding_id: (its studies, evidence)}` of the findings that images are of another patient or exam than they say."""
    if findings is None:
        return {}
    require_columns(findings, ("finding_id", "code", "study_instance_uid", "evidence"), "findings")
    rows = findings[findings["code"].isin(["U05e", "U07"])]
    return {name: ({*uids.split()}, words) for name, uids, words in rows[["finding_id", "study_instance_uid", "evidence"]].values}


def walk_decisions(dept, ledger):
    """`(decision, department before it, department after it or None when it is stale)`, one after the other, without events and trace."""
    dept = dept._replace(events=dept.events.iloc[:0], trace=dept.trace.iloc[:0])
    for decision in read_corrections(ledger).to_dict("records"):
        after = apply_decision(dept, decision)
        yield decision, dept, after
        dept = after or dept


def _moved(decision, dept):
    """The rows of studies, series and reports that a decision takes elsewhere."""
    uids, kind = decision["target"].split(), decision["kind"]
    if kind == "dismiss":
        uids = []
    series = dept.series[dept.series["study_instance_uid"].isin(uids[1:] if kind == "merge" else uids)]
    if decision["series"]:
        series = series[series["series_instance_uid"].isin(decision["series"].split())]
    studies = dept.studies[dept.studies["study_instance_uid"].isin(uids[1:] if kind == "merge" else uids)]
    is_moved = about_old(dept.reports, "message_control_id", decision) if kind in ("patient_id", "link", "unlink") else False
    return studies, series, dept.reports[dept.reports["message_control_id"].isin(uids) & (dept.reports["message_control_id"] != "") & is_moved]


def _counts(decision, before, after):
    studies, series, reports = _moved(decision, before)
    is_part = decision["kind"] in ("split", "merge_series")
    counts = {"n_studies": 0 if is_part else len(studies), "n_series": len(series) or _sum(studies["n_series"]),
              "n_instances": _sum((series if is_part or len(series) else studies)["n_instances"]), "n_reports": len(reports)}
    if decision["kind"] in ("dismiss", "unlink"):
        return counts
    for when, dept in (("before", before), ("after", after)):
        column = {"patient_id": "patient_id", "merge_series": "study_instance_uid"}.get(decision["kind"], "accession_number")
        there = dept.studies[dept.studies[column] == decision["new"]]
        counts |= {f"n_studies_{when}": len(there), f"n_series_{when}": _sum(there["n_series"]), f"n_instances_{when}": _sum(there["n_instances"]),
                   f"n_reports_{when}": (dept.reports[column] == decision["new"]).sum()}
    return counts


def _sum(counts):
    """0 of nothing, missing where nothing is known."""
    return counts.sum(min_count=1) if len(counts) else 0


def _collisions(decision, before, after, final, site, instances, wrong):
    if after is None:
        yield _STALE
        return
    if decision["kind"] == "dismiss":
        return
    studies, series, reports = _moved(decision, before)
    for name in ("series", "studies"):
        if getattr(before, name)["n_instances"].sum() != getattr(after, name)["n_instances"].sum():
            yield f"the images of all {name} before and after do not add up"
    if decision["kind"] == "patient_id":
        yield from _other_person(decision, before, [*studies.to_dict("records"), *reports.to_dict("records")])
    elif decision["kind"] in ("link", "split", "merge"):
        yield from _other_exam(decision, before, reports, final, site)
    if decision["kind"] in ("merge", "merge_series"):
        stays = decision["new"] if decision["kind"] == "merge_series" else decision["target"].split()[0]
        yield from _two_studies(before, studies, stays, _sops(instances, studies, series, decision))
    if decision["kind"] in ("merge", "merge_series", "split"):
        yield from _not_one_exam(decision, before, studies, series, site)
        for name, (uids, words) in wrong.items():
            if uids & {*decision["target"].split(), decision["new"]} and (decision["kind"] != "split" or name.startswith("U05e")):
                yield f"{name} stands on one of these studies, settle that first: {words.rstrip('.')}"
    if decision["kind"] == "split":
        if set(series["series_instance_uid"]) == set(before.series.loc[before.series["study_instance_uid"] == decision["target"], "series_instance_uid"]):
            yield "all series leave the study: link it instead"
        if split_study_uid(decision["target"], decision["series"]) in set(before.studies["study_instance_uid"]):
            yield "these series form a study of their own already"


def current_ids(dept):
    """What merged_ids gives for a Department, worked out once while one decision after the other is looked at."""
    tables = dept.patients, dept.orders, dept.reports
    if not all(one is other for one, other in zip(tables, _MERGED[0])):
        _MERGED[:] = tables, merged_ids(*tables)
    return _MERGED[1]


def _other_person(decision, before, moved):
    new, person = decision["new"], known_person(before, decision["new"])
    if not person:
        yield f"neither orders nor registration know a patient {new}"
        return
    for row in moved:
        if is_temporary(row):
            continue
        if row["patient_birth_date"] and person["patient_birth_date"] not in ("", row["patient_birth_date"]):
            yield f"{new} is known with another birth date than stands in what moves"
        if row["patient_name"] and person["patient_name"] and not same_name(row["patient_name"], person["patient_name"]):
            yield f"{new} is known under another name than stands in what moves"


def of_exam(table, number, site):
    """The rows of an exam, its accession number spelled in any of the site's ways; none for an empty number."""
    numbers, wanted = table["accession_number"], site.clean_accession(number) if site else number
    if site:            # cleaning is slow, so of those that hold it at all
        near = numbers[numbers.str.replace(" ", "", regex=False).str.upper().str.contains(wanted, regex=False)]
        numbers = near.map(site.clean_accession)
    return table.loc[numbers.index[(numbers == wanted) & (wanted != "")]]


def _other_exam(decision, before, reports, final, site):
    new, targets = decision["new"], decision["target"].split()
    merged = current_ids(before)
    own_studies = before.studies[before.studies["study_instance_uid"].isin(targets)]
    own = set()
    for table, key, rows in ((final.studies, "study_instance_uid", own_studies), (final.reports, "message_control_id", reports)):
        there = table[table[key].isin(rows[key])]           # the ID may be corrected after the number
        own |= {merged.get(i, i) for i in (there if len(there) else rows)["patient_id"]} - {""}
    orders, other_studies, other_reports = (of_exam(table, new, site) for table in (before.orders, before.studies, before.reports))
    other_studies = other_studies[~other_studies["study_instance_uid"].isin(targets)]
    other_reports = other_reports.drop(index=reports.index, errors="ignore")
    strangers = {merged.get(i, i) for table in (orders, other_studies, other_reports) for i in table["patient_id"]} - own - {""}
    if len(own) > 1:
        yield f"what moves carries several patient IDs: {', '.join(sorted(own))}"
    if own and strangers:
        yield f"exam {new} is known with another patient ID: {', '.join(sorted(strangers))}"
    if orders["is_cancelled"].any():
        yield f"the order of exam {new} is cancelled"
    if len(other_reports) and (len(reports) or decision["kind"] != "merge" and len(other_studies)):
        yield f"exam {new} is reported already" + ("" if len(reports) else ", on other images")
    left = sorted(set(own_studies["accession_number"]) & set(before.reports["accession_number"]) - {new, ""}) if decision["kind"] == "merge" else []
    if left:
        yield f"reports stay under {', '.join(left)}: link them to {new} too"


def _two_studies(before, studies, stays, shared):
    other = before.studies[before.studies["study_instance_uid"] == stays]
    ids = {*studies["patient_id"], *other["patient_id"]} - {""}
    if len(ids) > 1:
        yield f"the studies carry different patient IDs: {', '.join(sorted(ids))}"
    if shared or any(stays in uids.split() for uids in studies["clashing_study_uids"]):
        yield f"{shared or 'some'} SOP Instance UID{'s are' if shared != 1 else ' is'} in both studies"


def _not_one_exam(decision, before, studies, series, site):
    """What tells that images and what they join are not of one person or one exam, though the patient IDs agree."""
    kind, uids = decision["kind"], {*decision["target"].split(), decision["new"]}
    parts = before.studies[before.studies["study_instance_uid"].isin(uids)]
    orders = [of_exam(before.orders, number, site) for number in ([decision["new"]] if kind == "split" else _numbers(parts) if kind == "merge" else [])]
    there = [*orders, of_exam(before.studies, decision["new"], site)] if kind == "split" else [parts[~parts["study_instance_uid"].isin(studies["study_instance_uid"])]]
    yield from _different_people(pd.concat([parts, *there]))
    images = series["modality"] if kind != "merge" and len(series) else studies["modality"]
    far = {m for one in {*images} for other in {*pd.concat(there)["modality"]} if not {one, other} & {*NOT_IMAGES} and modalities_conflict(one, other) for m in (one, other)}
    if far:
        yield f"what is put together is of different modalities: {', '.join(sorted(far))}"
    merged = current_ids(before)
    told = pd.concat([*orders, *(table[table["study_instance_uid"].isin(uids)] for table in (before.orders, before.reports))])
    strangers = {merged.get(i, i) for i in told["patient_id"]} - {merged.get(i, i) for i in parts["patient_id"]} - {""}
    if strangers and kind != "split":
        yield f"orders or reports of these studies name another patient ID: {', '.join(sorted(strangers))}"
    own = pd.concat([rows[~rows["is_cancelled"].fillna(False)] for rows in orders]) if kind == "merge" and orders else before.orders.iloc[:0]
    if own["ordered_at"].max() - own["ordered_at"].min() > ONE_VISIT or any(modalities_conflict(*pair) for pair in combinations(sorted({*own["modality"]}), 2)):
        yield f"these studies have orders of their own, not placed together: {', '.join(sorted({*own['accession_number']}))}"


def _numbers(studies):
    """The accession numbers that studies carry or were asked for by."""
    return sorted({*studies["accession_number"], *" ".join(studies["requested_accession_numbers"]).split()} - {""})


def _different_people(rows):
    people = [row for row in rows.to_dict("records") if not is_temporary(row)]
    names = [set(re.split(r"[\W_]+", row["patient_name"].split("=")[0].upper())) - {""} for row in people]
    if any(one and other and not (one <= other or other <= one) for one, other in combinations(names, 2)):
        yield "what is put together carries different names"
    if len({row["patient_birth_date"] for row in people} - {""}) > 1:
        yield "what is put together carries different birth dates"


def _sops(instances, studies, series, decision):
    """How many SOP Instance UIDs are both in what moves and in where it goes."""
    if instances is None:
        return 0
    stays = decision["new"] if decision["kind"] == "merge_series" else decision["target"].split()[0]
    moves = instances["series_instance_uid"].isin(series["series_instance_uid"]) & instances["study_instance_uid"].isin(studies["study_instance_uid"])
    return len(set(instances.loc[moves, "sop_instance_uid"]) & set(instances.loc[instances["study_instance_uid"] == stays, "sop_instance_uid"]) - {""})
