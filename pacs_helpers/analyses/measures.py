"""What the faults come to: exams counted with and without splits, findings for each 1,000 exams and the hours until they are corrected."""

import numpy as np
import pandas as pd

from ..schemas import COUNT, INTERVALS, MEASURE
from ..tables import TableError, conform, nearest, require_columns
from .identity import is_not_a_patient
from .links import link_exams
from .splits import find_cases, find_shared_accessions, numbers_of
from .turnaround import measure_turnaround, summarize_turnaround

FEWEST = 11             # exams; fewer make no rate
GROUPS = ("code", "owner", "station_name", "week")
FIGURES = {"n": COUNT, "n_exams": COUNT, "per_1000": MEASURE, "n_open": COUNT, "n_corrected": COUNT, "median_hours": MEASURE, "p90_hours": MEASURE, "n_carried_over": COUNT}


def measure_findings(findings, dept, *, as_of, site, by=("code",), decisions=None):
    """One row per group: findings, exams, findings for each 1,000 exams, and hours from found_at to the first decision that stands.

    `by`: any of code, owner, station_name, week. `n_exams` are the studies of patients acquired until `as_of`, those of the station or the week
    where the row is about one; fewer than 11, or a station not known, make no rate. `decisions` are those of `read_corrections`, `findings` those
    made before they were applied. A finding not decided stays in the hours as open: they are Kaplan-Meier, missing while too many are.
    Nobody's findings are no errors and not counted. `n_carried_over` were found before the week began and still open then: the row's week, else that of `as_of`. Weeks begin on the site's Mondays.
    """
    by = [by] if isinstance(by, str) else list(dict.fromkeys(by))
    for name in by:
        if name not in GROUPS:
            raise TableError(f"by: '{name}' is not one of {', '.join(GROUPS)}.{nearest(name, GROUPS)}")
    if not isinstance(as_of, pd.Timestamp) or as_of.tz is None:
        raise TableError("as_of: give a pandas Timestamp with a time zone, such as pd.Timestamp('2025-12-01', tz='UTC').")
    require_columns(findings, ["finding_id", "code", "owner", "found_at", "study_instance_uid"], "findings")
    found, exams, keys = _found(findings, dept, as_of, site, decisions), _exams(dept, as_of, site), ["interval", *by]
    weeks = sorted({*found["week"], *exams["week"]} - {""}) if "week" in by else [_week(pd.Series([as_of]), site)[0]]
    carried = pd.concat([found[(found["week"] != "") & (found["week"] < week) & ~(found["decided_week"] < week)].assign(week=week) for week in weeks] or [found[:0]])
    counts = exams.groupby([k for k in keys if k in exams]).size().rename("n_exams")
    table = pd.DataFrame({"n": found.groupby(keys).size(), "n_open": found.groupby(keys)["is_open"].sum(), "n_carried_over": carried.groupby(keys).size()})
    if set(keys) <= set(exams):
        table = table.reindex(table.index.union(counts.index))
    times = summarize_turnaround(found, by)
    table = table.fillna(0).reset_index().merge(counts.reset_index(), how="left").merge(times[[*keys, "median", "p90"]], how="left")
    n_exams = table["n_exams"].fillna(0).mask(table["station_name"] == "" if "station_name" in by else table["n"].isna())
    table = table.assign(n_exams=n_exams, per_1000=(1000 * table["n"] / n_exams).where(n_exams >= FEWEST), n_corrected=table["n"] - table["n_open"],
                         median_hours=table["median"] / 60, p90_hours=table["p90"] / 60)
    return table.sort_values(by, kind="stable").reset_index(drop=True)[[*by, *FIGURES]].astype(FIGURES)


def _found(findings, dept, as_of, site, decisions):
    """INTERVALS from found to corrected, with what findings are grouped by and the week each was decided in, "~" while it is open."""
    rows = findings[~(findings["found_at"] > as_of) & (findings["owner"] != "nobody")].reset_index(drop=True)
    decided_at = rows["finding_id"].map(_first_decisions(decisions, as_of))
    decided_at = pd.to_datetime(decided_at, utc=True)
    minutes = (decided_at.fillna(as_of) - rows["found_at"]).dt.total_seconds() / 60
    stations = dict(zip(dept.studies["study_instance_uid"], dept.studies["station_name"]))
    station = pd.Series([stations.get(uids.partition(" ")[0], "") for uids in rows["study_instance_uid"]], index=rows.index, dtype="str")
    return conform({"interval": pd.Series("found>corrected", index=rows.index), "minutes": minutes, "is_open": decided_at.isna(), "is_negative": minutes < 0,
                    "left_out": pd.Series(np.select([minutes.isna(), minutes < 0], ["no time", "negative"], ""), index=rows.index)}, INTERVALS).assign(
        code=rows["code"].astype("str"), owner=rows["owner"].astype("str"), station_name=station, week=_week(rows["found_at"], site),
        decided_week=_week(decided_at, site).replace("", "~"))


