"""Body regions, sides and modalities in words, so that an order and its images can be held against each other."""

import re
from functools import lru_cache

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
_SEX_BOUND = {"M": re.compile(r"(?<![A-Z])(?:PROSTAT|SCROT|TESTIC|TEST[IE]S\b|PENIS|PENILE)"),
              "F": re.compile(r"(?<![A-Z])(?<!NON.)(?:OB\b|OBSTETR|UTER(?:US|INE)|OVAR|PREGNAN|FO?ETAL|TRIMESTER|TRANSVAGIN|HYSTEROS|ENDOMETR)")}
_AGE_BOUND = ((re.compile(r"(?<![A-Z])(?:NEWBORN|NEONAT|BABYGRAM)"), 3), (re.compile(r"(?<![A-Z])(?:PEDS?\b|PA?EDIATRIC|INFANT|CHILD(?!REN))"), 25))
_SAME_MODALITY = ({"CR", "DX", "RG", "RF", "XR"}, {"PT", "CT", "NM"}, {"SR", "OT", "SC", "DOC", "KO", "PR"})


@lru_cache(maxsize=1 << 14)
def regions_of(text, modality=""):
    """The frozenset of body regions a procedure name or Body Part Examined (0018,0015) speaks of; empty when it names none."""
    upper = text.upper()
    if re.search(r"WHOLE ?BODY", upper):
        return frozenset(_REGIONS)
    found = {name for name, pattern in _PATTERNS.items() if pattern.search(upper)}
    if "spine" in found and not re.search(r"NECK|CHEST|ABD|PELVI", upper):
        found = {"spine"}
    return frozenset(found or ({"breast"} if modality == "MG" else ()))


def regions_conflict(one, other):
    """True when both name regions and none of one is, or touches, one of the other."""
    return bool(one and other) and not one & other and not regions_adjoin(one, other)


def regions_adjoin(one, other):
    """True when a region of one is, or lies next to, a region of the other."""
    return bool(one & other) or any({a, b} in _TOUCHING for a in one for b in other)


@lru_cache(maxsize=1 << 14)
def side_of(text):
    """"L" or "R" when a name or Laterality (0020,0060) says one side, else ""."""
    words = set(re.split(r"[^A-Z]+", text.upper()))
    sides = {side for side, spelled in {"L": {"L", "LEFT", "LT"}, "R": {"R", "RIGHT", "RT"}}.items() if words & spelled}
    return sides.pop() if len(sides) == 1 and not words & {"BILATERAL", "BILAT", "B", "BOTH"} else ""


def modalities_conflict(one, other):
    """True when both are known and no scanner could be called both."""
    return bool(one and other) and one != other and not any({one, other} <= same for same in _SAME_MODALITY)


@lru_cache(maxsize=1 << 14)
def sex_bound(text):
    """"F" or "M" when only that sex has what a procedure name or body part speaks of, else ""."""
    sexes = [sex for sex, pattern in _SEX_BOUND.items() if pattern.search(text.upper())]
    return sexes[0] if len(sexes) == 1 else ""


@lru_cache(maxsize=1 << 14)
def age_bound(text):
    """The age in years below which a patient must be for a procedure of that name (newborns, children), else None."""
    return next((years for pattern, years in _AGE_BOUND if pattern.search(text.upper())), None)
