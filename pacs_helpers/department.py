"""Reader tables -> one department: orders, studies, reports, patients, and the event log that every analysis stands on."""

from itertools import combinations
from typing import NamedTuple

import pandas as pd

from .acknowledgments import in_time, pair_acknowledgments
from .milestones import CANCELLING, ORDER_TYPES, build_events, build_trace, exam_spellings, known_to_the_minute, link_transfers, look_up
from .readers.accession import fill_accession_numbers, measure_accession_fields
from .schemas import NOT_IMAGES
from .tables import (
    ASSOCIATIONS,
    AUDIT,
    EXAMS,
    INSTANCES,
    MESSAGES,
    OPERATIONS,
    ORDERS,
    PATIENTS,
    PERFORMED_STEPS,
    REPORTS,
    SERIES,
    STUDIES,
    TableError,
    add_problem,
    conform,
)

# OBR-24 is HL7 table 0074, where PT is physical therapy; sites also write the DICOM modality there, and then it is PET.
SECTIONS = {"NMR": "MR", "MRI": "MR", "NMS": "NM", "RAD": "CR", "RX": "CR", "XR": "CR", "VUS": "US", "CUS": "US", "RUS": "US", "OUS": "US"}
MODALITIES = frozenset("CR DX CT MR US MG NM PT XA RF RG IO PX BMD OT ES GM SM XC OP OPT OCT IVUS ECG HD DG TG LS AU BI PR SR KO DOC SEG "
                       "RTIMAGE RTDOSE RTPLAN RTSTRUCT RTRECORD".split())
NUMBERS = ("obr_3", "obr_18", "obr_20", "orc_3", "ipc_1")


class Department(NamedTuple):
    orders: pd.DataFrame
    studies: pd.DataFrame
    reports: pd.DataFrame
    patients: pd.DataFrame
    events: pd.DataFrame
    trace: pd.DataFrame
    accession_fields: pd.DataFrame
    series: pd.DataFrame
    reviewed: tuple = ()


def build_department(*, hl7=None, dicom=None, network=None, ris=None, audit=None, site):
    """Department(orders, studies, reports, patients, events, trace, accession_fields, series, reviewed) from what the readers returned.

    `accession_fields` shows how the field of the accession number was chosen. In `events` and `trace` an accession number
    that systems spell differently (`site.clean_accession` equal) has one spelling: that of the images, else of the order.
    A number that affiliates use for different people is `number^authority` everywhere, with ACCESSION_REUSED on orders and reports.
    """
    if hl7 is None and dicom is None and ris is None:
        raise TableError("hl7, dicom, ris: give at least one of them; a network log alone names no exam.")
    for name, given, table in (("hl7", hl7, "messages"), ("dicom", dicom, "instances"), ("network", network, "operations"), ("ris", ris, "exams"), ("audit", audit, "audit")):
        if given is not None and not hasattr(given, table):
            raise TableError(f"{name}: what a reader returns is needed, with its table {table}, not {type(given).__name__}.")
    messages = conform([], MESSAGES) if hl7 is None else hl7.messages
    instances = conform([], INSTANCES) if dicom is None else dicom.instances
    steps = pd.concat([conform([], PERFORMED_STEPS), *(given.performed_steps for given in (dicom, network) if hasattr(given, "performed_steps"))], ignore_index=True)
    associations = conform([], ASSOCIATIONS) if network is None else network.associations
    operations = conform([], OPERATIONS) if network is None else network.operations
    exams = conform([], EXAMS) if ris is None else ris.exams
    accesses = conform([], AUDIT) if audit is None else audit.audit.assign(accession_number=audit.audit["accession_number"].where(~audit.audit["accession_number"].str.contains(" "), ""))
    fields = measure_accession_fields(messages, site, instances["accession_number"].unique())
    messages = _name_orders(fill_accession_numbers(messages[~_has(messages, "DUPLICATE_MESSAGE")].reset_index(drop=True), fields))
    messages, instances = _part_reused(messages, instances)
    messages = messages.assign(modality=messages["modality"].map({m: SECTIONS.get(m, m if m in MODALITIES else "") for m in messages["modality"].unique()}))
    own = instances[~_has(instances, "DUPLICATE_FILE")]
    studies = _studies(own)
    orders, reports = _orders(messages), _reports(messages)
    transfers = link_transfers(operations, associations, instances, studies)
    parts, spelling = (messages, instances, studies, steps, transfers, orders, reports), exam_spellings(studies, messages, steps, exams, accesses, site)
    return Department(orders, studies, reports, _patients(messages), build_events(*parts, exams, accesses, spelling, site), build_trace(*parts, spelling), fields, _series(own))


