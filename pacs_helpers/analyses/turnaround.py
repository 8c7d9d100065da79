"""How long does an exam wait, and at whose desk? Minutes between two named milestones, open exams included."""

import numpy as np
import pandas as pd
from statsmodels.duration.survfunc import SurvfuncRight

from ..milestones import LAST_COUNTS
from ..site import Site
from ..tables import BACKLOG, COUNT, INSTANT, INTERVALS, MEASURE, MILESTONES, TEXT, TableError, conform, nearest, require_columns

LONGEST_DAYS = 30
PRECISE = ("minute", "second")
UNSURE_TIMES = r"\b(?:AMBIGUOUS_TIME|NONEXISTENT_TIME)\b"
PERFORMED = MILESTONES[MILESTONES.index("exam_started"):MILESTONES.index("final") + 1]
ABOUT_AN_EXAM = ("modality", "patient_class", "priority", "section")
FIGURES = ("n", "n_used", "n_open", "n_left_out", "n_negative", "left_out_reasons", "median", "median_low", "median_high", "p90", "p95",
           "mean", "target_minutes", "share_within_target", "n_undecided", "oldest_open_minutes")


def measure_turnaround(events, start, end, *, as_of):
    """Minutes from `start` to `end`, INTERVALS with one row per exam that reached `start`.

    Exams still waiting at `as_of` stay, with the wait so far and `is_open` set: dropping them makes a backlog look fast. Later
    events are ignored. Of several sources of a milestone the one with the lowest `rank` counts that is known to the minute.
    `left_out` says why a finished row is no measurement: cancelled, no accession number, no time, date only, ambiguous time (a daylight
    saving change), negative, over 30 days; it is empty on every other row, open ones of any age among them.
    A time known to the day has no minutes. An exam done after all is not cancelled. TableError for an unknown milestone.
    """
    exams = _pair_milestones(events, start, end, as_of)
    is_open = exams["end_at"].isna() & ~exams["is_ended"] & ~exams["is_cancelled"]
    minutes = (exams["end_at"].where(~is_open, as_of) - exams["start_at"]).dt.total_seconds() / 60
    minutes = minutes.where(~exams["is_coarse"])
    is_negative = minutes < 0
    reasons = {"cancelled": exams["is_cancelled"], "no accession number": exams["accession_number"] == "",
               "no time": exams["start_at"].isna() | (exams["end_at"].isna() & exams["is_ended"]), "date only": exams["is_coarse"],
               "ambiguous time": exams["is_unsure"], "negative": is_negative, "over 30 days": ~is_open & (minutes > LONGEST_DAYS * 1440)}
    return conform({
        **{name: exams[name] for name in ("accession_number", "start_source", "end_source", *ABOUT_AN_EXAM)},
        "interval": pd.Series(f"{start}>{end}", index=exams.index), "start": exams["start_at"], "end": exams["end_at"], "minutes": minutes,
        "is_open": is_open, "is_negative": is_negative,
        "left_out": pd.Series(np.select(list(reasons.values()), list(reasons), ""), index=exams.index),
    }, INTERVALS)


def measure_backlog(events, start, end, *, as_of, every="1D", time_zone="UTC"):
    """BACKLOG: how many exams had reached `start` and not yet `end`, at each `every` of `time_zone` and at `as_of`.

    A cancelled exam leaves when it is cancelled. An exam whose `end` comes before its `start` enters and leaves at once.
    Not counted: exams without an accession number (no report can find them) and those with a time missing for `start` or a reached `end`.
    """
    exams = _pair_milestones(events, start, end, as_of)
    exams = exams[(exams["accession_number"] != "") & exams["start_at"].notna() & (exams["end_at"].notna() | ~exams["is_ended"])]
    if exams.empty:
        return conform([], BACKLOG)
    entered = exams["start_at"].sort_values()
    left = exams["end_at"].fillna(exams["cancelled_at"].where(exams["is_cancelled"]))
    left = left.where(~(left < exams["start_at"]), exams["start_at"]).dropna().sort_values()
    time_zone = Site(time_zone=time_zone).time_zone
    as_of, first = as_of.tz_convert(time_zone), entered.iloc[0].tz_convert(time_zone)
    try:
        grid = pd.date_range(first.normalize(), as_of, freq=every)
    except ValueError:
        raise TableError(f"every: '{every}' is not a length of time; write one such as '1D' or '4h'.") from None
    instants = grid[(grid >= first) & (grid < as_of)].tz_convert("UTC").union(pd.DatetimeIndex([as_of.tz_convert("UTC")]))
    n_entered, n_left = (pd.DatetimeIndex(at).searchsorted(instants, side="right") for at in (entered, left))
    return conform({"interval": pd.Series(f"{start}>{end}", index=range(len(instants))), "at": pd.Series(instants),
                    "n_entered": pd.Series(np.diff(n_entered, prepend=0)), "n_left": pd.Series(np.diff(n_left, prepend=0)),
                    "n_open": pd.Series(n_entered - n_left)}, BACKLOG)


def summarize_turnaround(intervals, by=None, *, site=None):
    """One row per interval and group: counts, and minutes as the Kaplan-Meier estimate over finished and open exams.

    `n` = `n_used` + `n_left_out`, `left_out_reasons` counts the latter, `n_open` of the used were still waiting. `median` (with its
    95 % interval), `p90` and `p95` are the times by which that share of the exams is done, missing when the open ones leave it unknown;
    `mean` is over finished exams only. `share_within_target` is met / (met + missed): an open exam past its target is missed,
    one still inside it is undecided and counted in `n_undecided`. The target is the site's for each row's priority; `target_minutes`
    is missing when they differ.
    """
    keys = list(dict.fromkeys(["interval", *([by] if isinstance(by, str) else by or [])]))
    require_columns(intervals, keys, "by")
    rows = intervals.assign(target_minutes=_targets(intervals, site))
    groups = rows.groupby(keys, dropna=False, observed=True)
    found = [{**dict(zip(keys, key)), **_summarize_group(group)} for key, group in groups]
    kinds = {name: COUNT if name.startswith("n") else MEASURE for name in FIGURES} | {"left_out_reasons": TEXT}
    return pd.DataFrame(found, columns=[*keys, *FIGURES]).astype(kinds)


