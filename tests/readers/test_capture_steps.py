"""Performed procedure steps out of captures: what N-CREATE and N-SET said of one step, and what became of it."""

import io

import pandas as pd
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset

from pacs_helpers import Site, build_department, measure_turnaround, read_hl7_log
from pacs_helpers.readers.capture import read_capture
from tests.wires import CLIENT, RELEASE_RP, RELEASE_RQ, Wire, associate_ac, associate_rq, command, p_data, pcap, response

SITE = Site(time_zone="America/Chicago")
STEP = "1.2.840.10008.3.1.2.3.3"
SYNTAXES = {"1.2.840.10008.1.2": (True, False), "1.2.840.10008.1.2.1": (False, False), "1.2.840.10008.1.2.2": (False, True)}
CREATE, SET = 0x0140, 0x0120
BEGUN = {"SpecificCharacterSet": "ISO_IR 100", "Modality": "CT", "PatientID": "000123", "PerformedStationAETitle": "CT1", "PerformedProcedureStepStartDate": "20240229",
         "PerformedProcedureStepStartTime": "080000", "PerformedProcedureStepEndDate": "", "PerformedProcedureStepStatus": "IN PROGRESS", "PerformedProcedureStepID": "PPS1"}
ENDED = {"PerformedProcedureStepEndDate": "20240229", "PerformedProcedureStepEndTime": "083000", "PerformedProcedureStepStatus": "COMPLETED"}


def data_set(syntax, values, *, accession=""):
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    if accession:
        item = Dataset()
        item.AccessionNumber, item.StudyInstanceUID = accession, "1.2.3"
        ds.ScheduledStepAttributesSequence = [item]
    out = io.BytesIO()
    stream = DicomFileLike(out)
    stream.is_implicit_VR, stream.is_little_endian = SYNTAXES[syntax][0], not SYNTAXES[syntax][1]
    write_dataset(stream, ds)
    return out.getvalue()


def association(port, at, *said, syntax="1.2.840.10008.1.2", mss=1448, status=0, size=16372):
    """The packets of an association in which each of `said`, (field, data set), is asked and answered."""
    wire = Wire((CLIENT[0], port), mss=mss, at=1_709_200_000.0 + at).open().send(0, associate_rq()).send(1, associate_ac(syntax=syntax))
    for number, (field, data) in enumerate(said, 1):
        names = {"sop_class": STEP, "instance": "1.9.1"} if field == CREATE else {"requested_class": STEP, "requested_instance": "1.9.1"}
        wire.send(0, p_data(command(field=field, id=number, data=0, **names), is_command=1) + p_data(data, is_command=0, size=size))
        wire.send(1, response(number, field | 0x8000, status))
    return wire.send(0, RELEASE_RQ).send(1, RELEASE_RP).close().packets


def load(tmp_path, *captures):
    for n, packets in enumerate(captures):
        (tmp_path / f"{n}.pcap").write_bytes(pcap(packets))
    return read_capture(tmp_path, site=SITE)


def whole(syntax, **how):
    return [*association(40001, 0, (CREATE, data_set(syntax, BEGUN, accession="A7")), syntax=syntax, **how),
            *association(40002, 1800, (SET, data_set(syntax, ENDED)), syntax=syntax, **how)]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("how", [{}, {"mss": 1}, {"mss": 7, "size": 20}], ids=["as sent", "a byte a packet", "small pieces"])
def test_what_a_step_said_on_two_associations_is_one_row(tmp_path, syntax, how):
    got = load(tmp_path, whole(syntax, **how))
    assert got.rejected.empty and len(got.performed_steps) == 1
    row = got.performed_steps.iloc[0]
    told = {"sop_instance_uid": "1.9.1", "performed_procedure_step_id": "PPS1", "status": "COMPLETED", "accession_number": "A7", "study_instance_uid": "1.2.3",
            "patient_id": "000123", "modality": "CT", "station_ae_title": "CT1", "problems": ""}
    assert {name: row[name] for name in told} == told
    assert [str(row[name]) for name in ("started_at", "ended_at")] == ["2024-02-29 14:00:00+00:00", "2024-02-29 14:30:00+00:00"]
    assert row["source_offset"] == got.operations["source_offset"].iloc[0]