def _has(table, code):
    return table["problems"].str.contains(rf"\b{code}\b", regex=True)


def _name_orders(messages):
    """An order message without accession number has the one that later messages give to its placer number and patient, if it is the only one."""
    key = messages["placer_order_number"] + "\n" + messages["patient_id"]
    ours = messages["message_type"].isin((*ORDER_TYPES, "SIU")) & (messages["placer_order_number"] != "")
    named = messages.assign(key=key)[ours & (messages["accession_number"] != "")].drop_duplicates(["key", "accession_number"])
    number = look_up(key, named.drop_duplicates("key", keep=False).set_index("key")["accession_number"]).fillna("")
    return messages.assign(accession_number=messages["accession_number"].where(~ours | (messages["accession_number"] != ""), number))


def _part_reused(messages, instances):
    """Both tables with the accession numbers that two authorities use for different people as `number^authority` (HL7 EI), flagged in messages."""
    people = messages.loc[messages[["accession_number", "issuer_of_patient_id", "patient_birth_date"]].ne("").all(axis=1),
                          ["accession_number", "issuer_of_patient_id", "sending_facility", "patient_birth_date"]].drop_duplicates()
    several = people.groupby("accession_number")["issuer_of_patient_id"].transform("nunique") > 1
    reused = {number for number, rows in people[several].groupby("accession_number") if _are_strangers(rows)}
    parted = []
    for table in (messages, instances) if reused else ():
        is_reused = table["accession_number"].isin(reused)
        names = is_reused & (table["issuer_of_patient_id"] != "")
        number = table["accession_number"].where(~names, table["accession_number"] + "^" + table["issuer_of_patient_id"])
        parted.append(table.assign(accession_number=number, problems=table["problems"].where(~is_reused, table["problems"].map(lambda text: add_problem(text, "ACCESSION_REUSED")))))
    return parted or (messages, instances)


def _are_strangers(rows):
    """Whether two authorities send from facilities of their own and about people who share no birth date: else one person is known to both."""
    told = [(set(group["sending_facility"]), set(group["patient_birth_date"])) for _, group in rows.groupby("issuer_of_patient_id")]
    return any(mine[0].isdisjoint(other[0]) and mine[1].isdisjoint(other[1]) for mine, other in combinations(told, 2))


def _last_words(rows, key, schema):
    """The latest non-empty value of each column of `schema` per key."""
    columns = [c for c in schema if c in rows.columns]
    text = [c for c in columns if schema[c][0] == "str"]
    filled = rows[columns].assign(**{c: rows[c].where(rows[c] != "") for c in text})
    return filled.groupby(key.rename("key"), sort=False).last()


def _orders(messages):
    number = messages["placer_order_number"].where(messages["placer_order_number"] != "", messages["filler_order_number"])
    has_number = (messages["accession_number"] != "") | (number != "")
    asked = messages["message_type"].isin(ORDER_TYPES) | (messages["message_type"] == "SIU") & has_number
    rows = in_time(messages[asked], "message_at", "received_at")
    nameless = pd.Series("message " + rows.index.astype("str"), index=rows.index).where(~has_number, "number " + number)
    key = rows["accession_number"].where(rows["accession_number"] != "", nameless)
    last = _last_words(rows.assign(section=rows["sending_facility"]), key, ORDERS)
    new = rows[rows["order_control"].isin(["NW", "SN"])]
    first = new.assign(at=new["transaction_at"].fillna(new["message_at"])).groupby(key, sort=False)["at"].first()
    last["ordered_at"] = first.reindex(last.index).fillna(rows.groupby(key, sort=False)["message_at"].min())
    last["n_messages"] = rows.groupby(key, sort=False).size()
    spoken = rows[(rows["order_control"] != "") | (rows["order_status"] != "")]
    cancels = spoken["order_control"].isin(CANCELLING) | spoken["order_status"].isin(["CA", "X"])
    last["is_cancelled"] = cancels.groupby(key, sort=False).last().reindex(last.index, fill_value=False)
    return conform(last.reset_index(drop=True), ORDERS)


