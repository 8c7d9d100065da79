"""Every reader with the beginnings of its sample files: what the laws and the fuzzers damage."""

import gzip
from functools import cache
from pathlib import Path

import pacs_helpers as pacs
from tests.wires import SERVER, Wire, conversation, pcap

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "samples"
SITE = pacs.Site(time_zone="America/Chicago")
READERS = {
    "hl7": pacs.read_hl7_log, "dicom": pacs.read_headers,
    "network": lambda path, site: pacs.read_dicom_log(path, site=site, year=2025, start_date="2025-11-01"),
    "capture": pacs.read_capture, "audit": pacs.read_audit_log,
}
LONGEST = 3000
MESSAGE = b"\x0bMSH|^~\\&|RIS|S|PACS|S|20240311092000||ORU^R01|C1|P|2.5.1\rPID|1||00123\rOBR|1|P1|F1\r\x1c\r"
AUDIT = (b'<AuditMessage><EventIdentification EventActionCode="R" EventDateTime="2024-03-11T09:20:00-05:00" EventOutcomeIndicator="0"><EventID csd-code="110103"/>'
         b'</EventIdentification><ActiveParticipant UserID="a" UserIsRequestor="true"/><ParticipantObjectIdentification ParticipantObjectID="2.25.77">'
         b'<ParticipantObjectIDTypeCode csd-code="110180"/></ParticipantObjectIdentification></AuditMessage>')


@cache
def seeds(kind):
    """The beginnings of the samples of one kind, or a few made by hand where there are none, cut at a line end so that a seed is whole."""
    if kind == "capture":
        return [pcap(wire.packets) for wire in (conversation(b"x" * 700, b"y" * 40, wire=Wire(mss=300)), Wire(server=(SERVER[0], 2575)).open().send(0, MESSAGE * 2).close())]
    if kind == "audit":
        return [AUDIT + b"\n" + AUDIT, b"<85>1 2024-03-11T09:20:00Z host app 7 ID - \xef\xbb\xbf<?xml version='1.0'?>" + AUDIT]
    files = sorted(f for f in (SAMPLES / kind).rglob("*") if f.is_file())
    datas = [gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes() for f in files]
    if kind == "dicom":
        return sorted(datas, key=len)[:40:4]
    return [d[:d.rfind(b"\n" if b"\n" in d[:LONGEST] else b"\r", 0, LONGEST) + 1] for d in datas]
