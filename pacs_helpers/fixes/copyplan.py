"""Which files the standing decisions change, and into what: a plan that can be looked at before anything is written."""

import hashlib
import os
import re
from contextlib import suppress
from itertools import combinations

from pydicom.datadict import dictionary_VR, keyword_for_tag

from ..department import Department
from ..readers.headers import read_files
from ..schemas import NOT_IMAGES
from ..tables import SOURCES, TEXT, TableError, conform, require_columns
from .applied import find_stale, known_person
from .corrections import made_uid, read_corrections, split_study_uid
from .rewriting import ORIGINAL, UID, Refused, read_texts, rewrite

PLAN = {
    "output_name": (TEXT, "file name of the copy, empty where none is made"), "source_file": (TEXT, "file that is copied"), "changes": (TEXT, "`keyword old -> new`, one a line"),
    "uid_policy": (TEXT, "keep, or new: Series and SOP Instance UIDs of what moves to another study"), "decisions": (TEXT, "seq of the decisions, space-separated"),
    "study_instance_uid": (TEXT, "of the copy"), "series_instance_uid": (TEXT, "of the copy"), "sop_instance_uid": (TEXT, "of the copy"),
    "source_sha256": (TEXT, "of the source"), "output_sha256": (TEXT, "of the copy"), "problem": (TEXT, "why no copy is made, empty when one is"),
}
STUDY_LEVEL = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "StudyDescription",
               "ReferringPhysicianName", "AccessionNumber")
_TWO_PEOPLE = "PATIENTS_DIFFER: the files carry different patient IDs, names or birth dates, and joining them would give one the other's; correct the ID first"
_SEEN = ("sop_instance_uid", "study_instance_uid", "series_instance_uid", "patient_id", "accession_number")
_PERSON = ("patient_name", "patient_birth_date")
_UIDS = {"study_instance_uid": "StudyInstanceUID", "series_instance_uid": "SeriesInstanceUID", "sop_instance_uid": "SOPInstanceUID"}


def plan_copies(instances, ledger, *, dept, sources=None):
    """One row per file of `instances` that a standing decision changes: source and copy with their sha256, what changes, and whether UIDs are new.

    Nothing is written. A corrected patient ID brings the name, birth date and sex that the orders, else registration, of `dept` give for it.
    Decisions that `find_stale(dept, ledger)` lists are left out. A file of which no copy can be made has a `problem`.
    A file is the one that was loaded if its UIDs, patient ID, accession number and size are; with `sources`, the table of read_headers, also its sha256
    or, where that was not taken, the time it was last changed.
    """
    return conform([{name: row[name] for name in PLAN} for row in make_plan(instances, ledger, dept, sources)], PLAN)


def make_plan(instances, ledger, dept, sources=None):
    """The rows of plan_copies as dicts, each also with the arguments of `rewrite` and the size of the copy."""
    require_columns(instances, (*_SEEN, *_PERSON, "modality", "n_bytes", "source_file", "problems"), "instances")
    if sources is not None:
        require_columns(sources, ("source_file", "sha256", "modified_at"), "sources")
    if not isinstance(dept, Department):
        raise TableError(f"dept: what build_department returns is needed, not {type(dept).__name__}.")
    decisions = read_corrections(ledger)
    standing = decisions[~decisions["seq"].isin(find_stale(dept, ledger)["seq"]) & (decisions["kind"] != "dismiss")].to_dict("records")
    rows = _rows(instances, standing)
    for decision in standing:
        _MOVE.get(decision["kind"], _set_value)(rows, decision, dept)
    references = _renumber(rows)
    for row in rows:
        if references and not row["problem"] and _stays_and_refers(row, references):
            row["note"] = "REFERS_TO_MOVED: it keeps its references to images that move to another study; make it anew where it was made, or tell who reads it"
    rows = [row for row in rows if row["steps"] or row["problem"] or row["note"]]
    now = read_files((tuple((row["source_file"], None) for row in rows), "UTC", True))
    digests = dict(zip(now["sources"]["source_file"], now["sources"]["sha256"]))
    changed = _changed_since(sources, now["sources"])
    seen = {name: [*values, digests[name]] for name, *values in zip(*(now["instances"][column] for column in ("source_file", *_SEEN, "n_bytes"))) if name not in changed}
    planned = []
    for row in sorted(rows, key=lambda row: row["source_file"]):
        shown = _planned(row, references, seen)
        if row["note"] and not shown["problem"]:
            shown["changes" if shown["changes"] else "problem"] += "\n" * bool(shown["changes"]) + row["note"]
        if shown["problem"] or shown["changes"]:
            planned.append(shown)
    for number, row in enumerate((row for row in planned if not row["problem"]), 1):
        row["output_name"] = f"{number:06}.dcm"
    return planned


