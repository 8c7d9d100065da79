"""Visits: what was made of one patient on one station in one go."""

from collections import defaultdict

import numpy as np
import pandas as pd

from .identity import is_not_a_patient, is_temporary
from .wrongpatients import other_demographics

GAP_MINUTES = 30


def find_visits(links):
    """Positions of two or more studies of one patient on one station, each less than 30 minutes after those before it; phantoms have no visits.

    Another birth date or sex is another patient whatever the ID says, and so is another name where one is temporary.
    """
    by_station, (pids, stations) = defaultdict(list), (links.studies.column(name) for name in ("patient_id", "station_name"))
    for s in _near_others(links, pids, stations):
        by_station[stations[s], links.merged.get(pids[s], pids[s])].append(s)
    return [visit for members in by_station.values() if len(members) > 1 and not is_not_a_patient(links.studies[members[0]])
            for chain in _chains(sorted(members, key=lambda s: (links.studies[s]["started_at"], links.studies[s]["study_instance_uid"])), links)
            for one in _people(chain, links) for visit in _chains(one, links)]


def _near_others(links, pids, stations):
    """Positions of the studies of each patient on each station, in order, where any begins less than 30 minutes after the end of those before it: few do."""
    started, ended = (links.studies.column(name) for name in ("started_at", "ended_at"))
    s = np.flatnonzero((pids != "") & (stations != "") & ~np.isnat(started))
    who, where = (pd.factorize(texts)[0] for texts in (np.array([links.merged.get(pid, pid) for pid in pids[s]], dtype=object), stations[s]))
    group = who * (where.max(initial=0) + 1) + where
    order = np.lexsort((started[s], group))
    end = pd.Series(np.where(np.isnat(ended), started, ended)[s][order]).groupby(group[order]).cummax().to_numpy()
    near = (np.diff(group[order]) == 0) & (started[s][order][1:] - end[:-1] < np.timedelta64(GAP_MINUTES, "m"))
    return s[np.isin(group, group[order][1:][near])].tolist()


def _people(chain, links):
    people = []
    for s in chain:
        mine = next((p for p in people if all(may_be_one(links.studies[t], links.studies[s]) for t in p)), None)
        people = [p for p in people if p is not mine] + [[*(mine or []), s]]
    return people


def may_be_one(one, other):
    """Whether nothing that two studies say of their patient makes them two people's, whatever the ID."""
    return not other_demographics(one, other) and (one["patient_name"] == other["patient_name"] or not (is_temporary(one) or is_temporary(other)))


def end_of(study):
    """When a study ended, else when it began."""
    return study["ended_at"] if pd.notna(study["ended_at"]) else study["started_at"]


def _chains(members, links):
    chains, end = [], None
    for s in members:
        study = links.studies[s]
        if end is not None and (study["started_at"] - end).total_seconds() < GAP_MINUTES * 60:
            chains[-1].append(s)
            end = max(end, end_of(study))
        else:
            chains.append([s])
            end = end_of(study)
    return [c for c in chains if len(c) > 1]
