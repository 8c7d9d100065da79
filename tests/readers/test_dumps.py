"""Text dumps give the rows of the data sets they were printed from, and nothing nested passes for top-level."""

from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from pacs_helpers.readers.headers import read_headers
from pacs_helpers.site import Site

SITE = Site(time_zone="America/Chicago")
SAMPLES = Path(__file__).parents[2] / "data" / "samples" / "dicom"
CT, STEP = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.3.1.2.3.3"
DCMTK = """
# Dicom-File-Format

# Dicom-Meta-Information-Header
# Used TransferSyntax: Little Endian Explicit
(0002,0000) UL 206                                      #   4, 1 FileMetaInformationGroupLength
(0002,0010) UI =LittleEndianExplicit                    #  20, 1 TransferSyntaxUID

# Dicom-Data-Set
# Used TransferSyntax: Little Endian Explicit
(0008,0005) CS [ISO_IR 100]                             #  10, 1 SpecificCharacterSet
(0008,0016) UI =CTImageStorage                          #  26, 1 SOPClassUID
(0008,0018) UI [1.2.3.4]                                #   8, 1 SOPInstanceUID
(0008,0020) DA [20240229]                               #   8, 1 StudyDate
(0008,0030) TM [120000]                                 #   6, 1 StudyTime
(0008,0050) SH (no value available)                     #   0, 0 AccessionNumber
(0008,0060) CS [CT]                                     #   2, 1 Modality
(0008,1030) LO [KNEE [LEFT] # 2, 1 view]                #  24, 1 StudyDescription
(0008,1140) SQ (Sequence with explicit length #=1)      #  56, 1 ReferencedImageSequence
  (fffe,e000) na (Item with explicit length #=2)          #  48, 1 Item
    (0008,0050) SH [NESTED]                                 #   6, 1 AccessionNumber
    (0010,0020) LO [NESTED]                                 #   6, 1 PatientID
  (fffe,e00d) na (ItemDelimitationItem for re-encoding)   #   0, 0 ItemDelimitationItem
(fffe,e0dd) na (SequenceDelimitationItem for re-encod.) #   0, 0 SequenceDelimitationItem
(0010,0010) PN [M\xfcller^Ida]                            #  10, 1 PatientName
(0010,0020) LO [000123]                                 #   6, 1 PatientID
(0020,000d) UI [1.2.3]                                  #   6, 1 StudyInstanceUID
(0020,000e) UI [1.2.3.1]                                #   8, 1 SeriesInstanceUID
(0028,0010) US 512                                      #   2, 1 Rows
(0040,0275) SQ (Sequence with undefined length #=2)     # u/l, 1 RequestAttributesSequence
  (fffe,e000) na (Item with explicit length #=2)          #  20, 1 Item
    (0008,0050) SH [A1]                                     #   2, 1 AccessionNumber
    (0040,1001) SH [P1]                                     #   2, 1 RequestedProcedureID
  (fffe,e00d) na (ItemDelimitationItem for re-encoding)   #   0, 0 ItemDelimitationItem
  (fffe,e000) na (Item with explicit length #=1)          #  20, 1 Item
    (0008,0050) SH [A2]                                     #   2, 1 AccessionNumber
    (0040,0008) SQ (Sequence with explicit length #=1)      #  20, 1 ScheduledProtocolCodeSequence
      (fffe,e000) na (Item with explicit length #=1)          #  10, 1 Item
        (0008,0050) SH [DEEP]                                   #   4, 1 AccessionNumber
      (fffe,e00d) na (ItemDelimitationItem for re-encoding)   #   0, 0 ItemDelimitationItem
    (fffe,e0dd) na (SequenceDelimitationItem for re-encod.) #   0, 0 SequenceDelimitationItem
  (fffe,e00d) na (ItemDelimitationItem for re-encoding)   #   0, 0 ItemDelimitationItem
(fffe,e0dd) na (SequenceDelimitationItem)               #   0, 0 SequenceDelimitationItem
"""
IMAGE = {"sop_instance_uid": "1.2.3.4", "sop_class_uid": CT, "accession_number": "", "modality": "CT", "patient_name": "Müller^Ida", "patient_id": "000123",
         "study_instance_uid": "1.2.3", "series_instance_uid": "1.2.3.1", "requested_accession_numbers": "A1 A2", "requested_procedure_ids": "P1",
         "study_description": "KNEE [LEFT] # 2, 1 view", "transfer_syntax_uid": "1.2.840.10008.1.2.1", "n_frames": 1, "problems": ""}
