"""One HL7 v2 message -> rows of MESSAGES, one for each order group (ORC and/or OBR with what follows)."""

import json
import re

from .hl7text import Delimiters
from .times import parse_time

# column: the first of these that is filled, as (segment, field, component)
HEADER = {
    "message_control_id": (("MSH", 10, 1),), "message_type": (("MSH", 9, 1),), "trigger_event": (("MSH", 9, 2), ("EVN", 1, 1)), "sending_application": (("MSH", 3, 1),),
    "sending_facility": (("MSH", 4, 1),), "receiving_application": (("MSH", 5, 1),), "version": (("MSH", 12, 1),), "character_set": (("MSH", 18, 1),),
    "acknowledgment_code": (("MSA", 1, 1),), "acknowledged_control_id": (("MSA", 2, 1),), "error_text": (("MSA", 3, 1), ("ERR", 8, 1), ("ERR", 3, 2)),
}
HEADER_INSTANTS = {"message_at": (("MSH", 7, 1),), "event_at": (("EVN", 2, 1),)}
VISIT = {"patient_class": (("PV1", 2, 1),), "patient_location": (("PV1", 3, 1),), "visit_number": (("PV1", 19, 1),), "prior_patient_id": (("MRG", 1, 1),)}
ORDER = {
    "order_control": (("ORC", 1, 1),), "order_status": (("ORC", 5, 1),), "orc_2": (("ORC", 2, 1),), "orc_3": (("ORC", 3, 1),), "obr_2": (("OBR", 2, 1),),
    "obr_3": (("OBR", 3, 1),), "obr_18": (("OBR", 18, 1),), "obr_20": (("OBR", 20, 1),), "ipc_1": (("IPC", 1, 1),), "procedure_code": (("OBR", 4, 1),),
    "procedure_name": (("OBR", 4, 2),), "modality": (("OBR", 24, 1),), "result_status": (("OBR", 25, 1),), "requested_procedure_id": (("OBR", 19, 1),),
    "principal_interpreter": (("OBR", 32, 1),), "placer_order_number": (("ORC", 2, 1), ("OBR", 2, 1)), "filler_order_number": (("ORC", 3, 1), ("OBR", 3, 1)),
    "priority": (("OBR", 5, 1), ("OBR", 27, 6), ("ORC", 7, 6), ("TQ1", 9, 1)), "study_instance_uid": (("ZDS", 1, 1), ("IPC", 3, 1)),
}
INSTANTS = {
    "transaction_at": (("ORC", 9, 1),), "observed_at": (("OBR", 7, 1),), "observation_ended_at": (("OBR", 8, 1),), "status_changed_at": (("OBR", 22, 1),),
    "scheduled_at": (("ORC", 7, 4), ("TQ1", 7, 1), ("OBR", 27, 4), ("OBR", 36, 1), ("SCH", 11, 4)),
}
_OF_MESSAGE = frozenset(("MSH", "EVN", "MSA", "ERR", "SFT"))
_OF_PATIENT = frozenset(("PID", "PD1", "PV1", "PV2", "MRG"))
_ORDER_TYPE = re.compile(r"ORM|OM[A-Z]")     # their observations are about the patient, not a result of the order
STUDY_CODES = ("113014", "110180")         # DCM: Study, Study Instance UID
_UID = re.compile(r"[0-2](?:\.(?:0|[1-9]\d*)){5,}")


class Notes:
    """A message's delimiters and status words, and the doubts met so far: `codes` are the message's, `raw` and `precision` a row's."""

    def __init__(self, marks, codes, zone, status):
        self.marks, self.codes, self.zone, self.status = marks, codes, zone, status
        self.raw, self.precision = {}, {}


def message_rows(segments, codes, *, zone, status):
    """MESSAGES rows of a decoded message, without where it was read. `codes` are its problems so far, `status` maps a feed's status word.

    A message about several patients (A40 with repeated PID and MRG, results of several people) has each row's own patient.
    """
    marks = Delimiters(segments[0][:9])
    notes = Notes(marks, list(codes), zone, status)
    split = [s.split(marks.field) for s in segments if s]
    split[0].insert(1, marks.field)
    for segment in segments[1:]:
        if marks.escape in segment:
            marks.undo(segment, notes.codes)        # for its doubts: most fields, report text among them, are not kept
    of_message, patients = _arrange(split)
    head = _header(of_message, notes)
    shown = (dict(notes.raw), dict(notes.precision))
    rows = []
    for own, groups in patients:
        person = {**head, **_person(own, notes)}
        for group in groups or [[]]:
            notes.raw, notes.precision = dict(shown[0]), dict(shown[1])
            row = {**person, **_order(group, {**of_message, **own}, groups, notes)}
            row["raw"] = json.dumps(notes.raw, ensure_ascii=False) if notes.raw else ""
            row["precision"] = " ".join(f"{column}={p}" for column, p in notes.precision.items())
            rows.append(row)
    problems = " ".join(dict.fromkeys(notes.codes))
    for row in rows:
        row["problems"] = problems
    return rows


def _arrange(split):
    """`(first of each segment of the message, [(segments of a patient, that patient's order groups)])`.

    ORC starts a group, OBR too unless its ORC came just before. Segments before the first group count for every group that lacks them;
    without any group all that follows the header is one.
    """
    of_message, patients = {}, [({}, [])]
    for fields in split:
        name = fields[0].strip()
        own, groups = patients[-1]
        if name in _OF_MESSAGE:
            of_message.setdefault(name, fields)
        elif name in _OF_PATIENT and not (name != "PID" and groups and name in own):
            if name in own and name in ("PID", "MRG"):
                own = {"PID": own["PID"]} if name == "MRG" and "PID" in own else {}
                patients.append((own, []))
            own[name] = fields
        elif name == "ORC" or name == "OBR" and (not groups or any(f[0] == "OBR" for f in groups[-1])):
            groups.append([fields])
        elif groups:
            groups[-1].append(fields)
        else:
            own.setdefault(name, fields)
            own.setdefault("", []).append(fields)
    return of_message, patients


