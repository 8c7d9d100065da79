"""The elements of one DICOM file -> its row of instances or performed_steps, with every doubt as a code."""

import json
import re
from functools import lru_cache
from typing import NamedTuple

from pydicom.datadict import dictionary_VR, tag_for_keyword

from ..schemas import NOT_IMAGES
from ..tables import add_problem
from .dicomtext import PADDING, character_set, clean, decode, show
from .elements import ALL_READ, first
from .times import parse_dicom_time, parse_time

PERFORMED_STEP_CLASS = "1.2.840.10008.3.1.2.3.3"

_TEXTS = {
    "sop_instance_uid": "SOPInstanceUID", "sop_class_uid": "SOPClassUID", "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID", "frame_of_reference_uid": "FrameOfReferenceUID", "patient_id": "PatientID",
    "issuer_of_patient_id": "IssuerOfPatientID", "patient_name": "PatientName", "patient_sex": "PatientSex",
    "accession_number": "AccessionNumber", "modality": "Modality", "body_part_examined": "BodyPartExamined",
    "study_description": "StudyDescription", "series_description": "SeriesDescription", "protocol_name": "ProtocolName",
    "series_number": "SeriesNumber", "instance_number": "InstanceNumber", "manufacturer": "Manufacturer",
    "manufacturer_model_name": "ManufacturerModelName", "station_name": "StationName", "institution_name": "InstitutionName",
    "operators_name": "OperatorsName",
}
_INSTANTS = {
    "study_at": ("StudyDate", "StudyTime"), "series_at": ("SeriesDate", "SeriesTime"),
    "acquired_at": ("AcquisitionDate", "AcquisitionTime"), "created_at": ("InstanceCreationDate", "InstanceCreationTime"),
    "performed_started_at": ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
}
_STEP_TEXTS = {"sop_instance_uid": "SOPInstanceUID", "performed_procedure_step_id": "PerformedProcedureStepID", "status": "PerformedProcedureStepStatus",
               "patient_id": "PatientID", "modality": "Modality", "station_ae_title": "PerformedStationAETitle"}
_STEP_INSTANTS = {"started_at": _INSTANTS["performed_started_at"],
                  "ended_at": ("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime")}
_ALSO = ("SpecificCharacterSet", "PatientBirthDate", "AcquisitionDateTime", "TimezoneOffsetFromUTC", "Laterality", "ImageLaterality",
         "NumberOfFrames", "Rows")
_REQUEST, _SCHEDULED = "RequestAttributesSequence", "ScheduledStepAttributesSequence"
_REASON = "PerformedProcedureStepDiscontinuationReasonCodeSequence"
_WORKLIST = "ScheduledProcedureStepSequence"
_MODALITIES, *_COUNTS = COUNTED = [int(tag_for_keyword(k)) for k in ("ModalitiesInStudy", "NumberOfSeriesRelatedInstances", "NumberOfStudyRelatedInstances")]
_ITEMS = {
    _REQUEST: ("AccessionNumber", "RequestedProcedureID"), _SCHEDULED: ("AccessionNumber", "StudyInstanceUID"),
    _REASON: ("CodeMeaning",), _WORKLIST: (),
    "IconImageSequence": (),    # known to come with lengths too short for its pixels, which would shift what follows
}
_WHOLE = {"sop_instance_uid", "study_instance_uid", "series_instance_uid", "patient_id"}    # useless when empty
_SINGLE = _WHOLE | {"accession_number", "issuer_of_patient_id"}                             # useless when several

_WORDS = (*_TEXTS.values(), *_STEP_TEXTS.values(), *_ALSO, *(k for pair in [*_INSTANTS.values(), *_STEP_INSTANTS.values()] for k in pair))
_TAG = {k: int(tag_for_keyword(k)) for k in (*_WORDS, *_ITEMS, *(k for inside in _ITEMS.values() for k in inside),
                                             "TransferSyntaxUID", "SourceApplicationEntityTitle", "MediaStorageSOPClassUID")}
_VR = {k: dictionary_VR(tag) for k, tag in _TAG.items()}
WANTED = frozenset(_TAG[k] for k in _WORDS)
OPENED = {_TAG[k]: frozenset(_TAG[i] for i in (*inside, "SpecificCharacterSet")) for k, inside in _ITEMS.items()}


