import csv
import hashlib
import json
import os
import shutil
import stat
from collections import namedtuple
from pathlib import Path

import pydicom
import pytest

from pacs_helpers.department import build_department
from pacs_helpers.fixes.applied import apply_corrections
from pacs_helpers.fixes.copies import CopiesStopped, write_corrected_copies
from pacs_helpers.fixes.copyplan import plan_copies
from pacs_helpers.fixes.corrections import split_study_uid, undo_correction, verify_corrections
from pacs_helpers.fixes.ledger import read_ledger
from pacs_helpers.readers.headers import read_headers
from pacs_helpers.tables import TableError

from ..small_department import OTHER, PERSON, SITE, order
from .images import SYNTAXES, decide, image, item, kind_of_image, loaded, save

ROOT = Path(__file__).resolve().parents[2]
HISTORY, REQUESTS = 0x04000561, 0x00400275


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "corrections.jsonl"


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def copies(source, ledger, out, **more):
    """The copies of a folder, by the SOP Instance UID of what they were made of; and what was said."""
    found = loaded(source, **more)
    plan = plan_copies(found.instances, ledger, dept=found.dept)
    result = write_corrected_copies(found.instances, ledger, out, dept=found.dept, confirm=int((plan["problem"] == "").sum()))
    made = {pydicom.dcmread(row.source_file).SOPInstanceUID: pydicom.dcmread(out / row.output_name) for row in result.copies.itertuples() if row.output_name}
    return made, result


def raw_of(path):
    """{tag: value bytes} of a file as pydicom finds them, sequences as their items' values."""
    def values(ds):
        return {int(tag): element.value if isinstance(element.value, bytes) or element.VR != "SQ" else [values(i) for i in element.value] for tag, element in ((t, ds.get_item(t)) for t in ds.keys())}
    return values(pydicom.dcmread(path))


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.mark.parametrize("kind", SYNTAXES)
def test_whatever_the_file_every_element_that_was_not_planned_stays_as_its_bytes(source, ledger, out, kind):
    original = save(source / "a.dcm", *kind_of_image(kind))
    record = decide(ledger)
    copies(source, ledger, out, orders=[order(patient_name="", patient_birth_date="", patient_sex="")])
    before, after = raw_of(original), raw_of(out / "000001.dcm")
    changed = {tag for tag in {*before, *after} if before.get(tag) != after.get(tag)}
    assert changed == {0x00100020, HISTORY}
    ds, source_ds = pydicom.dcmread(out / "000001.dcm"), pydicom.dcmread(original)
    assert (ds.PatientID, ds.PatientName, ds.PixelData) == (PERSON["patient_id"], source_ds.PatientName, source_ds.PixelData)
    assert ds.file_meta == source_ds.file_meta and ds.preamble == bytes(128)
    entry = ds[HISTORY][0]
    assert entry.ModifiedAttributesSequence[0].PatientID == "TEST100213" and entry.ReasonForTheAttributeModification == "CORRECT"
    assert entry.AttributeModificationDateTime == record["ts_utc"][:23].replace("-", "").replace(":", "").replace("T", "") + "000+0000"
    assert entry.ModifyingSystem == "pacs-helpers 0.1.0" and entry.SourceOfPreviousValues == ""


def test_a_sequence_of_original_attributes_is_added_to(source, ledger, out):
    ds = image()
    ds.add_new(HISTORY, "SQ", [item(ModifyingSystem="THE PACS", ReasonForTheAttributeModification="COERCE")])
    ds[HISTORY].is_undefined_length = True
    save(source / "a.dcm", ds)
    decide(ledger)
    decide(ledger, "link", target="2.25.1", old="R1001", new="R2")
    made, _ = copies(source, ledger, out)
    systems = [(i.ModifyingSystem, [e.keyword for e in i.get("ModifiedAttributesSequence", [[]])[0]]) for i in made["2.25.111"][HISTORY]]
    assert systems == [("THE PACS", []), ("pacs-helpers 0.1.0", ["PatientID"]), ("pacs-helpers 0.1.0", ["AccessionNumber"])]


