import warnings
from pathlib import Path

import pandas as pd
import pydicom

from pacs_helpers.readers.headerrows import _TEXTS as TEXT_KEYWORDS
from pacs_helpers.readers.headers import read_headers
from pacs_helpers.site import Site

CHICAGO = Site(time_zone="America/Chicago")
TRUE_NAMES = {
    "study_uid": "study_instance_uid", "series_uid": "series_instance_uid", "sop_uid": "sop_instance_uid", "sop_class": "sop_class_uid",
    "series_no": "series_number", "instance_no": "instance_number", "patient_id": "patient_id", "accession": "accession_number",
}


def test_every_recorded_header_has_the_true_ids(shared):
    folder = shared / "rig" / "dicom_headers"
    got = read_headers(folder, site=CHICAGO)
    truth = pd.read_csv(shared / "rig" / "truth" / "dicom_truth_instances.csv", dtype=str, keep_default_na=False).set_index("file")
    files = [Path(f).relative_to(folder).as_posix() for f in got.instances["source_file"]]
    assert len(files) == 355 and got.rejected.empty and got.performed_steps.empty
    for true, column in TRUE_NAMES.items():
        assert got.instances[column].tolist() == truth.loc[files, true].str.strip().tolist(), column
    # The images these headers derive from were made in another zone, and (0008,0201) still says so.
    assert set(got.instances["problems"]) == {"OTHER_OFFSET"}


def test_worklist_folder_gives_no_instances(shared):
    got = read_headers(shared / "rig" / "worklists", site=CHICAGO)
    assert got.instances.empty and set(got.rejected["code"]) == {"WORKLIST_ENTRY"}


def test_every_file_of_the_corpus_is_a_row_or_rejected_and_agrees_with_pydicom(shared):
    files = sorted((shared / "corpus").rglob("*.dcm"))
    got = read_headers(files, site=CHICAGO)
    assert len(got.instances) + len(got.rejected) == len(files) and len(got.instances) >= 40
    wrong = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row in got.instances.to_dict("records"):
            ds = pydicom.dcmread(row["source_file"], force=True, stop_before_pixels=True)
            for column, keyword in TEXT_KEYWORDS.items():
                value = ds.get(keyword, "")
                value = "" if value is None else str(value).strip(" \0")
                if column in ("patient_name", "operators_name"):
                    value = value.rstrip("^= ")
                if row[column] != value:
                    wrong.append((Path(row["source_file"]).name, column))
    assert wrong == []