def _first_decisions(decisions, as_of):
    """When each finding was first decided on, by `finding_id`, until `as_of`."""
    if decisions is None or not len(decisions):
        return {}
    require_columns(decisions, ["finding_id", "target", "decided_at"], "decisions")
    at = pd.to_datetime(decisions["decided_at"], utc=True)
    about = decisions["finding_id"].where(decisions["finding_id"] != "", decisions["target"])
    return at[at <= as_of].groupby(about).min().to_dict()


def _exams(dept, as_of, site):
    studies = _studies_of_patients(dept, as_of)
    return pd.DataFrame({"interval": "found>corrected", "station_name": studies["station_name"], "week": _week(studies["started_at"].fillna(studies["study_at"]), site)})


def _studies_of_patients(dept, as_of):
    """The studies acquired until `as_of`, without phantoms."""
    at = dept.studies["started_at"].fillna(dept.studies["study_at"])
    is_phantom = pd.Series([is_not_a_patient(t) for t in dept.studies[["patient_id", "patient_name"]].to_dict("records")], index=at.index, dtype=bool)
    return dept.studies[~(at > as_of) & ~is_phantom].reset_index(drop=True)


def _week(at, site):
    """The Monday of each instant's week at the site as text, empty where there is no instant."""
    local = pd.to_datetime(at, utc=True).dt.tz_convert(site.time_zone).dt.tz_localize(None)
    return (local - pd.to_timedelta(local.dt.day_of_week, unit="D")).dt.strftime("%Y-%m-%d").fillna("").astype("str")


def measure_split_effect(dept, *, site, as_of):
    """Per modality, and in `all`: exams and minutes from exam_ended to final, counted as archived and as one exam per visit.

    `n_exams` counts the studies that `measure_findings` counts; one per visit are those of a split, and those of one accession number and person. The times are those of
    `summarize_turnaround` per accession number, and per visit, also of a group case: from its last image to its first final report.
    """
    dept = dept._replace(studies=_studies_of_patients(dept, as_of), reports=dept.reports[~(dept.reports["message_at"] > as_of)].reset_index(drop=True))
    lead, uids, events = _visit_of(link_exams(dept, site), site), dept.studies["study_instance_uid"], dept.events
    clean = {a: site.clean_accession(a) for a in events["accession_number"].unique()}
    visit = [lead.get(clean[a] or u, a) for a, u in zip(events["accession_number"], events["study_instance_uid"])]
    counted = []
    for words, table, exams in (("as archived", events, uids), ("one per visit", events.assign(accession_number=visit), uids.map(lambda u: lead.get(u) or u))):
        intervals = measure_turnaround(table, "exam_ended", "final", as_of=as_of)
        figures = pd.concat([summarize_turnaround(t, "modality") for t in (intervals, intervals.assign(modality="all"))])
        n = pd.concat([exams.groupby(m).nunique() for m in (dept.studies["modality"], dept.studies["modality"].mask(uids.notna(), "all"))]).rename("n_exams").rename_axis("modality")
        counted.append(figures.merge(n.reset_index(), how="outer").assign(counted=words))
    table = pd.concat(counted)[["modality", "counted", "n_exams", "n_used", "n_open", "median", "p90"]]
    table[["n_exams", "n_used", "n_open"]] = table[["n_exams", "n_used", "n_open"]].fillna(0).astype(COUNT)
    return table.sort_values(["modality", "counted"], key=lambda c: c.where(c != "all", "~"), kind="stable").reset_index(drop=True)


def _visit_of(links, site):
    """`{Study UID or cleaned accession number: one of the accession numbers}` of all that belongs to a visit of several."""
    visits = []
    for group in [part for _, part in find_cases(links)] + [part for _, part, what in find_shared_accessions(links) if what == "one exam"]:
        near = [v for v in visits if v & set(group)]
        visits = [v for v in visits if v not in near] + [set(group).union(*near)]
    lead = {}
    for visit in visits:
        numbers = {site.clean_accession(n): n for s in sorted(visit, reverse=True) for n in reversed(numbers_of(links.studies[s]))}
        lead |= dict.fromkeys([*numbers, *(links.studies[s]["study_instance_uid"] for s in visit)], next(iter(reversed(numbers.values())), ""))
    return lead
