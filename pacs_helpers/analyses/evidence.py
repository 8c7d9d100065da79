"""What two records of one exam have in common, field by field, as levels from equal to contradicting; 0 is the best, NOT_TOLD says nothing."""

import re
from functools import cache

import numpy as np
from rapidfuzz.fuzz import token_sort_ratio

from .anatomy import modalities_conflict, regions_adjoin, regions_of, side_of
from .identity import SAME_NAME, edits, near_birth_dates, plain_id

NOT_TOLD = -1
_KEYBOARD = ("1234567890", "QWERTYUIOP", "ASDFGHJKL", "ZXCVBNM", "741", "852", "963")     # the number pad too
_NEIGHBOURS = {frozenset(pair) for row in _KEYBOARD for pair in zip(row, row[1:])}

# Words of each level, and how often it is seen with one exam, with two exams of one person, with two people: what is believed before a site's
# own matches say otherwise.
FIELDS = {
    "patient_id": (("same patient ID", "patient ID equal but for its spelling", "patient ID differs by one slip of the keys", "patient ID differs in 1 character",
                    "patient ID differs in 2 characters", "another patient ID"), (0.9, 0.03, 0.02, 0.02, 0.01, 0.02), None, (1e-5, 1e-6, 2e-5, 1e-4, 2e-3, 0.998)),
    "name": (("name agrees", "same name in another order or script", "name alike", "part of the name agrees", "another name"),
             (0.93, 0.03, 0.02, 0.01, 0.01), None, (1e-3, 1e-4, 5e-3, 0.04, 0.95)),
    "birth_date": (("birth date agrees", "birth date differs in one digit, or day and month are swapped", "another birth date"), (0.98, 0.01, 0.01), None, (1e-4, 1e-3, 0.998)),
    "sex": (("same sex", "other sex"), (0.99, 0.01), None, (0.5, 0.5)),
    "accession": (("same accession number", "accession number differs by one slip of the keys", "accession number differs in 1 character", "accession number differs in 2 characters",
                   "another accession number"), (0.5, 0.2, 0.2, 0.05, 0.05), (1e-4, 0.01, 0.02, 0.08, 0.89), (1e-4, 0.002, 0.005, 0.04, 0.953)),
    "modality": (("same modality", "modality of the same kind", "other modality"), (0.97, 0.02, 0.01), (0.4, 0.05, 0.55), (0.3, 0.05, 0.65)),
    "region": (("body region fits", "neighbouring body region", "another body region"), (0.94, 0.04, 0.02), (0.3, 0.15, 0.55), (0.2, 0.15, 0.65)),
    "side": (("same side", "other side"), (0.98, 0.02), (0.5, 0.5), (0.5, 0.5)),
    "words": (("procedure in the same words", "procedure in other words"), (0.6, 0.4), (0.2, 0.8), (0.1, 0.9)),
    "time": (("at the usual time after it was due", "near the usual time", "rarely so far apart", "never so far apart"),
             (0.7, 0.24, 0.05, 0.01), (0.02, 0.05, 0.1, 0.83), (0.005, 0.02, 0.05, 0.925)),
    "station": (("on a station usual for it", "on a station it never was on"), (0.98, 0.02), (0.6, 0.4), (0.4, 0.6)),
    "taken": (("has no partner yet", "already has a partner of its own"), (0.95, 0.05), (0.1, 0.9), (0.1, 0.9)),
}
PERSON = ("patient_id", "name", "birth_date", "sex")


@cache
def _slip(one, other):
    """Edits from one to the other, one less clear than a half: 0.5 for neighbours swapped, a neighbouring key, or a key pressed twice or not at all."""
    n = edits(one, other)
    if n != 1:
        return n
    if len(one) != len(other):
        return 0.5
    changed = [(a, b) for a, b in zip(one, other) if a != b]
    return 0.5 if len(changed) == 2 or frozenset(changed[0]) in _NEIGHBOURS else 1


def _compare_numbers(one, other, steps):
    if not one or not other:
        return NOT_TOLD
    n = _slip(one, other)
    return steps.index(n) if n in steps else len(steps)


@cache
def _compare_ids(one, other):
    if not one or not other:
        return NOT_TOLD
    if ("^" in one) != ("^" in other) and one.partition("^")[0] == other.partition("^")[0]:
        return NOT_TOLD         # a number of two issuers, and a record that does not say which
    plain = plain_id(one), plain_id(other)
    return 0 if one == other else 1 if plain[0] == plain[1] else 2 + _compare_numbers(*plain, (0.5, 1, 2))