def test_name_birth_date_and_sex_follow_the_id_and_hl7_suffix_and_prefix_change_places(source, ledger, out):
    save(source / "a.dcm", image(PatientName="DOE^JANE", PatientBirthDate=""))
    decide(ledger)
    made, _ = copies(source, ledger, out, orders=[order(patient_name="ASH^ROWAN^B^JR^DR", patient_sex="U")])
    ds = made["2.25.111"]
    assert (ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex) == (PERSON["patient_id"], "ASH^ROWAN^B^DR^JR", "19480312", "F")
    old = ds[HISTORY][0].ModifiedAttributesSequence[0]
    assert (old.PatientName, old.PatientBirthDate) == ("DOE^JANE", "") and "PatientSex" not in old


def test_a_name_that_the_files_character_set_cannot_hold_is_refused_never_mangled(source, ledger, out):
    save(source / "a.dcm", image(SpecificCharacterSet="ISO_IR 100"))
    decide(ledger)
    found = loaded(source, orders=[order(patient_name="山田^太郎")])
    assert plan_copies(found.instances, ledger, dept=found.dept)["problem"].str.split(":").str[0].tolist() == ["CHARACTER_SET"]
    result = write_corrected_copies(found.instances, ledger, out, dept=found.dept, confirm=0)
    assert result.account.endswith("1 files refused; 0 to do") and not out.exists()


def test_a_number_that_is_too_long_for_dicom_is_refused(source, ledger):
    save(source / "a.dcm", image())
    decide(ledger, "link", target="2.25.1", old="R1001", new="R" * 17)
    found = loaded(source)
    assert plan_copies(found.instances, ledger, dept=found.dept)["problem"].iloc[0].startswith("VALUE_NOT_ALLOWED: AccessionNumber")


def test_the_plan_shows_old_and_new_and_writes_nothing(source, ledger, tmp_path):
    save(source / "a.dcm", image(PatientSex="O"))
    save(source / "b.dcm", image(study="2.25.2", instance="2.25.222"))
    decide(ledger)
    found, before = loaded(source), sorted(tmp_path.rglob("*"))
    plan = plan_copies(found.instances, ledger, dept=found.dept)
    assert plan[["output_name", "changes", "uid_policy", "decisions"]].values.tolist() == [["000001.dcm", "PatientID TEST100213 -> TEST100231\nPatientSex O -> F", "keep", "1"]]
    assert plan["source_sha256"].iloc[0] == hashlib.sha256((source / "a.dcm").read_bytes()).hexdigest() and sorted(tmp_path.rglob("*")) == before
    assert len(read_ledger(ledger)) == 1


def test_what_was_undone_or_is_right_already_is_not_in_the_plan(source, ledger):
    save(source / "a.dcm", image(PatientID=PERSON["patient_id"]))
    decide(ledger)
    record = decide(ledger, "link", target="2.25.1", old="R1001", new="R2")
    undo_correction(ledger, record["id"], decided_by="Pat")
    found = loaded(source)
    assert plan_copies(found.instances, ledger, dept=found.dept).empty


def test_images_of_somebody_else_in_the_study_are_refused(source, ledger):
    for n in (1, 2):
        save(source / f"{n}.dcm", image(instance=f"2.25.11{n}", InstanceNumber=n))
    save(source / "3.dcm", image(instance="2.25.113", **{"PatientID": OTHER["patient_id"]}))
    decide(ledger)
    found = loaded(source)
    assert plan_copies(found.instances, ledger, dept=found.dept)["problem"].str.split(":").str[0].tolist() == ["", "", "VALUE_DIFFERS"]