def piece_of(segments, place, notes):
    """A component of the first repetition of a field, its first subcomponent, as text; "" where there is none."""
    name, number, component = place
    fields = segments.get(name)
    if fields is None or number >= len(fields) or not fields[number]:
        return ""
    value, marks = fields[number], notes.marks
    if marks.repetition in value:
        value = value.split(marks.repetition, 1)[0]
    if marks.component in value:
        pieces = value.split(marks.component, component)
        value = pieces[component - 1] if component <= len(pieces) else ""
    elif component > 1:
        return ""
    if marks.subcomponent in value:
        value = value.split(marks.subcomponent, 1)[0]
    return value if value.isalnum() else marks.plain(value, notes.codes) if value else ""


def _first(segments, places, notes):
    for place in places:
        value = piece_of(segments, place, notes)
        if value:
            return value
    return ""


def _instant(segments, column, places, notes):
    text = _first(segments, places, notes)
    if not text:
        return None
    at, precision, code = parse_time(text, notes.zone)
    if code:
        notes.codes.append(code)
    if code == "BAD_TIME":
        notes.raw[column] = text
    elif precision != "second":
        notes.precision[column] = precision
    return at


def _columns(segments, texts, instants, notes):
    row = {column: _first(segments, places, notes) for column, places in texts.items()}
    return row | {column: _instant(segments, column, places, notes) for column, places in instants.items()}


def _header(segments, notes):
    row = _columns(segments, HEADER, HEADER_INSTANTS, notes)
    if not row["message_control_id"] or not row["message_type"]:
        notes.codes.append("MISSING_FIELD")
    return row


def _person(own, notes):
    row = _columns(own, VISIT, {}, notes)
    if "PID" not in own:
        return row
    row["patient_id"], row["issuer_of_patient_id"], row["other_patient_ids"] = patient_ids(own["PID"], notes)
    if not row["patient_id"]:
        notes.codes.append("EMPTY_ID")
    row["patient_name"] = _name(own["PID"], notes)
    row["patient_birth_date"] = piece_of(own, ("PID", 7, 1), notes)[:8]
    row["patient_sex"] = piece_of(own, ("PID", 8, 1), notes)
    if parse_time(row["patient_birth_date"], "UTC")[2]:
        notes.codes.append("BAD_DATE")
    return row


def patient_ids(pid, notes):
    """`(number, issuer, the others as one text)`, distinct, of PID-3, the one typed MR (table 0203) first because images carry it; then PID-2 and PID-4."""
    marks, found = notes.marks, []
    for number in (3, 2, 4):
        for repetition in (pid[number].split(marks.repetition) if number < len(pid) and pid[number] else ()):
            parts = (repetition + marks.component * 4).split(marks.component)
            value, issuer, kind = (marks.plain(parts[i].split(marks.subcomponent, 1)[0], notes.codes) for i in (0, 3, 4))
            if value:
                found.append((number != 3, kind not in ("MR", ""), value, issuer))
    ids = dict.fromkeys((value, issuer) for _, _, value, issuer in sorted(found, key=lambda one: one[:2]))
    (first, its_issuer), *others = ids or [("", "")]
    return first, its_issuer, " ".join(f"{number}^^^{issuer}".rstrip("^").replace(" ", "_") for number, issuer in others)


def _name(pid, notes):
    """PID-5 as DICOM PN orders it: XPN has the suffix before the prefix, PN the prefix first (PS3.5 6.2.1)."""
    marks = notes.marks
    value = pid[5].split(marks.repetition, 1)[0] if len(pid) > 5 else ""
    if not value:
        return ""
    parts = (value + marks.component * 4).split(marks.component)
    family, given, middle, suffix, prefix = (marks.plain(p.split(marks.subcomponent, 1)[0], notes.codes) if p else "" for p in parts[:5])
    return "^".join((family, given, middle, prefix, suffix)).rstrip("^")


def _order(group, shared, groups, notes):
    first = dict(shared)
    for fields in reversed(group):
        first[fields[0].strip()] = fields
    observations = [f for f in (group or shared.get("", ())) if f[0] == "OBX"]
    row = _columns(first, ORDER, INSTANTS, notes)
    row["n_observations"] = len(observations)
    row["study_instance_uid"] = row["study_instance_uid"] or _observed_uid(observations, notes)
    if not row["result_status"] and shared["MSH"][9:] and not _ORDER_TYPE.match(shared["MSH"][9]):
        # One report for several orders carries its observations after the last of them.
        texts = observations or [f for f in (groups[-1] if groups else ()) if f[0] == "OBX"]
        row["result_status"] = next((v for f in texts if (v := piece_of({"OBX": f}, ("OBX", 11, 1), notes))), "")
    for column in ("order_status", "result_status"):
        word = row[column]
        row[column] = notes.status(word)
        if row[column] != word:
            notes.raw[column] = word
    return row


def _observed_uid(observations, notes):
    """A Study Instance UID sent as an observation: OBX-3 says so by its code or name."""
    for fields in observations:
        if names_a_study(fields[3] if len(fields) > 3 else ""):
            value = piece_of({"OBX": fields}, ("OBX", 5, 1), notes)
            if _UID.fullmatch(value):
                return value
    return ""


def names_a_study(field):
    return field.startswith(STUDY_CODES) or "STUDY INSTANCE" in field.upper()
