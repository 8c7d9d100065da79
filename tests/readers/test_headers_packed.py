"""Headers that do not lie in files of their own: DICOM JSON, Orthanc's JSON, and members of zip archives."""

import gzip
import hashlib
import io
import json
import tempfile
import zipfile
from pathlib import Path
from struct import pack

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_helpers.readers import headers, zipped
from pacs_helpers.readers.headers import read_headers
from tests.readers.test_headers import CHICAGO, MPPS, PIXELS, dataset, el, item, load, part10

IMAGE = {
    "00080016": ("UI", "1.2.840.10008.5.1.4.1.1.2"), "00080018": ("UI", "2.25.1"), "00080020": ("DA", "20240310"), "00080030": ("TM", "101500"),
    "00080050": ("SH", "A1"), "00080060": ("CS", "CT"), "00100010": ("PN", {"Alphabetic": "TEST^ANNA"}), "00100020": ("LO", "TEST1"),
    "0020000D": ("UI", "2.25.2"), "0020000E": ("UI", "2.25.3"), "00280010": ("US", 4),
}
STUDY = {"00080020": ("DA", "20240310"), "00080030": ("TM", "101500"), "00080050": ("SH", "A1"), "00080061": ("CS", ["SR", "CT"]),
         "00100020": ("LO", "TEST1"), "0020000D": ("UI", "2.25.2"), "00201208": ("IS", 48)}
SERIES = {"00080060": ("CS", "CT"), "00100020": ("LO", "TEST1"), "0020000D": ("UI", "2.25.2"), "0020000E": ("UI", "2.25.3"), "00201209": ("IS", "24")}
IDS = ["sop_instance_uid", "study_instance_uid", "series_instance_uid", "patient_id", "patient_name", "accession_number", "modality"]
TRUE_IDS = ["2.25.1", "2.25.2", "2.25.3", "TEST1", "TEST^ANNA", "A1", "CT"]


def answer(elements, **changes):
    """An object of DICOM JSON; an element that `changes` to None has no value."""
    whole = {**elements, **{tag.removeprefix("x"): change for tag, change in changes.items()}}
    return {tag: {"vr": vr} if value is None else {"vr": vr, "Value": value if isinstance(value, list) else [value]} for tag, (vr, value) in whole.items()}


def read(tmp_path, content, name="answer.json", **how):
    data = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
    (tmp_path / name).write_bytes(data)
    return read_headers(tmp_path / name, site=CHICAGO, **how)


def zip_of(members, method=zipfile.ZIP_DEFLATED, is_seekable=True):
    packed = io.BytesIO()
    packed.seekable = lambda: is_seekable
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


def without_directory(packed):
    return packed[:packed.index(b"PK\1\2")]


def image(number, last=b""):
    return part10(dataset({0x00080018: ("UI", f"2.25.1{number}")}, last=last))


# DICOM JSON

def test_an_object_reads_as_the_file_that_it_tells_of(tmp_path):
    request = {0x00400275: ("SQ", item(el(0x00080050, "SH", "A1") + el(0x00401001, "SH", "R1")) + item(el(0x00401001, "SH", "R2")))}
    of_file = load(tmp_path, part10(dataset(request))).instances.iloc[0]
    items = [answer({"00080050": ("SH", "A1"), "00401001": ("SH", "R1")}), answer({"00401001": ("SH", "R2")})]
    of_json = read(tmp_path, [answer(IMAGE, x00400275=("SQ", items), x00020010=("UI", "1.2.840.10008.1.2.1"))]).instances.iloc[0]
    differ = {column for column in of_file.index if str(of_file[column]) != str(of_json[column])}
    assert differ == {"source_file", "source_offset", "source_ae_title", "n_bytes"}
    assert of_json[IDS].tolist() == TRUE_IDS and of_json["requested_procedure_ids"] == "R1 R2" and of_json["problems"] == ""