DCM4CHE = """0: (0008,0005) CS #10 [ISO_IR 100] SpecificCharacterSet
18: (0008,0060) CS #2 [MR] Modality
28: (0040,0241) AE #4 [MR1] PerformedStationAETitle
40: (0040,0244) DA #8 [20240229] PerformedProcedureStepStartDate
56: (0040,0245) TM #6 [120000] PerformedProcedureStepStartTime
70: (0040,0252) CS #12 [DISCONTINUED] PerformedProcedureStepStatus
90: (0040,0253) SH #4 [PPS1] PerformedProcedureStepID
102: (0040,0270) SQ #-1 ScheduledStepAttributesSequence
114: >ITEM #1:
122: >(0008,0050) SH #2 [A7] AccessionNumber
132: >(0020,000D) UI #6 [1.2.7] StudyInstanceUID
146: >(0032,1064) SQ #-1 RequestedProcedureCodeSequence
158: >>ITEM #1:
166: >>(0008,0050) SH #4 [DEEP] AccessionNumber
178: (0040,0281) SQ #-1 PerformedProcedureStepDiscontinuationReasonCodeSequence
190: >ITEM #1:
198: >(0008,0100) SH #6 [110514] CodeValue
212: >(0008,0104) LO #28 [Incorrect worklist entry] CodeMeaning
"""


def read(tmp_path, data):
    file = tmp_path / "printed.txt"
    file.write_bytes(data if isinstance(data, bytes) else data.encode("latin-1"))
    return read_headers(file, site=SITE)


@pytest.mark.parametrize("data", [DCMTK.encode("latin-1"), DCMTK.replace("\n", "\r\n").encode("latin-1"), b"\xff\xfe" + DCMTK.encode("utf-16-le"), b"\xef\xbb\xbf" + DCMTK.encode("latin-1")],
                         ids=["as printed", "CRLF", "UTF-16", "with a mark"])
def test_a_dump_of_dcmdump_is_the_row_of_its_file(tmp_path, data):
    got = read(tmp_path, data)
    assert got.rejected.empty and len(got.instances) == 1
    row = got.instances.iloc[0]
    assert {name: row[name] for name in IMAGE} == IMAGE
    assert str(row["study_at"]) == "2024-02-29 18:00:00+00:00"


def test_each_data_set_of_a_dump_is_a_row_at_its_place(tmp_path):
    second = DCMTK.replace("[1.2.3.4]", "[1.2.3.5]")
    got = read(tmp_path, DCMTK + "garbage between\n" + second)
    assert got.instances["sop_instance_uid"].tolist() == ["1.2.3.4", "1.2.3.5"]
    assert got.instances["source_offset"].tolist() == [0, len(DCMTK) + len("garbage between\n\n")]


def test_printed_data_sets_without_headings_part_where_tags_begin_again(tmp_path):
    got = read(tmp_path, "".join(f"(0010,0020) Patient ID                          LO: '{pid}'\n(0020,000D) Study Instance UID                  UI: {uid}\n"
                                 for pid, uid in (("P1", "1.5"), ("P2", "1.6"))))
    assert got.instances[["study_instance_uid", "patient_id"]].values.tolist() == [["1.5", "P1"], ["1.6", "P2"]]


@pytest.mark.parametrize("lines", [
    ["(0010,0020) LO [P1]", "(0008,0018) UI [1.1]", "(0008,0018) UI [1.2]", "(0010,0020) LO [P2]", "(0008,0018) UI [1.3]"],
    ["(0008,0018) UI [1.1]", "(0010,0020) LO [RIGHT]", "(0010,0020) LO [OTHER]", "(0020,000d) UI [1.2]"],
    ["(0010,0020) LO [NESTED]", "(0020,000d) UI [1.2]"]], ids=["of three files", "one nested", "only one, and nested"])
def test_single_elements_picked_from_dumps_are_no_data_set(tmp_path, lines):
    data = "# dcmdump (1/1): a.dcm\n" + "".join(line.ljust(60) + "#   4, 1 Name\n" for line in lines)
    got = read(tmp_path, data)
    assert got.instances.empty and got.rejected[["code", "n_bytes"]].values.tolist() == [["NOT_DICOM", len(data)]] and "single elements" in got.rejected["reason"][0]


