"""Reader tables -> one department: orders, studies, reports, patients, and the event log that every analysis stands on."""

from typing import NamedTuple

import pandas as pd

from .milestones import ORDER_TYPES, build_events, build_trace, link_transfers
from .readers.accession import fill_accession_numbers, measure_accession_fields
from .tables import (
    ASSOCIATIONS, INSTANCES, MESSAGES, OPERATIONS, ORDERS, PATIENTS, PERFORMED_STEPS, REPORTS, STUDIES, TableError, conform,
)

CANCELLING = ("CA", "OC", "DC", "CR")       # HL7 table 0119
# OBR-24 is HL7 table 0074; sites also write the DICOM modality there, which stays as it is.
SECTIONS = {"NMR": "MR", "NMS": "NM", "RAD": "CR", "VUS": "US", "CUS": "US", "CTH": "", "XRC": "", "RUS": "US"}
NOT_IMAGES = ("SR", "KO", "PR", "SEG", "DOC")
NUMBERS = ("obr_3", "obr_18", "obr_20", "orc_3", "ipc_1")


class Department(NamedTuple):
    orders: pd.DataFrame
    studies: pd.DataFrame
    reports: pd.DataFrame
    patients: pd.DataFrame
    events: pd.DataFrame
    trace: pd.DataFrame
    accession_fields: pd.DataFrame
    reviewed: tuple = ()


def build_department(*, hl7=None, dicom=None, network=None, site):
    """Department(orders, studies, reports, patients, events, trace, accession_fields, reviewed) from what the readers returned.

    `accession_fields` shows how the field of the accession number was chosen. In `events` and `trace` an accession number
    that systems spell differently (`site.clean_accession` equal) has one spelling: that of the images, else of the order.
    """
    if hl7 is None and dicom is None:
        raise TableError("hl7, dicom: give at least one of them; a network log alone names no exam.")
    messages = conform([], MESSAGES) if hl7 is None else hl7.messages
    instances = conform([], INSTANCES) if dicom is None else dicom.instances
    steps = conform([], PERFORMED_STEPS) if dicom is None else dicom.performed_steps
    associations = conform([], ASSOCIATIONS) if network is None else network.associations
    operations = conform([], OPERATIONS) if network is None else network.operations
    fields = measure_accession_fields(messages, site, instances["accession_number"].unique())
    messages = fill_accession_numbers(messages[~_has(messages, "DUPLICATE_MESSAGE")], fields)
    messages = messages.assign(modality=messages["modality"].map(lambda m: SECTIONS.get(m, m)))
    studies = _studies(instances[~_has(instances, "DUPLICATE_FILE")])
    orders, reports = _orders(messages), _reports(messages)
    transfers = link_transfers(operations, associations, instances, studies)
    parts = (messages, instances, studies, steps, transfers, orders, reports, site)
    return Department(orders, studies, reports, _patients(messages), build_events(*parts), build_trace(*parts), fields)


def _has(table, code):
    return table["problems"].str.contains(rf"\b{code}\b", regex=True)


def _in_time(rows, *columns):
    at = rows[columns[0]]
    for column in columns[1:]:
        at = at.fillna(rows[column])
    return rows.assign(_at=at).sort_values("_at", kind="stable")


def _last_words(rows, key, schema):
    """The latest non-empty value of each column of `schema` per key."""
    columns = [c for c in schema if c in rows.columns]
    text = [c for c in columns if schema[c][0] == "str"]
    filled = rows[columns].assign(**{c: rows[c].where(rows[c] != "") for c in text})
    return filled.groupby(key.rename("key"), sort=False).last()


def _orders(messages):
    rows = _in_time(messages[messages["message_type"].isin(ORDER_TYPES)], "message_at", "received_at")
    key = rows["accession_number"].where(rows["accession_number"] != "", "placer " + rows["placer_order_number"] + rows["filler_order_number"])
    last = _last_words(rows.assign(section=rows["sending_facility"]), key, ORDERS)
    new = rows[rows["order_control"].isin(["NW", "SN"])]
    first = new.assign(at=new["transaction_at"].fillna(new["message_at"])).groupby(key, sort=False)["at"].first()
    last["ordered_at"] = first.reindex(last.index).fillna(rows.groupby(key, sort=False)["message_at"].min())
    last["n_messages"] = rows.groupby(key, sort=False).size()
    last["is_cancelled"] = last["order_control"].isin(CANCELLING) | last["order_status"].isin(["CA", "X"])
    return conform(last.reset_index(drop=True), ORDERS)


