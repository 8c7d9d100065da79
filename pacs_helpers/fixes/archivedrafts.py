"""What a person would run on an archive: Orthanc's REST calls in the order that loses nothing, and dcmodify on copies."""

import hashlib
import json
import re
import shlex
from pathlib import Path

import pandas as pd

from .corrections import made_uid, split_study_uid

TAGS = {"patient_id": ("PatientID", "0010,0020"), "patient_name": ("PatientName", "0010,0010"), "patient_birth_date": ("PatientBirthDate", "0010,0030"),
        "patient_sex": ("PatientSex", "0010,0040"), "accession_number": ("AccessionNumber", "0008,0050")}
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
ORIGINAL = "0400-0561"      # Original Attributes Sequence
HAS_HISTORY = ("these images have a history of their own, which this would replace; store what write_corrected_copies makes of them beside the old ones instead, then run the "
               "deleting script, which counts first")


class NotDrafted(Exception):
    """Why a draft would not be safe, in words."""


def orthanc_id(*parts):
    """Orthanc's name of what PatientID, Study, Series and SOP Instance UID, as far as given, stand for."""
    digest = hashlib.sha1("|".join(parts).encode()).hexdigest()
    return "-".join(digest[at:at + 8] for at in range(0, 40, 8))


def dicom_values(row):
    """`{column: value}` of what corrections change in a header, as DICOM has it: an accession number without its authority."""
    return {column: row[column].partition("^")[0] if column == "accession_number" else row[column] for column in TAGS}


def orthanc_calls(decision, before, after):
    """`(calls that copy and count, calls that count again and delete the source)`. NotDrafted says why there are none.

    Each image is fetched changed, with its Original Attributes, and stored beside the old one; merging is Orthanc's own. Nothing is
    deleted before the counts agree, and no call both keeps all UIDs and deletes.
    """
    study = _row(before.studies, decision["target"].split()[0])
    series = before.series[before.series["study_instance_uid"].isin(decision["target"].split())]
    return _merge_calls(decision, before, study, series) if decision["kind"].startswith("merge") else _copy_calls(decision, study, series, after)


def _copy_calls(decision, study, series, after):
    uid, kind = study["study_instance_uid"], decision["kind"]
    new_uid = split_study_uid(uid, decision["series"]) if kind == "split" else uid
    new = _row(after.studies, new_uid)
    source, there = orthanc_id(study["patient_id"], uid), orthanc_id(new["patient_id"], new_uid)
    changed = _changes(study, new)
    if not changed[1] and new_uid == uid:
        raise NotDrafted("the study carries these values already")
    if kind != "split" and there != source:
        parts = [(f"/studies/{source}", _count(study), changed[1], changed[0], UIDS)]
    else:
        listed = series[series["series_instance_uid"].isin(decision["series"].split())] if kind == "split" else series
        parts = [(f"/series/{orthanc_id(study['patient_id'], uid, s['series_instance_uid'])}", _count(s),
                  {**changed[1], "StudyInstanceUID": new_uid, "SeriesInstanceUID": made_uid("series", new_uid, s["series_instance_uid"])},
                  {**changed[0], "StudyInstanceUID": uid, "SeriesInstanceUID": s["series_instance_uid"]}, ()) for s in listed.to_dict("records")]
    n, here = sum(part[1] for part in parts), _count(study) if there == source else 0
    if not parts or (there == source and n != here):
        raise NotDrafted("the series of this study are not all known; read its headers, or the archive at series level, and draft again")
    calls = [_counted(*part[:2]) for part in parts] + ([_counted(f"/studies/{there}", here)] if there == source else [{"method": "GET", "path": f"/studies/{there}", "status": 404}])
    for path, _, replace, old, keep in parts:
        history = {"AttributeModificationDateTime": _moment(decision).strftime("%Y%m%d%H%M%S+0000"), "ModifyingSystem": "PACS workbook", "SourceOfPreviousValues": "",
                   "ReasonForTheAttributeModification": "CORRECT", "ModifiedAttributesSequence": [old]}
        body = {"Replace": {**replace, "OriginalAttributesSequence": [history]}, "Keep": list(keep), "Force": True}
        calls.append({"for_each": f"{path}/instances", "calls": [
            {"method": "GET", "path": f"/instances/{{ID}}/content/{ORIGINAL}", "status": 404, "otherwise": HAS_HISTORY}, {"method": "POST", "path": "/instances/{ID}/modify", "body": body},
            {"method": "POST", "path": "/instances", "body_from": "answer", "expect": {"Status": "Success"}}]})
    told = {"PatientID": new["patient_id"]} if there == source else changed[1]      # the index of a study that grew knows its old number until it is rebuilt
    calls += [_counted(f"/studies/{there}", here + n), {"method": "GET", "path": f"/studies/{there}", "expect": told}]
    rebuilt = [{"method": "POST", "path": f"/studies/{there}/reconstruct", "body": {}}] if there == source else []
    rebuilt += [{"method": "GET", "path": f"/studies/{there}", "expect": {"AccessionNumber": dicom_values(new)["accession_number"]}}]
    return calls, _deletes([part[:2] for part in parts], there, here, n) + rebuilt