def test_a_value_of_several_lines_may_look_like_a_dump(tmp_path):
    comment = "(0020,4000) LT [seen before:\n(0010,0020) LO [EVIL]                                   #   4, 1 PatientID\n(0020,000d) UI [9.9]\nand so on] #  90, 1 ImageComments\n"
    got = read(tmp_path, DCMTK.replace("(0028,0010) US", comment.replace("[EVIL] ", "(EVIL) ").replace("[9.9]", "9.9") + "(0028,0010) US"))
    assert got.instances[["patient_id", "study_instance_uid", "n_frames"]].values.tolist() == [["000123", "1.2.3", 1]]


def test_a_tag_that_stands_twice_in_one_data_set_has_no_value(tmp_path):
    got = read(tmp_path, DCMTK.replace("(0020,000d)", "(0010,0020) LO [OTHER]                                  #   6, 1 PatientID\n(0020,000d)"))
    assert got.instances[["patient_id", "study_instance_uid", "problems"]].values.tolist() == [["", "1.2.3", "DUPLICATE_TAG EMPTY_ID"]]


def test_comments_of_a_template_are_no_part_of_a_value(tmp_path):
    got = read(tmp_path, "(0010,0010) PN Smith^John # the name\n(0010,0020) LO PID1 # c\n(0020,000d) UI 1.2.3.4 # study\n(0008,0018) UI [1.5]  # image\n")
    assert got.instances[["patient_name", "patient_id", "study_instance_uid", "sop_instance_uid"]].values.tolist() == [["Smith^John", "PID1", "1.2.3.4", "1.5"]]


def test_items_stay_nested_when_a_mail_has_lost_the_indentation(tmp_path):
    got = read(tmp_path, """(0008,0018) SOP Instance UID                    UI: 1.10
(0008,0050) Accession Number                    SH: 'A1'
(0010,0020) Patient ID                          LO: 'RIGHT'
(0010,1002)  Other Patient IDs Sequence  2 item(s) ----
(0010,0020) Patient ID                          LO: 'NEST'
---------
(0010,0020) Patient ID                          LO: 'NEST2'
(0040,0008)  Scheduled Protocol Code Sequence  1 item(s) ----
(0008,0050) Accession Number                    SH: 'DEEP'
---------
---------
(0020,000D) Study Instance UID                  UI: 1.2
(0040,0275)  Request Attributes Sequence  1 item(s) ----
(0008,0050) Accession Number                    SH: 'A1'
---------
(0040,A043)  Concept Name Code Sequence  0 item(s) ----
""")
    assert got.instances[["accession_number", "patient_id", "study_instance_uid", "requested_accession_numbers"]].values.tolist() == [["A1", "RIGHT", "1.2", "A1"]]


def test_a_value_that_the_dump_shortens_is_left_out(tmp_path):
    got = read(tmp_path, DCMTK.replace("[000123]  ", "[00012345678901234567890123456789012345678901234567890123456789012...").replace("[A1]  ", "[A1..."))
    row = got.instances.iloc[0]
    assert (row["patient_id"], row["requested_accession_numbers"], row["problems"]) == ("", "A2", "TRUNCATED EMPTY_ID")


def test_lines_of_a_sequence_whose_delimiters_were_filtered_out_stay_nested(tmp_path):
    got = read(tmp_path, "\n".join(line for line in DCMTK.split("\n") if "(fffe," not in line and " SQ " not in line))
    assert got.instances[["accession_number", "patient_id"]].values.tolist() == [["", "000123"]]


def test_a_performed_step_in_the_form_of_dcm4che_is_a_performed_step(tmp_path):
    got = read(tmp_path, DCM4CHE)
    assert got.instances.empty and got.rejected.empty and len(got.performed_steps) == 1
    row = got.performed_steps.iloc[0]
    assert row[["performed_procedure_step_id", "status", "discontinuation_reason", "accession_number", "study_instance_uid", "modality", "station_ae_title"]].tolist() == [
        "PPS1", "DISCONTINUED", "Incorrect worklist entry", "A7", "1.2.7", "MR", "MR1"]
    assert str(row["started_at"]) == "2024-02-29 18:00:00+00:00"


