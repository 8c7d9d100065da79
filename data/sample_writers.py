"""The department's exams as the traces that its systems would leave: HL7 feeds, DICOM headers, network logs."""

import gzip
import math
import uuid
from datetime import datetime, timedelta

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian
from sample_department import BY_AE, NOT_SET_BACK, UTC, ZONE

STORAGE = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4", "US": "1.2.840.10008.5.1.4.1.1.6.1", "CR": "1.2.840.10008.5.1.4.1.1.1",
           "MG": "1.2.840.10008.5.1.4.1.1.1.2", "NM": "1.2.840.10008.5.1.4.1.1.20"}
CLASS_NAMES = {"CT": "CTImageStorage", "MR": "MRImageStorage", "US": "UltrasoundImageStorage", "CR": "ComputedRadiographyImageStorage",
               "MG": "DigitalMammographyXRayImageStorageForPresentation", "NM": "NuclearMedicineImageStorage"}
MEGABYTES = {"CT": 0.5, "MR": 0.13, "US": 0.9, "CR": 8.3, "MG": 15.6, "NM": 0.3}
OUTAGE = (datetime(2025, 11, 18, 1, 0, tzinfo=ZONE), datetime(2025, 11, 18, 3, 0, tzinfo=ZONE))
HELD = (datetime(2025, 11, 12, 14, 0, tzinfo=ZONE), datetime(2025, 11, 12, 15, 0, tzinfo=ZONE))   # the report feed is silent, then catches up
ARCHIVE_PORT = "ARCHIVE_DEMO"
WORDS = {"P": "Wet Read", "F": "Final", "C": "Addended"}


def local(at):
    return at.astimezone(ZONE).strftime("%Y%m%d%H%M%S")


# HL7

def _message(sender, section, at, kind, control, segments, charset="", offset=False):
    stamp = at.astimezone(ZONE).strftime("%Y%m%d%H%M%S%z") if offset else local(at)
    header = f"MSH|^~\\&|{sender}|{section}|PACS_DEMO|LAKESIDE_DEMO|{stamp}||{kind}|{control}|P|2.5.1" + (f"||||||{charset}" if charset else "")
    return "\r".join([header, *segments]) + "\r"


def _pid(p):
    return f"PID|1||{p.id}^^^LAKESIDE_DEMO^MR||{p.name}||{p.born}|{p.sex}"


def _pv1(exam):
    return f"PV1|1|{exam.patient_class}|{exam.station.section}||||||||||||||||V{exam.placer[1:]}"


def _obr(exam, number, n=1, *, start="", changed="", status="", reader=""):
    code, name = exam.procedure[:2]
    fields = [str(n), exam.placer, f"F{exam.placer[1:]}", f"{code}^{name}^L", exam.priority, "", start] + [""] * 10 + [number, f"RP{exam.placer[1:]}", "", "", changed, "",
              exam.station.modality, status] + [""] * 6 + [reader]
    return "OBR|" + "|".join(fields).rstrip("|")


def order_messages(exam, patient_at):
    """`(instant, message)` of an order's life. `patient_at(exam, instant)` is who registration says it is then."""
    if not exam.has_order:
        return
    steps = [("NW", "SC", exam.ordered, "")]
    if exam.rescheduled:
        steps.append(("XO", "SC", exam.ordered + timedelta(hours=1), ""))
    if exam.cancelled:
        steps.append(("CA", "CA", exam.ordered + timedelta(hours=2), ""))
    elif exam.order_status != "SC":
        steps.append(("SC", "Arrived", exam.arrived, ""))
        steps.append(("SC", "IP", exam.start, local(exam.start)))
        if exam.order_status == "CM":
            steps.append(("SC", "CM", exam.end + timedelta(minutes=2), local(exam.start)))
    for n, (control, status, at, start) in enumerate(steps):
        person, accented = patient_at(exam, at), not exam.patient.name.isascii()
        scheduled = exam.scheduled - timedelta(days=1) if exam.rescheduled and n == 0 else exam.scheduled
        orc = f"ORC|{control}|{exam.placer}|F{exam.placer[1:]}||{status}||^^^{local(scheduled)}^^{exam.priority[0]}||{local(at)}"
        zds = [f"ZDS|{exam.study_uid}^RIS_DEMO^Application^DICOM"] if exam.station.section != "CLINIC_DEMO" else []
        yield at, _message("RIS_DEMO", exam.station.section, at, "ORM^O01^ORM_O01", f"R{exam.placer[1:]}{n}",
                           [_pid(person), _pv1(exam), orc, _obr(exam, exam.his, start=start), *zds], "8859/1" if accented else "")


