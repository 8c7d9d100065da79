"""One exam in several studies, one study for several exams: U08 (split), U09 (group case), U10 (one accession, many Study UIDs)."""

from collections import defaultdict

import pandas as pd

from .anatomy import regions_adjoin, regions_of
from .identity import same_person

GAP_MINUTES = 30


def find_splits(links, site):
    """Groups of study positions that one scanner visit was broken into: `(positions, confidence, why)`, each study in one group.

    Same patient and station, different or empty accession numbers, acquisitions overlapping or less than 30 minutes apart, and a shared
    frame of reference (0020,0052), an overlap, or adjoining body regions. Exams that each have their own report message are two exams.
    """
    by_station = defaultdict(list)
    for s, study in enumerate(links.studies):
        if pd.notna(study["started_at"]) and study["station_name"]:
            person = links.merged.get(study["patient_id"], study["patient_id"])
            by_station[study["station_name"], person].append(s)
    groups = []
    for (_, person), members in by_station.items():
        if person:
            groups += _chains(sorted(members, key=lambda s: (links.studies[s]["started_at"], links.studies[s]["study_instance_uid"])), links)
    return [g for g in (_judge(chain, links, site) for chain in groups) if g]


def _chains(members, links):
    chains, end = [], None
    for s in members:
        study = links.studies[s]
        last = study["ended_at"] if pd.notna(study["ended_at"]) else study["started_at"]
        if end is not None and (study["started_at"] - end).total_seconds() < GAP_MINUTES * 60:
            chains[-1].append(s)
            end = max(end, last)
        else:
            chains.append([s])
            end = last
    return [c for c in chains if len(c) > 1]


def _judge(chain, links, site):
    studies = [links.studies[s] for s in chain]
    accessions = {site.clean_accession(t["accession_number"]) for t in studies}
    if len(accessions) < 2 or _each_reported(chain, links):
        return None
    frames = [set(t["frame_of_reference_uids"].split()) for t in studies]
    shared = all(frames[0]) and any(frames[i] & frames[j] for i in range(len(frames)) for j in range(i))
    overlap = any(b["started_at"] < (a["ended_at"] if pd.notna(a["ended_at"]) else a["started_at"]) for a, b in zip(studies, studies[1:]))
    regions = [regions_of(t["body_part_examined"] or t["study_description"], t["modality"]) for t in studies]
    adjoin = all(a and b and regions_adjoin(a, b) for a, b in zip(regions, regions[1:]))
    why = [w for w, true in (("the same frame of reference", shared), ("overlapping acquisitions", overlap), ("adjoining body regions", adjoin)) if true]
    if not why:
        return None
    return chain, 0.9 if shared else 0.8 if overlap else 0.55, " and ".join(why)


def _each_reported(chain, links):
    messages = [{links.reports[r]["message_control_id"] for r in links.reports_of.get(s, [])} for s in chain]
    return all(messages) and len(set().union(*messages)) >= len(chain) and not any(messages[i] & messages[j] for i in range(len(messages)) for j in range(i))


def find_group_cases(links):
    """Positions of studies acquired for several orders: two or more Request Attributes accession numbers or procedure ids."""
    return [s for s, study in enumerate(links.studies)
            if len(study["requested_accession_numbers"].split()) > 1
            or (not study["accession_number"] and len(study["requested_procedure_ids"].split()) > 1)]


def find_shared_accessions(links, site):
    """`(accession_number, positions, one_person)` for every accession number that stands on more than one study."""
    shared = defaultdict(list)
    for s, study in enumerate(links.studies):
        if study["accession_number"]:
            shared[site.clean_accession(study["accession_number"])].append(s)
    out = []
    for positions in shared.values():
        if len(positions) > 1:
            people = [links.studies[s] for s in positions]
            one = all(same_person(people[0], p, links.merged, links.known) for p in people[1:])
            out.append((people[0]["accession_number"], positions, one))
    return out