def test_what_pydicom_prints_of_the_samples_has_their_rows(tmp_path):
    files = sorted(p for p in SAMPLES.rglob("*") if p.is_file())[::40]
    for n, file in enumerate(files):
        (tmp_path / f"{n:04}").write_text(str(pydicom.dcmread(file, force=True)), encoding="utf-8")
    printed, true = read_headers(tmp_path, site=SITE), read_headers(files, site=SITE)
    assert len(files) > 20 and printed.rejected.empty and true.rejected.empty
    same = [c for c in true.instances if c not in ("source_file", "n_bytes", "problems")]
    assert printed.instances[same].equals(true.instances[same])
    assert printed.performed_steps.drop(columns="source_file").equals(true.performed_steps.drop(columns="source_file"))


def test_the_dump_that_pydicom_ships_has_the_row_of_the_file_it_ships():
    printed, true = (read_headers(get_testdata_file(name), site=SITE).instances for name in ("rtstruct.dump", "rtstruct.dcm"))
    same = [c for c in true if c not in ("source_file", "n_bytes", "problems", "transfer_syntax_uid")]
    assert len(true) == 1 and printed[same].equals(true[same])


def test_several_values_and_known_uids_are_read_as_pydicom_prints_them(tmp_path):
    got = read(tmp_path, f"""(0008,0016) SOP Class UID                       UI: {pydicom.uid.UID(CT).name}
(0008,0018) SOP Instance UID                    UI: 1.10
(0008,0050) Accession Number                    SH: ['A1', "B'2"]
(0008,1030) Study Description                   LO: Array of 80 elements
(0008,1070) Operators' Name                     PN: [A^B, C^D]
(0010,0020) Patient ID                          LO: '00 1'
(0020,000D) Study Instance UID                  UI: 1.2
(0020,000E) Series Instance UID                 UI: 1.3
(0040,0275)  Request Attributes Sequence  2 item(s) ----\x20
   (0008,0050) Accession Number                    SH: 'A1'
   (0040,0008)  Scheduled Protocol Code Sequence  1 item(s) ----\x20
      (0008,0050) Accession Number                    SH: 'DEEP'
      ---------
   ---------
   (0008,0050) Accession Number                    SH: 'A2'
   ---------
""")
    row = got.instances.iloc[0]
    assert row[["sop_class_uid", "sop_instance_uid", "accession_number", "operators_name", "patient_id", "study_instance_uid", "requested_accession_numbers", "study_description"]].tolist() == [
        CT, "1.10", "A1\\B'2", "A^B\\C^D", "00 1", "1.2", "A1 A2", ""]
    assert row["problems"] == "TRUNCATED MULTI_VALUE"


@pytest.mark.parametrize(("data", "code"), [
    ("(0010,0010) PN []\n(0008,0016) UI =SecondaryCaptureImageStorage\n", "NOT_DICOM"),
    ("(0008,0050) SH A1\n(0040,0100) SQ\n(fffe,e000) -\n(0020,000d) UI 1.2\n(fffe,e00d) -\n(fffe,e0dd) -\n", "WORKLIST_ENTRY"),
    ("> (0020,000d) UI [1.2.3]\n", "NOT_DICOM")], ids=["template", "worklist", "text"])
def test_a_dump_of_no_image_is_rejected_whole(tmp_path, data, code):
    got = read(tmp_path, data)
    assert got.instances.empty and got.rejected[["code", "n_bytes"]].values.tolist() == [[code, len(data)]]


def test_a_dump_behind_a_prefix_says_what_to_take_out(tmp_path):
    assert read(tmp_path, "D: " + DCMTK.strip().replace("\n", "\nD: ")).rejected["reason"].tolist() == [
        "text with a dump in it; take out what stands before each line, or load the file that was dumped"]


def test_a_dump_cut_at_any_byte_gives_rows_or_reasons_for_all_of_it(tmp_path):
    data = (DCMTK + DCM4CHE).encode("latin-1")
    for n in range(1, len(data), 7):
        got = read(tmp_path, data[:n])
        assert len(got.instances) + len(got.performed_steps) + len(got.rejected) >= 1
        assert not got.instances["accession_number"].isin(["NESTED", "DEEP"]).any() and not got.instances["patient_id"].isin(["NESTED"]).any()
