"""Drafts run exactly as written, on a real Orthanc and with a real dcmodify: the right patient, every image, its pixels and its history."""

import io
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

import pacs_helpers as pacs
from pacs_helpers.fixes.corrections import split_study_uid

from .conftest import free_port, need

SITE = pacs.Site(time_zone="UTC", hl7_field="OBR-18")
ASH, BIRCH = ("TEST100231", "ASH^ROWAN", "19480312", "F"), ("TEST200777", "BIRCH^KIM^^DR", "19710923", "M")
TYPED = ("TEST100213", *ASH[1:])
ORDERS = [("R1001", ASH), ("R1002", BIRCH), ("R1003", ASH), ("R1004", ASH)]
#          study, accession, person, images of each series
STUDIES = {"typed": ("R1001", TYPED, (2, 1)), "head": ("R1003", ASH, (2,)), "neck": ("R1003", ASH, (3, 1)), "other": ("R1002", BIRCH, (1,))}
UID = {name: generate_uid(entropy_srcs=["drafts", name]) for name in STUDIES}


def series_uid(study, at):
    return generate_uid(entropy_srcs=["drafts", study, str(at)])


def images():
    for study, (accession, (patient, name, born, sex), sizes) in STUDIES.items():
        for at, size in enumerate(sizes):
            for image in range(size):
                meta = FileMetaDataset()
                meta.TransferSyntaxUID = ExplicitVRLittleEndian
                ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
                ds.SpecificCharacterSet, ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "ISO_IR 100", patient, name, born, sex
                ds.AccessionNumber, ds.StudyDate, ds.StudyTime, ds.StudyID, ds.StudyDescription = accession, "20261102", "080000", "1", f"CT {study.upper()}"
                ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPClassUID = UID[study], series_uid(study, at), CTImageStorage
                ds.SOPInstanceUID = generate_uid(entropy_srcs=["drafts", study, str(at), str(image)])
                ds.Modality, ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionDate, ds.AcquisitionTime = "CT", at + 1, image + 1, "20261102", f"08{at:02}{image:02}"
                ds.add_new(0x00090010, "LO", "DEMO PRIVATE")
                ds.add_new(0x00091001, "LO", "kept")
                ds.Rows = ds.Columns = 8
                ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 1, "MONOCHROME2", 16, 16, 15, 0
                ds.PixelData = np.random.default_rng(len(study) * 100 + at * 10 + image).integers(0, 4096, 64, dtype=np.uint16).tobytes()
                if at:
                    ds.compress(RLELossless, generate_instance_uid=False)
                yield ds


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A function that asks an empty Orthanc of our own: `ask(method, path, body)` gives (status, answer)."""
    folder, port = tmp_path_factory.mktemp("drafts"), free_port()
    (folder / "orthanc.json").write_text(json.dumps({"StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "DicomServerEnabled": False, "HttpPort": port,
                                                     "RemoteAccessAllowed": False, "AuthenticationEnabled": False}))
    process = subprocess.Popen([need("Orthanc"), str(folder / "orthanc.json")], stdout=(folder / "log").open("wb"), stderr=subprocess.STDOUT)

    def ask(method, path, body=None):
        try:
            with urlopen(Request(ask.address + path, data=body, method=method)) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()

    ask.address, until = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while True:
        try:
            ask("GET", "/system")
            break
        except URLError:
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text(errors="replace")[-1000:]
            time.sleep(0.1)
    yield ask
    process.terminate()
    process.wait(20)


@pytest.fixture
def bench(server, tmp_path):
    """The archive and the department with the four studies, and an empty ledger."""
    for patient in json.loads(server("GET", "/patients")[1]):
        server("DELETE", f"/patients/{patient}")
    (tmp_path / "dicom").mkdir()
    for at, ds in enumerate(images()):
        ds.save_as(tmp_path / "dicom" / str(at), enforce_file_format=True)
        assert server("POST", "/instances", (tmp_path / "dicom" / str(at)).read_bytes())[0] == 200
    lines = [f"MSH|^~\\&|RIS|GH|PACS|GH|202611020700||ORM^O01|C{number}|P|2.5.1\rPID|1||{p[0]}||{p[1].replace('^^DR', '^^^DR')}||{p[2]}|{p[3]}\rORC|NW|P{number}|F{number}||SC\r"
             f"OBR|1|P{number}|F{number}|CT1^CT|||||||||||||||{number}||||||CT\r" for number, p in ORDERS]
    (tmp_path / "orders.hl7").write_text("".join(lines))
    dicom = pacs.read_headers(tmp_path / "dicom", site=SITE)
    dept = pacs.build_department(hl7=pacs.read_hl7_log(tmp_path / "orders.hl7", site=SITE), dicom=dicom, site=SITE)
    return SimpleNamespace(ask=server, dept=dept, dicom=dicom, ledger=tmp_path / "ledger.jsonl", folder=tmp_path)


def decide(bench, **decision):
    return pacs.record_correction(bench.ledger, decided_by="Pat", **{"reason": "TYPED_WRONG", **decision})


def written(bench):
    folder = bench.folder / "drafts"
    pacs.write_drafts(pacs.draft_corrections(bench.dept, bench.ledger, site=SITE), folder)
    return folder


def run_json(bench, calls):
    """Does what the calls say, to the letter; the first unexpected answer stops."""
    answer = b""

    def do(call, image=""):
        nonlocal answer
        if "for_each" in call:
            for one in json.loads(bench.ask("GET", call["for_each"])[1]):
                for inner in call["calls"]:
                    do(inner, one["ID"])
            return
        body = answer if "body_from" in call else None if "body" not in call else call["body"].encode() if isinstance(call["body"], str) else json.dumps(call["body"]).encode()
        status, answer = bench.ask(call["method"], call["path"].replace("{ID}", image), body)
        assert status == call.get("status", 200), (call, answer)
        for name, value in call.get("expect", {}).items():
            told = json.loads(answer)
            assert {**told, **told.get("MainDicomTags", {}), **told.get("PatientMainDicomTags", {})}[name] == value

    for call in calls:
        do(call)


def run_shell(bench, script, *arguments):
    return subprocess.run(["sh", str(script), *arguments], env={**os.environ, "ORTHANC": bench.ask.address}, capture_output=True, text=True, check=False)


def archive(bench):
    """What the archive holds now, as read from its own files: one dataset per image."""
    return [pydicom.dcmread(io.BytesIO(bench.ask("GET", f"/instances/{i}/file")[1])) for i in json.loads(bench.ask("GET", "/instances")[1])]


def pixels(datasets):
    return sorted(ds.PixelData for ds in datasets)


def carry_out(bench, how):
    """The drafts of the archive run as written: images as they are before the delete, and after."""
    folder = written(bench)
    draft = next(folder.glob("*-orthanc.json"))
    if how == "calls":
        both = json.loads(draft.read_text())
        run_json(bench, both["calls"])
        middle = archive(bench)
        run_json(bench, both["then_delete"])
        return middle, archive(bench)
    need("curl")
    ran = run_shell(bench, draft.with_suffix(".sh"))
    assert ran.stdout == "done\n", ran.stderr
    middle = archive(bench)
    ran = run_shell(bench, draft.with_name(draft.stem + "-delete.sh"))
    assert ran.stdout == "done\n", ran.stderr
    return middle, archive(bench)


def of(datasets, study):
    return [ds for ds in datasets if ds.StudyInstanceUID == (UID[study] if study in UID else study)]


both_ways = pytest.mark.parametrize("how", ["calls", "curl"])


@both_ways
def test_a_patient_id_is_corrected_in_the_archive_with_all_uids_and_its_history(bench, how):
    decide(bench, kind="patient_id", target=UID["typed"], old=TYPED[0], new=ASH[0])
    before = archive(bench)
    middle, after = carry_out(bench, how)
    assert len(middle) == 10 + 3 and len(after) == 10 and pixels(after) == pixels(before)
    assert {ds.PatientID for ds in of(after, "typed")} == {ASH[0]} and len(of(after, "typed")) == 3
    assert {str(ds.SOPInstanceUID) for ds in after} == {str(ds.SOPInstanceUID) for ds in before} and {str(ds.SeriesInstanceUID) for ds in after} == {str(ds.SeriesInstanceUID) for ds in before}
    for ds in of(after, "typed"):
        item = ds.OriginalAttributesSequence[0]
        assert (item.ModifiedAttributesSequence[0].PatientID, item.ReasonForTheAttributeModification, ds[0x00091001].value) == (TYPED[0], "CORRECT", "kept")
    assert {ds.file_meta.TransferSyntaxUID for ds in of(after, "typed")} == {ExplicitVRLittleEndian, RLELossless}
    assert TYPED[0] not in {p["MainDicomTags"]["PatientID"] for p in json.loads(bench.ask("GET", "/patients?expand")[1])}


@pytest.mark.parametrize(("how", "number"), [("calls", "R1004"), ("curl", "R1004"), ("curl", "")])
def test_a_study_gets_another_accession_number_or_none_and_keeps_its_study_uid(bench, how, number):
    decide(bench, kind="link" if number else "unlink", target=UID["neck"], old="R1003", new=number)
    before = archive(bench)
    middle, after = carry_out(bench, how)
    assert len(middle) == 10 + 4 and len(after) == 10 and pixels(after) == pixels(before)
    neck = of(after, "neck")
    assert {ds.AccessionNumber for ds in neck} == {number} and len({ds.SeriesInstanceUID for ds in neck}) == 2
    assert {ds.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].AccessionNumber for ds in neck} == {"R1003"}
    found = json.loads(bench.ask("POST", "/tools/find", b'{"Level":"Study","Query":{"AccessionNumber":"R1003"}}')[1])
    assert len(found) == 1, "the index follows: the head alone has the old number"


@both_ways
def test_a_wrong_pick_is_put_right_in_one_pass_over_the_images(bench, how, monkeypatch):
    decide(bench, kind="link", target=UID["other"], old="R1002", new="R1004", reason="WRONG_PICK")
    decide(bench, kind="patient_id", target=UID["other"], old=BIRCH[0], new=ASH[0], reason="WRONG_PICK")
    assert len(list(written(bench).glob("*-orthanc.json"))) == 1
    shutil.rmtree(bench.folder / "drafts")
    monkeypatch.setenv("LOOKED_TWICE", "yes")
    middle, after = carry_out(bench, how)
    (ds,) = of(after, "other")
    assert len(middle) == 11 and len(after) == 10 and (ds.PatientID, str(ds.PatientName), ds.PatientBirthDate, ds.AccessionNumber) == (*ASH[:3], "R1004")
    was = ds.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert (was.PatientID, str(was.PatientName), was.AccessionNumber) == (BIRCH[0], BIRCH[1], "R1002")


@both_ways
def test_series_split_off_form_the_study_that_the_ledger_names(bench, how):
    listed = series_uid("neck", 1)
    decide(bench, kind="split", target=UID["neck"], series=listed, old="R1003", new="R1004", reason="TWO_EXAMS")
    before = archive(bench)
    middle, after = carry_out(bench, how)
    made = of(after, split_study_uid(UID["neck"], listed))
    assert len(middle) == 11 and len(after) == 10 and pixels(after) == pixels(before)
    assert [(ds.PatientID, ds.AccessionNumber) for ds in made] == [(ASH[0], "R1004")] and len(of(after, "neck")) == 3
    assert made[0].OriginalAttributesSequence[0].ModifiedAttributesSequence[0].StudyInstanceUID == UID["neck"]


@both_ways
def test_studies_of_one_exam_become_one(bench, how):
    record = decide(bench, kind="merge", target=f"{UID['head']} {UID['neck']}", old="R1003", new="R1003", reason="SPLIT_BY_DEVICE")
    before = archive(bench)
    middle, after = carry_out(bench, how)
    assert len(middle) == 10 + 4 and len(after) == 10 and pixels(after) == pixels(before)
    assert len(of(after, "head")) == 6 and not of(after, "neck") and len({ds.SeriesInstanceUID for ds in of(after, "head")}) == 3
    study = json.loads(bench.ask("POST", "/tools/lookup", UID["head"].encode())[1])[0]["ID"]
    notes = json.loads(bench.ask("GET", f"/studies/{study}/metadata?expand")[1])
    assert any(record["id"] in note and UID["neck"] in note for note in notes.values()), "where the images came from can be read"


@both_ways
def test_series_join_another_study(bench, how):
    decide(bench, kind="merge_series", target=UID["neck"], series=series_uid("neck", 0), new=UID["head"], reason="SPLIT_BY_DEVICE")
    before = archive(bench)
    middle, after = carry_out(bench, how)
    assert len(middle) == 13 and len(after) == 10 and pixels(after) == pixels(before)
    assert len(of(after, "head")) == 5 and len(of(after, "neck")) == 1


@both_ways
def test_nothing_is_deleted_when_a_count_does_not_agree(bench, how):
    decide(bench, kind="patient_id", target=UID["typed"], old=TYPED[0], new=ASH[0])
    folder = written(bench)
    draft = next(folder.glob("*-orthanc.json"))
    both = json.loads(draft.read_text())
    run_json(bench, both["calls"])
    new = next(i for i in json.loads(bench.ask("GET", "/instances")[1]) if json.loads(bench.ask("GET", f"/instances/{i}/simplified-tags")[1])["PatientID"] == ASH[0]
               and json.loads(bench.ask("GET", f"/instances/{i}/simplified-tags")[1])["StudyInstanceUID"] == UID["typed"])
    bench.ask("DELETE", f"/instances/{new}")
    if how == "calls":
        with pytest.raises(AssertionError):
            run_json(bench, both["then_delete"])
    else:
        need("curl")
        ran = run_shell(bench, draft.with_name(draft.stem + "-delete.sh"))
        assert ran.returncode == 1 and "stopped" in ran.stderr
    assert sum(ds.PatientID == TYPED[0] for ds in archive(bench)) == 3


def test_a_study_that_has_grown_since_stops_before_anything_is_stored(bench):
    need("curl")
    decide(bench, kind="patient_id", target=UID["typed"], old=TYPED[0], new=ASH[0])
    ds = next(images())
    ds.SOPInstanceUID = generate_uid(entropy_srcs=["late"])
    late = io.BytesIO()
    ds.save_as(late, enforce_file_format=True)
    assert bench.ask("POST", "/instances", late.getvalue())[0] == 200
    ran = run_shell(bench, next(written(bench).glob("*-orthanc.sh")))
    assert ran.returncode == 1 and len(archive(bench)) == 11 and sum(ds.PatientID == TYPED[0] for ds in archive(bench)) == 4


def test_a_name_that_the_images_cannot_spell_stops_before_the_delete(bench):
    need("curl")
    orders = bench.dept.orders
    orders.loc[orders["patient_id"] == ASH[0], "patient_name"] = "山田^太郎"
    decide(bench, kind="patient_id", target=UID["typed"], old=TYPED[0], new=ASH[0])
    script = next(written(bench).glob("*-orthanc.sh"))
    ran = subprocess.run(["sh", str(script)], env={**os.environ, "ORTHANC": bench.ask.address, "LOOKED_TWICE": "yes"}, capture_output=True, text=True, check=False)
    assert ran.returncode == 1 and "does not say what was expected" in ran.stderr
    assert sum(ds.PatientID == TYPED[0] for ds in archive(bench)) == 3


def test_images_with_a_history_of_their_own_are_left_alone(bench):
    need("curl")
    decide(bench, kind="patient_id", target=UID["typed"], old=TYPED[0], new=ASH[0])
    one = next(i for i in json.loads(bench.ask("GET", "/instances")[1]) if json.loads(bench.ask("GET", f"/instances/{i}/simplified-tags")[1])["PatientID"] == TYPED[0])
    ds = pydicom.dcmread(io.BytesIO(bench.ask("GET", f"/instances/{one}/file")[1]))
    ds.OriginalAttributesSequence = [pydicom.Dataset()]
    ds.OriginalAttributesSequence[0].ModifyingSystem = "RIS"
    again = io.BytesIO()
    ds.save_as(again, enforce_file_format=True)
    bench.ask("DELETE", f"/instances/{one}")
    assert bench.ask("POST", "/instances", again.getvalue())[0] == 200
    ran = run_shell(bench, next(written(bench).glob("*-orthanc.sh")))
    assert ran.returncode == 1 and "a history of their own" in ran.stderr
    assert sum(ds.PatientID == TYPED[0] for ds in archive(bench)) == 3


@pytest.mark.parametrize("decision", [{"kind": "patient_id", "target": UID["typed"], "old": TYPED[0], "new": ASH[0]},
                                      {"kind": "split", "target": UID["neck"], "series": series_uid("neck", 1), "old": "R1003", "new": "R1004", "reason": "TWO_EXAMS"}])
def test_corrected_copies_stored_beside_the_old_take_their_place(bench, decision):
    need("curl")
    decide(bench, **decision)
    before = archive(bench)
    n = len(pacs.plan_copies(bench.dicom.instances, bench.ledger, dept=bench.dept))
    pacs.write_corrected_copies(bench.dicom.instances, bench.ledger, bench.folder / "copies", dept=bench.dept, confirm=n)
    delete = next(written(bench).glob("*-delete.sh"))
    assert run_shell(bench, delete).returncode == 1 and len(archive(bench)) == 10, "nothing lies beside the old images yet"
    for path in (bench.folder / "copies").rglob("*.dcm"):
        assert bench.ask("POST", "/instances", path.read_bytes())[0] == 200
    ran = run_shell(bench, delete)
    assert ran.stdout == "done\n", ran.stderr
    assert pixels(archive(bench)) == pixels(before) and sum("OriginalAttributesSequence" in ds for ds in archive(bench)) == n == (3 if decision["kind"] == "patient_id" else 1)


def test_dcmodify_changes_copies_and_appends_to_their_history(bench):
    need("dcmodify")
    decide(bench, kind="patient_id", target=UID["typed"], old=TYPED[0], new=BIRCH[0])
    first = bench.folder / "dicom" / "0"
    ds = pydicom.dcmread(first)
    ds.OriginalAttributesSequence = [pydicom.Dataset()]
    ds.OriginalAttributesSequence[0].ModifyingSystem = "RIS"
    ds.save_as(first)
    sources = {path: path.read_bytes() for path in (bench.folder / "dicom").iterdir()}
    to = bench.folder / "it's a new folder"
    script = next(written(bench).glob("*-dcmodify.sh"))
    stopped = run_shell(bench, script, str(bench.folder / "dicom"), str(to))
    assert stopped.returncode == 1 and "LOOKED_TWICE" in stopped.stderr and not to.exists(), "the patient is known under another name"
    ran = subprocess.run(["sh", str(script), str(bench.folder / "dicom"), str(to)], env={**os.environ, "LOOKED_TWICE": "yes"}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert sources == {path: path.read_bytes() for path in (bench.folder / "dicom").iterdir()}
    got = pacs.read_headers(to, site=SITE).instances
    assert got[["patient_id", "patient_name", "patient_birth_date", "patient_sex"]].drop_duplicates().values.tolist() == [list(BIRCH)] and len(got) == 3
    histories = sorted(len(pydicom.dcmread(path).OriginalAttributesSequence) for path in to.iterdir())
    assert histories == [1, 1, 2] and len(list(Path(f"{to}.bak").iterdir())) == 3
    last = [pydicom.dcmread(path).OriginalAttributesSequence[-1] for path in to.iterdir()]
    assert {(i.ModifyingSystem, i.ModifiedAttributesSequence[0].PatientID, str(i.ModifiedAttributesSequence[0].PatientName)) for i in last} == {("PACS workbook", TYPED[0], TYPED[1])}
    assert pixels(pydicom.dcmread(path) for path in to.iterdir()) == pixels(ds for ds in images() if ds.StudyInstanceUID == UID["typed"])


def test_dcmodify_changes_id_and_number_together(bench, monkeypatch):
    need("dcmodify")
    monkeypatch.setenv("LOOKED_TWICE", "yes")
    decide(bench, kind="patient_id", target=UID["typed"], old=TYPED[0], new=ASH[0])
    decide(bench, kind="link", target=UID["typed"], old="R1001", new="R1004")
    (script,) = written(bench).glob("*-dcmodify.sh")
    ran = run_shell(bench, script, str(bench.folder / "dicom"), str(bench.folder / "to"))
    assert ran.returncode == 0, ran.stderr
    got = pacs.read_headers(bench.folder / "to", site=SITE).instances
    assert got[["patient_id", "accession_number", "study_instance_uid"]].values.tolist() == [[ASH[0], "R1004", UID["typed"]]] * 3


def test_dcmodify_stops_at_a_file_that_carries_another_value(bench):
    need("dcmodify")
    decide(bench, kind="link", target=UID["neck"], old="R1003", new="R1004")
    odd = next(path for path in (bench.folder / "dicom").iterdir() if pydicom.dcmread(path).StudyInstanceUID == UID["neck"])
    ds = pydicom.dcmread(odd)
    ds.AccessionNumber = "R9999"
    ds.save_as(odd)
    ran = run_shell(bench, next(written(bench).glob("*-dcmodify.sh")), str(bench.folder / "dicom"), str(bench.folder / "to"))
    assert ran.returncode == 1 and "another value" in ran.stderr


def test_values_meant_for_the_shell_stay_values(bench, monkeypatch):
    need("curl"), need("dcmodify")
    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("LOOKED_TWICE", "yes")
    new = "A'; touch pwned; '$(touch pwned)`touch pwned`"
    decide(bench, kind="patient_id", target=UID["typed"], old=TYPED[0], new=new)
    folder = written(bench)
    ran = run_shell(bench, next(folder.glob("*-orthanc.sh")))
    assert ran.stdout == "done\n", ran.stderr
    assert sum(ds.PatientID == new for ds in archive(bench)) == 3
    ran = run_shell(bench, next(folder.glob("*-dcmodify.sh")), str(bench.folder / "dicom"), str(bench.folder / "to"))
    assert ran.returncode == 0 and {pydicom.dcmread(path).PatientID for path in (bench.folder / "to").iterdir()} == {new}
    assert not list(bench.folder.rglob("pwned"))