def test_a_linked_image_leaves_the_worklist_item_of_the_other_exam(source, ledger, out):
    requests = [item(AccessionNumber="R1001", RequestedProcedureID="RP1"), item(AccessionNumber="R5", RequestedProcedureID="RP5")]
    save(source / "a.dcm", image(RequestAttributesSequence=requests))
    decide(ledger, "link", target="2.25.1", old="R1001", new="R2")
    made, _ = copies(source, ledger, out)
    assert [i.RequestedProcedureID for i in made["2.25.111"][REQUESTS]] == ["RP5"] and made["2.25.111"].AccessionNumber == "R2"
    assert len(made["2.25.111"][HISTORY][0].ModifiedAttributesSequence[0].RequestAttributesSequence) == 2


def test_unlinked_images_have_no_accession_number_and_keep_their_uids(source, ledger, out):
    save(source / "a.dcm", image(RequestAttributesSequence=[item(AccessionNumber="R1001")]))
    decide(ledger, "unlink", target="2.25.1", old="R1001")
    ds = copies(source, ledger, out)[0]["2.25.111"]
    assert (ds.AccessionNumber, ds.SOPInstanceUID, REQUESTS in ds) == ("", "2.25.111", False)


def refers_to(series, instance):
    return item(StudyInstanceUID="2.25.1", ReferencedSeriesSequence=[item(SeriesInstanceUID=series, ReferencedSOPSequence=[item(ReferencedSOPClassUID="1.2.3", ReferencedSOPInstanceUID=instance)])])


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_split_images_get_new_uids_and_what_moved_with_them_is_still_referred_to(source, ledger, out, syntax):
    save(source / "stays.dcm", image(), SYNTAXES[syntax])
    save(source / "head.dcm", image(series="2.25.12", instance="2.25.121"), SYNTAXES[syntax])
    note = image(series="2.25.12", instance="2.25.122", CurrentRequestedProcedureEvidenceSequence=[refers_to("2.25.12", "2.25.121"), refers_to("2.25.11", "2.25.111")],
                 ReferencedStudySequence=[item(ReferencedSOPInstanceUID="2.25.1")])
    save(source / "note.dcm", note, SYNTAXES[syntax])
    decide(ledger, "split", target="2.25.1", series="2.25.12", old="R1001", new="R2")
    made, result = copies(source, ledger, out)
    assert set(made) == {"2.25.121", "2.25.122"} and set(result.copies["uid_policy"]) == {"new"}
    head, note, uid = made["2.25.121"], made["2.25.122"], split_study_uid("2.25.1", "2.25.12")
    assert (head.StudyInstanceUID, head.AccessionNumber, note.StudyInstanceUID) == (uid, "R2", uid)
    assert head.SeriesInstanceUID == note.SeriesInstanceUID != "2.25.12" and len({head.SOPInstanceUID, note.SOPInstanceUID, "2.25.121", "2.25.122"}) == 4
    assert head.file_meta.MediaStorageSOPInstanceUID == head.SOPInstanceUID
    moved, other = note.CurrentRequestedProcedureEvidenceSequence
    assert (moved.StudyInstanceUID, moved.ReferencedSeriesSequence[0].SeriesInstanceUID) == (uid, head.SeriesInstanceUID)
    assert moved.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == head.SOPInstanceUID
    assert (other.StudyInstanceUID, other.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID) == ("2.25.1", "2.25.111")
    assert note.ReferencedStudySequence[0].ReferencedSOPInstanceUID == uid
    old = note[HISTORY][0].ModifiedAttributesSequence[0]
    assert (old.SOPInstanceUID, old.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID) == ("2.25.122", "2.25.1")