def _changed_since(sources, now):
    """The files that are not as `sources` tells, or not in it, as a set; none where there is no such table."""
    if sources is None:
        return set()
    told = {file: (digest, at) for file, digest, at in zip(sources["source_file"], sources["sha256"], sources["modified_at"])}
    found = conform(now, SOURCES)
    return {file for file, digest, at in zip(found["source_file"], found["sha256"], found["modified_at"])
            if file not in told or (told[file][0] != digest if told[file][0] else told[file][1] != at)}


def _rows(instances, standing):
    uids = {uid for d in standing for uid in (*d["target"].split(), d["new"])}
    uids |= {split_study_uid(d["target"], d["series"]) for d in standing if d["kind"] == "split"}
    mine = instances[instances["study_instance_uid"].isin(uids)]
    return [{**row, "home": row["study_instance_uid"], "seen": [*(row[c] for c in _SEEN), row["n_bytes"]], "steps": [], "moved_by": None, "problem": "", "note": ""}
            for row in mine[[*_SEEN, *_PERSON, "modality", "n_bytes", "source_file", "problems"]].fillna({"n_bytes": 0}).to_dict("records")]


def _step(row, decision, values, **now):
    row["steps"].append((decision["seq"], decision["decided_at"], values))
    row.update(now)


def _refuse(rows, problem):
    for row in rows:
        row["problem"] = row["problem"] or problem


def _set_value(rows, decision, dept):
    """An ID or an accession number on every file of the study, where it is still what was decided on."""
    column = decision["field"]
    old, new = (decision[name].split("^")[0] if column == "accession_number" else decision[name] for name in ("old", "new"))
    if column == "patient_id":
        values = {"PatientID": new, **_person(dept, new)}
    else:
        values = {"AccessionNumber": new, **({"RequestAttributesSequence": old} if old and old != new else {})}
    for row in rows:
        if row["study_instance_uid"] != decision["target"]:
            continue
        if row[column] in (old, new) or column == "accession_number" and not row[column]:
            _step(row, decision, values, **{column: new, **{name: values.get(keyword, row[name]) for name, keyword in zip(_PERSON, ("PatientName", "PatientBirthDate"))}})
        else:
            _refuse([row], f"VALUE_DIFFERS: its {column} is not the one that was decided on; split the study first")


def _person(dept, patient_id):
    """What follows a patient ID, as DICOM writes it: HL7 has the suffix of a name before the prefix."""
    person = known_person(dept, patient_id)
    family, given, middle, suffix, prefix = (person.get("patient_name", "").split("^") + [""] * 5)[:5]
    found = {"PatientName": "^".join((family, given, middle, prefix, suffix)).rstrip("^"), "PatientBirthDate": person.get("patient_birth_date", ""), "PatientSex": person.get("patient_sex", "")}
    return {k: v for k, v in found.items() if v and (k != "PatientSex" or v in "MFO") and (k != "PatientBirthDate" or len(v) == 8 and v.isdigit())}


def _split(rows, decision, dept):
    uid, series = split_study_uid(decision["target"], decision["series"]), decision["series"].split()
    for row in rows:
        if row["study_instance_uid"] == decision["target"] and row["series_instance_uid"] in series:
            values = {"StudyInstanceUID": uid, "AccessionNumber": decision["new"].split("^")[0], "RequestAttributesSequence": decision["old"].split("^")[0]}
            _step(row, decision, values, study_instance_uid=uid, accession_number=values["AccessionNumber"], moved_by=decision["seq"])


def _are_two_people(rows):
    """True when files carry two patient IDs, birth dates or names. A letter is a difference, a part that one name lacks is none."""
    names = {frozenset(re.sub(r"[\^,.\s]+", " ", row["patient_name"].partition("=")[0]).upper().split()) for row in rows}
    return any(len({row[column] for row in rows} - {""}) > 1 for column in ("patient_id", "patient_birth_date")) or any(not (a <= b or b <= a) for a, b in combinations(names, 2))


def _merge(rows, decision, dept):
    uids, new = decision["target"].split(), decision["new"].split("^")[0]
    mine = [row for row in rows if row["study_instance_uid"] in uids]
    if _are_two_people(mine):
        return _refuse(mine, _TWO_PEOPLE)
    for row in mine:
        if row["study_instance_uid"] == uids[0]:
            _step(row, decision, {"AccessionNumber": new}, accession_number=new)
    return _join([row for row in mine if row["study_instance_uid"] != uids[0]], [row for row in mine if row["study_instance_uid"] == uids[0]], decision, uids[0])


def _merge_series(rows, decision, dept):
    moved = [row for row in rows if row["study_instance_uid"] == decision["target"] and row["series_instance_uid"] in decision["series"].split()]
    there = [row for row in rows if row["study_instance_uid"] == decision["new"]]
    if moved and _are_two_people([*moved, *there]):
        return _refuse(moved, _TWO_PEOPLE)
    return _join(moved, there, decision, decision["new"])


