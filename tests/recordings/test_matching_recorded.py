"""A recorded hospital day with its truth: what is said of each of the 19 studies and 19 reports, and nothing else."""

import pandas as pd
import pytest

from pacs_helpers.analyses.links import link_exams, links_table
from pacs_helpers.analyses.matching import find_mismatches, rank_candidates
from pacs_helpers.department import build_department
from pacs_helpers.readers.headers import read_headers
from pacs_helpers.readers.hl7log import read_hl7_log
from pacs_helpers.site import Site

SITE, AS_OF = Site(time_zone="UTC"), pd.Timestamp("2026-11-26T00:00Z")
# code, the studies it is about, the report it is about, whose desk: written from the truth tables
WANTED = {
    ("U02", "MG-B", "", "radiologist"),                         # images without report
    ("U03", "", "V004098", "radiologist"),                      # XX-1: no such study
    ("U05a", "MR-B", "", "technologist"),                       # swapped digits
    ("U05b", "US-B", "", "interface team"),                     # dropped prefix
    ("U05b", "CT-OLD", "", "interface team"),                   # dropped prefix, older than the feed
    ("U05c", "CT-C", "", "PACS administrator"),                 # trauma patient, merged
    ("U05e", "US-C", "", "technologist"),                       # another known person's ID
    ("U05e", "CR-A", "V004093", "radiologist"),                 # dictated under the look-alike
    ("U06", "US-C", "V004092", "technologist"),                 # no accession number, Study UID only
    ("U06", "MR-B", "V004088", "radiologist"),                  # accession typed wrong in the report
    ("U06", "CR-C", "V004096", "interface team"),               # prefix in OBR-18
    ("U08", "CT-B1 CT-B2 CT-B3", "", "modality service"),       # split exam G1
    ("U10", "CT-D1 CT-D2", "", "modality service"),             # two studies, one accession G2
}


@pytest.fixture(scope="module")
def day(shared):
    hl7 = read_hl7_log(shared / "rig/hl7/all_messages_cr.hl7", site=SITE)
    dicom = read_headers(shared / "rig/dicom_headers", site=SITE)
    studies = pd.read_csv(shared / "rig/truth/dicom_truth_studies.csv", dtype=str).set_index("study_uid")["study_key"]
    reports = pd.read_csv(shared / "rig/truth/hl7_truth_reports.csv", dtype=str, keep_default_na=False)
    return build_department(hl7=hl7, dicom=dicom, site=SITE), studies, reports


def test_the_findings_are_those_of_the_truth_and_no_other(day):
    dept, studies, _ = day
    found = find_mismatches(dept, as_of=AS_OF, site=SITE)
    got = {(code, " ".join(sorted(studies[u] for u in uids.split())), message, owner)
           for code, uids, message, owner in found[["code", "study_instance_uid", "message_control_id", "owner"]].itertuples(index=False)}
    assert got == WANTED and len(found) == len(WANTED)


def test_the_typed_wrong_report_has_its_true_study_first(day):
    dept, studies, _ = day
    found = find_mismatches(dept, as_of=AS_OF, site=SITE)
    ranked = rank_candidates(found[found["message_control_id"] == "V004088"], dept, site=SITE)
    assert studies[ranked["candidate_study_instance_uid"].iloc[0]] == "MR-B" and ranked["score"].is_monotonic_decreasing


def test_each_report_is_linked_to_its_true_studies_or_to_none(day):
    dept, studies, truth = day
    links = links_table(link_exams(dept, SITE))
    links = links[links["item"] == "report"]
    for row in truth.itertuples():
        mine = {studies[u] for u in links.loc[links["message_control_id"] == row.control_id, "study_instance_uid"] if u}
        wanted = set() if row.truth.startswith("unmatched") else set(row.true_studies.split(","))
        if row.control_id == "V004086":
            wanted = {"CT-D1", "CT-D2"}
        assert mine == wanted, row.control_id


def test_the_accession_field_is_measured(day):
    fields = day[0].accession_fields.set_index("field")
    assert fields.index[fields["is_chosen"]].tolist() == ["OBR-3"] and not fields["is_guess"].any()
