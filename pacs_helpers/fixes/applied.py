"""The standing decisions folded into copies of a Department's tables."""

import pandas as pd

from ..analyses.unmatched import describe_finding
from ..schemas import NOT_IMAGES
from ..tables import STUDIES, add_problem, conform
from .corrections import read_corrections, split_study_uid

_TABLES = (("studies", "study_instance_uid"), ("reports", "message_control_id"))
_COPIED = ("studies", "series", "reports", "events", "trace")
_NUMBERS = ("placer_order_number", "filler_order_number", "other_accession_numbers", "requested_procedure_id")
_UNIONS = ("requested_accession_numbers", "requested_procedure_ids", "body_part_examined", "laterality", "frame_of_reference_uids")


def apply_corrections(dept, ledger, *, after=0):
    """A Department with the standing decisions applied to copies of its tables, in the order they were made.

    Findings dismissed are in `reviewed`. A decision whose old value is no longer there is left out: `find_stale` lists those.
    `after`: `dept` has the decisions up to this seq already, and none of them was undone since.
    """
    return _fold(dept, ledger, after)[0]


def find_stale(dept, ledger):
    """The decisions that stand but could not be applied, as read_corrections gives them: their target or old value is not there any more."""
    return _fold(dept, ledger)[1]


def _fold(dept, ledger, after=0):
    decisions, stale = read_corrections(ledger), []
    decisions = decisions[decisions["seq"] > after]
    dept = dept._replace(**{name: getattr(dept, name).copy() for name in _COPIED})
    reviewed, rows = list(dept.reviewed), decisions.to_dict("records")
    for i, decision in enumerate(rows):
        if decision["kind"] == "dismiss":
            reviewed.append(decision["finding_id"] or decision["target"])
            continue
        applied = _APPLY[decision["kind"]](dept, decision)
        if applied is None and not _is_overtaken(dept, decision, rows[i + 1:]):
            stale.append(decision["seq"])
        if applied and decision["kind"] == "merge":     # what is one study for several orders now was decided on
            reviewed.append(describe_finding("U09", accession=decision["new"], studies=[{"study_instance_uid": decision["target"].split()[0]}], found_at=None, owner="nobody", confidence=1,
                                             evidence="-", correction="-")["finding_id"])
        dept = applied or dept
    return dept._replace(reviewed=tuple(dict.fromkeys(reviewed))), decisions[decisions["seq"].isin(stale)].reset_index(drop=True)


def apply_decision(dept, decision):
    """A Department with one decision applied to copies of its tables; None when its target or old value is not there."""
    dept = dept._replace(**{name: getattr(dept, name).copy(deep=False) for name in _COPIED})        # what is written to is copied then
    return dept if decision["kind"] == "dismiss" else _APPLY[decision["kind"]](dept, decision)


def _set_value(dept, decision):
    """The Department when the decision met its old value (or its new one, having been applied before) and now stands in the tables, else None."""
    is_met = False
    for name, key in _TABLES:
        table = getattr(dept, name)
        rows = about_old(table, key, decision)
        if not rows.any():
            continue
        uids = table.loc[rows, "study_instance_uid"]
        if decision["field"] == "patient_id":
            table.loc[rows, "patient_id"] = decision["new"]
            _follow_identity(table, rows, decision["new"], dept)
        else:
            _move_records(dept, table[rows], key, decision)
            table.loc[rows, "accession_number"] = decision["new"]
            (_forget_requests if name == "studies" else _point_report)(dept, table, rows, decision)
        if name == "studies":
            dept.series.loc[dept.series["study_instance_uid"].isin(uids), decision["field"]] = decision["new"]
        elif decision["kind"] == "link":        # the exams of one message are one report now
            dept = dept._replace(reports=table[~(rows & table.duplicated([key, "accession_number", "result_status", "source_file", "source_offset"]))].reset_index(drop=True))
        is_met = True
    return dept if is_met else None


def about_old(table, key, decision):
    """Which rows of studies or reports a decision on their value moves: those that carry the old value, or one of those of several versions or exams of a report, or the new."""
    values = [decision["old"], decision["new"], *(decision["old"].split() if key == "message_control_id" else [])]
    return _about(table[key], decision) & table[decision["field"]].isin(values)


def carries_new(dept, decision):
    """True when a study or report carries the new value of a decision, and none that it is about the old."""
    told = [getattr(dept, name).loc[_about(getattr(dept, name)[key], decision), decision["field"]] for name, key in _TABLES]
    return any((values == decision["new"]).any() and not (values == decision["old"]).any() for values in told)


def _about(keys, decision):
    return keys.isin([decision["target"], *decision["target"].split()])