def test_a_key_object_note_that_stays_and_names_what_moves_is_told_of_in_the_plan(source, ledger):
    save(source / "stays.dcm", image())
    save(source / "head.dcm", image(series="2.25.12", instance="2.25.121"))
    for name, uid, to in (("names", "2.25.131", "2.25.121"), ("not", "2.25.132", "2.25.111")):
        save(source / f"{name}.dcm", image(series="2.25.13", instance=uid, Modality="KO", CurrentRequestedProcedureEvidenceSequence=[refers_to("2.25.99", to)]))
    decide(ledger, "split", target="2.25.1", series="2.25.12", old="R1001", new="R2")
    found = loaded(source)
    plan = plan_copies(found.instances, ledger, dept=found.dept).set_index("source_file")
    assert {Path(file).name: bool(problem) for file, problem in plan["problem"].items()} == {"head.dcm": False, "names.dcm": True}
    assert plan.loc[str(source / "names.dcm"), "problem"].startswith("REFERS_TO_MOVED: it keeps its references to images that move")
    merged = ledger.with_name("merge.jsonl")
    save(source / "b.dcm", image(study="2.25.2", series="2.25.21", instance="2.25.211", AccessionNumber=""))
    save(source / "names.dcm", image(series="2.25.13", instance="2.25.131", Modality="KO", CurrentRequestedProcedureEvidenceSequence=[refers_to("2.25.21", "2.25.211")]))
    decide(merged, "merge", target="2.25.1 2.25.2", old="R1001", new="R5")
    found = loaded(source)
    plan = plan_copies(found.instances, merged, dept=found.dept).set_index("source_file").loc[str(source / "names.dcm")]
    assert not plan["problem"] and "AccessionNumber R1001 -> R5" in plan["changes"] and "REFERS_TO_MOVED" in plan["changes"], "its copy is made, and told of"


def test_merged_images_get_the_study_attributes_of_the_study_that_stays(source, ledger, out):
    save(source / "a.dcm", image())
    save(source / "b.dcm", image(study="2.25.2", series="2.25.21", instance="2.25.211", AccessionNumber="", StudyTime="091500", StudyID="8", StudyDescription="CT HEAD"))
    decide(ledger, "merge", target="2.25.1 2.25.2", old="R1001", new="R1001")
    made, _ = copies(source, ledger, out)
    assert set(made) == {"2.25.211"}
    ds = made["2.25.211"]
    assert (ds.StudyInstanceUID, ds.AccessionNumber, ds.StudyTime, ds.StudyID, ds.StudyDescription) == ("2.25.1", "R1001", "090000", "7", "CT CHEST")
    assert ds.SeriesInstanceUID != "2.25.21" and ds.SOPInstanceUID != "2.25.211"


def test_studies_of_two_patients_are_not_merged(source, ledger):
    save(source / "a.dcm", image())
    save(source / "b.dcm", image(study="2.25.2", instance="2.25.211", PatientID=OTHER["patient_id"]))
    decide(ledger, "merge", target="2.25.1 2.25.2", old="R1001", new="R1001")
    found = loaded(source)
    assert plan_copies(found.instances, ledger, dept=found.dept)["problem"].str.split(":").str[0].tolist() == ["PATIENTS_DIFFER"] * 2


@pytest.mark.parametrize("kind", ["merge", "merge_series"])
@pytest.mark.parametrize("other", [OTHER, {"patient_id": "TEST5"}, {"patient_name": "ASCH^ROWAN"}, {"patient_birth_date": "19480313"}], ids=str)
def test_no_image_gets_the_id_name_or_birth_date_of_another_person_by_joining(source, ledger, kind, other):
    """The IDs may agree because one of them is the error that is being looked at."""
    keywords = {"patient_id": "PatientID", "patient_name": "PatientName", "patient_birth_date": "PatientBirthDate", "patient_sex": "PatientSex"}
    save(source / "a.dcm", image())
    save(source / "b.dcm", image(study="2.25.2", series="2.25.21", instance="2.25.211", **{keywords[c]: v for c, v in other.items()}))
    more = {"target": "2.25.1 2.25.2", "old": "R1001", "new": "R1001"} if kind == "merge" else {"target": "2.25.2", "series": "2.25.21", "new": "2.25.1"}
    decide(ledger, kind, **more)
    found = loaded(source)
    assert set(plan_copies(found.instances, ledger, dept=found.dept)["problem"].str.split(":").str[0]) == {"PATIENTS_DIFFER"}