# What differs between the images of a series; the rest of a row is made once.
_OWN_TEXTS, _OWN_INSTANTS = ("sop_instance_uid", "instance_number"), {c: _INSTANTS[c] for c in ("acquired_at", "created_at")}
_OWN_TIMES = [_TAG[k] for k in (*(k for pair in _OWN_INSTANTS.values() for k in pair), "AcquisitionDateTime", "TimezoneOffsetFromUTC")]
_CHARSET = _TAG["SpecificCharacterSet"]
_BESIDE = _CHARSET, _TAG["TimezoneOffsetFromUTC"]   # what they are read with
OWN = frozenset((*(_TAG[_TEXTS[c]] for c in _OWN_TEXTS), *_OWN_TIMES, *_BESIDE))
_OFFSET = re.compile(r"[+-][0-9]{4}")
_META = [_TAG[k] for k in ("TransferSyntaxUID", "SourceApplicationEntityTitle", "MediaStorageSOPClassUID")]
_as_json = json.JSONEncoder(ensure_ascii=False).encode
_MOST_SERIES = 4096
_SERIES = {}        # what tells rows apart that differ in more than the columns of `_own` -> (row, raw)


class _Notes(NamedTuple):
    codes: list
    raw: dict
    precision: list


def header_row(found, zone):
    """`("instances" | "performed_steps", row)` of what `read_elements` found; `zone` is for times without an offset.

    `("rejected", (code, reason))` for a worklist entry: it names a study that has no images yet.
    """
    own, doubts, raw = _own(found, zone) if found.likeness else (None, None, None)
    series = (zone, found.likeness, doubts, *found.codes, *[first(found.values, tag) for tag in _BESIDE], *[first(found.meta, tag) for tag in _META]) if found.likeness else None
    known = _SERIES.get(series)
    if known:
        row = {**known[0], **own}
        if raw:
            row["raw"] = _as_json({**known[1], **raw})
        return "instances", row
    found = found.whole()
    if _TAG[_WORKLIST] in found.items and _TAG["SOPInstanceUID"] not in found.values:
        return "rejected", ("WORKLIST_ENTRY", "a modality worklist entry, not an image; leave the worklist folder out")
    notes = _Notes(list(found.codes), {}, [])
    sop_class = _text(found, "", "SOPClassUID", _Notes([], {}, [])) or _meta(found, "MediaStorageSOPClassUID")
    is_step = sop_class == PERFORMED_STEP_CLASS or (not sop_class and _TAG["PerformedProcedureStepStatus"] in found.values)
    row = (_step if is_step else _instance)(found, notes, zone)
    notes.codes.append(character_set(first(found.values, _CHARSET))[1])
    row["problems"] = " ".join(c for c in dict.fromkeys(notes.codes) if c)
    if not is_step:
        row["precision"] = " ".join(notes.precision)
        row["raw"] = _as_json(notes.raw) if notes.raw else ""
        if series:
            if len(_SERIES) >= _MOST_SERIES:
                _SERIES.clear()
            _SERIES[series] = dict(row), notes.raw
    return "performed_steps" if is_step else "instances", row


def answer_row(found, zone):
    """`header_row` of an archive's answer, with `COUNTED` among its values: one about a study or series has no SOP Instance UID to miss."""
    table, row = header_row(found, zone)
    if table != "instances" or row["sop_instance_uid"]:
        return table, row
    problems = " ".join(code for code in row["problems"].split() if code != "EMPTY_ID")
    kinds = found.values.get(_MODALITIES, [b""])[0].decode("latin-1").split("\\")
    count = next((v[0] for tag in _COUNTS if (v := found.values.get(tag))), b"").strip(b" \0")
    return table, {**row, "problems": problems if row["patient_id"] and row["study_instance_uid"] else add_problem(problems, "EMPTY_ID"),
                   "modality": row["modality"] or next((k.strip() for k in kinds if k.strip() not in NOT_IMAGES), kinds[0].strip()),
                   "n_instances": int(count) if count.isdigit() and len(count) <= 12 else None}


def _own(found, zone):
    """`(columns, doubts, raw)` of what differs between the images of a series."""
    notes = _Notes([], {}, [])
    row = {column: _text(found, column, _TEXTS[column], notes) for column in _OWN_TEXTS}
    row.update(_instants(found, _OWN_INSTANTS, notes, zone))
    return row, (*notes.codes, *notes.precision, *notes.raw, row["sop_instance_uid"] == ""), notes.raw


def _instance(found, notes, zone):
    row = {column: _text(found, column, keyword, notes) for column, keyword in _TEXTS.items()}
    notes.codes.extend("EMPTY_ID" for column in _WHOLE if not row[column])
    row["laterality"] = _text(found, "laterality", "Laterality", notes) or _text(found, "laterality", "ImageLaterality", notes)
    row["patient_birth_date"] = _birth_date(found, notes)
    row["transfer_syntax_uid"] = _meta(found, "TransferSyntaxUID")
    row["source_ae_title"] = _meta(found, "SourceApplicationEntityTitle")
    row["requested_accession_numbers"] = _of_items(found, _REQUEST, "AccessionNumber", notes)
    row["requested_procedure_ids"] = _of_items(found, _REQUEST, "RequestedProcedureID", notes)
    row["n_frames"] = _n_frames(found, notes)
    return {**row, **_instants(found, _INSTANTS, notes, zone)}