def _follow_identity(table, rows, patient_id, dept):
    """Name, birth date and sex go with the ID, as orders and else registration last gave them."""
    for column, value in known_person(dept, patient_id).items():
        table.loc[rows, column] = value or table.loc[rows, column]


def known_person(dept, patient_id):
    """patient_name, patient_birth_date and patient_sex that orders, else registration, last gave for an ID; {} when neither knows it."""
    for known in (dept.orders, dept.patients):
        person = known[known["patient_id"] == patient_id]
        if len(person):
            given = {column: person.loc[person[column] != "", column] for column in ("patient_name", "patient_birth_date", "patient_sex")}
            return {column: values.iloc[-1] if len(values) else "" for column, values in given.items()}
    return {}


def _forget_requests(dept, studies, rows, decision):
    """The worklist's number of the exam that the images are not of: the ladder would find that exam by it again."""
    numbers = studies.loc[rows, "requested_accession_numbers"].str.split()
    kept = numbers.map(lambda words: " ".join(w for w in words if w != decision["old"] or w == decision["new"]))
    gone = kept.eq("") & numbers.map(bool)
    studies.loc[rows, "requested_accession_numbers"] = kept
    studies.loc[gone[gone].index, "requested_procedure_ids"] = ""


def _point_report(dept, reports, rows, decision):
    """The Study UID and the other numbers that a report came with are asked too: they must not name another exam."""
    uids = dept.studies.loc[(dept.studies["accession_number"] == decision["new"]) & (decision["new"] != ""), "study_instance_uid"]
    reports.loc[rows, "study_instance_uid"] = uids.iloc[0] if len(uids) == 1 else ""
    if decision["kind"] == "unlink":
        reports.loc[rows, list(_NUMBERS)] = ""


def _move_records(dept, moved, key, decision):
    """The events and the trace of what was linked go along; of a message about several exams only those of the old number."""
    numbers = {decision["old"], *decision["old"].split(), decision["new"], ""}
    for name, spoken in (("events", "source"), ("trace", "lane")):
        table = getattr(dept, name)
        if key == "study_instance_uid":
            rows = _is_of_images(table, spoken, moved[key])
        else:
            several = dept.reports.loc[dept.reports[key].isin(moved[key]), "accession_number"].nunique() > 1
            rows = table["source_id"].isin(moved[key]) & (table["accession_number"].isin(numbers) | (not several))
        table.loc[rows, "accession_number"] = decision["new"]


def _is_of_images(table, spoken, uids):
    return table["study_instance_uid"].isin(uids) & ~table[spoken].isin(["hl7", "patient", "order", "report", "acknowledgment"])


def _merge(dept, decision):
    """The Department with the studies as one, else None: the first of them and the accession numbers seen must still be there."""
    uids, studies = decision["target"].split(), dept.studies
    parts = studies[studies["study_instance_uid"].isin(uids)].sort_values("study_instance_uid", key=lambda u: u.map(uids.index), kind="stable")
    seen = {*decision["old"].split(), decision["new"], ""}
    if uids[0] not in set(parts["study_instance_uid"]) or len(uids) < 2 or not set(parts["accession_number"]) <= seen:
        return None
    row = {**parts.iloc[0].to_dict(), **_combined(parts), "accession_number": decision["new"]}
    if parts.loc[parts["patient_id"] != "", "patient_id"].nunique() > 1:
        row["problems"] = add_problem(row["problems"], "MIXED_PATIENT")
    _move_records(dept, parts, "study_instance_uid", decision)
    for table in (dept.series, dept.reports, dept.events, dept.trace):
        table.loc[table["study_instance_uid"].isin(uids), "study_instance_uid"] = uids[0]
    dept.series.loc[dept.series["study_instance_uid"] == uids[0], "accession_number"] = decision["new"]
    return _with_studies(dept, parts.index, [row])