def _join(moved, there, decision, uid):
    """What moves gets the patient and the study attributes of a file that is there: one study has one of each."""
    if len({row["patient_id"] for row in there}) > 1:
        return _refuse(moved, "PATIENTS_DIFFER: the study that it goes to has images of several patient IDs; correct that first")
    for like in sorted((row for row in there if not row["problem"]), key=lambda row: row["source_file"]):
        try:
            texts = read_texts(read_source(like["source_file"]), (*STUDY_LEVEL, "StudyInstanceUID"))
        except (OSError, Refused):
            continue
        if (texts.pop("StudyInstanceUID"), texts["PatientID"]) != (like["home"], like["seen"][3]):
            continue                        # another file by now
        for _, _, values in like["steps"]:
            texts |= {name: value for name, value in values.items() if name in texts}
        for row in moved:
            _step(row, decision, {"StudyInstanceUID": uid, **texts}, study_instance_uid=uid, moved_by=decision["seq"], **{c: like[c] for c in ("patient_id", *_PERSON, "accession_number")})
        return None
    return _refuse(moved, "STUDY_NOT_HERE: no readable file of the study that it goes to is among the instances")


_MOVE = {"split": _split, "merge": _merge, "merge_series": _merge_series}


def _renumber(rows):
    """{UID: (new UID, new study)} of the series and instances that go to another study; the step that moves them gets the new UIDs."""
    references = {}
    for row in rows:
        study = row["study_instance_uid"]
        row["uid_policy"] = "keep" if study == row["home"] else "new"
        if study == row["home"]:
            continue
        new = {"SeriesInstanceUID": made_uid("series", study, row["series_instance_uid"]), "SOPInstanceUID": made_uid("instance", study, row["sop_instance_uid"])}
        row["steps"] = [(seq, at, {**values, **new} if seq == row["moved_by"] else values) for seq, at, values in row["steps"]]
        references |= {row["series_instance_uid"]: (new["SeriesInstanceUID"], study), row["sop_instance_uid"]: (new["SOPInstanceUID"], study)}
    return references


def _stays_and_refers(row, references):
    """True of a structured document, such as a key object note, that stays while images move that it names."""
    if row["uid_policy"] == "new" or row["modality"] not in NOT_IMAGES:
        return False
    with suppress(OSError):             # a file that is gone is told of where it matters
        return not references.keys().isdisjoint(uid.decode() for uid in UID.findall(read_source(row["source_file"])))
    return False


def _planned(row, references, seen):
    file, moves = row["source_file"], row["uid_policy"] == "new"
    arguments = {"steps": [(at, values) for _, at, values in row["steps"]], "references": references if moves else None, "own_study": (row["home"], row["study_instance_uid"])}
    shown = {"source_file": file, "output_name": "", "changes": "", "uid_policy": row["uid_policy"], "decisions": " ".join(str(seq) for seq, _, _ in row["steps"]), "problem": row["problem"],
             "source_sha256": "", "output_sha256": "", **dict.fromkeys(_UIDS, ""), "arguments": arguments, "n_bytes": 0}
    if "DUPLICATE_FILE" in row["problems"].split():
        shown["problem"] = "DUPLICATE_FILE: another file has the same bytes, and one copy is enough"
    if shown["problem"]:
        return shown
    try:
        data = read_source(file)
        out, changes = rewrite(data, **arguments)
        if seen.get(file) != [*row["seen"], sha256(data)]:
            raise Refused("SOURCE_CHANGED", "the file is not the one that was loaded; load again")
        uids = read_texts(out, _UIDS.values())
        shown |= {"changes": _told(data, out, changes), "source_sha256": sha256(data), "output_sha256": sha256(out), "n_bytes": len(out), **{c: uids[k] for c, k in _UIDS.items()}}
    except Refused as refused:
        shown["problem"] = str(refused)
    except OSError as error:
        shown["problem"] = f"NOT_READ: the file cannot be read ({error.strerror}); put it back, unpack it, or load again"
    return shown


def _told(data, out, changes):
    texts = [(tag, keyword_for_tag(tag)) for tag in changes]
    plain = [keyword for tag, keyword in texts if keyword and dictionary_VR(tag) != "SQ"]
    old, new = read_texts(data, plain), read_texts(out, plain)
    return "\n".join(f"{keyword} {old[keyword] or '(none)'} -> {new[keyword] or '(none)'}" if keyword in old else f"{keyword or 'group length'} rewritten"
                     for tag, keyword in texts if tag != ORIGINAL)


def read_source(file):
    """The bytes of a file, opened read-only and never through a link."""
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as stream:
        return stream.read()


def sha256(data):
    """The digest as hex."""
    return hashlib.sha256(data).hexdigest()