@pytest.mark.parametrize("name", ["Ash, Rowan", "ASH^ROWAN^B", ""])
def test_a_name_spelled_another_way_is_the_same_person(source, ledger, out, name):
    save(source / "a.dcm", image())
    save(source / "b.dcm", image(study="2.25.2", series="2.25.21", instance="2.25.211", PatientName=name))
    decide(ledger, "merge_series", target="2.25.2", series="2.25.21", new="2.25.1")
    assert copies(source, ledger, out)[0]["2.25.211"].PatientName == "ASH^ROWAN"


def test_series_that_join_a_study_get_what_was_corrected_there(source, ledger, out):
    save(source / "a.dcm", image(series="2.25.12", instance="2.25.121", PatientID=OTHER["patient_id"], PatientName="BIRCH^KIM", PatientBirthDate=""))
    save(source / "b.dcm", image(study="2.25.2", instance="2.25.211", PatientID="UNK_1", PatientName="DOE^JOHN", AccessionNumber="R2"))
    decide(ledger, target="2.25.2", old="UNK_1", new=OTHER["patient_id"])
    decide(ledger, "merge_series", target="2.25.1", series="2.25.12", new="2.25.2")
    ds = copies(source, ledger, out)[0]["2.25.121"]
    assert (ds.StudyInstanceUID, ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.AccessionNumber) == ("2.25.2", OTHER["patient_id"], OTHER["patient_name"], OTHER["patient_birth_date"], "R2")


def test_series_do_not_join_a_study_of_which_it_is_not_clear_whose_it_is(source, ledger):
    save(source / "a.dcm", image(series="2.25.12", instance="2.25.121"))
    for n, patient in enumerate((OTHER["patient_id"], "TEST5")):
        save(source / f"b{n}.dcm", image(study="2.25.2", instance=f"2.25.21{n}", PatientID=patient))
    decide(ledger, "merge_series", target="2.25.1", series="2.25.12", new="2.25.2")
    found = loaded(source)
    assert plan_copies(found.instances, ledger, dept=found.dept)["problem"].str.split(":").str[0].tolist() == ["PATIENTS_DIFFER"]


def test_a_sequence_that_has_to_change_and_cannot_be_read_is_refused(source, ledger):
    path = save(source / "a.dcm", image(RequestAttributesSequence=[item(AccessionNumber="R1001")]))
    data = path.read_bytes()
    at = data.index(b"\x08\x00\x50\x00SH", data.index(b"\x40\x00\x75\x02SQ"))
    path.write_bytes(data[:at + 6] + b"\xf0\x0f" + data[at + 8:])
    decide(ledger, "link", target="2.25.1", old="R1001", new="R2")
    found = loaded(source)
    assert plan_copies(found.instances, ledger, dept=found.dept)["problem"].str.split(":").str[0].tolist() == ["SEQUENCE_DAMAGED"]


def test_the_copies_read_back_are_the_corrected_tables(source, ledger, out):
    save(source / "a.dcm", image(AccessionNumber="R9"))
    save(source / "b.dcm", image(series="2.25.12", instance="2.25.121", AccessionNumber="R9", BodyPartExamined="HEAD"))
    decide(ledger)
    decide(ledger, "split", target="2.25.1", series="2.25.12", old="R9", new="R2")
    decide(ledger, "link", target="2.25.1", old="R9", new="R1001")
    decide(ledger, target=split_study_uid("2.25.1", "2.25.12"), old=PERSON["patient_id"], new=OTHER["patient_id"])
    found = loaded(source)
    copies(source, ledger, out)
    again = build_department(dicom=read_headers(out, site=SITE), site=SITE).studies
    columns = ["study_instance_uid", "accession_number", "patient_id", "patient_name", "patient_birth_date", "patient_sex", "n_series", "n_instances", "started_at"]
    wanted = apply_corrections(found.dept, ledger).studies
    assert sorted(map(str, again[columns].values.tolist())) == sorted(map(str, wanted[columns].values.tolist())) and len(again) == 2


