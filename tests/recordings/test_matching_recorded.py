import pandas as pd
import pytest

from pacs_helpers.analyses.matching import find_mismatches, rank_candidates
from pacs_helpers.department import build_department
from pacs_helpers.readers.headers import read_headers
from pacs_helpers.readers.hl7log import read_hl7_log
from pacs_helpers.site import Site

AS_OF = pd.Timestamp("2026-11-26T06:00Z")
# Code, accession number (that of the feed where the images have none), key of the study in the truth, owner.
EXPECTED = {
    ("U02", "A2611240041", "MG-B", "radiologist"), ("U03", "A2611240050", "", "radiologist"), ("U05a", "A2611240011", "MR-B", "technologist"),
    ("U05b", "A2605110077", "CT-OLD", "interface team"), ("U05b", "A2611240021", "US-B", "interface team"),
    ("U05c", "A2611240005", "CT-C", "PACS administrator"), ("U05e", "A2611240030", "CR-A", "radiologist"), ("U05e", "", "US-C", "technologist"),
    ("U06", "A2611240032", "CR-C", "interface team"), ("U06", "A2611240101", "MR-B", "radiologist"), ("U06", "", "US-C", "technologist"),
    ("U08", "A2611240002", "CT-B1 CT-B2 CT-B3", "modality service"), ("U10", "A2611240006", "CT-D1 CT-D2", "modality service"),
}
CLOCKS = {("U16", "A2611240010", "MR-A MR-B MR-C", "modality service"), ("U16", "A2611240020", "US-A US-B", "modality service")}


@pytest.fixture(scope="module", params=["UTC", "America/New_York", "America/Chicago"])
def recorded(shared, request):
    site = Site(time_zone=request.param)
    dept = build_department(hl7=read_hl7_log(shared / "rig/hl7/all_messages_cr.hl7", site=site), dicom=read_headers(shared / "rig/dicom_headers", site=site), site=site)
    return dept, find_mismatches(dept, as_of=AS_OF, site=site), site


def test_findings_are_exactly_what_was_planted_in_any_zone(shared, recorded):
    truth = pd.read_csv(shared / "rig/truth/dicom_truth_studies.csv", dtype=str)
    key = dict(zip(truth["study_uid"], truth["study_key"]))
    findings = recorded[1]
    got = {(f.code, f.accession_number, " ".join(sorted(key[u] for u in f.study_instance_uid.split())), f.owner) for f in findings.itertuples()}
    # The RIS writes no offset and is in New York; the images of MR1 and US1 say -0400 in November, those of the others -0500.
    # Read in another zone all clocks seem wrong, and that is said once.
    clocks = CLOCKS if recorded[2].time_zone == "America/New_York" else {("U16", "", "", "PACS administrator")}
    assert got == EXPECTED | clocks and len(findings) == len(EXPECTED | clocks)


def test_what_matches_cleanly_in_the_truth_has_no_finding_of_its_report(shared, recorded):
    truth = pd.read_csv(shared / "rig/truth/hl7_truth_reports.csv", dtype=str, keep_default_na=False)
    clean = set(truth.loc[truth["truth"] == "match", "control_id"])
    accused = {m for ms in recorded[1]["message_control_id"] for m in ms.split()}
    assert len(clean) >= 9 and not clean & accused


def test_the_mistyped_report_has_its_true_study_as_best_candidate(shared, recorded):
    dept, findings, site = recorded
    truth = pd.read_csv(shared / "rig/truth/dicom_truth_studies.csv", dtype=str).set_index("study_key")
    odd = findings[findings["message_control_id"] == "V004088"]
    best = rank_candidates(odd, dept, site=site).iloc[0]
    assert (best["candidate_study_instance_uid"], best["candidate_accession_number"]) == (truth.loc["MR-B", "study_uid"], "A2611240011")


def test_evidence_of_the_merge_names_the_surviving_id(recorded):
    merged = recorded[1].set_index("code").loc["U05c"]
    assert "TRAUMA1124A" in merged["evidence"] and "MRN100745" in merged["evidence"] and merged["confidence"] >= 0.9