def test_an_answer_about_a_study_or_series_is_a_row_without_an_image(tmp_path):
    rows = read(tmp_path, [answer(STUDY), answer(SERIES), answer(STUDY, x00100020=("LO", None))]).instances
    assert rows["sop_instance_uid"].tolist() == [""] * 3
    assert rows["series_instance_uid"].tolist() == ["", "2.25.3", ""]
    assert rows["n_instances"].tolist() == [48, 24, 48]
    assert rows["modality"].tolist() == ["CT"] * 3       # the first that is an image
    assert rows["problems"].tolist() == ["", "", "EMPTY_ID"]
    assert rows["study_at"].iloc[0] == pd.Timestamp("2024-03-10T15:15Z")


@pytest.mark.parametrize("content", [
    answer(IMAGE), [[answer(IMAGE)]], json.dumps(answer(IMAGE)).encode() + b"\n", b"\xef\xbb\xbf \r\n" + json.dumps([answer(IMAGE)]).encode(),
    {"0008,0018": {"Name": "SOPInstanceUID", "Type": "String", "Value": "2.25.1"}, "0020,000d": {"Name": "StudyInstanceUID", "Type": "String", "Value": "2.25.2"},
     "0020,000e": {"Name": "SeriesInstanceUID", "Type": "String", "Value": "2.25.3"}, "0010,0020": {"Name": "PatientID", "Type": "String", "Value": "TEST1"},
     "0010,0010": {"Name": "PatientName", "Type": "String", "Value": "TEST^ANNA"}, "0008,0050": {"Name": "AccessionNumber", "Type": "String", "Value": "A1"},
     "0008,0060": {"Name": "Modality", "Type": "String", "Value": "CT"}, "0008,0005": {"Name": "SpecificCharacterSet", "Type": "String", "Value": "ISO_IR 100"}},
    {"0008,0018": "2.25.1", "0020,000d": "2.25.2", "0020,000e": "2.25.3", "0010,0020": "TEST1", "0010,0010": "TEST^ANNA", "0008,0050": "A1", "0008,0060": "CT"},
    {"SOPInstanceUID": "2.25.1", "StudyInstanceUID": "2.25.2", "SeriesInstanceUID": "2.25.3", "PatientID": "TEST1", "PatientName": "TEST^ANNA",
     "AccessionNumber": "A1", "Modality": "CT", "RequestAttributesSequence": []},
    {"ID": "x", "Type": "Instance", "MainDicomTags": {"SOPInstanceUID": "2.25.1"}, "PatientMainDicomTags": {"PatientID": "TEST1", "PatientName": "TEST^ANNA"},
     "RequestedTags": {"StudyInstanceUID": "2.25.2", "SeriesInstanceUID": "2.25.3", "AccessionNumber": "A1", "Modality": "CT"}},
    {"94288251-e8504502-4cb0c90e-bee02f8c-5e60cc5e": answer(IMAGE)},
], ids=["one object", "lists", "a line", "byte order mark", "Orthanc tags", "short tags", "simplified", "expanded", "by Orthanc's id"])
def test_every_form_of_an_object_gives_the_same_ids(tmp_path, content):
    got = read(tmp_path, content)
    assert got.instances[IDS].values.tolist() == [TRUE_IDS] and got.rejected.empty
    assert got.instances["problems"].tolist() == [""]


def test_an_expanded_series_counts_its_images(tmp_path):
    series = {"Type": "Series", "Instances": ["a", "b", "c"], "MainDicomTags": {"SeriesInstanceUID": "2.25.3"}, "ParentStudy": "d"}
    row = read(tmp_path, [series]).instances.iloc[0]
    assert row["n_instances"] == 3 and row["problems"] == "EMPTY_ID"        # it does not name its study