def test_every_copy_is_private_listed_and_logged_and_the_sources_are_untouched(source, ledger, out):
    for n in range(3):
        save(source / f"{n}.dcm", image(instance=f"2.25.11{n}"))
    before = digests(source)
    decide(ledger)
    _, result = copies(source, ledger, out)
    assert digests(source) == before and result.account == "3 copies: 3 written, 0 recovered, 0 there already; 0 files refused; 0 to do"
    assert [r["op"] for r in read_ledger(ledger)] == ["decide", "apply_begin", "applied", "applied", "applied", "apply_end"] and verify_corrections(ledger)["is_whole"]
    with (out / "manifest.csv").open(newline="") as file:
        assert {row["output_name"]: row["output_sha256"] for row in csv.DictReader(file)} == {k: v for k, v in digests(out).items() if k.endswith(".dcm")}
    assert len(json.loads((out / "plan.json").read_text())) == 3
    assert {p.name for p in out.iterdir()} == {"000001.dcm", "000002.dcm", "000003.dcm", "manifest.csv", "plan.json"}
    if os.name != "nt":
        assert {stat.S_IMODE(p.stat().st_mode) for p in out.iterdir()} == {0o600} and stat.S_IMODE(out.stat().st_mode) == 0o700


def test_the_same_call_again_has_nothing_to_do_and_a_copy_that_went_missing_comes_back_the_same(source, ledger, out):
    for n in range(3):
        save(source / f"{n}.dcm", image(instance=f"2.25.11{n}"))
    decide(ledger)
    copies(source, ledger, out)
    before, n_records = digests(out), len(read_ledger(ledger))
    assert copies(source, ledger, out)[1].account == "3 copies: 0 written, 0 recovered, 3 there already; 0 files refused; 0 to do" and len(read_ledger(ledger)) == n_records
    (out / "000002.dcm").unlink()
    assert copies(source, ledger, out)[1].copies["state"].tolist() == ["there already", "written", "there already"] and digests(out) == before


def test_half_files_of_this_run_are_removed_and_others_are_named(source, ledger, out):
    save(source / "a.dcm", image())
    decide(ledger)
    out.mkdir()
    for name in (".000001.dcm.part", ".000777.dcm.part"):
        (out / name).write_bytes(b"half")
    _, result = copies(source, ledger, out)
    assert result.strays == (".000777.dcm.part",) and {p.name for p in out.glob(".*")} == {".000777.dcm.part"}


@pytest.mark.parametrize("confirm", [0, 2, True])
def test_a_number_that_is_not_that_of_the_plan_writes_nothing(source, ledger, out, confirm):
    save(source / "a.dcm", image())
    decide(ledger)
    found = loaded(source)
    with pytest.raises(TableError, match="confirm: the plan makes 1 copies"):
        write_corrected_copies(found.instances, ledger, out, dept=found.dept, confirm=confirm)
    assert not out.exists()


def into(source, ledger, folder, found=None):
    found = found or loaded(source)
    return write_corrected_copies(found.instances, ledger, folder, dept=found.dept, confirm=1)


def test_the_sources_folder_one_inside_it_one_around_it_and_a_link_to_it_are_refused(source, ledger, tmp_path):
    save(source / "deep" / "a.dcm", image())
    decide(ledger)
    (tmp_path / "link").symlink_to(source / "deep")
    found = loaded(source)
    for folder in (source / "deep", source / "deep" / "out", source, tmp_path / "link", tmp_path / "link" / "out"):
        with pytest.raises(TableError, match="folder: "):
            into(source, ledger, folder, found)
    assert [p.name for p in (source / "deep").iterdir()] == ["a.dcm"]


