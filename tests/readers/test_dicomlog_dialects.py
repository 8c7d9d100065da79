"""Each dialect by a short log of which every row is known."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_helpers.readers.dicomlog import read_dicom_log
from pacs_helpers.readers.loglines import NO_ENVELOPE, line_ends, open_envelope, open_envelopes
from pacs_helpers.site import Site

SITE = Site(time_zone="UTC")


def load(tmp_path, text, **options):
    file = tmp_path / "server.log"
    file.write_text(text, encoding="utf-8", newline="")
    log = read_dicom_log(file, site=SITE, **options)
    parts = log.sources[["n_bytes_in_rows", "n_bytes_rejected", "n_bytes_framing"]].to_numpy().sum()
    assert parts == log.sources["n_bytes"].sum() == len(text.encode())
    return log


def arc(*lines, logger="net.Association"):
    return "".join(f"2026-11-24 03:00:0{second},250 INFO  [org.dcm4che3.{logger}] (EE-ManagedExecutorService-default-Thread-1) {text}\n"
                   for second, text in lines)


ARC = arc(
    (0, "Accept connection Socket[addr=/10.0.0.1,port=40000,localport=11112]"), (1, "ARC<-CT 1(7) >> A-ASSOCIATE-RQ"),
    (1, "ARC<-CT 1(7) << A-ASSOCIATE-AC"), (1, "ARC<-MR1(8) >> A-ASSOCIATE-RQ"), (1, "ARC<-MR1(8) << A-ASSOCIATE-AC"),
    (2, "ARC<-CT 1(7) >> 1:C-STORE-RQ[pcid=1, prior=0\n  cuid=1.2.840.10008.5.1.4.1.1.2 - CT Image Storage\n  iuid=1.2.3 - ?\n"
        "  tsuid=1.2.840.10008.1.2 - Implicit VR Little Endian]"),
    (3, "ARC<-MR1(8) >> 1:C-STORE-RQ[pcid=1, prior=0\n  cuid=1.2.840.10008.5.1.4.1.1.4 - MR Image Storage\n  iuid=1.2.4 - ?]"),
    (4, "ARC<-MR1(8) << 1:C-STORE-RSP[pcid=1, status=a700H, errorComment=full\n  cuid=1.2.840.10008.5.1.4.1.1.4 - MR Image Storage]"),
    (5, "ARC<-CT 1(7) << 1:C-STORE-RSP[pcid=1, status=0H\n  iuid=1.2.3 - ?]"),
    (6, "ARC<-CT 1(7) >> A-RELEASE-RQ"), (6, "ARC<-CT 1(7) << A-RELEASE-RP"),
    (6, "ARC<-CT 1(7): close Socket[addr=/10.0.0.1,port=40000,localport=11112]"),
    (7, "ARC<-MR1(8) >> A-ABORT[source: 0 - service-user, reason: 0]"))


def test_archive_tells_parallel_associations_apart_by_their_serial_number(tmp_path):
    log = load(tmp_path, ARC)
    assert log.associations[["calling_ae_title", "called_ae_title", "peer_address", "outcome", "n_stored", "n_failed"]].values.tolist() == [
        ["CT 1", "ARC", "10.0.0.1", "released", 1, 0], ["MR1", "ARC", "", "aborted", 0, 1]]
    assert not log.associations["is_ambiguous"].any() and log.rejected.empty
    assert log.operations[["sop_instance_uid", "modality", "status_code", "status_category"]].values.tolist() == [
        ["1.2.3", "CT", "0000", "Success"], ["1.2.4", "MR", "A700", "Failure"]]
    assert log.operations["ended_at"].dt.strftime("%S.%f").tolist() == ["05.250000", "04.250000"]
    assert log.operations["n_bytes"].isna().all()


def test_association_that_the_archive_opened_or_refused_has_its_titles_the_right_way_round(tmp_path):
    log = load(tmp_path, arc(
        (0, "ARC->WS1(3) << A-ASSOCIATE-RQ"), (0, "ARC->WS1(3) >> A-ASSOCIATE-AC"), (1, "ARC->WS1(3) << 1:C-ECHO-RQ[pcid=1"),
        (1, "ARC->WS1(3) >> 1:C-ECHO-RSP[pcid=1, status=0H"), (2, "ARC->WS1(3): i/o exception: java.net.SocketException: reset in State: Sta6"),
        (3, "ARC<-XX(4) >> A-ASSOCIATE-RQ"),
        (3, "ARC<-XX(4) << A-ASSOCIATE-RJ[result: 1 - rejected-permanent, source: 1 - service-user, reason: 3 - calling-AE-title-not-recognized]")))
    assert log.associations[["calling_ae_title", "called_ae_title", "outcome", "reason", "n_operations"]].values.tolist() == [
        ["ARC", "WS1", "failed", "java.net.SocketException: reset", 1], ["XX", "ARC", "rejected", "calling-AE-title-not-recognized", 0]]


def test_images_of_a_c_get_travel_from_the_archive(tmp_path):
    log = load(tmp_path, arc(
        (0, "ARC<-WS1(4) >> A-ASSOCIATE-RQ"), (0, "ARC<-WS1(4) << A-ASSOCIATE-AC"), (1, "ARC<-WS1(4) >> 1:C-GET-RQ[pcid=1"),
        (2, "ARC<-WS1(4) << 1:C-STORE-RQ[pcid=3"), (3, "ARC<-WS1(4) >> 1:C-STORE-RSP[pcid=3, status=0H"),
        (4, "ARC<-WS1(4) << 1:C-GET-RSP[pcid=1, status=ff00H"), (5, "ARC<-WS1(4) << 1:C-GET-RSP[pcid=1, status=0H")))
    assert log.operations[["service", "calling_ae_title", "status_category"]].values.tolist() == [
        ["C-GET", "WS1", "Success"], ["C-STORE", "ARC", "Success"]]
    assert log.associations["outcome"].tolist() == ["unfinished"]


def test_every_service_of_an_archive_is_told_with_its_status_and_cancel_or_get_of_attributes_are_no_operation(tmp_path):
    asked = ("C-ECHO", "C-FIND", "C-MOVE", "N-ACTION", "N-CREATE", "N-SET", "N-GET")
    log = load(tmp_path, arc((0, "ARC<-WS1(5) >> A-ASSOCIATE-RQ"), (0, "ARC<-WS1(5) << A-ASSOCIATE-AC"), *(line for n, service in enumerate(asked, 1) for line in (
        (1, f"ARC<-WS1(5) >> {n}:{service}-RQ[pcid={2 * n + 1}, prior=0\n  cuid=1.2.840.10008.1.{n} - x\n  tsuid=1.2.840.10008.1.2 - Implicit VR Little Endian]"),
        (2, f"ARC<-WS1(5) << {n}:{service}-RSP[pcid={2 * n + 1}, remaining=1, status=ff00H"), (2, f"ARC<-WS1(5) >> {n}:C-CANCEL-RQ[pcid=1]"),
        (3, f"ARC<-WS1(5) << {n}:{service}-RSP[pcid={2 * n + 1}, completed=1, status={'fe00' if service == 'C-MOVE' else '0'}H, errorComment=no"))),
        (4, "ARC<-WS1(5) >> A-RELEASE-RQ"), (4, "ARC<-WS1(5) << A-RELEASE-RP")))
    assert log.operations["service"].tolist() == list(asked[:-1]) and log.rejected.empty
    assert log.operations["status_code"].tolist() == ["0000", "0000", "FE00", "0000", "0000", "0000"]
    assert log.associations[["outcome", "n_operations"]].values.tolist() == [["released", 6]]
    assert (log.operations["ended_at"] - log.operations["started_at"]).tolist() == [pd.Timedelta("2s")] * 6


def test_debug_level_prints_each_message_again_and_counts_it_once(tmp_path):
    log = load(tmp_path, arc(
        (0, "ARC->WS1(6) << A-ASSOCIATE-RQ"), (0, "A-ASSOCIATE-RQ[\n  calledAET: WS1\n  callingAET: ARC\n]"), (0, "ARC->WS1(6) >> A-ASSOCIATE-AC"),
        (0, "ARC->WS1(6): enter state: Sta6 - Association established and ready for data transfer"),
        (1, "ARC->WS1(6) << 1:C-STORE-RQ[pcid=1, prior=0\n  orig=WS1 >> 9:C-MOVE-RQ\n  cuid=1.2.840.10008.5.1.4.1.1.2 - CT Image Storage\n  iuid=1.2.9 - ?"),
        (1, "ARC->WS1(6) << 1:C-STORE-RQ Command:\n(0000,0002) UI [1.2.840.10008.5.1.4.1.1.2] AffectedSOPClassUID"),
        (1, "ARC->WS1(6) << 1:C-STORE-RQ Dataset sending"), (2, "ARC->WS1(6) >> 1:C-STORE-RSP[pcid=1, status=b000H"),
        (2, "ARC->WS1(6) >> 1:C-STORE-RSP Command:\n(0000,0900) US [45056] Status"), (3, "ARC->WS1(6) << A-ABORT[source: 0 - service-user, reason: 0]"),
        (3, "ARC->WS1(6): closing Socket[addr=ws1/10.0.0.9,port=104,localport=40000] in 50 ms"),
        (3, "ARC->WS1(6): close SSLSocket[hostname=10.0.0.9, port=104, Session(1|TLS)]")))
    assert log.operations[["service", "sop_instance_uid", "modality", "status_code"]].values.tolist() == [["C-STORE", "1.2.9", "CT", "B000"]]
    assert log.associations[["calling_ae_title", "outcome", "peer_address", "n_stored"]].values.tolist() == [["ARC", "aborted", "10.0.0.9", 1]]


def test_console_of_an_archive_and_weasis_are_logs_of_the_same_lines(tmp_path):
    lines = "ARC<-CT1(1) >> A-ASSOCIATE-RQ", "ARC<-CT1(1) << A-ASSOCIATE-AC", "ARC<-CT1(1) >> A-RELEASE-RQ"
    console = "".join(f"03:00:0{n},250 INFO  [org.dcm4che3.net.Association] (default task-{n}) {text}\n" for n, text in enumerate(lines))
    assert load(tmp_path, console).rejected["code"].tolist() == ["NO_DATE"]
    assert load(tmp_path, console, start_date="2026-11-24").associations["outcome"].tolist() == ["released"]
    log = load(tmp_path, "".join(f"24.11.2026 03:00:0{n}.250 *INFO* [pool-{n}] org.dcm4che3.net.Association: {text}\n" for n, text in enumerate(lines)))
    assert log.associations["started_at"].tolist() == [pd.Timestamp("2026-11-24T03:00:00.250Z")] and log.associations["outcome"].tolist() == ["released"]


def test_console_of_a_dcm4che_tool_needs_a_start_date(tmp_path):
    text = ("03:00:01,250 INFO  - STORESCU->ARC(1) << A-ASSOCIATE-RQ\n03:00:01,300 INFO  - STORESCU->ARC(1) >> A-ASSOCIATE-AC\n"
            "03:00:02,000 INFO  - STORESCU->ARC(1) << A-RELEASE-RQ\n")
    assert load(tmp_path, text).rejected["code"].tolist() == ["NO_DATE"]
    log = load(tmp_path, text, start_date="2026-11-24")
    assert log.associations["started_at"].tolist() == [pd.Timestamp("2026-11-24T03:00:01.250Z")]


NATIVE = ("I: Requesting Association\nI: Association Accepted\nI: Sending Store Request: MsgID 1, (MR)\n"
          "I: Received Store Response (Status: 0xA700 - Failure)\nI: Accepting Association\nI: Received Store Request\n"
          "I: Releasing Association\nI: Association Released\n")
PYTHON_FORMATS = {
    "native": lambda text: f"{text[:2]} {text[3:]}",
    "basicConfig": lambda text: f"INFO:pynetdicom.acse:{text[3:]}",
    "dashes": lambda text: f"2026-11-24 03:00:00,250 - pynetdicom.acse - INFO - {text[3:]}",
    "thread": lambda text: f"2026-11-24 03:00:00,250 pynetdicom.acse AcceptorThread@2026 [INFO] {text[3:]}",
    "level first": lambda text: f"2026-11-24 03:00:00,250 INFO pynetdicom.acse {text[3:]}",
}


@pytest.mark.parametrize("name", PYTHON_FORMATS)
def test_pynetdicom_tells_what_it_asked_from_what_it_was_asked(tmp_path, name):
    log = load(tmp_path, "".join(PYTHON_FORMATS[name](line) + "\n" for line in NATIVE.splitlines()))
    assert log.associations["outcome"].tolist() == ["released", "released"] and not log.associations["is_ambiguous"].any()
    assert log.operations["status_code"].tolist() == ["A700", ""]
    assert log.associations["n_failed"].tolist() == [1, 0] and log.associations["n_stored"].isna().tolist() == [False, True]
    assert log.associations["started_at"].notna().all() == (name not in ("native", "basicConfig"))


def test_two_associations_that_pynetdicom_accepts_at_a_time_are_ambiguous(tmp_path):
    log = load(tmp_path, "I: Accepting Association\nI: Accepting Association\nI: Received Store Request\n" + "I: Association Released\n" * 2)
    assert log.associations["is_ambiguous"].tolist() == [True, True] and log.associations["n_stored"].isna().all()
    assert log.operations["problems"].tolist() == ["AMBIGUOUS_ASSOCIATION"]


def test_pynetdicom_client_that_reached_nobody_has_failed(tmp_path):
    log = load(tmp_path, "I: Requesting Association\nE: Association request failed: unable to connect to remote\n"
                         "E: TCP Initialisation Error: [Errno 111] Connection refused\nI: Aborting Association\n")
    assert log.associations[["outcome", "reason"]].values.tolist() == [["failed", "unable to connect to remote"]]


FIELDS = "frame.time_epoch\ttcp.stream\tip.src\tdicom.pdu.type\tdicom.assoc.ae.calling\tdicom.assoc.ae.called\t_ws.col.Info\n"


def frames(*cells):
    return FIELDS + "".join(f"1795490620.{n:06d}000\t{stream}\t{src}\t{kind}\t{calling}\t{called}\t{info}\n"
                            for n, (stream, src, kind, calling, called, info) in enumerate(cells))


def test_streams_of_a_field_export_are_never_ambiguous_and_padding_is_no_part_of_a_title(tmp_path):
    log = load(tmp_path, frames(
        (0, "a", "0x01", "CT1      ", "ARC     ", "A-ASSOCIATE request"), (1, "a", "0x01", "CT1      ", "ARC     ", "A-ASSOCIATE request"),
        (0, "b", "0x02", "CT1", "ARC", ""), (1, "b", "0x02", "CT1", "ARC", ""), (0, "a", "0x04", "", "", "P-DATA, C-STORE-RQ ID=1"),
        (1, "a", "0x04", "", "", "P-DATA, MR Image Storage"), (0, "a", "0x04", "", "", "P-DATA, CT Image Storage"),
        (0, "b", "0x04", "", "", "P-DATA, C-STORE-RSP ID=1 (Success)"), (1, "b", "0x04", "", "", "P-DATA, Command"),
        (0, "a", "0x05", "", "", "A-RELEASE request"), (1, "a", "0x07", "", "", "ABORT")))
    assert log.associations[["calling_ae_title", "peer_address", "outcome", "is_ambiguous"]].values.tolist() == [
        ["CT1", "a", "released", False], ["CT1", "a", "aborted", False]]
    assert log.associations["n_stored"].isna().tolist() == [False, True]
    assert log.operations[["modality", "problems"]].values.tolist() == [["CT", ""], ["MR", "START_NOT_SEEN"]]
    assert log.operations["started_at"].notna().tolist() == [True, False]


LINES = ("I: Association Received", "I: Association Acknowledged (Max Send PDV: 16372)", "I: Association Release")
ENVELOPES = {
    "RFC 3164": lambda n, text: f"<30>Nov 24 03:00:0{n} vm storescp[7]: {text}",
    "RFC 3339": lambda n, text: f"2026-11-24T03:00:0{n}.000000+00:00 vm storescp[7]: {text}",
    "RFC 5424": lambda n, text: f'<30>1 2026-11-24T03:00:0{n}.000Z vm storescp 7 ID47 [a@1 b="c \\] d"] \ufeff{text}',
    "RFC 5424 without data": lambda n, text: f"<30>1 2026-11-24T03:00:0{n}Z vm storescp - - - {text}",
    "journal": lambda n, text: json.dumps({"__REALTIME_TIMESTAMP": f"179548920{n}000000", "SYSLOG_IDENTIFIER": "storescp", "_PID": "7", "MESSAGE": text}),
    "journal bytes": lambda n, text: json.dumps({"__REALTIME_TIMESTAMP": f"179548920{n}000000", "_COMM": "storescp", "MESSAGE": list(text.encode())}),
    "rsyslog": lambda n, text: json.dumps({"timestamp": f"2026-11-24T03:00:0{n}+00:00", "programname": "storescp", "procid": "-", "msg": text}),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_envelope_gives_the_clock_of_lines_that_have_none(tmp_path, name):
    other = ENVELOPES[name](0, "Accepted publickey for root").replace("storescp", "sshd")
    log = load(tmp_path, "\n".join([other, *(ENVELOPES[name](n, text) for n, text in enumerate(LINES))]) + "\n", year=2026)
    assert log.associations[["outcome", "is_ambiguous"]].values.tolist() == [["released", False]]
    assert log.associations["started_at"].astype(str).tolist() == ["2026-11-24 03:00:00+00:00"]
    assert log.associations["ended_at"].astype(str).tolist() == ["2026-11-24 03:00:02+00:00"]
    assert log.rejected[["code", "n_bytes"]].values.tolist() == [["OTHER_PROGRAM", len(other.encode()) + 1]]


def test_line_without_prefix_inside_syslog_belongs_to_the_line_above(tmp_path):
    texts = ("I: Accepting Association", "  a line of its own", "I: Association Released", "D: Our Implementation Version Name:   PYNETDICOM_300")
    log = load(tmp_path, "".join(ENVELOPES["RFC 3339"](n, text) + "\n" for n, text in enumerate((texts[3], *texts[:3]))))
    assert log.associations["outcome"].tolist() == ["released"] and log.rejected.empty


ODD = [b"", b" ", "\ufeff<30>Nov 24 03:00:00 vm a[7]: x".encode(), "<30>Nov 24 03:00:00 M\u00fcller a[7]: \u00e4".encode(), b"Nov  4 03:00:00 vm a:x", b"Nov  4 03:00:00 vm a[x]: y",
       b"<30>Nov 24 03:00:00 vm a\\b: x", b"<30>Nov 24 03:00:00 vm a: \xff\xfe", b"1 2026-11-24T03:00:00Z vm a: x", b"<1>1 2026-11-24T03:00:00Z vm b: 7 i - x",
       "2026-11-24T03:00:00Z vm a\u00a0b: x".encode(), b"Nov 24 03:00:00 vm \x1fa: x", "\u0662026-11-24T03:00:00Z vm a: x".encode(), b"{", b'{"MESSAGE": "x"}', b"I: x",
       *(line(1, text).encode() for line in ENVELOPES.values() for text in ("I: x", ": [ ]"))]


@given(st.lists(st.sampled_from(ODD), max_size=6), st.sampled_from([b"\n", b"\r\n"]))
def test_envelopes_opened_at_once_are_those_opened_one_by_one(lines, end):
    data = b"".join(line + end for line in lines)
    at_once = open_envelopes(data, np.append(0, line_ends(data)))
    assert at_once == [open_envelope(line) or NO_ENVELOPE for line in lines]


def test_associations_of_several_programs_are_numbered_as_the_log_goes_on(tmp_path):
    log = load(tmp_path, "".join(ENVELOPES["RFC 3339"](n, LINES[0]).replace("storescp", name) + "\n" for n, name in enumerate("aba")))
    assert [name.rpartition("#")[2] for name in log.associations["association_id"]] == ["1", "2", "3"]
    assert log.associations["source_offset"].is_monotonic_increasing


def test_half_a_character_in_a_journal_is_no_error(tmp_path):
    texts = (LINES[0], "\ud800", *LINES[1:])
    log = load(tmp_path, "".join(ENVELOPES["journal"](n, text) + "\n" for n, text in enumerate(texts)))
    assert log.associations["outcome"].tolist() == ["released"] and log.rejected.empty