def _merge_calls(decision, before, study, series):
    """The first study of a merge stays; series join the study that `new` names."""
    uid, patient = study["study_instance_uid"], study["patient_id"]
    if decision["kind"] == "merge":
        others = [_row(before.studies, other) for other in decision["target"].split()[1:]]
        parts, stays, owners = [(f"/studies/{orthanc_id(o['patient_id'], o['study_instance_uid'])}", _count(o)) for o in others], study, {patient, *(o["patient_id"] for o in others)}
        if study["accession_number"] != decision["new"]:
            raise NotDrafted(f"the study that stays does not carry {decision['new'] or 'an empty accession number'} yet; link it, carry that out, and draft again")
    else:
        listed = series[series["series_instance_uid"].isin(decision["series"].split())]
        parts = [(f"/series/{orthanc_id(patient, uid, s['series_instance_uid'])}", _count(s)) for s in listed.to_dict("records")]
        stays = _row(before.studies, decision["new"])
        owners = {patient, stays["patient_id"]}
    if len(owners) > 1:
        raise NotDrafted("the studies carry different patient IDs, and Orthanc does not look at them when it merges; correct the ID first")
    there, here, n = orthanc_id(patient, stays["study_instance_uid"]), _count(stays), sum(count for _, count in parts)
    note = f"{_moment(decision):%Y-%m-%d %H:%M} UTC, correction {decision['id']}: joined from {decision['series'] or ' '.join(decision['target'].split()[1:])}"
    merge = {"Resources": [path.rpartition("/")[2] for path, _ in parts], "KeepSource": True, "Synchronous": True}
    calls = [_counted(path, count) for path, count in parts] + [
        _counted(f"/studies/{there}", here), {"method": "POST", "path": f"/studies/{there}/merge", "body": merge, "expect": {"FailedInstancesCount": 0, "InstancesCount": n}},
        {"method": "PUT", "path": f"/studies/{there}/metadata/{1024 + decision['seq'] % 60000}", "body": note}, _counted(f"/studies/{there}", here + n)]
    return calls, _deletes(parts, there, here, n)


def _deletes(parts, there, here, n):
    """Counted again, everything, before the first is deleted."""
    return [*(_counted(*part) for part in parts), _counted(f"/studies/{there}", here + n), *({"method": "DELETE", "path": path} for path, _ in parts)]


def _counted(path, count):
    return {"method": "GET", "path": f"{path}/statistics", "expect": {"CountInstances": count}}


def _changes(old, new):
    """`(old values, new values)` of what differs, by DICOM keyword."""
    one, other = dicom_values(old), dicom_values(new)
    names = [column for column in TAGS if one[column] != other[column]]
    return {TAGS[c][0]: one[c] for c in names}, {TAGS[c][0]: other[c] for c in names}