@cache
def _scripts(name):
    """The parts of each component group of a person name (PS3.5 6.2), in one order."""
    groups = (re.split(r"[\^\s,.]+", group.upper()) for group in name.split("="))
    return {" ".join(sorted(filter(None, parts))) for parts in groups} - {""}


@cache
def _compare_names(one, other):
    mine, theirs = _scripts(one), _scripts(other)
    if not mine or not theirs:
        return NOT_TOLD
    if mine & theirs:
        return 0 if one.upper() == other.upper() else 1
    pairs = [(a, b) for a in mine for b in theirs]
    if any(token_sort_ratio(a, b) >= SAME_NAME or edits(a, b) <= 1 for a, b in pairs):
        return 2
    return 3 if any(set(a.split()) & set(b.split()) for a, b in pairs) else 4


@cache
def _compare_birth_dates(one, other):
    if not one or not other:
        return NOT_TOLD
    return 0 if one == other else 1 if near_birth_dates(one, other) else 2


@cache
def _compare_modalities(one, other):
    return NOT_TOLD if not one or not other else 0 if one == other else 2 if modalities_conflict(one, other) else 1


@cache
def _compare_regions(procedure, modality, part, description, other_modality):
    wanted, seen = regions_of(procedure, modality), regions_of(part or description, other_modality)
    return NOT_TOLD if not wanted or not seen else 0 if wanted & seen else 1 if regions_adjoin(wanted, seen) else 2


@cache
def _compare_sides(procedure, laterality, description):
    sides = side_of(procedure), side_of(laterality) or side_of(description)
    return int(sides[0] != sides[1]) if all(sides) else NOT_TOLD


@cache
def _compare_words(procedure, description):
    words = [set(re.findall(r"[^\W_]{3,}", text.upper())) for text in (procedure, description)]
    return int(not words[1] <= words[0] and not words[0] <= words[1]) if all(words) else NOT_TOLD


def compare_pairs(items, studies, pairs, links, habits, taken):
    """An int8 array of levels, one row per pair of positions and one column per field of FIELDS. `habits` are those of `learn_habits`, `taken` flags pairs."""
    i, s = pairs
    levels = np.full((len(i), len(FIELDS)), NOT_TOLD, dtype=np.int8)

    def fill(field, compare, mine, theirs):
        columns = [items.column(name)[i] for name in mine] + [studies.column(name)[s] for name in theirs]
        levels[:, list(FIELDS).index(field)] = np.fromiter(map(compare, *columns), dtype=np.int8, count=len(i))

    def current(pid):
        return links.merged.get(pid, pid)

    fill("patient_id", lambda a, b: _compare_ids(current(a), current(b)), ("patient_id",), ("patient_id",))
    fill("name", _compare_names, ("patient_name",), ("patient_name",))
    fill("birth_date", _compare_birth_dates, ("patient_birth_date",), ("patient_birth_date",))
    fill("sex", lambda a, b: int(a != b) if a in ("F", "M") and b in ("F", "M") else NOT_TOLD, ("patient_sex",), ("patient_sex",))
    fill("accession", lambda a, b: _compare_numbers(links.clean(a), links.clean(b), (0, 0.5, 1, 2)), ("accession_number",), ("accession_number",))
    fill("modality", _compare_modalities, ("modality",), ("modality",))
    fill("region", _compare_regions, ("procedure_name", "modality"), ("body_part_examined", "study_description", "modality"))
    fill("side", _compare_sides, ("procedure_name",), ("laterality", "study_description"))
    fill("words", _compare_words, ("procedure_name",), ("study_description",))
    fill("station", lambda a, b, c: habits.station(a, b, c), ("section", "modality"), ("station_name",))
    levels[:, list(FIELDS).index("time")] = habits.time(hours_apart(items, studies, pairs))
    levels[:, list(FIELDS).index("taken")] = taken
    return levels


def hours_apart(items, studies, pairs):
    """Hours from when each item was due, or observed, to the begin of the study; nan where either is not told."""
    i, s = pairs
    due, begun = _first_told(items, "scheduled_at", "observed_at", "ordered_at")[i], _first_told(studies, "started_at", "study_at")[s]
    return np.where(np.isnat(due) | np.isnat(begun), np.nan, (begun - due) / np.timedelta64(1, "h"))


def _first_told(rows, *names):
    columns = [rows.column(name) for name in names if name in rows]
    found = columns[0]
    for column in columns[1:]:
        found = np.where(np.isnat(found), column, found)
    return found
