"""What an Orthanc answered over QIDO-RS, WADO-RS and its own REST interface has the identity of the studies that were sent to it."""

import pandas as pd
import pytest

from pacs_helpers.readers.headers import read_headers
from pacs_helpers.site import Site

CHICAGO = Site(time_zone="America/Chicago")
OF_IMAGE = {
    "study_uid": "study_instance_uid", "series_uid": "series_instance_uid", "sop_class": "sop_class_uid", "series_no": "series_number",
    "instance_no": "instance_number", "patient_id": "patient_id", "accession": "accession_number",
}
OF_STUDY = {"dicom_patient_id": "patient_id", "dicom_name": "patient_name", "accession": "accession_number", "description": "study_description"}


def truth_of(shared, name, key):
    return pd.read_csv(shared / "rig" / "truth" / name, dtype=str, keep_default_na=False).drop_duplicates(key).set_index(key)


def read(shared, name):
    got = read_headers(shared / "rig" / "rest" / "day" / name, site=CHICAGO)
    assert got.rejected.empty
    return got.instances


@pytest.mark.parametrize(("name", "n"), [("qido_studies.json", 18), ("studies_expand.json", 18), ("tools_find_study.json", 17), ("study_CT-A.json", 1)])
def test_answers_about_studies_have_the_true_ids(shared, name, n):
    rows, truth = read(shared, name), truth_of(shared, "dicom_truth_studies.csv", "study_uid")
    known = rows[rows["study_instance_uid"].isin(truth.index)]
    assert len(rows) == n and len(known) == n and set(rows["sop_instance_uid"]) == {""}
    for true, column in OF_STUDY.items():
        if name != "qido_studies.json" or column != "study_description":        # not among the answers of a search
            assert known[column].tolist() == truth.loc[known["study_instance_uid"], true].str.strip().str.rstrip("^").tolist(), column
    if name == "qido_studies.json":
        assert known["modality"].tolist() == truth.loc[known["study_instance_uid"], "modality"].tolist()


@pytest.mark.parametrize(("name", "n", "absent"), [
    ("qido_instances_CT-A.json", 3, ()), ("wado_metadata_CR-A.json", 2, ()),
    ("instances_expand_first20.json", 20, ("study_uid", "series_uid", "sop_class", "series_no", "patient_id", "accession"))])
def test_answers_about_images_have_the_true_ids(shared, name, n, absent):
    rows, truth = read(shared, name), truth_of(shared, "dicom_truth_instances.csv", "sop_uid")
    assert len(rows) == n and rows["sop_instance_uid"].isin(truth.index).all()
    for true, column in OF_IMAGE.items():
        if true not in absent:
            assert rows[column].tolist() == truth.loc[rows["sop_instance_uid"], true].str.strip().tolist(), column


@pytest.mark.parametrize("name", ["qido_series_CT-A.json", "series_expand.json"])
def test_answers_about_series_count_their_images(shared, name):
    rows, truth = read(shared, name), truth_of(shared, "dicom_truth_instances.csv", "sop_uid").reset_index()
    counts = truth.drop_duplicates("sop_uid").groupby("series_uid").size()
    assert len(rows) == {"qido_series_CT-A.json": 2, "series_expand.json": 31}[name]
    assert rows["n_instances"].tolist() == counts.reindex(rows["series_instance_uid"]).tolist()


def test_the_whole_folder_of_answers_is_rows_or_rejected(shared):
    files = sorted((shared / "rig" / "rest").rglob("*.*"))
    got = read_headers(files, site=CHICAGO)
    assert len(got.sources) == len(files) == len(set(got.instances["source_file"]) | set(got.rejected["source_file"]))
    assert set(got.rejected["code"]) == {"NOT_DICOM"}


def test_dcm2json_tells_what_the_file_tells(shared):
    rows = read_headers(sorted((shared / "corpus" / "gen-dcmtk-logs").glob("dcm2json_*.json")), site=CHICAGO).instances
    assert len(rows) == 3 and (rows["sop_instance_uid"] != "").all() and (rows["study_instance_uid"] != "").all()


@pytest.mark.parametrize("name", ["reportsi", "rtdose", "test-SR"])
def test_an_object_printed_by_dcmdump_has_the_row_of_its_json(shared, name):
    folder = shared / "corpus" / "gen-dcmtk-logs"
    printed, json = (read_headers(folder / file, site=CHICAGO).instances for file in (f"dcmdump_{name}.txt", f"dcm2json_{name}.json"))
    same = [c for c in printed if c not in ("source_file", "source_offset", "transfer_syntax_uid")]      # DICOM JSON has no meta information
    assert len(printed) == 1 and printed[same].equals(json[same])
