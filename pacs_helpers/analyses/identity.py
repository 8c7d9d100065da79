"""Whether two records speak of one person, and if not, how their identifiers differ (findings U05a to U05e)."""

import re

from rapidfuzz.distance import OSA
from rapidfuzz.fuzz import token_sort_ratio

MAX_TYPO = 2            # edits, a swap counts as one
SAME_NAME = 85          # rapidfuzz token_sort_ratio, 0..100
_TEMPORARY = re.compile(r"\b(DOE|UNKNOWN|UNK|TRAUMA|UNIDENTIFIED|TEMP|JANE DOE|JOHN DOE)|^(UNK|TRAUMA|TEMP|DOE)[_\d-]", re.I)
_NOT_A_PATIENT = re.compile(r"\b(PHANTOM|QC|QUALITY|SERVICE)\b", re.I)


def is_temporary(person):
    """True when the id or the name is one that registration gives before it knows who somebody is."""
    return bool(_TEMPORARY.search(person["patient_id"]) or _TEMPORARY.search(person["patient_name"].replace("^", " ")))


def is_not_a_patient(person):
    """True for phantoms and quality control."""
    return bool(_NOT_A_PATIENT.search(f"{person['patient_id']} {person['patient_name'].replace('^', ' ')}"))


def plain_id(patient_id):
    """An id without letter prefix, punctuation and leading zeros, to find two spellings of one number."""
    text = re.sub(r"[^0-9A-Z]", "", patient_id.upper())
    digits = re.sub(r"^[A-Z]+", "", text).lstrip("0")
    return digits or text


def edits(one, other):
    """Single edits (insert, delete, replace, swap of neighbours) from one text to the other."""
    return OSA.distance(one, other)


def same_name(one, other):
    """True when both names are given and alike whatever the order and punctuation of their parts."""
    clean = [re.sub(r"[\^,.=]+", " ", n).upper() for n in (one, other)]
    return bool(clean[0].strip() and clean[1].strip()) and token_sort_ratio(*clean) >= SAME_NAME


def same_birth_date(one, other):
    """True when both birth dates are given and equal."""
    return bool(one) and one == other


def same_person(one, other, merged, known):
    """True when the ids are equal after merges, or name and birth date agree and not both ids are registered as different people."""
    ids = [merged.get(p["patient_id"], p["patient_id"]) for p in (one, other)]
    if ids[0] and ids[0] == ids[1]:
        return True
    if all(i in known for i in ids):
        return False
    return same_name(one["patient_name"], other["patient_name"]) and same_birth_date(one["patient_birth_date"], other["patient_birth_date"])


def known_people(*tables):
    """`{patient_id: (patient_name, patient_birth_date)}` of everybody the HL7 feed names, latest word last."""
    people = {}
    for table in tables:
        for pid, name, born in zip(table["patient_id"], table["patient_name"], table["patient_birth_date"]):
            if pid and name:
                people[pid] = (name, born)
    return people


def compare_ids(study, partner, merged, known):
    """`(code, confidence, evidence)` of how a study's patient differs from its partner's in the HL7 feed, or None.

    Codes in order of precedence: U05c (merged id), U05d (temporary), U05b (spelling), U05e (another known person), U05a (typo).
    """
    sid, pid = study["patient_id"], partner["patient_id"] if partner else ""
    if sid and merged.get(sid, sid) != sid:
        return "U05c", 0.95, f"images carry {sid}, which was merged into {merged[sid]}; the archive still has the old ID"
    pid = merged.get(pid, pid)
    if is_temporary(study):
        return "U05d", 0.9, f"images are filed under the temporary identity {sid or '(no ID)'}" + (f"; the exam belongs to {pid}" if pid and pid != sid else "")
    if not pid or sid == pid:
        return None
    if not sid:
        return "U05a", 0.8, f"images carry no patient ID; the exam belongs to {pid}"
    if plain_id(sid) == plain_id(pid):
        return "U05b", 0.95, f"images say {sid}, the feed says {pid}: the same number, written differently"
    return _other_id(study, partner, sid, pid, known)


def _other_id(study, partner, sid, pid, known):
    name_agrees = same_name(study["patient_name"], partner["patient_name"])
    born_agrees = same_birth_date(study["patient_birth_date"], partner["patient_birth_date"])
    if sid in known:
        return "U05e", 0.9, f"images carry {sid}, the ID of another known patient; the exam belongs to {pid}"
    n = edits(sid, pid)
    if n <= MAX_TYPO:
        agree = [w for w, ok in (("name", name_agrees), ("birth date", born_agrees)) if ok]
        swap = "two neighbouring characters swapped" if n == 1 and len(sid) == len(pid) and sorted(sid) == sorted(pid) else f"{n} character{'s' if n > 1 else ''} differ"
        return "U05a", 0.6 + 0.15 * len(agree), f"images say {sid}, the feed says {pid}: {swap}" + (f"; {' and '.join(agree)} agree" if agree else "")
    if name_agrees and born_agrees:
        return "U05b", 0.6, f"images say {sid}, the feed says {pid}; name and birth date agree, so this may be another system's number"
    return "U05e", 0.6, f"images carry {sid}, unknown to the feed, under another name or birth date; the exam belongs to {pid}"