def _reports(messages):
    rows = messages[(messages["message_type"] == "ORU")]
    rows = rows.assign(status_changed_at=rows["status_changed_at"].fillna(rows["message_at"]), section=rows["sending_facility"])
    rows = rows.assign(acknowledgment_code=_acknowledged(rows, messages), other_accession_numbers=_other_numbers(rows))
    rows = _in_time(rows, "status_changed_at", "received_at")
    rows["is_duplicate"] = rows.duplicated(["message_control_id", "patient_id", "accession_number", "placer_order_number", "result_status"]) & (rows["message_control_id"] != "")
    exam = rows["accession_number"].where(rows["accession_number"] != "", rows["message_control_id"]).rename("exam")
    rows["version_number"] = rows.groupby(exam, sort=False).cumcount() + 1
    return conform(rows[[c for c in REPORTS if c in rows.columns]].reset_index(drop=True), REPORTS)


def _other_numbers(rows):
    values = [[v for v in dict.fromkeys(numbers) if v and v != accession]
              for accession, *numbers in rows[["accession_number", *NUMBERS]].itertuples(index=False)]
    return pd.Series([" ".join(v) for v in values], index=rows.index, dtype="str")


def _acknowledged(rows, messages):
    """MSA-1 of the acknowledgment of each row: the n-th sending of a control id goes with the n-th answer to it."""
    sent = rows.drop_duplicates(["source_file", "source_offset"])[["message_control_id", "source_file", "source_offset"]]
    sent = sent.assign(n=sent.groupby("message_control_id").cumcount())
    answers = messages[messages["acknowledged_control_id"] != ""][["acknowledged_control_id", "acknowledgment_code", "message_at"]].sort_values("message_at", kind="stable")
    answers = answers.assign(n=answers.groupby("acknowledged_control_id").cumcount())
    pairs = sent.merge(answers, left_on=["message_control_id", "n"], right_on=["acknowledged_control_id", "n"], how="left")
    codes = pairs.set_index(["source_file", "source_offset"])["acknowledgment_code"]
    return pd.Series(codes.reindex(pd.MultiIndex.from_frame(rows[["source_file", "source_offset"]])).fillna("").to_numpy(), index=rows.index, dtype="str")


def _patients(messages):
    rows = messages[(messages["message_type"] == "ADT")]
    rows = rows.assign(at=rows["event_at"].fillna(rows["message_at"])).sort_values("at", kind="stable")
    return conform(rows[[c for c in PATIENTS if c in rows.columns]].reset_index(drop=True), PATIENTS)


def _studies(instances):
    rows = instances[instances["study_instance_uid"] != ""].drop_duplicates(["study_instance_uid", "sop_instance_uid", "patient_id"])
    uid = rows["study_instance_uid"]
    images = rows[~rows["modality"].isin(NOT_IMAGES)]
    taken_at = images["acquired_at"].where(~images["precision"].str.contains("acquired_at=")).fillna(images["series_at"]).fillna(images["study_at"])
    study = _last_words(rows.iloc[::-1], uid, STUDIES)       # reversed: the first non-empty value
    for column in ("accession_number", "patient_id"):
        study[column] = _most_frequent(rows, column).reindex(study.index)
    study["modality"] = images.groupby("study_instance_uid")["modality"].first().reindex(study.index).fillna(study["modality"])
    for column, source in (("requested_accession_numbers",) * 2, ("requested_procedure_ids",) * 2, ("body_part_examined",) * 2, ("laterality",) * 2,
                           ("frame_of_reference_uids", "frame_of_reference_uid")):
        study[column] = _all_values(rows, source).reindex(study.index)
    by_image = taken_at.groupby(images["study_instance_uid"])
    study = study.assign(started_at=by_image.min(), ended_at=by_image.max(), n_series=rows.groupby(uid)["series_instance_uid"].nunique(),
                         n_instances=rows.groupby(uid)["sop_instance_uid"].nunique(), n_bytes=rows.groupby(uid)["n_bytes"].sum(min_count=1))
    study["problems"] = _mixed(rows, study)
    return conform(study.drop(columns="study_instance_uid", errors="ignore").rename_axis("study_instance_uid").reset_index(), STUDIES)


def _most_frequent(rows, column):
    counts = rows[rows[column] != ""].groupby(["study_instance_uid", column], sort=False).size().rename("n").reset_index()
    return counts.sort_values(["n", column], ascending=[False, True], kind="stable").drop_duplicates("study_instance_uid").set_index("study_instance_uid")[column]


def _all_values(rows, column):
    words = rows[["study_instance_uid", column]].assign(**{column: rows[column].str.split()}).explode(column).dropna().drop_duplicates()
    return words.sort_values(column).groupby("study_instance_uid")[column].agg(" ".join)


def _mixed(rows, study):
    problems = pd.Series("", index=study.index, dtype="str")
    for column, code in (("patient_id", "MIXED_PATIENT"), ("accession_number", "MIXED_ACCESSION")):
        several = rows[rows[column] != ""].groupby("study_instance_uid")[column].nunique().reindex(study.index) > 1
        problems = problems.where(~several, problems + " " + code)
    return problems.str.strip()