def _step(found, notes, zone):
    row = {column: _text(found, column, keyword, notes) for column, keyword in _STEP_TEXTS.items()}
    row["study_instance_uid"] = _of_items(found, _SCHEDULED, "StudyInstanceUID", notes)
    row["accession_number"] = _of_items(found, _SCHEDULED, "AccessionNumber", notes)
    row["discontinuation_reason"] = _of_items(found, _REASON, "CodeMeaning", notes)
    return {**row, **_instants(found, _STEP_INSTANTS, notes, zone)}


def _plain(found, keyword):
    """The first value as text of the default repertoire, for dates, times and numbers."""
    return first(found.values, _TAG[keyword]).decode("latin-1").strip(PADDING)


def _meta(found, keyword):
    return clean(first(found.meta, _TAG[keyword]).decode("latin-1"), _VR[keyword])[0]


def _text(found, column, keyword, notes):
    values = found.values.get(_TAG[keyword])
    if not values:
        return ""
    charset = first(found.values, _CHARSET)
    shown, codes, spelled = show(values[0], _VR[keyword], charset)
    notes.codes.extend(codes)
    if column in _SINGLE and "\\" in (shown if spelled is None else spelled):
        notes.codes.append("MULTI_VALUE")
    if len(values) > 1:
        notes.raw[column] = tuple(decode(v, charset)[0].strip(PADDING) for v in values)
    elif spelled is not None:
        notes.raw[column] = spelled
    return shown


def _of_items(found, sequence, keyword, notes):
    """The distinct values in the items of a top-level sequence, in their order, space-separated."""
    texts = []
    for item in found.items.get(_TAG[sequence], []):
        shown, codes, _ = show(first(item, _TAG[keyword]), _VR[keyword], first(item, _CHARSET) or first(found.values, _CHARSET))
        notes.codes.extend(codes)
        texts.append(shown)
    return " ".join(dict.fromkeys(filter(None, texts)))


def _birth_date(found, notes):
    text = _plain(found, "PatientBirthDate")
    if parse_dicom_time(text, "", "UTC")[2]:
        notes.codes.append("BAD_DATE")
        return clean(text, "DA")[0]
    if "." in text:
        notes.raw["patient_birth_date"] = text
    return text.replace(".", "")


def _n_frames(found, notes):
    text = _plain(found, "NumberOfFrames")
    if not text:
        return 1 if _TAG["Rows"] in found.values else None
    if re.fullmatch(r"\+?0*[1-9][0-9]{0,9}", text):
        return int(text)
    notes.codes.append("BAD_NUMBER")
    notes.raw["n_frames"] = text


def _offset(found, notes):
    text = _plain(found, "TimezoneOffsetFromUTC")
    if not text or _OFFSET.fullmatch(text):
        return text
    notes.codes.append("BAD_TIME")
    notes.raw["offset"] = text
    return ""


def _instants(found, pairs, notes, zone):
    offset, row = _offset(found, notes), {}
    for column, words in pairs.items():
        date, time = words
        text, parsed = _moment(first(found.values, _TAG[date]), first(found.values, _TAG[time]), zone, offset)
        row[column] = _noted(column, parsed if _is_read(found, words) else (None, "", ""), text, notes)
    text = _plain(found, "AcquisitionDateTime")
    if text and "acquired_at" in pairs and _is_read(found, ["AcquisitionDateTime"]):
        if len(text) > 8 and offset and not re.search(r"[+-][0-9]{4}$", text):
            text += offset
        row["acquired_at"] = _noted("acquired_at", parse_time(text, zone), text, notes) or row["acquired_at"]
    return row


@lru_cache(1 << 16)
def _moment(date, time, zone, offset):
    """`(text, (instant, precision, code))` of raw DA and TM values."""
    date, time = (raw.decode("latin-1").strip(PADDING) for raw in (date, time))
    return f"{date} {time}".strip(), parse_dicom_time(date, time, zone, offset)


def _is_read(found, words):
    """Whether reading got past the parts of a time and the offset: without them it would be another instant."""
    return found.reached == ALL_READ or found.reached >= max(_TAG[w] for w in (*words, "TimezoneOffsetFromUTC"))


def _noted(column, parsed, text, notes):
    """The instant of a parsed time, its doubts and precision noted."""
    instant, precision, code = parsed
    if precision == "second" and not code and not notes.precision:
        return instant
    notes.codes.append(code)
    if text and (code or instant is None):
        notes.raw[column] = text
    if instant is not None:
        notes.precision[:] = [p for p in notes.precision if not p.startswith(column + "=")]
        if precision != "second":
            notes.precision.append(f"{column}={precision}")
    return instant
