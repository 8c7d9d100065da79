"""Whether two records speak of one person, and if not, how their identifiers differ (findings U05a to U05e)."""

import re
import unicodedata
from itertools import product

import pandas as pd
from rapidfuzz.distance import OSA
from rapidfuzz.fuzz import ratio, token_sort_ratio

MAX_TYPO = 2            # edits, a swap counts as one
SAME_NAME = 85          # rapidfuzz token_sort_ratio, 0..100
LIKE_NAME = 50          # rapidfuzz ratio of two parts, above which one may be the other in another spelling
_TEMPORARY = re.compile(r"(?<![^\W\d_])(?:DOE|UNKNOWN|UNK|TRAUMA|UNIDENTIFIED|TEMP)(?![^\W\d_])", re.I)
_LETTERS = re.compile(r"[^\W\d_]+")
_ANYBODY = {"JOHN", "JANE", "JON", "BABY", "INFANT", "BOY", "GIRL", "MALE", "FEMALE", "MAN", "WOMAN", "XX", "XXX", "NN"}
LAST_PLACEHOLDER = "19011231"       # birth dates until then stand for none
_NOT_A_PATIENT = re.compile(r"\b(PHANTOM|QC|QUALITY|SERVICE)\b", re.I)


def is_temporary(person):
    """True when the id or the name is one that registration gives before it knows who somebody is. A Doe of no birth date is nobody yet either."""
    if _TEMPORARY.search(person["patient_id"]) or is_temporary_name(person["patient_name"]):
        return True
    return bool(_TEMPORARY.search(person["patient_name"])) and person.get("patient_birth_date", "?") <= LAST_PLACEHOLDER


def is_temporary_name(name):
    """True when a name is one that registration gives before it knows who somebody is. Doe is a family's name too: only John, Jane, Baby ... Doe is nobody."""
    if not _TEMPORARY.search(name):
        return False
    words = {*_LETTERS.findall(name.upper())}
    rest = {word for word in words - {"DOE"} if len(word) > 1}
    return rest <= _ANYBODY or any(_TEMPORARY.fullmatch(word) for word in rest)


def have_temporary_names(names):
    """A column of True where a column of names has such a one."""
    return names.isin([name for name in names.unique() if is_temporary_name(name)])


def name_parts(name):
    """The parts of a name in one order."""
    return " ".join(sorted(name.upper().replace("^", " ").split()))


def near_birth_dates(one, other):
    """True when two birth dates (YYYYMMDD) differ by at most a keystroke, or have day and month swapped."""
    return edits(one, other) <= 1 or one[:4] == other[:4] and one[4:] == other[6:] + other[4:6]


def is_stranger(one, other):
    """True when two records give other names, and other sexes or birth dates more than a slip apart: no spelling of one person. Placeholders tell nothing."""
    names = [person["patient_name"] for person in (one, other)]
    if not all(names) or any(map(is_temporary_name, names)) or same_name(*names):
        return False
    born, sexes = [person["patient_birth_date"] for person in (one, other)], {person["patient_sex"] for person in (one, other)}
    return sexes == {"F", "M"} or min(born) > LAST_PLACEHOLDER and not near_birth_dates(*born)


def have_other_first_names(one, other):
    """True when the names of two records differ in more than the family's: neither first name is short for the other, nor a slip away."""
    given = [name_parts(person["patient_name"].partition("^")[2] or person["patient_name"]) for person in (one, other)]
    is_short = given[0].startswith(given[1]) or given[1].startswith(given[0])
    return not is_short and edits(*given) > 1 and not same_name(one["patient_name"], other["patient_name"])


def are_wholly_other_names(one, other):
    """True when two full names share nothing: no part of one is, begins or resembles a part of the other. Placeholders and other scripts are not judged."""
    if one == other or is_temporary_name(one) or is_temporary_name(other):
        return False
    plain = [unicodedata.normalize("NFKD", name.partition("=")[0].casefold()) for name in (one, other)]
    parts = [_LETTERS.findall("".join(c for c in name if not unicodedata.combining(c))) for name in plain]
    if min(map(len, parts)) < 2 or not all(part.isascii() for part in sum(parts, [])):
        return False
    return not any(a.startswith(b) or b.startswith(a) or ratio(a, b) >= LIKE_NAME for a, b in product(*parts))


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
    """`{patient_id: (patient_name, patient_birth_date)}` of everybody the HL7 feed names, by the latest word of the last table that has one."""
    people = {}
    for table in tables:
        rows = table.loc[(table["patient_id"] != "") & (table["patient_name"] != ""), ["patient_id", "patient_name", "patient_birth_date"]]
        at = table[next(c for c in ("at", "ordered_at", "message_at") if c in table.columns)].reindex(rows.index)
        rows = rows.assign(at=at).sort_values("at", na_position="first").drop_duplicates(["patient_id", "patient_name", "patient_birth_date"], keep="last")
        words = sorted((pd.Timestamp.min.tz_localize("UTC") if pd.isna(when) else when, pid, name, born) for pid, name, born, when in rows.itertuples(index=False))
        people |= {pid: (name, born) for _, pid, name, born in words}
    return people
