"""What is wrong with clocks and feeds: U16 (times that cannot be), U18 (messages refused and never sent again)."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pandas as pd

from .unmatched import FINAL, LATE_SERIES_MINUTES, NOT_DELIVERED, best_events, describe_finding, in_words

NEAR_THE_HOUR = 15      # minutes from a whole number of hours that are still a clock's error
MOST_NAMED = 10
FEW = 3                 # fewer are single exams, whatever share they are


class ClockRun(NamedTuple):
    """Exams in a row on one station whose images say another hour than the RIS: `hours` ahead, positions of their `studies`, `since` and `until` by the RIS."""

    station: str
    hours: int
    n_exams: int
    studies: list
    since: pd.Timestamp
    until: pd.Timestamp


def clock_runs(dept, links):
    """`(runs of two exams or more, exams that are off, exams judged)`: stations whose clock is whole hours off, as at the end of summer time."""
    events, (started, stations, problems) = dept.events, (links.studies.column(c) for c in ("started_at", "station_name", "problems"))
    told = best_events(events, (events["milestone"] == "exam_started") & (events["source"] == "hl7") & events["precision"].isin(["second", "minute"]))
    begun, exam = told["at"].dt.tz_localize(None).to_numpy("datetime64[us]"), _exams_of(links, told["accession_number"])
    judged = (exam >= 0) & ~np.isnat(started) & np.array(["_TIME" not in codes for codes in problems], dtype=bool)
    s = np.flatnonzero(judged)
    s = s[np.lexsort((started[s], exam[s]))]
    first = s[np.flatnonzero(np.diff(exam[s], prepend=-1))]     # the study of each exam that began first
    minutes = (started[first] - begun[exam[first]]) / np.timedelta64(1, "m")
    hours = np.round(minutes / 60)
    hours = np.where(np.abs(minutes - hours * 60) <= NEAR_THE_HOUR, hours, 0).astype(int)
    off, positions, by_station = set(stations[first[hours != 0]]), defaultdict(list), defaultdict(list)
    doubted = {e: (station, h) for e, station, h in zip(exam[first].tolist(), stations[first], hours.tolist()) if station in off}
    for e, at in zip(exam[judged].tolist(), np.flatnonzero(judged).tolist()) if doubted else ():
        positions[e].append(at)
    for e in positions.keys() & doubted.keys():
        by_station[doubted[e][0]].append((int(begun[e].astype(np.int64)), positions[e], doubted[e][1]))
    return [run for station, some in by_station.items() for run in _runs(station, sorted(some))], int(np.count_nonzero(hours)), len(first)


def _exams_of(links, told):
    """For each study with an order the place in `told` of an accession number of its orders, or its own; else -1."""
    place, ordered = {number: k for k, number in enumerate(told) if number}, links.orders.column("accession_number")
    own = enumerate(zip(links.studies.column("accession_number"), links.agreed_studies))
    named = ((number,) if is_agreed else (*(ordered[o] for o in links.orders_of[s]), number) if s in links.orders_of else () for s, (number, is_agreed) in own)
    return np.array([next((place[n] for n in some if n in place), -1) for some in named], dtype=np.int64)


def _microseconds(instants):
    return [None if is_not else at for is_not, at in zip(np.isnat(instants).tolist(), instants.astype(np.int64).tolist())]


def _runs(station, exams):
    """The ClockRuns of one station's `(when, positions, hours)` in order of time; an exam in between may agree by chance, as a late start does."""
    for h in sorted({h for _, _, h in exams if h}):
        places = [i for i, exam in enumerate(exams) if exam[2] == h]
        for first, last in _stretches(places):
            run = [exam for exam in exams[first:last + 1] if exam[2] == h]
            if len(run) > 1:
                yield ClockRun(station, h, len(run), [s for _, positions, _ in run for s in positions], *(pd.Timestamp(exam[0], unit="us", tz="UTC") for exam in (run[0], run[-1])))


def _stretches(places):
    """`(first, last)` of runs of places with at most one other between two of them."""
    starts = [i for i, place in enumerate(places) if not i or place - places[i - 1] > 2]
    return [(places[start], places[stop - 1]) for start, stop in zip(starts, [*starts[1:], len(places)])]


def find_impossible_times(dept, links, site, runs, n_off, n):
    """Findings U16: a zone read wrong for all, a station's clock off by hours, single exams whose report was final before their images were made."""
    stations = {run.station for run in runs}
    if n_off >= FEW and n_off * 2 > n and len(stations) > 1:
        yield describe_finding(
            "U16", found_at=min(run.since for run in runs), owner="PACS administrator", confidence=0.9,
            evidence=f"the images of {n_off:,} of {n:,} exams say another hour than the RIS, on {len(stations)} stations: a time zone is read wrong, not every clock is",
            correction="Check time_zone in site.toml, and the OTHER_OFFSET count in the account of the load, before any turnaround")
        return
    for run in runs:
        since, until = (at.tz_convert(site.time_zone) for at in (run.since, run.until))
        yield describe_finding(
            "U16", accession=links.studies[run.studies[0]]["accession_number"], studies=[links.studies[s] for s in run.studies], found_at=run.since, owner="modality service", confidence=0.9,
            evidence=f"the clock of {run.station or 'an unnamed station'} was {abs(run.hours)} hour{'s' * (abs(run.hours) > 1)} {'ahead of' if run.hours > 0 else 'behind'} the RIS "
                     f"in {run.n_exams} exams, {since:%d %b %H:%M} to {until:%d %b %H:%M}",
            correction="Have the station take its time from the time server (NTP) and follow summer time; correct its times in analyses only")
    yield from _final_too_early(dept, links, site, {s for run in runs for s in run.studies})


