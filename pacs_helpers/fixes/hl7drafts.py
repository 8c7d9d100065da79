"""HL7 v2.5.1 messages as drafts: processing id T, from what the traces told, without report text."""

import re
from typing import NamedTuple

import pandas as pd

from ..site import Site

_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
DICOM_STUDY = "113014^DICOM Study^DCM"


class Envelope(NamedTuple):
    """What every message of one correction has in common."""

    site: Site
    decided_at: pd.Timestamp
    correction_id: str
    field: str              # that holds the accession number at this site, such as OBR-18


def accession_field(dept, site):
    """The HL7 field that holds the accession number: that of site.toml, else the one measured, else OBR-18."""
    fixed = site.hl7_field.removesuffix(".1")
    measured = dept.accession_fields["field"][dept.accession_fields["is_chosen"]].tolist() if "is_chosen" in dept.accession_fields else []
    return fixed if fixed != "auto" else (measured or ["OBR-18"])[0]


def escaped(text):
    """A value with delimiters, line ends and control characters as HL7 escape sequences."""
    return re.sub(r"[\\|^~&\x00-\x1f\x7f]", lambda found: _ESCAPES.get(found[0]) or f"\\X{ord(found[0]):02X}\\", text)


def update_message(person, envelope):
    """ADT^A08: who somebody is, as orders and registration last said."""
    return _message("ADT^A08^ADT_A01", envelope, 1, [_event("A08", envelope), *_patient(person)])


def merge_message(person, old, envelope):
    """ADT^A40: everything of the old ID becomes this person's."""
    pid, _ = _patient(person)
    return _message("ADT^A40^ADT_A39", envelope, 1, [_event("A40", envelope), pid, _segment("MRG", {1: _with_issuer(old["patient_id"], old)})])


def order_message(order, accession, study_uid, envelope, *, control):
    """ORM^O01, or OMI^O23 where IPC holds the number: an order is placed (NW) or changed (XO), with the study that was made for it."""
    is_imaging = envelope.field == "IPC-1"
    cells = _order_cells(order, accession, envelope) | {("ORC", 1): control, ("ORC", 5): order.get("order_status", "")}
    told = [] if is_imaging else [_segment("ZDS", {1: f"{escaped(study_uid)}^^Application^DICOM"})]
    cells |= {("IPC", 3): escaped(study_uid)} if is_imaging else {}
    return _message("OMI^O23^OMI_O23" if is_imaging else "ORM^O01^ORM_O01", envelope, 2, [*_patient(order), *_segments(cells), *told])


def result_message(report, accession, study_uid, envelope, *, is_withdrawn, nth=0):
    """ORU^R01: the skeleton of a report at its right place, or the withdrawal (OBX-11 W) of one from where it never belonged. `nth` exam of the correction."""
    cells = _order_cells(report, accession, envelope) | {("ORC", 1): "RE", ("OBR", 7): _stamp(report["observed_at"], envelope.site),
                                                         ("OBR", 25): "C" if is_withdrawn else escaped(report["result_status"])}
    which = f"message{'s' if ' ' in report['message_control_id'] else ''} {report['message_control_id']}"
    words = "Withdrawn: sent for another exam or patient" if is_withdrawn else f"Draft: the OBX segments of {which} go here"
    found = [_segment("OBX", {1: "1", 2: "HD", 3: DICOM_STUDY, 5: escaped(study_uid), 11: "O"})] if study_uid and not is_withdrawn else []
    found += [_segment("OBX", {1: "1", 2: "TX", 3: "^" + words.split(":")[0], 11: "W"})] if is_withdrawn else []
    note = _segment("NTE", {1: "1", 2: "L", 3: escaped(f"{words} ({which})" if is_withdrawn else words)})
    return _message("ORU^R01^ORU_R01", envelope, 3 + is_withdrawn + 2 * nth, [*_patient(report), *_segments(cells), *found, note])


def _message(kind, envelope, number, segments):
    head = {2: "^~\\&", 3: "PACS-WORKBOOK", 4: escaped(envelope.site.name), 7: _stamp(envelope.decided_at, envelope.site), 9: kind,
            10: f"D{envelope.correction_id[:12]}-{number}", 11: "T", 12: "2.5.1", 18: "UNICODE UTF-8"}
    return "\r".join([_segment("MSH", {at - 1: value for at, value in head.items()}), *segments]) + "\r"


def _segment(name, fields):
    return "|".join([name, *(fields.get(at, "") for at in range(1, max(fields) + 1))]).rstrip("|")


def _segments(cells):
    names = dict.fromkeys(name for name, _ in cells)
    return [_segment(name, {at: value for (of, at), value in cells.items() if of == name}) for name in names]


def _event(trigger, envelope):
    return _segment("EVN", {1: trigger, 2: _stamp(envelope.decided_at, envelope.site)})


def _patient(person):
    pid = {1: "1", 3: _with_issuer(person["patient_id"], person), 5: _name(person["patient_name"]), 7: escaped(person["patient_birth_date"]), 8: escaped(person["patient_sex"])}
    visit = {1: "1", 2: escaped(person.get("patient_class", "")) or "U", 3: escaped(person.get("patient_location", "")), 19: escaped(person.get("visit_number", ""))}
    return _segment("PID", pid), _segment("PV1", visit)


def _with_issuer(patient_id, person):
    return f"{escaped(patient_id)}^^^{escaped(person.get('issuer_of_patient_id', ''))}".rstrip("^")


def _name(name):
    """XPN has the suffix before the prefix, DICOM PN the prefix first (PS3.5 6.2.1)."""
    family, given, middle, prefix, suffix = (escaped(part) for part in (name.split("=")[0] + "^^^^").split("^")[:5])
    return "^".join((family, given, middle, suffix, prefix)).rstrip("^")


def _order_cells(order, accession, envelope):
    number = "^".join(escaped(part) for part in accession.split("^"))           # number^authority where two authorities use one number
    placer, filler = escaped(order.get("placer_order_number", "")), escaped(order.get("filler_order_number", ""))
    cells = {("ORC", 2): placer, ("ORC", 3): filler, ("ORC", 9): _stamp(envelope.decided_at, envelope.site), ("OBR", 1): "1", ("OBR", 2): placer, ("OBR", 3): filler,
             ("OBR", 4): f"{escaped(order.get('procedure_code', ''))}^{escaped(order.get('procedure_name', ''))}", ("OBR", 18): number,
             ("OBR", 19): escaped(order.get("requested_procedure_id", "")), ("OBR", 24): escaped(order.get("modality", ""))}
    name, _, at = envelope.field.partition("-")
    return cells | {(name, int(at)): number}


def _stamp(at, site):
    return "" if pd.isna(at) else at.tz_convert(site.time_zone).strftime("%Y%m%d%H%M%S%z")