def test_values_keep_their_spelling_and_their_doubts(tmp_path):
    text = json.dumps([answer(IMAGE, x00100010=("PN", {"Alphabetic": "MÜLLER^JÜRGEN", "Ideographic": "山田"}), x00100020=("LO", "\x1b[2J7")),
                       answer(IMAGE, x00100020=("LO", "NUMBER")), answer(IMAGE, x00100010=("PN", "M?LLER")),
                       answer(IMAGE, x00080020=("DA", "10.03.2024"), x00080050=("SH", ["A1", "A2"]))], ensure_ascii=False)
    rows = read(tmp_path, text.encode().replace(b'"NUMBER"', b"12345678901234567890.10").replace(b"M?LLER", b"M\xdcLLER")).instances
    assert rows["patient_name"].tolist() == ["MÜLLER^JÜRGEN=山田", "TEST^ANNA", "MÜLLER", "TEST^ANNA"]
    assert rows["patient_id"].tolist() == ["\\x1b[2J7", "12345678901234567890.10", "TEST1", "TEST1"]
    assert rows["accession_number"].iloc[3] == "A1\\A2"
    assert rows["problems"].tolist() == ["CONTROL_CHARS", "", "CHARSET_MISMATCH", "MULTI_VALUE BAD_DATE"]


def test_of_a_name_twice_in_an_object_the_first_counts(tmp_path):
    text = json.dumps(answer(IMAGE))[:-1] + ', "00100020": {"vr": "LO", "Value": ["OTHER"]}}'
    row = read(tmp_path, text.encode()).instances.iloc[0]
    assert (row["patient_id"], row["problems"]) == ("TEST1", "DUPLICATE_TAG")


def test_half_a_pair_of_escapes_and_values_of_no_kind_are_no_stumbling_block(tmp_path):
    text = json.dumps(answer(IMAGE, x00100010=("PN", [None, True, [], {"Alphabetic": 5}]), x00100020=("LO", "A\ud800")))
    row = read(tmp_path, text.encode()).instances.iloc[0]
    assert row["patient_name"].endswith("5") and row["patient_id"] == "A?"


def test_an_offset_is_the_byte_where_the_object_starts(tmp_path):
    objects = [json.dumps(answer(IMAGE, x00100010=("PN", name), x00080018=("UI", f"2.25.4{n}")), ensure_ascii=False).encode()
               for n, name in enumerate(["A", "MÜLLER", "山田", "B"])]
    data = b"[ " + b" ,\n".join(objects) + b"]"
    rows = read(tmp_path, data).instances
    assert [data[at:at + len(o)] for at, o in zip(rows["source_offset"], objects, strict=True)] == objects
    assert rows["sop_instance_uid"].tolist() == [f"2.25.4{n}" for n in range(4)]


def test_what_stands_before_the_damage_is_kept_and_the_rest_is_told(tmp_path):
    whole = json.dumps([answer(IMAGE), answer(SERIES)]).encode()
    second = whole.index(b'{"00080060"', 10)
    cut, unclosed, first = read(tmp_path, whole[:-30]), read(tmp_path, whole[:-1]), read(tmp_path, whole[:40])
    assert len(cut.instances) == 1 and cut.rejected[["source_offset", "n_bytes", "code"]].values.tolist() == [[second, len(whole) - 30 - second, "BAD_JSON"]]
    assert len(unclosed.instances) == 2 and unclosed.rejected["code"].tolist() == ["TRUNCATED"]
    assert first.instances.empty and first.rejected["code"].tolist() == ["BAD_JSON"]
    deep = read(tmp_path, b'{"00080005":' * 100_000)
    assert deep.rejected["code"].tolist() == ["BAD_JSON"]


