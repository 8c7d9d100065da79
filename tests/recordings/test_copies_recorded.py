import hashlib
from functools import cache

import pydicom

from pacs_helpers.department import build_department
from pacs_helpers.fixes.applied import apply_corrections
from pacs_helpers.fixes.copies import write_corrected_copies
from pacs_helpers.fixes.copyplan import plan_copies
from pacs_helpers.fixes.corrections import record_correction, split_study_uid
from pacs_helpers.readers.headers import read_headers
from pacs_helpers.site import Site

SITE = Site(time_zone="America/Chicago")
IDENTITY = {"PatientID", "AccessionNumber", "OriginalAttributesSequence", "RequestAttributesSequence"}


@cache
def corrected(folder, tmp):
    """What was loaded, the plan and the copies of a folder in which every study gets another ID and accession number, and one is split."""
    found = read_headers(folder, site=SITE)
    dept = build_department(dicom=found, site=SITE)
    ledger = tmp / "corrections.jsonl"
    for n, study in enumerate(dept.studies.itertuples(), 1):
        common = {"target": study.study_instance_uid, "reason": "TYPED_WRONG", "decided_by": "Pat"}
        record_correction(ledger, kind="patient_id", old=study.patient_id, new=f"TEST{n}", **common)
        record_correction(ledger, kind="link", old=study.accession_number, new=f"TESTA{n}", **common)
    many = dept.series.groupby("study_instance_uid")["series_instance_uid"].agg(list)
    many = many[many.map(len) > 1]
    for uid, series in many.head(1).items():
        record_correction(ledger, kind="split", target=uid, series=series[-1], old=f"TESTA{dept.studies['study_instance_uid'].tolist().index(uid) + 1}", new="TESTSPLIT",
                          reason="TWO_EXAMS", decided_by="Pat")
    plan = plan_copies(found.instances, ledger, dept=dept)
    made = write_corrected_copies(found.instances, ledger, tmp / "out", dept=dept, confirm=int((plan["problem"] == "").sum()))
    return found, dept, ledger, made.copies, many.head(1)


def changed_keywords(one, other):
    a, b = (pydicom.dcmread(path, defer_size=None) for path in (one, other))
    tags = {tag for tag in {*a.keys(), *b.keys()} if (tag in a) != (tag in b) or a.get_item(tag) != b.get_item(tag) and a[tag] != b[tag]}
    return {pydicom.datadict.keyword_for_tag(tag) for tag in tags}


def test_in_real_images_of_every_compression_only_what_was_planned_differs(shared, tmp_path):
    folder = shared / "rig/dicom_full"
    before = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    *_, copies, _ = corrected(folder, tmp_path)
    assert len(copies) == 7 and set(copies["state"]) == {"written"}
    for row in copies.itertuples():
        out = tmp_path / "out" / row.output_name
        assert changed_keywords(row.source_file, out) <= IDENTITY
        source, copy = (pydicom.dcmread(path) for path in (row.source_file, out))
        assert source.PixelData == copy.PixelData and source.file_meta == copy.file_meta and copy.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].PatientID == source.PatientID
    assert {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()} == before


def test_copies_of_a_whole_department_read_back_as_its_corrected_tables(shared, tmp_path):
    found, dept, ledger, copies, split = corrected(shared / "rig/dicom_headers", tmp_path)
    assert len(copies) == len(found.instances) - found.instances["problems"].str.contains("DUPLICATE_FILE").sum() + (copies["problem"] != "").sum() and len(split) == 1
    assert set(copies["state"]) == {"written"}
    for row in copies[copies["uid_policy"] == "keep"].iloc[::10].itertuples():
        assert changed_keywords(row.source_file, tmp_path / "out" / row.output_name) <= IDENTITY
    columns = ["study_instance_uid", "accession_number", "patient_id", "patient_name", "n_series", "n_instances", "started_at", "ended_at", "modality"]
    again, wanted = build_department(dicom=read_headers(tmp_path / "out", site=SITE), site=SITE).studies, apply_corrections(dept, ledger).studies
    assert split_study_uid(split.index[0], split.iloc[0][-1]) in set(again["study_instance_uid"])
    assert sorted(map(str, again[columns].values.tolist())) == sorted(map(str, wanted[columns].values.tolist()))