def _summarize_group(group):
    used = group[group["left_out"] == ""]
    is_open, minutes, target = used["is_open"].astype(bool), used["minutes"], used["target_minutes"]
    n_met, n_missed = (~is_open & (minutes <= target)).sum(), (minutes > target).sum()
    reasons = group.loc[group["left_out"] != "", "left_out"].value_counts()
    targets = group["target_minutes"].unique()
    return {
        "n": len(group), "n_used": len(used), "n_open": is_open.sum(), "n_left_out": len(group) - len(used),
        "n_negative": group["is_negative"].sum(), "left_out_reasons": ", ".join(f"{n} {reason}" for reason, n in reasons.items()),
        **_percentiles(minutes, is_open), "mean": minutes[~is_open].mean(), "target_minutes": targets[0] if len(targets) == 1 else np.nan,
        "share_within_target": n_met / (n_met + n_missed) if n_met + n_missed else np.nan,
        "n_undecided": (is_open & (minutes <= target)).sum(), "oldest_open_minutes": minutes[is_open].max(),
    }


def _percentiles(minutes, is_open):
    curve = SurvfuncRight(minutes.to_numpy(), (~is_open).to_numpy().astype(int))
    # statsmodels wants S(t) < 1 - p strictly and meets it by rounding alone; a hair less than p makes it "at least p are done".
    median, p90, p95 = (curve.quantile(p - 1e-9) for p in (0.5, 0.9, 0.95))
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = curve.quantile_ci(0.5 - 1e-9)
    return {"median": median, "median_low": low, "median_high": high if np.isfinite(high) else np.nan, "p90": p90, "p95": p95}


def _targets(intervals, site):
    if site is None:
        return np.nan
    pairs = intervals[["interval", "priority"]].drop_duplicates().itertuples(index=False)
    targets = {(i, p): site.target(*i.split(">"), p) for i, p in pairs}
    return [targets[key][0] if targets[key] else np.nan for key in zip(intervals["interval"], intervals["priority"])]


def _pair_milestones(events, start, end, as_of):
    """One row per exam that reached `start`: its best start and end, whether it was cancelled, and what is wrong with the times."""
    _check(events, start, end, as_of)
    events = events.assign(study_instance_uid=events.get("study_instance_uid", ""))[~(events["at"] > as_of)]
    # Without an accession number an exam is its study; two blank numbers are never the same exam.
    blank = events["accession_number"] == ""
    events = events.assign(exam=events["accession_number"].where(~blank, "study " + events["study_instance_uid"]))
    events = events[~blank | (events["study_instance_uid"] != "")]
    best = _best_source(events)
    starts, ends = (best[best["milestone"] == m].set_index("exam") for m in (start, end))
    ends = ends.reindex(starts.index)
    exams = starts[["accession_number"]].assign(
        start_at=starts["at"], end_at=ends["at"], is_ended=ends["milestone"].notna(),
        is_coarse=~starts["is_precise"] | ends["is_precise"].eq(False),
        is_unsure=starts["problems"].str.contains(UNSURE_TIMES) | ends["problems"].str.contains(UNSURE_TIMES, na=False),
        start_source=starts["source_field"], end_source=ends["source_field"])
    for name in ABOUT_AN_EXAM:
        exams[name] = events[events[name] != ""].drop_duplicates("exam").set_index("exam")[name].reindex(exams.index)
    cancelled = _cancelled(events) if "cancelled" not in (start, end) else pd.Series(dtype=INSTANT)
    exams["cancelled_at"] = cancelled.reindex(exams.index)
    exams["is_cancelled"] = exams["cancelled_at"].notna()
    return exams.sort_index().reset_index(drop=True)


def _best_source(events):
    is_precise = events["at"].notna() & (events["precision"].isna() | events["precision"].isin(PRECISE))
    at = events["at"].astype("int64")
    order = at.where(~events["milestone"].isin(LAST_COUNTS), -at)
    events = events.assign(is_precise=is_precise, is_coarse=~is_precise, rank=events["rank"].fillna(0), order=order)
    return events.sort_values(["is_coarse", "rank", "order"], kind="stable").drop_duplicates(["exam", "milestone"])


def _cancelled(events):
    """When each exam was last cancelled, without those of which something was done or reported later."""
    cancelled = events[events["milestone"] == "cancelled"].groupby("exam")["at"].max()
    performed = events[events["milestone"].isin(PERFORMED)].groupby("exam")["at"].max().reindex(cancelled.index)
    return cancelled[~(performed > cancelled)]


def _check(events, start, end, as_of):
    require_columns(events, ["accession_number", "milestone", "at", "rank", "precision", "problems"], "events")
    for argument, milestone in (("start", start), ("end", end)):
        if milestone not in MILESTONES:
            raise TableError(f"{argument}: '{milestone}' is not a milestone.{nearest(milestone, MILESTONES)} "
                             f"Known: {', '.join(MILESTONES)}.")
    if start == end:
        raise TableError(f"end: '{end}' is also the start; name two different milestones.")
    if not isinstance(as_of, pd.Timestamp) or as_of.tz is None:
        raise TableError("as_of: give a pandas Timestamp with a time zone, such as pd.Timestamp('2025-12-01', tz='UTC').")