def _move_series(dept, decision):
    """The Department with the series in the other study, or in the new one that they form; else None."""
    source, listed, is_split = decision["target"], decision["series"].split(), decision["kind"] == "split"
    uid = split_study_uid(source, decision["series"]) if is_split else decision["new"]
    series, studies = dept.series, dept.studies.set_index("study_instance_uid", drop=False)
    moved = series["series_instance_uid"].isin(listed) & series["study_instance_uid"].isin([source, uid])
    came = moved & (series["study_instance_uid"] == source)
    if set(series.loc[moved, "series_instance_uid"]) != set(listed) or not came.any() and uid not in studies.index:
        return None
    if not came.any():
        return dept
    if source not in studies.index or (studies.at[source, "accession_number"] not in (decision["old"], decision["new"]) if is_split else uid not in studies.index):
        return None
    to = {**studies.loc[source if is_split and uid not in studies.index else uid].to_dict(), "study_instance_uid": uid}
    if is_split:
        to["accession_number"] = decision["new"]
        dept = _copy_events(dept, source, uid, decision["new"])
    trace = (dept.trace["study_instance_uid"] == source) & dept.trace["source_id"].isin(listed)
    for table, rows in ((dept.trace, trace), (series, came)):
        table.loc[rows, ["study_instance_uid", "accession_number"]] = [uid, to["accession_number"]]
    series.loc[came, "patient_id"] = to["patient_id"]
    parts = {u: series[series["study_instance_uid"] == u] for u in (source, uid)}
    rows = [{**row, **_combined(parts[row["study_instance_uid"]])} for row in (studies.loc[source].to_dict(), to) if len(parts[row["study_instance_uid"]])]
    return _with_studies(dept, dept.studies.index[dept.studies["study_instance_uid"].isin([source, uid])], rows)


def _combined(parts):
    """What a study row says of its parts, which are rows of studies or of series."""
    images = parts.loc[~parts["modality"].isin(NOT_IMAGES), "modality"]
    unions = {name: " ".join(sorted(set(" ".join(parts[name]).split()))) for name in _UNIONS if name in parts}
    sums = {name: parts[name].sum(min_count=1) for name in ("n_instances", "n_bytes")}
    return {**unions, **sums, "modality": (images if len(images) else parts["modality"]).iloc[0], "started_at": parts["started_at"].min(), "ended_at": parts["ended_at"].max(),
            "n_series": parts["n_series"].sum(min_count=1) if "n_series" in parts else len(parts)}


def _copy_events(dept, source, uid, accession_number):
    """What images told of the study that was split, told of the new one too; its times follow from its series."""
    rows = dept.events[(dept.events["study_instance_uid"] == source) & (dept.events["source"] == "dicom")]
    return dept._replace(events=pd.concat([dept.events, rows.assign(study_instance_uid=uid, source_id=uid, accession_number=accession_number)], ignore_index=True))


def _with_studies(dept, old_rows, rows):
    """The Department with study rows in place of others, and the times that images told as these have them."""
    studies = dept.studies.drop(index=old_rows)
    new = conform(rows, STUDIES)
    events = dept.events
    for row in rows:
        for milestone, column in (("exam_started", "started_at"), ("exam_ended", "ended_at")):
            events.loc[(events["study_instance_uid"] == row["study_instance_uid"]) & (events["source"] == "dicom") & (events["milestone"] == milestone), "at"] = row[column]
    gone = events["study_instance_uid"].isin(set(dept.studies.loc[old_rows, "study_instance_uid"]) - set(new["study_instance_uid"])) & (events["source"] == "dicom")
    told = events[events["study_instance_uid"].isin(new["study_instance_uid"]) & (events["source"] == "dicom")]
    twice = told.index[told["at"].isna() | told.duplicated(["accession_number", "study_instance_uid", "milestone", "source_field", "at"])]
    return dept._replace(studies=pd.concat([studies, new], ignore_index=True), events=events[~gone].drop(index=twice).reset_index(drop=True))


def _is_overtaken(dept, decision, later):
    """True when these tables show what later decisions made of the same thing: they were applied before."""
    if decision["kind"] in ("patient_id", "link", "unlink"):
        ends = [d["new"] for d in later if d["target"] == decision["target"] and d["field"] == decision["field"]]
        if any((_about(getattr(dept, t)[key], decision) & getattr(dept, t)[decision["field"]].isin(ends)).any() for t, key in _TABLES):
            return True
    studies, moved = set(dept.studies["study_instance_uid"]), decision["target"].split()
    if decision["series"]:
        homes = dept.series.set_index("series_instance_uid")["study_instance_uid"]
        made = split_study_uid(decision["target"], decision["series"]) if decision["kind"] == "split" else decision["new"]
        return all({*homes[homes.index == s]} & {_home(made, later, s)} for s in decision["series"].split())
    return studies.isdisjoint(moved) and any(_home(uid, later) not in (uid, "") and _home(uid, later) in studies for uid in moved)


def _home(uid, later, series=""):
    """The study that later decisions brought a study, or one of its series, to."""
    for d in later:
        if d["kind"] == "merge" and uid in d["target"].split():
            uid = d["target"].split()[0]
        elif d["series"] and d["target"] == uid and (series in d["series"].split() or not series):
            uid = split_study_uid(d["target"], d["series"]) if d["kind"] == "split" else d["new"]
    return uid


_APPLY = {"patient_id": _set_value, "link": _set_value, "unlink": _set_value, "merge": _merge, "split": _move_series, "merge_series": _move_series}
