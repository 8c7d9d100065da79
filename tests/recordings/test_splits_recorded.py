import pandas as pd

from pacs_helpers.analyses.proposals import propose_series
from pacs_helpers.analyses.splits import describe_splits
from pacs_helpers.department import build_department
from pacs_helpers.readers.headers import read_headers
from pacs_helpers.readers.hl7log import read_hl7_log
from pacs_helpers.site import Site


def test_the_split_groups_of_the_truth_are_the_only_cases_and_each_series_is_where_it_belongs(shared):
    site = Site(time_zone="America/New_York")
    dept = build_department(hl7=read_hl7_log(shared / "rig/hl7/all_messages_cr.hl7", site=site), dicom=read_headers(shared / "rig/dicom_headers", site=site), site=site)
    truth = pd.read_csv(shared / "rig/truth/dicom_truth_studies.csv", dtype=str, keep_default_na=False)
    groups = {frozenset(rows["study_uid"]) for group, rows in truth.groupby("split_group") if group}
    cases = describe_splits(dept, site=site)
    assert {frozenset(uids.split()) for uids in cases["study_instance_uid"]} == groups and set(cases["shape"]) == {"split"}
    series = propose_series(dept, cases["study_instance_uid"], site=site)
    assert (series["proposed_accession_number"] == series["study_instance_uid"].map(truth.set_index("study_uid")["accession"])).all() and len(series) == 5