def _reports(messages):
    rows = messages[(messages["message_type"] == "ORU")]
    answers = pair_acknowledgments(messages).set_index(["source_file", "source_offset"]).reindex(pd.MultiIndex.from_frame(rows[["source_file", "source_offset"]])).set_axis(rows.index)
    rows = rows.assign(status_changed_at=rows["status_changed_at"].fillna(rows["message_at"]), section=rows["sending_facility"],
                       acknowledgment_code=answers["acknowledgment_code"].fillna(""), acknowledged_at=answers["acknowledged_at"], other_accession_numbers=_other_numbers(rows))
    rows = in_time(rows, "status_changed_at", "received_at")
    again = rows.duplicated(["message_control_id", "patient_id", "accession_number", "placer_order_number", "result_status"]) & (rows["message_control_id"] != "")
    exam = rows["accession_number"].where(rows["accession_number"] != "", "message " + rows["message_control_id"]).where(
        (rows["accession_number"] != "") | (rows["message_control_id"] != ""), "row " + pd.Series(rows.index.astype("str"), index=rows.index))
    rows = rows.assign(is_duplicate=again, version_number=(~again).groupby(exam, sort=False).cumsum())
    return conform(rows[[c for c in REPORTS if c in rows.columns]].reset_index(drop=True), REPORTS)


def _other_numbers(rows):
    values = pd.concat([rows[n] for n in NUMBERS])
    values = values[(values != "") & (values != rows["accession_number"].reindex(values.index))].rename("value").rename_axis("row").reset_index()
    return values.drop_duplicates().groupby("row")["value"].agg(" ".join).reindex(rows.index).fillna("").astype("str")


def _patients(messages):
    rows = messages[(messages["message_type"] == "ADT")]
    rows = rows.assign(at=rows["event_at"].fillna(rows["message_at"])).sort_values("at", kind="stable")
    return conform(rows[[c for c in PATIENTS if c in rows.columns]].reset_index(drop=True), PATIENTS)


def _studies(instances):
    rows = instances[instances["study_instance_uid"] != ""].drop_duplicates(["study_instance_uid", "series_instance_uid", "sop_instance_uid", "patient_id", "accession_number"])
    uid = rows["study_instance_uid"]
    images = rows[~rows["modality"].isin(NOT_IMAGES)]
    taken_at = _taken_at(images)
    study = _last_words(rows.iloc[::-1], uid, STUDIES)       # reversed: the first non-empty value
    for column in ("accession_number", "patient_id"):
        study[column] = _most_frequent(rows, column).reindex(study.index)
    study["modality"] = images.groupby("study_instance_uid")["modality"].first().reindex(study.index).fillna(study["modality"])
    for column, source in (("requested_accession_numbers",) * 2, ("requested_procedure_ids",) * 2, ("body_part_examined",) * 2, ("laterality",) * 2,
                           ("frame_of_reference_uids", "frame_of_reference_uid")):
        study[column] = _all_values(rows, source).reindex(study.index)
    by_image = taken_at.groupby(images["study_instance_uid"])
    # What an archive tells of the series counts before what it tells of the study: one is part of the other.
    told = rows.groupby([uid, rows["series_instance_uid"] != ""])["n_instances"].sum(min_count=1).groupby(level=0).last()
    # The time of a study without its series is when it began, not when it ended.
    is_part = images[["series_instance_uid", "sop_instance_uid"]].ne("").any(axis=1)
    study = study.assign(started_at=by_image.min(), ended_at=taken_at[is_part].groupby(images["study_instance_uid"]).max(), n_series=_n_distinct(rows, "series_instance_uid"),
                         n_instances=pd.concat([_n_distinct(rows, "sop_instance_uid"), told], axis=1).max(axis=1), n_bytes=rows.groupby(uid)["n_bytes"].sum(min_count=1))
    study = study.assign(last_created_at=known_to_the_minute(images, "created_at").groupby(images["study_instance_uid"]).max(), clashing_study_uids=_clashes(rows).reindex(study.index).fillna(""))
    study["problems"] = _mixed(rows, study)
    return conform(study.drop(columns="study_instance_uid", errors="ignore").rename_axis("study_instance_uid").reset_index(), STUDIES)