def report_messages(exam, reports, patient_at, procedure=None, modality=None):
    """`(instant received, message, answer)`; a report sent again is the same bytes later, as engines do."""
    for n, report in enumerate(reports):
        control = f"V{report.key or exam.placer[1:]}{'' if report.key else n}"
        of = exam if not procedure else _other(exam, procedure, modality)
        groups = [(of, report.accession), *((e, e.his) for e in report.also)]
        person = patient_at(exam, report.at) if report.patient is exam.patient else report.patient
        segments = [_pid(person), _pv1(exam)]
        for i, (one, number) in enumerate(groups, 1):
            placer = f"{one.placer}" if not procedure else f"P8{report.key}"
            segments += [f"ORC|RE|{placer}", _obr(one, number, i, start=local(one.start), changed=local(report.at), status=WORDS[report.status], reader=one.reader)]
            if procedure:
                segments[-1] = segments[-1].replace(exam.placer, placer).replace(f"F{exam.placer[1:]}", f"F8{report.key}").replace(f"RP{exam.placer[1:]}", f"RP8{report.key}")
        segments.append(f"OBX|1|TX|IMP^IMPRESSION^L||No text in the sample.||||||{WORDS[report.status]}")
        sent = report.at + timedelta(seconds=20)
        message = _message("VR_DEMO", exam.station.section, sent, "ORU^R01^ORU_R01", control, segments, "8859/1" if not person.name.isascii() else "")
        received = HELD[1].astimezone(UTC) + (sent - HELD[0]) / 60 if HELD[0] <= sent < HELD[1] else sent
        for later in (0, 4)[:1 + report.resent]:
            yield received + timedelta(minutes=later), message, report.answer


def _other(exam, procedure, modality):
    station = next(s for s in BY_AE.values() if s.modality == modality)
    other = type(exam)(**{k: getattr(exam, k) for k in exam.__dataclass_fields__})
    other.station, other.procedure, other.start = station, procedure, exam.start + timedelta(days=2)
    return other


def identity_messages(exams, planted, patient_at):
    """`(instant, ADT message)`: arrivals of main hospital and emergency patients, and what the planter asked for."""
    for exam in exams:
        if exam.has_order and not exam.cancelled and exam.order_status != "SC" and exam.station.section != "CLINIC_DEMO":
            yield exam.arrived, _adt("A04", exam.arrived, f"A{exam.placer[1:]}", patient_at(exam, exam.arrived), "", exam.patient_class)
    for n, (trigger, at, person, prior) in enumerate(planted):
        yield at, _adt(trigger, at, f"AX{n:03d}", person, prior, "O")


def _adt(trigger, at, control, person, prior, patient_class):
    segments = [f"EVN|{trigger}|{at.astimezone(ZONE).strftime('%Y%m%d%H%M%S%z')}", _pid(person), f"PV1|1|{patient_class}"]
    if prior:
        segments.insert(2, f"MRG|{prior}^^^LAKESIDE_DEMO^MR")
    return _message("ADT_DEMO", "LAKESIDE_DEMO", at, f"ADT^{trigger}", control, segments, "UNICODE UTF-8", offset=True)


def _bytes(message):
    return message.encode("latin-1" if "||||||8859/1\r" in message else "utf-8")


def raw(messages):
    return b"".join(_bytes(m) for _, m in messages)


def framed(messages):
    return b"".join(b"\x0b" + _bytes(m) + b"\x1c\r" for _, m in messages)


def engine_log(messages, style):
    """An engine's text log: `repr` writes each message as a quoted line, `listener` spells the MLLP bytes. Answers in between."""
    lines = ["2025-11-01 00:00:01,004 INFO [oru_in] listening on 10.20.0.5:2575"] if style == "repr" else []
    for at, message, answer in messages:
        control = message.split("\r", 1)[0].split("|")[9]
        ack = _message("PACS_DEMO", "LAKESIDE_DEMO", at + timedelta(seconds=1), "ACK^R01^ACK", f"K{control}", [f"MSA|{answer}|{control}" + ("|no such order" if answer != "AA" else "")])
        for words, text, later in (("RECV", message, 0), ("SEND", ack, 1)):
            stamp = (at + timedelta(seconds=later)).astimezone(ZONE)
            if style == "repr":
                lines.append(f"{stamp:%Y-%m-%d %H:%M:%S},{at.second:03d} INFO [oru_in] {words} 10.20.0.30:51877 {text!r}")
            else:
                lines += [f"{stamp:%Y-%m-%d %H:%M:%S}.{at.second:04d}|INFO|Raw.Application.TcpServer.TcpServer|", "<SB>", *(s + "<R>" for s in text.rstrip("\r").split("\r")), "<EB>"]
    return ("\n".join(lines) + "\n").encode()


# DICOM headers

def device_time(study, at):
    """What the device's clock shows; US2_DEMO did not fall back with the others and was set right four days later."""
    at = at + timedelta(seconds=study.station.clock_error)
    if study.station.ae == "US2_DEMO" and NOT_SET_BACK[0] <= at < NOT_SET_BACK[1]:
        at += timedelta(hours=1)
    return at.astimezone(ZONE)