def test_objects_of_something_else_are_rejected_one_by_one_beside_dicom_and_together_alone(tmp_path):
    other, worklist = {"resourceType": "Patient", "id": "SECRET"}, answer({"00400100": ("SQ", answer({"00080060": ("CS", "CT")})), "00100020": ("LO", "SECRET")})
    mixed = read(tmp_path, [other, answer(IMAGE), worklist, "SECRET"])
    assert len(mixed.instances) == 1
    assert mixed.rejected["code"].tolist() == ["NOT_DICOM", "WORKLIST_ENTRY", "NOT_DICOM"]
    alone = read(tmp_path, [other] * 5)
    assert alone.rejected[["source_offset", "n_bytes", "code"]].values.tolist() == [[0, len(json.dumps([other] * 5)), "NOT_DICOM"]]
    for got in (mixed, alone):
        assert not got.rejected["reason"].str.contains("SECRET").any()
    assert read(tmp_path, b'{"94288251-e8504502-4cb0c90e-bee02f8c-5e60cc5e": ').rejected["code"].tolist() == ["NOT_DICOM"]
    assert read(tmp_path, b"[]").rejected["code"].tolist() == ["NOT_DICOM"]
    assert read(tmp_path, b"[2026-11-01 12:00:00] {started}").rejected["code"].tolist() == ["NOT_DICOM"]


def test_a_performed_step_in_json_is_a_performed_step(tmp_path):
    step = {"00080016": ("UI", MPPS), "00080018": ("UI", "2.25.9"), "00400252": ("CS", "COMPLETED"), "00400253": ("SH", "P1")}
    got = read(tmp_path, [answer(step)])
    assert got.instances.empty and got.performed_steps[["performed_procedure_step_id", "status"]].values.tolist() == [["P1", "COMPLETED"]]


@pytest.mark.parametrize("is_hashed", [True, False])
def test_an_object_is_no_other_version_of_its_file_and_twice_the_same_is_a_copy(tmp_path, is_hashed):
    (tmp_path / "image").write_bytes(part10(dataset()))
    (tmp_path / "one.json").write_text(json.dumps([answer(IMAGE), answer(STUDY)]))
    (tmp_path / "two.json.gz").write_bytes(gzip.compress(json.dumps([answer(STUDY), answer(IMAGE)]).encode()))
    rows = read_headers(tmp_path, site=CHICAGO, hash_files=is_hashed).instances
    assert rows["problems"].tolist() == ["", "", "", "DUPLICATE_FILE", "DUPLICATE_FILE"]


def test_doubts_of_the_packing_are_on_every_object(tmp_path):
    rows = read(tmp_path, gzip.compress(json.dumps([answer(IMAGE), answer(STUDY)]).encode()) + b"more", "a.json.gz").instances
    assert rows["problems"].tolist() == ["TRAILING_BYTES"] * 2


def test_json_too_long_for_memory_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "INFLATE_LIMIT", 100)
    got = read(tmp_path, [answer(IMAGE)])
    assert got.instances.empty and got.rejected["code"].tolist() == ["TOO_LARGE_INFLATED"]


# Archives

@pytest.mark.parametrize("is_hashed", [True, False])
def test_members_read_like_files_and_nothing_is_written(tmp_path, is_hashed):
    members = {"a/1": image(1), "a/2.dcm": image(2), "answer.json": json.dumps([answer(SERIES)]).encode(), "a/": b"", "read.me": b"hello"}
    got = read(tmp_path, zip_of(members), "a.zip", hash_files=is_hashed)
    where = (tmp_path / "a.zip").as_posix()
    assert got.instances["source_file"].tolist() == [where + "!a/1", where + "!a/2.dcm", where + "!answer.json"]
    assert got.instances["sop_instance_uid"].tolist() == ["2.25.11", "2.25.12", ""] and got.instances["problems"].tolist() == [""] * 3
    assert got.instances["n_bytes"].tolist()[:2] == [len(image(1)), len(image(2))]
    assert got.rejected[["source_file", "code"]].values.tolist() == [[where + "!read.me", "NOT_DICOM"]]
    source = got.sources.iloc[0]
    assert source[["source_file", "n_rows", "n_rejected", "n_bytes"]].tolist() == [where, 3, 1, sum(map(len, members.values()))]
    assert source["sha256"] == hashlib.sha256((tmp_path / "a.zip").read_bytes()).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_a_member_that_is_also_a_file_is_a_copy(tmp_path):
    (tmp_path / "b").write_bytes(image(1))
    assert read(tmp_path, zip_of({"1": image(1)}), "a.zip").instances["problems"].tolist() == [""]
    assert read_headers(tmp_path, site=CHICAGO, hash_files=False).instances["problems"].tolist() == ["", "DUPLICATE_FILE"]


