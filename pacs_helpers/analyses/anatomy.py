"""Body regions, sides and modalities in words, so that an order and its images can be held against each other."""

import re

_REGIONS = {
    "head": "HEAD|BRAIN|SKULL|ORBIT|SINUS|FACE|FACIAL|IAC|PITUITARY|TEMPORAL|STROKE",
    "neck": "NECK|THYROID|CAROTID|SOFT TISSUE NECK",
    "spine": r"SPINE|LSPINE|CSPINE|TSPINE|LUMBAR|CERVICAL|THORACIC SPINE|SACRUM",
    "chest": "CHEST|THORAX|LUNG|RIB|STERNUM|CARDIAC|HEART|CORONARY|MYOCARD",
    "abdomen": "ABD|ABDOMEN|LIVER|KIDNEY|RENAL|PANCREAS|GALLBLADDER|SPLEEN|HEPATOBILIARY",
    "pelvis": r"PELVIS|PELVIC|BLADDER|PROSTATE|UTERUS|OB\b|OBSTETRIC|TRIMESTER|HIP",
    "breast": "BREAST|MAMMO",
    "arm": "SHOULDER|ARM|HUMERUS|ELBOW|FOREARM|WRIST|HAND|FINGER|CLAVICLE|UPPER EXTREMITY",
    "leg": "KNEE|LEG|FEMUR|TIBIA|FIBULA|ANKLE|FOOT|TOE|LOWER EXTREMITY|CALCANEUS",
}
_PATTERNS = {name: re.compile(rf"(?<![A-Z])(?:{words})") for name, words in _REGIONS.items()}
# Obstetric ultrasound is coded as abdomen or pelvis by the maker, a hip as pelvis or leg by the site.
_TOUCHING = ({"head", "neck"}, {"neck", "chest"}, {"neck", "spine"}, {"chest", "abdomen"}, {"abdomen", "pelvis"}, {"pelvis", "leg"},
             {"chest", "spine"}, {"abdomen", "spine"}, {"pelvis", "spine"}, {"chest", "arm"}, {"chest", "breast"})
_SAME_MODALITY = ({"CR", "DX", "RG", "RF", "XR"}, {"PT", "CT", "NM"}, {"SR", "OT", "SC", "DOC", "KO", "PR"})


def regions_of(text, modality=""):
    """The set of body regions a procedure name or Body Part Examined (0018,0015) speaks of; empty when it names none."""
    upper = text.upper()
    if re.search(r"WHOLE ?BODY", upper):
        return set(_REGIONS)
    found = {name for name, pattern in _PATTERNS.items() if pattern.search(upper)}
    if "spine" in found and not re.search(r"NECK|CHEST|ABD|PELVI", upper):
        found = {"spine"}
    return found or ({"breast"} if modality == "MG" else set())


def regions_conflict(one, other):
    """True when both name regions and none of one is, or touches, one of the other."""
    return bool(one and other) and not one & other and not regions_adjoin(one, other)


def regions_adjoin(one, other):
    """True when a region of one is, or lies next to, a region of the other."""
    return bool(one & other) or any({a, b} in _TOUCHING for a in one for b in other)


def side_of(text):
    """"L" or "R" when a name or Laterality (0020,0060) says one side, else ""."""
    words = set(re.split(r"[^A-Z]+", text.upper()))
    sides = {side for side, spelled in {"L": {"L", "LEFT", "LT"}, "R": {"R", "RIGHT", "RT"}}.items() if words & spelled}
    return sides.pop() if len(sides) == 1 and not words & {"BILATERAL", "BILAT", "B", "BOTH"} else ""


def modalities_conflict(one, other):
    """True when both are known and no scanner could be called both."""
    return bool(one and other) and one != other and not any({one, other} <= same for same in _SAME_MODALITY)