def headers(exam, study, sop_uids):
    """pydicom Datasets of a study's instances, without pixel data."""
    for n in range(len(sop_uids)):
        at = device_time(study, study.start + (study.end - study.start) * min(1, n / max(1, study.n - 1)))
        made = device_time(study, study.late_at) if n == study.n else at + timedelta(seconds=8)
        series = n + 1 if study.modality in ("CT", "MR") or n == study.n else 1
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = STORAGE[study.modality], sop_uids[n]
        ds.file_meta.TransferSyntaxUID, ds.file_meta.ImplementationClassUID = ExplicitVRLittleEndian, "2.25.330000000000000000000001"
        ds.file_meta.SourceApplicationEntityTitle = study.station.ae
        ds.SpecificCharacterSet = "ISO_IR 100" if study.station.section == "CLINIC_DEMO" else "ISO_IR 192"
        ds.SOPClassUID, ds.SOPInstanceUID = STORAGE[study.modality], sop_uids[n]
        first = device_time(study, study.start)
        ds.StudyDate, ds.StudyTime = first.strftime("%Y%m%d"), first.strftime("%H%M%S")
        begun = at if series > 1 and n < study.n else first
        ds.SeriesDate, ds.SeriesTime = begun.strftime("%Y%m%d"), begun.strftime("%H%M%S")
        if study.modality in ("CT", "MR"):
            ds.AcquisitionDateTime = at.strftime("%Y%m%d%H%M%S.%f")
        else:
            ds.AcquisitionDate, ds.AcquisitionTime = at.strftime("%Y%m%d"), at.strftime("%H%M%S")
        ds.InstanceCreationDate, ds.InstanceCreationTime = made.strftime("%Y%m%d"), made.strftime("%H%M%S")
        ds.AccessionNumber, ds.Modality = study.accession, study.modality
        ds.Manufacturer, ds.ManufacturerModelName, ds.StationName, ds.InstitutionName = study.station.maker, study.station.model, study.station.ae, study.institution
        ds.StudyDescription, ds.SeriesDescription, ds.ProtocolName = study.description, f"{study.body} {series}", study.body
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = study.patient.name, study.patient.id, study.patient.born, study.patient.sex
        if not study.patient.id.startswith("QC"):
            ds.IssuerOfPatientID = "ELSEWHERE_DEMO" if study.institution.startswith("ELSE") else "LAKESIDE_DEMO"
        ds.BodyPartExamined, ds.OperatorsName = study.body, exam.technologist if exam else "CREEK^PAT"
        if study.side:
            ds.Laterality = study.side
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study.uid, f"2.25.{int(study.uid[5:]) + series}"
        ds.SeriesNumber, ds.InstanceNumber = series, n + 1 if series == 1 else 1
        if study.frame:
            ds.FrameOfReferenceUID = study.frame
        if study.requested or (exam and exam.study_uid == study.uid and study.accession and exam.defect != "U06"):
            ds.RequestAttributesSequence = Sequence([_request(a, exam) for a in study.requested or (study.accession,)])
        yield ds


def _request(accession, exam):
    item = Dataset()
    item.AccessionNumber, item.RequestedProcedureID, item.ScheduledProcedureStepID = accession, f"RP{exam.placer[1:]}", f"S{exam.placer[1:]}"
    return item


# Network

def send_time(exam_end):
    start = exam_end + timedelta(seconds=75)
    return OUTAGE[1].astimezone(UTC) + timedelta(minutes=5) if OUTAGE[0] <= start < OUTAGE[1] else start


def transfers(studies):
    """`(study, start, [(instant stored, bytes, number of the instance)])` of each way to the archive, one association each; the clinic's line is slow."""
    busy = {}
    sent = [(s.end, s, range(s.n)) for s in studies] + [(s.late_at, s, (s.n,)) for s in studies if s.late_at]
    for ready, study, instances in sorted(sent, key=lambda x: x[0]):
        at = max(send_time(ready), busy.get(study.station.ae, ready)) + timedelta(microseconds=int(study.uid[-6:]))
        start, stored = at, []
        for i in instances:
            size = int(MEGABYTES[study.modality] * 1e6)
            at += timedelta(seconds=round(size * 8 / study.station.mbit / 1e6 + 0.045, 6))
            stored.append((at, size, i))
        busy[study.station.ae] = at + timedelta(seconds=5)
        yield study, start, stored


