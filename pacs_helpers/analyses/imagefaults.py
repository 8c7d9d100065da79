"""What is wrong with the images themselves: U11 (UIDs given twice), U13 (images after the report), U14 (from elsewhere), U15 (no patient)."""

from collections import Counter
from itertools import chain

import numpy as np
import pandas as pd

from .identity import is_not_a_patient
from .unmatched import FINAL, LATE_SERIES_MINUTES, describe_finding, in_words

LATE_MINUTES = 10           # devices finish writing, readers sign early
_NEVER = pd.Timestamp.max.tz_localize("UTC")
USUAL_SHARE = 1 / 3         # of a station's reported studies: more than that is its clock


def find_image_faults(links, site, doubted):
    """Findings U11, U13, U14 and U15, at most one of each per study. `doubted` are positions of studies whose clock is known to be wrong."""
    late, foreign, clashing = _late_studies(links, doubted), find_foreign(links), links.studies.column("clashing_study_uids")
    uids = {uid for uids in clashing if uids for uid in uids.split()}
    sharing = {t["study_instance_uid"]: t for t in links.studies if t["study_instance_uid"] in uids} if uids else {}
    odd = np.flatnonzero(~links.agreed_studies | (clashing != "")).tolist()
    for s in sorted({*odd, *late, *foreign}):
        study = links.studies[s]
        if clashing[s] and _is_the_later(study, sharing):
            yield _clash(study)
        if s in late:
            yield _late(study, *late[s], site)
        if s in foreign:
            yield _foreign(study)
        if not links.agreed_studies[s] and is_not_a_patient(study):
            yield describe_finding(
                "U15", studies=[study], found_at=study["study_at"], owner="modality service", confidence=0.9,
                evidence=f"the name or ID of a study from {study['station_name'] or 'an unnamed station'} is that of a phantom, test or quality control, not of a patient",
                correction="Tag it or keep it out of the clinical archive, so that nobody counts or looks for it")


def _is_the_later(study, sharing):
    """Whether a study was made after those that it shares a SOP Instance UID with: the first had it by right."""
    def made(t):
        return t["started_at"] if pd.notna(t["started_at"]) else _NEVER, t["study_instance_uid"]

    return all(made(study) >= made(sharing[uid]) for uid in study["clashing_study_uids"].split() if uid in sharing)


def _clash(study):
    others = study["clashing_study_uids"].split()
    return describe_finding(
        "U11", accession=study["accession_number"], studies=[study], found_at=study["started_at"], owner="vendor", confidence=0.95,
        evidence=f"a SOP Instance UID of this study is also that of an image of another patient, in study {others[0]}{f' and {len(others) - 1} more' if len(others) > 1 else ''}: "
                 "an archive keeps only one of them",
        correction="Look at both studies on the modality, give one of them new UIDs in a copy, and show both headers to the vendor")


def _late_studies(links, doubted):
    """`{position: (first final, last image)}` of studies to which images were added after their report was final."""
    created, started, ended, stations, problems = (links.studies.column(name) for name in ("last_created_at", "started_at", "ended_at", "station_name", "problems"))
    first = _first_finals(links)
    told = np.flatnonzero(~np.isnat(first) & ~np.isnat(created) & np.array(["_TIME" not in codes for codes in problems], dtype=bool))
    told = told[~np.isin(told, list(doubted))]
    first, created, started, ended = (at[told] for at in (first, created, started, ended))
    is_later_series = (ended <= first) | (ended - first > np.timedelta64(LATE_SERIES_MINUTES, "m"))
    is_late = (started < first) & is_later_series & (created - first > np.timedelta64(LATE_MINUTES, "m"))
    reported, often = Counter(stations[told]), Counter(stations[told[is_late]])
    rows = zip(told[is_late].tolist(), first[is_late], created[is_late])
    return {s: (pd.Timestamp(final, tz="UTC"), pd.Timestamp(last, tz="UTC")) for s, final, last in rows if often[name := stations[s]] < 3 or often[name] <= reported[name] * USUAL_SHARE}


def _first_finals(links):
    """When each study's first final report was signed, or NaT."""
    statuses, signed = links.reports.column("result_status"), links.reports.column("status_changed_at")
    s, r = (np.fromiter(places, dtype=np.int64) for places in (chain.from_iterable(hits for _, hits in links.of_report), (r for r, (_, hits) in enumerate(links.of_report) for _ in hits)))
    final = np.logical_or.reduce([statuses[r] == status for status in FINAL]).astype(bool) & ~np.isnat(signed[r])
    s, r, first = s[final], r[final], np.full(len(links.studies), np.datetime64("NaT", "us"))
    latest_first = np.argsort(signed[r], kind="stable")[::-1]
    first[s[latest_first]] = signed[r[latest_first]]
    return first


def _late(study, final, last, site):
    return describe_finding(
        "U13", accession=study["accession_number"], studies=[study], found_at=last, owner="technologist", confidence=0.8,
        evidence=f"an image was made {in_words((last - final).total_seconds() / 60)} after the report was final ({final.tz_convert(site.time_zone):%d %b %H:%M}): its author has not seen it",
        correction="Tell the report's author; ask the technologist why it came late (reconstruction, repeat, left on the modality)")


def homes(links):
    """`(issuers, institutions)` of the studies that orders or reports name, and of the patients they are about."""
    own = np.array(sorted({*links.orders_of, *links.reports_of}), dtype=np.int64)
    issuers = {*links.studies.column("issuer_of_patient_id")[own], *links.orders.column("issuer_of_patient_id"), *links.reports.column("issuer_of_patient_id")}
    return issuers - {""}, {name.casefold() for name in set(links.studies.column("institution_name")[own])} - {""}


def find_foreign(links):
    """Positions of the studies that no order or report names and that come from an issuer or institution that none of the department's own does."""
    (issuers, institutions), found = homes(links), set()
    for s, study in ((s, links.studies[s]) for s in range(len(links.studies)) if s not in links.orders_of and s not in links.reports_of):
        issuer, institution = study["issuer_of_patient_id"], study["institution_name"].casefold()
        is_other = institutions and institution and institution not in institutions and study["patient_id"] not in links.known
        if not is_not_a_patient(study) and (is_other or issuers and issuer and issuer not in issuers):
            found.add(s)
    return found


def _foreign(study):
    where = " of ".join(filter(None, (study["institution_name"], f"issuer {study['issuer_of_patient_id']}" if study["issuer_of_patient_id"] else "")))
    return describe_finding(
        "U14", accession=study["accession_number"], studies=[study], found_at=study["study_at"], owner="PACS administrator", confidence=0.85,
        evidence=f"images from elsewhere ({where}) under their own numbers, and no order or report names them",
        correction="Ask the import desk: give them the patient's local ID and an accession number by the import workflow (IHE IRWF), or keep them out")
