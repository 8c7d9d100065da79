"""Drafts run on a real Orthanc with what real scanners and codecs wrote: JPEG, JPEG 2000 and RLE come out as they went in."""

import json
import os
import subprocess

import pacs_helpers as pacs
from tests.archive.conftest import need
from tests.archive.test_drafts_on_orthanc import SITE, archive, server  # noqa: F401  server is a fixture


def contents(datasets):
    """Everything of each image but what may change, by SOP Instance UID."""
    changed = ("PatientID", "OriginalAttributesSequence")
    return {str(ds.SOPInstanceUID): [(e.tag, e.VR, e.value) for e in ds if e.keyword not in changed and e.tag.element] for ds in datasets}


def test_compressed_and_private_data_survive_a_corrected_patient_id(shared, server, tmp_path):  # noqa: F811
    need("curl")
    for patient in json.loads(server("GET", "/patients")[1]):
        server("DELETE", f"/patients/{patient}")
    files = sorted((shared / "rig" / "dicom_full").glob("*.dcm"))
    for path in files:
        assert server("POST", "/instances", path.read_bytes())[0] == 200
    dept = pacs.build_department(dicom=pacs.read_headers(shared / "rig" / "dicom_full", site=SITE), site=SITE)
    ledger = tmp_path / "ledger.jsonl"
    for study in dept.studies.to_dict("records"):
        pacs.record_correction(ledger, kind="patient_id", target=study["study_instance_uid"], old=study["patient_id"], new=f"NEW{study['patient_id']}", reason="ID_FORMAT", decided_by="Pat")
    paths = pacs.write_drafts(pacs.draft_corrections(dept, ledger, site=SITE), tmp_path / "drafts")
    bench = type("Bench", (), {"ask": staticmethod(server)})
    before = archive(bench)
    for path in sorted(p for p in paths if p.name.endswith("-orthanc.sh")) + sorted(p for p in paths if p.name.endswith("-delete.sh")):
        ran = subprocess.run(["sh", str(path)], env={**os.environ, "ORTHANC": server.address, "LOOKED_TWICE": "yes"}, capture_output=True, text=True, check=False)
        assert ran.stdout == "done\n", (path.name, ran.stderr)
    after = archive(bench)
    assert len(after) == len(before) == dept.studies["n_instances"].sum() and all(ds.PatientID.startswith("NEW") for ds in after)
    assert {str(ds.file_meta.TransferSyntaxUID) for ds in after} == {str(ds.file_meta.TransferSyntaxUID) for ds in before} and len({ds.file_meta.TransferSyntaxUID for ds in after}) >= 3
    assert contents(after) == contents(before)