def test_a_step_that_goes_on_in_the_next_capture_is_still_one_row(tmp_path):
    packets = whole("1.2.840.10008.1.2")
    cut = next(n for n, (at, _) in enumerate(packets) if at > 1_709_201_000)
    got = load(tmp_path, packets[:cut], packets[cut:])
    assert got.performed_steps[["accession_number", "status", "problems"]].values.tolist() == [["A7", "COMPLETED", ""]]


def test_a_step_that_was_not_taken_says_so(tmp_path):
    got = load(tmp_path, association(40001, 0, (CREATE, data_set("1.2.840.10008.1.2", BEGUN)), status=0x0110))
    assert got.performed_steps["problems"].tolist() == ["REFUSED"] and got.operations["status_category"].tolist() == ["Failure"]


def test_a_step_begun_before_the_capture_says_so(tmp_path):
    got = load(tmp_path, association(40001, 0, (SET, data_set("1.2.840.10008.1.2", ENDED))))
    assert got.performed_steps[["sop_instance_uid", "status", "problems"]].values.tolist() == [["1.9.1", "COMPLETED", "START_NOT_SEEN"]]


def test_a_step_with_a_lost_packet_says_so_and_has_what_the_others_said(tmp_path):
    packets = association(40001, 0, (CREATE, data_set("1.2.840.10008.1.2", BEGUN)), (SET, data_set("1.2.840.10008.1.2", ENDED)), mss=100)
    first = next(n for n, (_, frame) in enumerate(packets) if b"IN PROGRESS" in frame or b"000123" in frame)
    got = load(tmp_path, packets[:first] + packets[first + 1:])
    assert got.operations["service"].tolist() == ["N-CREATE", "N-SET"] and got.operations["status_category"].tolist() == ["Success", "Success"]
    assert got.associations["problems"].tolist() == ["PACKETS_LOST"]
    assert got.performed_steps[["sop_instance_uid", "status", "performed_procedure_step_id", "problems"]].values.tolist() == [["1.9.1", "COMPLETED", "", "PACKETS_LOST"]]


def test_a_step_whose_last_word_is_cut_off_is_not_passed_off_as_the_last(tmp_path):
    packets = [*association(40001, 0, (CREATE, data_set("1.2.840.10008.1.2", BEGUN))), *association(40002, 1800, (SET, data_set("1.2.840.10008.1.2", ENDED)), mss=60)]
    last = next(n for n, (_, frame) in enumerate(packets) if b"COMPLETED" in frame)
    got = load(tmp_path, packets[:last])
    assert got.performed_steps[["status", "problems"]].values.tolist() == [["IN PROGRESS", "PACKETS_LOST"]]


def test_a_department_knows_from_a_capture_when_an_exam_ended(tmp_path):
    got = load(tmp_path, whole("1.2.840.10008.1.2"))
    message = b"MSH|^~\\&|RIS|S|PACS|S|20240229090000||ORU^R01|C1|P|2.5.1\rPID|1||000123\rOBR|1|P1|A7||||||||||||||||||||||F|||||||||||\r"
    (tmp_path / "feed.hl7").write_bytes(message)
    dept = build_department(hl7=read_hl7_log(tmp_path / "feed.hl7", site=SITE), network=got, site=Site(time_zone="America/Chicago", hl7_field="OBR-3"))
    ended = dept.events[(dept.events["milestone"] == "exam_ended") & (dept.events["source"] == "mpps")]
    assert ended[["accession_number", "source_id"]].values.tolist() == [["A7", "PPS1"]] and ended["at"].iloc[0] == pd.Timestamp("2024-02-29 14:30Z")
    assert measure_turnaround(dept.events, "exam_started", "exam_ended", as_of=pd.Timestamp("2024-03-01 00:00Z"))["minutes"].tolist() == [30.0]