def test_an_archive_of_something_else_or_of_nothing_is_one_thing(tmp_path):
    document = read(tmp_path, zip_of({"[Content_Types].xml": b"<x/>", "word/document.xml": b"<y/>"}), "report.docx")
    assert document.rejected["source_file"].tolist() == [(tmp_path / "report.docx").as_posix()] and document.rejected["code"].tolist() == ["NOT_DICOM"]
    assert read(tmp_path, zip_of({}), "none.zip").rejected["code"].tolist() == ["EMPTY_FILE"]


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/up", "C:/up", "a\\..\\..\\up", ".."])
def test_116_names_that_lead_out_are_not_read(tmp_path, name):
    got = read(tmp_path, zip_of({name: image(1), "a..b/2": image(2)}), "a.zip")
    assert got.rejected["code"].tolist() == ["ARCHIVE_PATH"] and got.instances["sop_instance_uid"].tolist() == ["2.25.12"]
    assert name not in got.rejected["reason"].iloc[0]


@pytest.mark.parametrize("kind", [0o120777, 0o010644])
def test_116_links_and_pipes_are_not_followed(tmp_path, kind):
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, kind << 16
    got = read(tmp_path, zip_of({link: str(tmp_path / "outside").encode(), "2": image(2)}), "a.zip")
    assert got.rejected["code"].tolist() == ["LINK_SKIPPED"] and len(got.instances) == 1


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_117_a_damaged_member_does_not_take_the_others_along(tmp_path, method):
    packed = bytearray(zip_of({"1": image(1), "2": image(2), "3": image(3)}, method))
    at = packed.index(b"PK\3\4", 10) + 100
    packed[at:at + 8] = bytes(8) if packed[at:at + 8] != bytes(8) else b"\1" * 8
    got = read(tmp_path, bytes(packed), "a.zip")
    assert got.rejected["code"].tolist() == ["BAD_ARCHIVE"] and got.rejected["source_file"].iloc[0].endswith("!2")
    assert got.instances["sop_instance_uid"].tolist() == ["2.25.11", "2.25.13"]


@pytest.mark.parametrize("is_seekable", [True, False], ids=["sizes before", "sizes behind"])
def test_117_a_cut_archive_keeps_the_members_before_the_cut(tmp_path, is_seekable):
    packed = without_directory(zip_of({"a/1": image(1), "a/": b"", "2": image(2), "3": image(3)}, is_seekable=is_seekable))
    got = read(tmp_path, packed, "whole.zip")
    assert got.instances["sop_instance_uid"].tolist() == ["2.25.11", "2.25.12", "2.25.13"] and got.rejected["code"].tolist() == ["BAD_ARCHIVE"]
    got = read(tmp_path, packed[:packed.rindex(b"PK\3\4") + 50], "cut.zip")
    assert got.instances["sop_instance_uid"].tolist() == ["2.25.11", "2.25.12"] and got.rejected["code"].tolist() == ["BAD_ARCHIVE"]


def test_117_a_cut_archive_of_stored_members_too(tmp_path):
    packed = without_directory(zip_of({"1": image(1), "2": image(2)}, zipfile.ZIP_STORED))
    assert read(tmp_path, packed[:-10], "a.zip").instances["sop_instance_uid"].tolist() == ["2.25.11"]
    assert read(tmp_path, packed[:20], "b.zip").rejected["code"].tolist() == ["BAD_ARCHIVE"]