def _final_too_early(dept, links, site, doubted):
    best = best_events(dept.events, dept.events["source"].isin(["dicom", "mpps"]) & dept.events["precision"].isin(["second", "minute"]) & (dept.events["milestone"] == "exam_ended"), "problems")
    ended = dict(zip(best["accession_number"], _microseconds(best["at"].dt.tz_localize(None).to_numpy("datetime64[us]"))))
    numbers, imaged = links.reports.column("accession_number"), links.studies.column("accession_number")
    early = [(final, r, n) for final, r in _finals(links) if (n := next((n for n in (numbers[r], *(imaged[s] for s in links.of_report[r][1])) if n in ended), None)) is not None and ended[n] > final]
    problems = best.loc[best["accession_number"].isin([n for *_, n in early])].set_index("accession_number")["problems"]
    for final, r, number in early:
        positions = links.of_report[r][1]
        if doubted & {*positions} or "_TIME" in problems[number] or any("_TIME" in links.studies[s]["problems"] for s in positions):
            continue
        report, late, final = links.reports[r], (ended[number] - final) / 60_000_000, pd.Timestamp(final, unit="us", tz="UTC")
        if late <= LATE_SERIES_MINUTES or all(links.studies[s]["started_at"] > final for s in positions):
            station = ", ".join(sorted({links.studies[s]["station_name"] for s in positions} - {""})) or "the device"
            yield describe_finding(
                "U16", accession=report["accession_number"], studies=[links.studies[s] for s in positions], found_at=final, owner="modality service", confidence=0.75,
                evidence=f"the report was final {in_words(late)} before the exam ended: the clocks of {station} and of the RIS disagree, or it is another exam's report",
                correction="Compare both clocks with the time server first; if they agree, ask the author which exam was read")


def _finals(links):
    """`(microsecond when first final, position of the report)` of each cleaned accession number."""
    finals, rows = {}, (links.reports.column(name) for name in ("accession_number", "result_status"))
    for r, (number, status, at) in enumerate(zip(*rows, _microseconds(links.reports.column("status_changed_at")))):
        key = links.clean(number) if status in FINAL and at is not None else ""
        if key and (key not in finals or at < finals[key][0]):
            finals[key] = at, r
    return finals.values()


def refused_reports(links):
    """Positions of the reports that were refused and of which no later version was accepted."""
    rows = list(zip(*(links.reports.column(name) for name in ("accession_number", "acknowledgment_code", "message_at", "is_duplicate"))))
    refused = {links.clean(number) for number, code, *_ in rows if code in NOT_DELIVERED}
    accepted = {}
    for number, code, at, _ in rows if refused else ():
        if code not in (*NOT_DELIVERED, "") and not np.isnat(at) and (key := links.clean(number)) in refused:
            accepted[key] = max(accepted.get(key, at), at)
    return [r for r, (number, code, at, is_duplicate) in enumerate(rows)
            if code in NOT_DELIVERED and not is_duplicate and not accepted.get(links.clean(number), np.datetime64("NaT")) > at]


def find_refusals(links, site):
    """Findings U18: one per report that was refused and never taken, one for all that were refused in a row."""
    at = links.reports.column("message_at")
    open_, runs = set(refused_reports(links)), [[]]
    for r in np.argsort(np.where(np.isnat(at), np.datetime64(0, "us"), at), kind="stable").tolist() if open_ else ():
        if r in open_:
            runs[-1].append(links.reports[r])
        elif runs[-1] and links.reports[r]["acknowledgment_code"] not in (*NOT_DELIVERED, ""):
            runs.append([])
    for run in filter(None, runs):
        yield _refusal(run, site)


def _refusal(run, site):
    first, codes = run[0], sorted({t["acknowledgment_code"] for t in run})
    numbers = list(dict.fromkeys(t["accession_number"] or "(none)" for t in run))
    shown = ", ".join(numbers[:MOST_NAMED]) + (f" and {len(numbers) - MOST_NAMED} more" if len(numbers) > MOST_NAMED else "")
    since = first["message_at"].tz_convert(site.time_zone) if pd.notna(first["message_at"]) else None
    many = f"{len(run)} reports in a row ({shown}) were refused from {since:%d %b %H:%M} on" if len(run) > 1 and since is not None else f"the report of {shown} was refused"
    return describe_finding(
        "U18", accession=first["accession_number"], messages=run, found_at=first["acknowledged_at"] if pd.notna(first["acknowledged_at"]) else first["message_at"],
        owner="interface team", confidence=0.95, evidence=f"{many} (MSA-1 {', '.join(codes)}) and never sent again with success: who looks in the other system finds no report",
        correction="Read the refusal's text, mend the mapping, and send the message" + ("s again, the oldest first" if len(run) > 1 else " again"))