def _taken_at(images):
    return known_to_the_minute(images, "acquired_at").fillna(known_to_the_minute(images, "series_at")).fillna(known_to_the_minute(images, "study_at"))


def _series(instances):
    rows = instances[(instances["series_instance_uid"] != "") & (instances["study_instance_uid"] != "")].drop_duplicates(["study_instance_uid", "series_instance_uid", "sop_instance_uid"])
    key = rows["study_instance_uid"] + "\n" + rows["series_instance_uid"]
    series = _last_words(rows.iloc[::-1], key, SERIES)
    by_key = rows.assign(study_instance_uid=key)
    for column in ("requested_accession_numbers", "body_part_examined", "laterality"):
        series[column] = _all_values(by_key, column).reindex(series.index)
    series["frame_of_reference_uids"] = _all_values(by_key, "frame_of_reference_uid").reindex(series.index)
    taken_at = _taken_at(rows).groupby(key)
    n = pd.concat([_n_distinct(by_key, "sop_instance_uid"), rows.groupby(key)["n_instances"].sum(min_count=1)], axis=1).max(axis=1)
    series = series.assign(started_at=taken_at.min(), ended_at=taken_at.max(), n_instances=n, n_bytes=rows.groupby(key)["n_bytes"].sum(min_count=1))
    return conform(series.sort_values(["study_instance_uid", "started_at", "series_instance_uid"], kind="stable").reset_index(drop=True), SERIES)


def _clashes(rows):
    """Per study the studies of other patients that share a SOP Instance UID with it, space-separated."""
    pairs = rows.loc[rows["sop_instance_uid"] != "", ["sop_instance_uid", "study_instance_uid", "patient_id"]].drop_duplicates()
    pairs = pairs[pairs.duplicated("sop_instance_uid", keep=False)]
    both = pairs.merge(pairs, on="sop_instance_uid", suffixes=("", "_other"))
    both = both[(both["study_instance_uid"] != both["study_instance_uid_other"]) & (both["patient_id"] != both["patient_id_other"])]
    return both.groupby("study_instance_uid")["study_instance_uid_other"].agg(lambda uids: " ".join(sorted(set(uids))))


def _n_distinct(rows, column):
    """Distinct non-empty values per study; missing for a study without any."""
    return rows[rows[column] != ""].groupby("study_instance_uid")[column].nunique().reindex(rows["study_instance_uid"].unique()).astype("Int64")


def _most_frequent(rows, column):
    counts = rows[rows[column] != ""].groupby(["study_instance_uid", column], sort=False).size().rename("n").reset_index()
    return counts.sort_values(["n", column], ascending=[False, True], kind="stable").drop_duplicates("study_instance_uid").set_index("study_instance_uid")[column]


def _all_values(rows, column):
    pairs = rows[["study_instance_uid", column]].drop_duplicates()
    words = pairs.assign(**{column: pairs[column].str.split()}).explode(column).dropna().drop_duplicates()
    return words.sort_values(column).groupby("study_instance_uid")[column].agg(" ".join)


def _mixed(rows, study):
    problems = pd.Series("", index=study.index, dtype="str")
    for column, code in (("patient_id", "MIXED_PATIENT"), ("accession_number", "MIXED_ACCESSION")):
        several = rows[rows[column] != ""].groupby("study_instance_uid")[column].nunique().reindex(study.index) > 1
        problems = problems.where(~several, problems + " " + code)
    for code in ("AMBIGUOUS_TIME", "NONEXISTENT_TIME"):
        told = problems.index.isin(rows.loc[_has(rows, code), "study_instance_uid"])
        problems = problems.where(~told, problems + " " + code)
    return problems.str.strip()


def measure_period(dept):
    """`(first, last)` instants that the traces tell of: those of the HL7 messages about exams, else of the images, else of the RIS export; NaT when there are none.

    Times more than a day ahead of this computer's clock are left out: one wrong year would move the end of everything.
    """
    known = dept.trace[dept.trace["at"] <= pd.Timestamp.now("UTC") + pd.Timedelta("1D")]
    spoken = known[known["lane"].isin(["order", "report"])]
    at = (spoken if len(spoken) else known if len(known) else dept.events)["at"]
    return at.min(), at.max()