def test_a_folder_beside_the_sources_under_the_one_that_holds_them_all_is_refused(source, ledger):
    """The next reading of that folder would find the copies, and the finding would be gone though no archive was touched."""
    save(source / "CT1" / "a.dcm", image())
    save(source / "CT2" / "b.dcm", image(study="2.25.2", instance="2.25.211"))
    decide(ledger)
    for folder in (source / "copies", source / "deep" / "copies"):
        with pytest.raises(TableError, match="the one that holds them all"):
            into(source, ledger, folder)
    assert {p.name for p in source.iterdir()} == {"CT1", "CT2"}


@pytest.mark.parametrize(("folder", "words"), [
    ("~/copies", "written out"), (" ", "written out"), ("", "written out"), (None, "written out"), ("http://demo.example/y", "no address"), ("x" * 300, "no folder can have this name"),
    ("a\0b", "no folder can have this name"), (os.devnull, "this is a file"), (os.path.join(os.devnull, "x"), "no folder can have this name"), ("letter.txt", "this is a file"),
    ("link", "this is a link"), ("link/", "this is a link"), (ROOT / "pacs_helpers" / "copies", "the workbook's own files"), (ROOT / "copies", "the workbook's own files"),
], ids=lambda v: repr(v)[:30])
def test_an_odd_place_for_copies_is_refused_in_plain_words(source, ledger, tmp_path, monkeypatch, folder, words):
    save(source / "a.dcm", image())
    decide(ledger)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "letter.txt").write_text("dear")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TableError, match=f"^folder: .*{words}"):
        into(source, ledger, folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_department_no_plan_is_made(source, ledger):
    save(source / "a.dcm", image())
    decide(ledger)
    with pytest.raises(TableError, match="dept: .* not NoneType"):
        plan_copies(loaded(source).instances, ledger, dept=None)


def test_a_folder_with_other_things_in_it_is_refused_and_nothing_there_is_replaced(source, ledger, out):
    save(source / "a.dcm", image())
    decide(ledger)
    out.mkdir()
    (out / "000001.dcm").write_bytes(b"somebody's")
    with pytest.raises(CopiesStopped, match="OTHER_RUN: 000001.dcm"):
        into(source, ledger, out)
    assert (out / "000001.dcm").read_bytes() == b"somebody's"
    (out / "letter.txt").write_text("dear")
    with pytest.raises(TableError, match="folder: it holds 1 things"):
        into(source, ledger, out)


def test_another_plan_needs_another_folder(source, ledger, out):
    save(source / "a.dcm", image())
    decide(ledger)
    into(source, ledger, out)
    before = digests(out)
    decide(ledger, "link", target="2.25.1", old="R1001", new="R2")
    with pytest.raises(CopiesStopped, match="OTHER_RUN: plan.json"):
        into(source, ledger, out)
    assert digests(out) == before


def damage(data):
    patient = data.index(b"\x10\x00\x20\x00LO")
    element = data[patient:patient + 8 + int.from_bytes(data[patient + 6:patient + 8], "little")]
    return {"TRUNCATED": data[:patient + 12], "DUPLICATE_TAG": data[:patient] + element + data[patient:], "PIXELS_TRUNCATED": data[:-2],
            "ITEM_LENGTH_WRONG": data.replace(b"\xfe\xff\xdd\xe0\0\0\0\0", b"\xfe\xff\x0d\xe0\0\0\0\0", 1)}


@pytest.mark.parametrize("code", ["TRUNCATED", "DUPLICATE_TAG", "PIXELS_TRUNCATED", "ITEM_LENGTH_WRONG"])
def test_no_copy_is_made_of_a_damaged_file(source, ledger, code):
    ds = image()
    ds["OtherPatientIDsSequence"].is_undefined_length = True
    path = save(source / "a.dcm", ds)
    decide(ledger)
    whole = loaded(source)
    path.write_bytes(damage(path.read_bytes())[code])
    codes = plan_copies(whole.instances, ledger, dept=whole.dept)["problem"].str.split(":").str[0].tolist()
    assert codes == [code]


def test_a_source_that_changed_since_it_was_loaded_or_is_a_link_now_gets_no_copy(source, ledger, tmp_path):
    for name, study in (("a", "2.25.1"), ("b", "2.25.2"), ("c", "2.25.3")):
        save(source / f"{name}.dcm", image(study=study, instance=study + "11"))
        decide(ledger, target=study)
    found = loaded(source)
    save(source / "a.dcm", image(instance="2.25.111", PatientID="TEST5"))
    shutil.move(source / "b.dcm", tmp_path / "b.dcm")
    (source / "b.dcm").symlink_to(tmp_path / "b.dcm")
    (source / "c.dcm").unlink()
    plan = plan_copies(found.instances, ledger, dept=found.dept)
    assert plan["problem"].str.split(":").str[0].tolist() == ["SOURCE_CHANGED", "NOT_READ", "NOT_READ"] and set(plan["output_name"]) == {""}


@pytest.mark.parametrize("hash_files", [True, False])
def test_pixels_that_changed_since_they_were_loaded_are_seen_by_the_table_of_sources(source, ledger, out, hash_files):
    path = save(source / "a.dcm", image())
    save(source / "b.dcm", image(study="2.25.2", instance="2.25.211"))
    decide(ledger)
    decide(ledger, target="2.25.2")
    found = loaded(source, hash_files=hash_files)
    at = path.stat().st_mtime
    path.write_bytes(path.read_bytes()[:-2] + b"\x07\x07")
    os.utime(path, (at + 5, at + 5) if not hash_files else (at, at))
    plan = plan_copies(found.instances, ledger, dept=found.dept, sources=found.sources)
    assert plan["problem"].str.split(":").str[0].tolist() == ["SOURCE_CHANGED", ""]
    done = write_corrected_copies(found.instances, ledger, out, dept=found.dept, confirm=1, sources=found.sources)
    assert done.copies["state"].tolist() == ["refused", "written"]


def test_a_file_that_grew_since_it_was_loaded_gets_no_copy(source, ledger):
    path = save(source / "a.dcm", image())
    decide(ledger)
    found = loaded(source)
    save(path, image(OperatorsName="OAK^KIT"))
    assert plan_copies(found.instances, ledger, dept=found.dept)["problem"].str.split(":").str[0].tolist() == ["SOURCE_CHANGED"]


def test_a_second_file_with_the_same_bytes_is_not_copied_again(source, ledger):
    save(source / "a.dcm", image())
    shutil.copy(source / "a.dcm", source / "b.dcm")
    decide(ledger)
    found = loaded(source)
    assert plan_copies(found.instances, ledger, dept=found.dept)["problem"].str.split(":").str[0].tolist() == ["", "DUPLICATE_FILE"]


def test_with_too_little_space_nothing_is_written(source, ledger, out, monkeypatch):
    save(source / "a.dcm", image())
    decide(ledger)
    size = len((source / "a.dcm").read_bytes())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(size))
    with pytest.raises(CopiesStopped, match="NOT_ENOUGH_SPACE"):
        into(source, ledger, out)
    assert list(out.iterdir()) == [] and len(read_ledger(ledger)) == 1


def test_on_a_share_without_hard_links_copies_get_their_names_too(source, ledger, out, monkeypatch):
    save(source / "a.dcm", image())
    decide(ledger)
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    assert into(source, ledger, out).account.startswith("1 copies: 1 written")
    assert {p.name for p in out.iterdir()} == {"000001.dcm", "manifest.csv", "plan.json"}
