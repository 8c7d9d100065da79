"""What is wrong with the images themselves: U11 (UIDs given twice), U13 (images after the report), U14 (from elsewhere), U15 (no patient)."""

from collections import Counter

import pandas as pd

from .identity import is_not_a_patient
from .unmatched import FINAL, LATE_SERIES_MINUTES, describe_finding

LATE_MINUTES = 10           # devices finish writing, readers sign early
_NEVER = pd.Timestamp.max.tz_localize("UTC")
USUAL_SHARE = 1 / 3         # of a station's reported studies: more than that is its clock


def find_image_faults(links, site, doubted):
    """Findings U11, U13, U14 and U15, at most one of each per study. `doubted` are positions of studies whose clock is known to be wrong."""
    late, home = _late_studies(links, doubted), homes(links)
    for s, study in enumerate(links.studies):
        if study["clashing_study_uids"] and _is_the_later(study, links):
            yield _clash(study)
        if s in late:
            yield _late(study, *late[s], site)
        if is_foreign(s, links, home):
            yield _foreign(study)
        if is_not_a_patient(study):
            yield describe_finding(
                "U15", studies=[study], found_at=study["study_at"], owner="modality service", confidence=0.9,
                evidence=f"the name or ID of a study from {study['station_name'] or 'an unnamed station'} is that of a phantom, test or quality control, not of a patient",
                correction="Tag it or keep it out of the clinical archive, so that nobody counts or looks for it")


def _is_the_later(study, links):
    """Whether a study was made after those that it shares a SOP Instance UID with: the first had it by right."""
    def made(t):
        return t["started_at"] if pd.notna(t["started_at"]) else _NEVER, t["study_instance_uid"]

    return all(made(study) >= made(t) for t in links.studies if t["study_instance_uid"] in study["clashing_study_uids"].split())


def _clash(study):
    others = study["clashing_study_uids"].split()
    return describe_finding(
        "U11", accession=study["accession_number"], studies=[study], found_at=study["started_at"], owner="vendor", confidence=0.95,
        evidence=f"a SOP Instance UID of this study is also that of an image of another patient, in study {others[0]}{f' and {len(others) - 1} more' if len(others) > 1 else ''}: "
                 "an archive keeps only one of them",
        correction="Look at both studies on the modality, give one of them new UIDs in a copy, and show both headers to the vendor")


def _late_studies(links, doubted):
    """`{position: (first final, last image)}` of studies to which images were added after their report was final."""
    reported, late = Counter(), {}
    for s, study in enumerate(links.studies):
        finals = [links.reports[r]["status_changed_at"] for r in links.reports_of.get(s, []) if links.reports[r]["result_status"] in FINAL]
        first = min((at for at in finals if pd.notna(at)), default=pd.NaT)
        if pd.isna(first) or pd.isna(study["last_created_at"]) or s in doubted or "_TIME" in study["problems"]:
            continue
        reported[study["station_name"]] += 1
        is_later_series = study["ended_at"] <= first or study["ended_at"] - first > pd.Timedelta(minutes=LATE_SERIES_MINUTES)
        if study["started_at"] < first and is_later_series and study["last_created_at"] - first > pd.Timedelta(minutes=LATE_MINUTES):
            late[s] = first, study["last_created_at"]
    often = Counter(links.studies[s]["station_name"] for s in late)
    return {s: times for s, times in late.items() if often[name := links.studies[s]["station_name"]] < 3 or often[name] <= reported[name] * USUAL_SHARE}


def _late(study, final, last, site):
    return describe_finding(
        "U13", accession=study["accession_number"], studies=[study], found_at=last, owner="technologist", confidence=0.8,
        evidence=f"an image was made {_ago(last - final)} after the report was final ({final.tz_convert(site.time_zone):%d %b %H:%M}): its author has not seen it",
        correction="Tell the report's author; ask the technologist why it came late (reconstruction, repeat, left on the modality)")


def _ago(span):
    hours = span.total_seconds() / 3600
    return f"{hours * 60:.0f} minutes" if hours < 2 else f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"


def homes(links):
    """`(issuers, institutions)` of the studies that orders or reports name, and of the patients they are about."""
    own = [t for s, t in enumerate(links.studies) if links.orders_of.get(s) or links.reports_of.get(s)]
    issuers = {t["issuer_of_patient_id"] for t in (*own, *links.orders, *links.reports)}
    return issuers - {""}, {t["institution_name"].casefold() for t in own} - {""}


def is_foreign(s, links, home):
    """Whether a study that no order or report names comes from an issuer or institution that none of the department's own does."""
    study, (issuers, institutions) = links.studies[s], home
    if links.orders_of.get(s) or links.reports_of.get(s) or is_not_a_patient(study):
        return False
    issuer, institution = study["issuer_of_patient_id"], study["institution_name"].casefold()
    return bool(issuers and issuer and issuer not in issuers or institutions and institution and institution not in institutions and study["patient_id"] not in links.known)


def _foreign(study):
    where = " of ".join(filter(None, (study["institution_name"], f"issuer {study['issuer_of_patient_id']}" if study["issuer_of_patient_id"] else "")))
    return describe_finding(
        "U14", accession=study["accession_number"], studies=[study], found_at=study["study_at"], owner="PACS administrator", confidence=0.85,
        evidence=f"images from elsewhere ({where}) under their own numbers, and no order or report names them",
        correction="Ask the import desk: give them the patient's local ID and an accession number by the import workflow (IHE IRWF), or keep them out")