def orthanc_log(moves):
    """Orthanc's verbose log of a month (no year in it, local time), in time order across parallel associations."""
    lines = []

    def say(at, where, words, level="I"):
        lines.append((at, f"{level}{at.astimezone(ZONE):%m%d %H:%M:%S.%f} {where}] {words}"))

    for n, (study, start, stored) in enumerate(moves):
        who = f"AET {study.station.ae} on IP {study.station.ip}"
        say(start, "CommandDispatcher.cpp:333", f"(dicom) Association Received from {who}")
        say(start + timedelta(microseconds=80), "main.cpp:317", f"Incoming connection from {who}, calling AET {ARCHIVE_PORT}")
        say(start + timedelta(microseconds=140), "CommandDispatcher.cpp:664", f"(dicom) Association Acknowledged (Max Send PDV: 16372) to {who}")
        for at, size, i in stored:
            begin = at - timedelta(seconds=round(size * 8 / study.station.mbit / 1e6 + 0.02, 6))
            say(begin, "main.cpp:352", f"Incoming Store request from {who}, calling AET {ARCHIVE_PORT}")
            say(at - timedelta(milliseconds=5), "FilesystemStorage.cpp:125", f'Creating attachment "{_attachment(study.uid, i)}" of "DICOM" type (size: {math.ceil(size / 1048576)}MB)')
            say(at, "ServerContext.cpp:637", "New instance stored")
        end = stored[-1][0] + timedelta(milliseconds=40)
        say(end, "CommandDispatcher.cpp:929", f"(dicom) Finishing association with {who}: DUL Peer Requested Release")
        say(end + timedelta(microseconds=40), "CommandDispatcher.cpp:937", f"(dicom) Association Release with {who}")
        if n % 97 == 50:
            at = start + timedelta(minutes=31)
            say(at, "CommandDispatcher.cpp:602", "Rejected association, because of a bad called AET in the request (ARCHIV)", "W")
    say(OUTAGE[1].astimezone(UTC), "main.cpp:2017", "Orthanc version: 1.10.1", "W")
    lines.sort(key=lambda x: x[0])
    return [(at, text + "\n") for at, text in lines]


def _attachment(uid, i):
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{uid} {i}")


def qrscp_log(moves, sop_uids):
    """A workstation's dcmqrscp log in DCMTK's shipped file layout; one study meets a full disk (A700), one sender hangs up."""
    lines = []
    for n, (study, start, stored) in enumerate(moves):
        at = start + timedelta(seconds=40)

        def say(words, at):
            lines.append((at, f"{at.astimezone(ZONE):%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}  INFO: {words}"))

        say(f"Association Received ({study.station.ae.lower().replace('_', '-')}:{study.station.ae} -> WS_DEMO)", at)
        say("Association Acknowledged (Max Send PDV: 16372)", at)
        for i, (_, size, instance) in enumerate(stored):
            uid, status = sop_uids[study.uid][instance], "0xa700: Refused: Out of resources" if n == 7 else "0x0000: Success"
            at += timedelta(milliseconds=20)
            _dimse(say, at, "INCOMING", "Received Store SCP:", ["Message Type                  : C-STORE RQ", f"Message ID                    : {i + 1}",
                   f"Affected SOP Class UID        : {CLASS_NAMES[study.modality]}", f"Affected SOP Instance UID     : {uid}", "Data Set                      : present",
                   "Priority                      : medium"])
            if n == 11 and i == 1:
                break
            at += timedelta(seconds=round(size * 8 / study.station.mbit / 1e6 + 0.03, 3))
            _dimse(say, at, "OUTGOING", "Sending:", ["Message Type                  : C-STORE RSP", f"Message ID Being Responded To : {i + 1}",
                   f"Affected SOP Class UID        : {CLASS_NAMES[study.modality]}", f"Affected SOP Instance UID     : {uid}", "Data Set                      : none",
                   f"DIMSE Status                  : {status}"])
        say("Association Aborted" if n == 11 else "Association Release", at + timedelta(milliseconds=44))
    return "".join(text + "\n" for _, text in sorted(lines, key=lambda x: x[0])).encode()


def _dimse(say, at, way, first, fields):
    say(first, at)
    for words in [f"===================== {way} DIMSE MESSAGE ====================", *fields, "======================= END DIMSE MESSAGE ======================="]:
        say(words, at)


def xcr_log(moves, sop_uids):
    """What `storescp -xcr` wrote for each object that the emergency department's viewer stored."""
    lines = []
    for study, _, stored in moves:
        for at, size, i in stored:
            at = (at + timedelta(seconds=9)).astimezone(ZONE)
            offset = f"{at:%z}"
            lines.append((at, f"{at:%Y-%m-%dT%H:%M:%S},{at.microsecond:06d}000{offset[:3]}:{offset[3:]}|{study.station.ae}|EDVIEW_DEMO|{study.station.ip}|"
                              f"{study.modality}.{sop_uids[study.uid][i]}|{size}\n"))
    return "".join(text for _, text in sorted(lines)).encode()


def packed(data):
    return gzip.compress(data, mtime=0)