@pytest.mark.parametrize("spoil", [lambda packed: packed, without_directory], ids=["whole", "cut"])
def test_117_a_long_member_is_read_to_the_limit(tmp_path, spoil):
    size = 33 << 20
    packed = zip_of({"pixels": image(1, el(PIXELS, "OW", bytes(size))), "private": part10(el(0x00090010, "OB", bytes(size)) + dataset()), "3": image(3)})
    got = read(tmp_path, spoil(packed), "a.zip")
    assert got.instances[["sop_instance_uid", "patient_id", "problems"]].values.tolist() == [["2.25.11", "TEST1", "TOO_LARGE_INFLATED"], ["2.25.13", "TEST1", ""]]
    assert got.rejected["code"].tolist()[0] == "TOO_LARGE_INFLATED" and got.rejected["source_file"].iloc[0].endswith("!private")


@pytest.mark.parametrize(("limit", "most"), [("ARCHIVE_LIMIT", 2 * len(image(1)) + 10), ("MOST_MEMBERS", 2)])
def test_117_an_archive_is_read_to_its_limit(tmp_path, monkeypatch, limit, most):
    assert (zipped.ARCHIVE_LIMIT, zipped.MOST_MEMBERS) == (1 << 30, 100_000)
    monkeypatch.setattr(zipped, limit, most)
    got = read(tmp_path, zip_of({str(n): image(n) for n in range(5)}), "a.zip")
    assert got.instances["sop_instance_uid"].tolist() == ["2.25.10", "2.25.11"]
    assert got.rejected[["source_file", "code"]].values.tolist() == [[(tmp_path / "a.zip").as_posix(), "TOO_LARGE_INFLATED"]]


def test_a_member_without_a_name_is_read_too(tmp_path):
    packed = zip_of({"1": image(1)})
    at = packed.index(b"PK\1\2") + 46
    nameless = packed[:30] + b"\0" + packed[31:at] + b"\0" + packed[at + 1:]
    assert read(tmp_path, nameless, "a.zip").instances["sop_instance_uid"].tolist() == ["2.25.11"]


def test_a_member_with_a_password_is_told(tmp_path):
    packed = bytearray(zip_of({"1": image(1)}))
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        packed[packed.index(mark) + flags] |= 1
    assert read(tmp_path, bytes(packed), "a.zip").rejected["code"].tolist() == ["ENCRYPTED"]


def test_a_preamble_that_looks_like_an_archive_or_json_is_still_dicom(tmp_path):
    for n, begins in enumerate((b"PK\3\4\x14\0", b'{"a": 1}', b"PK\5\6\0\0")):
        assert len(read(tmp_path, part10(dataset(), preamble=begins.ljust(128, b"\0")), f"{n}.dcm").instances) == 1


SEEDS = [json.dumps([answer(STUDY), answer(IMAGE)], ensure_ascii=False).encode(), json.dumps({"94288251-e8504502-4cb0c90e-bee02f8c-5e60cc5e": answer(IMAGE)}).encode(),
         zip_of({"1": image(1), "a.json": json.dumps(answer(SERIES)).encode()}), zip_of({"1": image(1), "2": image(2)}, zipfile.ZIP_STORED),
         zip_of({"1": image(1)}, zipfile.ZIP_LZMA), zip_of({"1": image(1)}, zipfile.ZIP_BZIP2)]


JUNK = [b"", b"\0", b"\xff", b'"', b"[", b"{", b"PK\3\4", b"\\ud8", pack("<L", 1 << 31)]


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 9), st.sampled_from(JUNK)), max_size=4))
def test_any_damage_is_accounted_for_and_read_alike_again(data, accidents):
    for at, n_lost, put in accidents:
        at %= len(data) + 1
        data = data[:at] + put + data[at + n_lost:]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "x")
        file.write_bytes(data)
        once, again = (read_headers(file, site=CHICAGO) for _ in range(2))
        source = once.sources.iloc[0]
        assert source["n_bytes"] == source["n_bytes_in_rows"] + source["n_bytes_rejected"] and source["n_bytes_in_rows"] >= 0
        assert source["n_rows"] == len(once.instances) + len(once.performed_steps) and source["n_rejected"] == len(once.rejected)
        assert source["n_rows"] + source["n_rejected"] > 0
        for one, other in zip(once[:3], again[:3], strict=True):
            pd.testing.assert_frame_equal(one, other)