def _row(table, uid):
    rows = table[table["study_instance_uid"] == uid]
    if not len(rows):
        raise NotDrafted("the study is not in the traces")
    return rows.iloc[0].to_dict()


def _count(row):
    if pd.isna(row["n_instances"]):
        raise NotDrafted("the number of images is not known; read the headers, or the archive at series level, and draft again")
    return int(row["n_instances"])


def _moment(decision):
    return pd.Timestamp(decision["decided_at"])


_ORTHANC = Path(__file__).with_name("orthanc.sh").read_text(encoding="utf-8")


def as_shell(calls):
    """The calls as a shell script of curl lines that stops at the first unexpected answer."""
    return _ORTHANC + "\n".join(line for call in calls for line in _lines(call)) + "\necho done\n"


def _lines(call):
    if "for_each" in call:
        inner = [line for one in call["calls"] for line in _lines(one)]
        return [f'call 200 "$ORTHANC"{call["for_each"]}', "for ID in $(sed -n 's/^ *\"ID\" : \"\\([0-9a-f-]*\\)\".*/\\1/p' \"$WORK/answer\"); do", *inner, "done"]
    path = call["path"].replace("{ID}", "'\"$ID\"'")
    sent = {"body_from": ' --data-binary @"$WORK/image"', "body": " --data-binary @- <<'BODY'"}
    line = f"call {call.get('status', 200)} -X {call['method']} \"$ORTHANC\"'{path}'" + next((words for key, words in sent.items() if key in call), "")
    before = ['mv "$WORK/answer" "$WORK/image"'] if "body_from" in call else [f"WHY={shlex.quote(call['otherwise'])}"] if "otherwise" in call else []
    body = [call["body"] if isinstance(call["body"], str) else json.dumps(call["body"], ensure_ascii=False), "BODY"] if "body" in call else []
    return [*before, line, *body, *(f"expect {shlex.quote(f'{json.dumps(name)} : {json.dumps(value, ensure_ascii=False)}')}" for name, value in call.get("expect", {}).items())]


_DCMODIFY = Path(__file__).with_name("dcmodify.sh").read_text(encoding="utf-8")


def dcmodify_script(decision, before, after):
    """A shell script that copies a study's files and changes the copies. NotDrafted for what dcmodify cannot do rightly."""
    study = _row(before.studies, decision["target"])
    old, new = _changes(study, _row(after.studies, decision["target"]))
    if not new:
        raise NotDrafted("the study carries these values already")
    if not "".join(new.values()).isascii() or not "".join(old.values()).isascii():
        raise NotDrafted("dcmodify writes letters beyond ASCII as they come, whatever the file's character set; use write_corrected_copies")
    tags = {name: tag for name, tag in TAGS.values()}
    item = "(0400,0561)[$k]"
    history = {f"{item}.(0400,0562)": _moment(decision).strftime("%Y%m%d%H%M%S+0000"), f"{item}.(0400,0563)": "PACS workbook", f"{item}.(0400,0564)": "",
               f"{item}.(0400,0565)": "CORRECT", **{f"{item}.(0400,0550)[0].({tags[name]})": value for name, value in old.items()}}
    edits = [f'-i "{path}="{shlex.quote(value)}' for path, value in history.items()] + [f"-i {shlex.quote(f'({tags[name]})={value}')}" for name, value in new.items()]
    checks = " && ".join(f'[ "$(value {TAGS[c][1]} "$file")" = {shlex.quote(value)} ]' for c, value in dicom_values(study).items() if TAGS[c][0] in new and c in ("patient_id", "accession_number"))
    values = {"UID": shlex.quote(study["study_instance_uid"]), "CHECKS": checks or "true", "COUNT": str(_count(study)), "EDITS": " ".join(edits)}
    return re.sub(rf"\b({'|'.join(values)})\b", lambda found: values[found[0]], _DCMODIFY)
