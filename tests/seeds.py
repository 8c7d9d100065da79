"""Every reader with the beginnings of its sample files: what the laws and the fuzzers damage."""

import gzip
from functools import cache
from pathlib import Path

import pacs_helpers as pacs
from tests.wires import RELEASE_RP, RELEASE_RQ, SERVER, Wire, associate_ac, associate_rq, command, conversation, p_data, pcap, response

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "samples"
SITE = pacs.Site(time_zone="America/Chicago")
READERS = {
    "hl7": pacs.read_hl7_log, "dicom": pacs.read_headers,
    "network": lambda path, site: pacs.read_dicom_log(path, site=site, year=2025, start_date="2025-11-01"),
    "capture": pacs.read_capture, "audit": pacs.read_audit_log,
}
LONGEST = 3000
DUMP = b"""# Dicom-Data-Set
(0008,0016) UI =CTImageStorage                          #  26, 1 SOPClassUID
(0008,0018) UI [1.2.3.4]                                #   8, 1 SOPInstanceUID
(0008,1140) SQ (Sequence with explicit length #=1)      #  56, 1 ReferencedImageSequence
  (fffe,e000) na (Item with explicit length #=2)          #  48, 1 Item
    (0010,0020) LO [NESTED]                                 #   6, 1 PatientID
  (fffe,e00d) na (ItemDelimitationItem for re-encoding)   #   0, 0 ItemDelimitationItem
(fffe,e0dd) na (SequenceDelimitationItem for re-encod.) #   0, 0 SequenceDelimitationItem
(0010,0020) LO [000123]                                 #   6, 1 PatientID
(0020,000d) UI [1.2.3]                                  #   6, 1 StudyInstanceUID
"""
PRINTED = b"""(0008,0018) SOP Instance UID                    UI: 1.10
(0010,0020) Patient ID                          LO: '00 1'
(0020,000D) Study Instance UID                  UI: 1.2
(0040,0275)  Request Attributes Sequence  1 item(s) ----
   (0008,0050) Accession Number                    SH: 'A1'
   ---------
"""
MESSAGE = b"\x0bMSH|^~\\&|RIS|S|PACS|S|20240311092000||ORU^R01|C1|P|2.5.1\rPID|1||00123\rOBR|1|P1|F1\r\x1c\r"
AUDIT = (b'<AuditMessage><EventIdentification EventActionCode="R" EventDateTime="2024-03-11T09:20:00-05:00" EventOutcomeIndicator="0"><EventID csd-code="110103"/>'
         b'</EventIdentification><ActiveParticipant UserID="a" UserIsRequestor="true"/><ParticipantObjectIdentification ParticipantObjectID="2.25.77">'
         b'<ParticipantObjectIDTypeCode csd-code="110180"/></ParticipantObjectIdentification></AuditMessage>')


def _step():
    said = b"\x40\0\x52\x02\x0c\0\0\0DISCONTINUED\x40\0\x53\x02\4\0\0\0PPS1"
    names = {"sop_class": "1.2.840.10008.3.1.2.3.3", "instance": "1.9.1"}
    wire = Wire(mss=100).open().send(0, associate_rq()).send(1, associate_ac(syntax="1.2.840.10008.1.2"))
    wire.send(0, p_data(command(field=0x0140, id=1, data=0, **names), is_command=1) + p_data(said, is_command=0)).send(1, response(1, 0x8140))
    return wire.send(0, RELEASE_RQ).send(1, RELEASE_RP).close()


@cache
def seeds(kind):
    """The beginnings of the samples of one kind, or a few made by hand where there are none, cut at a line end so that a seed is whole."""
    if kind == "capture":
        return [pcap(wire.packets) for wire in (_step(), conversation(b"x" * 700, b"y" * 40, wire=Wire(mss=300)), Wire(server=(SERVER[0], 2575)).open().send(0, MESSAGE * 2).close())]
    if kind == "audit":
        return [AUDIT + b"\n" + AUDIT, b"<85>1 2024-03-11T09:20:00Z host app 7 ID - \xef\xbb\xbf<?xml version='1.0'?>" + AUDIT]
    files = sorted(f for f in (SAMPLES / kind).rglob("*") if f.is_file())
    datas = [gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes() for f in files]
    if kind == "dicom":
        return [*sorted(datas, key=len)[:40:4], DUMP, PRINTED]
    return [d[:d.rfind(b"\n" if b"\n" in d[:LONGEST] else b"\r", 0, LONGEST) + 1] for d in datas]
