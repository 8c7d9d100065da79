"""What DIMSE codes and SOP class names of logs stand for: status categories, class UIDs, modalities."""

import re
from functools import lru_cache
from typing import NamedTuple

from pydicom.uid import UID_dictionary

from ..schemas import SERVICES

# Keyword of the SOP class begins with -> Modality (0008,0060), PS3.3 C.7.3.1.1.1. A class that several modalities use is left out.
CLASS_MODALITIES = (
    (r"(Enhanced|LegacyConvertedEnhanced)?CTImage", "CT"), (r"(Enhanced|LegacyConvertedEnhanced)?MR(Color)?Image|MRSpectroscopy", "MR"),
    ("Ultrasound|EnhancedUSVolume", "US"), ("ComputedRadiography", "CR"), ("DigitalXRay", "DX"),
    ("DigitalMammography|BreastTomosynthesis", "MG"), ("DigitalIntraOral", "IO"), ("NuclearMedicine", "NM"),
    ("(LegacyConvertedEnhanced|Enhanced)?P(ositronEmissionTomography|ET)Image", "PT"),
    ("XRayAngiographic|EnhancedXA", "XA"), ("XRayRadiofluoroscopic|EnhancedXRF", "RF"), ("RTImage", "RTIMAGE"), ("RTDose", "RTDOSE"),
    ("RTStructureSet", "RTSTRUCT"), ("RTPlan|RTIonPlan", "RTPLAN"), ("OphthalmicPhotography", "OP"), ("OphthalmicTomography", "OPT"),
    (r"\w*SR(Storage|$)", "SR"), ("KeyObjectSelection", "KO"), (r"\w+PresentationState", "PR"),
)
# The letters in "(MsgID 1, CT)" and in file names are DCMTK's (dcmSOPClassUIDToModality), not always the Modality value.
CODE_MODALITIES = {"DXm": "MG", "DXo": "IO", "RI": "RTIMAGE", "RD": "RTDOSE", "RS": "RTSTRUCT", "RP": "RTPLAN",
                   "SRt": "SR", "SRe": "SR", "SRc": "SR",
                   **{code: code for code in ("CT", "MR", "US", "CR", "DX", "NM", "PT", "XA", "RF", "MG", "IO", "SR", "KO", "OP")}}
SERVICE_WORDS = {word: f"C-{word.upper()}" for word in ("Echo", "Store", "Find", "Move", "Get")} | {"FindWorklist": "C-FIND"} | {name: name for name in SERVICES}


def status_category(code):
    """Success, Warning, Failure, Cancel or Pending of a status of four hex digits (PS3.7 Annex C); None for none."""
    code = code.upper()
    if not code:
        return None
    if code[0] == "B" or code in ("0001", "0107", "0116"):
        return "Warning"
    return {"0000": "Success", "FE00": "Cancel", "FF00": "Pending", "FF01": "Pending"}.get(code, "Failure")


def status_of_words(words):
    """`(code, category)` of a status in DCMTK's words, such as `Success` or `Refused: OutOfResources`; the code only where one fits."""
    if not words:
        return "", None
    first = re.split(r"[:\s]", words.strip())[0].casefold()
    return {"success": ("0000", "Success"), "pending": ("FF00", "Pending"), "cancel": ("FE00", "Cancel"), "canceled": ("FE00", "Cancel"),
            "warning": ("", "Warning")}.get(first, ("", "Failure"))


def _name_key(name):
    return re.sub(r"^(find|move|get)(.+)$", r"\2\1", re.sub(r"\W", "", name.casefold()).removesuffix("sopclass"))


_UIDS = {_name_key(entry[4]): uid for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class" and entry[4]}


@lru_cache(maxsize=1024)
def sop_class(name):
    """`(uid, modality)` of a SOP class named as DCMTK names it, or by its UID; empty where unknown or shared by modalities."""
    uid = name if re.fullmatch(r"[0-9.]+", name) else _UIDS.get(_name_key(name), "")
    keyword = UID_dictionary[uid][4] if uid in UID_dictionary else name
    return uid, next((modality for pattern, modality in CLASS_MODALITIES if re.match(pattern, keyword)), "")


DUMP_FIELD = r"(?P<field>Message Type|Affected SOP Class UID|Affected SOP Instance UID|DIMSE Status|Move Destination) +: *(?P<value>.*)"


class Dump(NamedTuple):
    service: str
    is_request: bool
    fields: dict
    status_code: str
    destination: str


def read_dump(lines):
    """A Dump of a DIMSE message as DCMTK prints it, from its lines as {name: value}."""
    service, is_request, uid, modality, status = _read_common(*map(lines.get, ("Message Type", "Affected SOP Class UID", "DIMSE Status"), ("", "", "")))
    fields = {"sop_class_uid": uid, "modality": modality, "sop_instance_uid": lines.get("Affected SOP Instance UID", "").strip()}
    return Dump(service, is_request, fields, status, lines.get("Move Destination", "").strip())


@lru_cache(maxsize=1024)
def _read_common(kind, name, status):
    service, _, way = kind.strip().partition(" ")
    code = re.match(r"0x([0-9a-fA-F]{4})", status)
    return service, way == "RQ" and service in SERVICES, *sop_class(name.strip()), code[1].upper() if code else ""
