"""The event log and the trace of each exam: when it reached a milestone, and which system says so."""

from fnmatch import fnmatchcase

import pandas as pd

from .site import SH_LENGTH
from .tables import EVENTS, MILESTONES, TRACE, conform

# A device that missed a clock change says an exam ended an hour after it was sent.
TRANSFER_BEFORE, TRANSFER_AFTER = pd.Timedelta("75min"), pd.Timedelta("60min")
ARRIVAL_WINDOW = pd.Timedelta("12h")
ORDER_TYPES = ("ORM", "OMG", "OMI")
CANCELLING = ("CA", "OC", "DC", "CR", "DR", "OD")       # HL7 table 0119
STORED = ("Success", "Warning")
COARSE = ("year", "month", "day", "hour")
_NEW, _BEGUN = ("order_control", ("NW", "SN")), ("order_status", ("IP", "CM"))
# milestone, rank (1 = best, DOMAIN order of sources), message mask, time column, field. `said_at` is ORC-9, else MSH-7.
_ORDER_EVENTS = (
    ("ordered", 1, _NEW, "transaction_at", "ORC-9"), ("ordered", 2, _NEW, "message_at", "MSH-7 of NW"), ("ordered", 3, None, "message_at", "MSH-7"),
    ("scheduled", 1, None, "scheduled_at", "ORC-7.4"), ("arrived", 2, ("order_status", ("ARRIVED",)), "said_at", "ORC-5=ARRIVED"),
    ("arrived", 3, ("is_same_day_change", (True,)), "said_at", "ORC-9 of XO"),
    # In a message about an exam not yet begun OBR-7 is at best a wish.
    ("exam_started", 3, _BEGUN, "observed_at", "OBR-7"), ("exam_started", 4, ("order_status", ("IP",)), "said_at", "ORC-5=IP"),
    ("exam_ended", 3, _BEGUN, "observation_ended_at", "OBR-8"), ("exam_ended", 4, ("order_status", ("CM",)), "said_at", "ORC-5=CM"),
    ("cancelled", 1, ("order_control", CANCELLING), "said_at", "ORC-1=CA"), ("cancelled", 2, ("order_status", ("CA", "X")), "said_at", "ORC-5=CA"),
)
_REPORT_EVENTS = (("dictated", ("R",)), ("preliminary", ("P", "A")), ("final", ("F",)), ("addended", ("C",)))
LAST_COUNTS = ("scheduled", "exam_ended", "images_available")
_FIRST_ONLY = ("ordered", "dictated", "preliminary", "final", "addended", "delivered")


def best_events(events):
    """One row per accession number and milestone: the best-ranked source whose time is known to the minute, the earliest of equals.

    Of LAST_COUNTS the latest: an exam of two studies ends, and is complete, with the second, and a new appointment replaces the old.
    """
    usable = events[events["at"].notna() & ~events["precision"].isin(COARSE) & (events["accession_number"] != "")]
    at = usable["at"].astype("int64")
    usable = usable.assign(_order=at.where(~usable["milestone"].isin(LAST_COUNTS), -at)).sort_values(["rank", "_order"], kind="stable")
    return usable.drop_duplicates(["accession_number", "milestone"]).drop(columns="_order").sort_index()


def build_events(messages, instances, studies, steps, transfers, orders, reports, exams, audit, spelling, site):
    """EVENTS of every exam with all sources of each milestone, in time order, with the exam's attributes on each."""
    parts = [*_hl7_orders(messages, site), *_hl7_reports(messages, reports, site), _event(_arrivals(messages, orders), "arrived", "arrived_at", "hl7", "EVN-2", 1, site),
             *_dicom(studies, instances, site), *_mpps(steps, site), _network(transfers), *_ris(exams, site), _opened(audit, site)]
    events = pd.concat([p for p in parts if len(p)] or [conform([], EVENTS)], ignore_index=True)
    events = _name_exams(events, messages, studies, spelling).sort_values("at", kind="stable")
    final = events[(events["milestone"] == "final") & (events["accession_number"] != "")].groupby("accession_number")["at"].min()
    events = events[~((events["milestone"] == "addended") & (events["at"] < look_up(events["accession_number"], final)))]
    # Without a number or a study nothing says that two records are about one exam.
    unnamed = (events["accession_number"] == "") & (events["study_instance_uid"] == "")
    alone = events["source_id"].where(events["source_id"] != "", "row " + pd.Series(events.index.astype("str"), index=events.index))
    events = events.assign(exam=alone.where(unnamed, ""))
    exam = ["accession_number", "study_instance_uid", "exam", "milestone", "source_field"]
    events = events[~(events["milestone"].isin(_FIRST_ONLY) & events.duplicated(exam))].drop_duplicates([*exam, "at"]).drop(columns="exam")
    return conform(_stamp(events, orders, reports, studies, exams, spelling).sort_values(["at", "accession_number", "rank"], kind="stable").reset_index(drop=True), EVENTS)


def _event(rows, milestone, column, source, field, rank, site=None, source_id="message_control_id"):
    at = rows[column]
    out = pd.DataFrame({"accession_number": rows["accession_number"], "study_instance_uid": rows.get("study_instance_uid", ""), "milestone": milestone, "at": at,
                        "source": source, "source_field": field, "source_id": rows[source_id], "rank": rank,
                        "precision": rows["precision"].str.extract(rf"\b{column}=(\w+)", expand=False).fillna("second") if "precision" in rows else "second",
                        "problems": _clock_change(rows, at, site) if site else ""})
    return out[at.notna()]


def look_up(keys, values):
    """`values` by key, on the index of `keys`; unlike Series.map it also works when there are none."""
    return values.reindex(keys).set_axis(keys.index)


def known_to_the_minute(rows, column):
    """The instants of a column, missing where `precision` says that less than the minute is known: a date alone is not midnight."""
    return rows[column].where(~rows["precision"].str.contains(rf"\b{column}=(?:{'|'.join(COARSE)})\b"))


def _clock_change(rows, at, site):
    """The code of the repeated or skipped hour, on those times only that lie in it; the row says only that one of its times does."""
    zoned = at.dt.tz_convert(site.time_zone)
    local = zoned.dt.tz_localize(None)
    before = (at - pd.Timedelta("1h")).dt.tz_convert(site.time_zone).dt.tz_localize(None)
    repeated = local.dt.tz_localize(site.time_zone, ambiguous="NaT", nonexistent="shift_forward").isna() & local.notna()
    # A time of the skipped hour was moved past it: the clocks went forward within the hour before.
    skipped = local - before > pd.Timedelta("1h")
    codes = pd.Series("", index=rows.index, dtype="str")
    for code, hit in (("AMBIGUOUS_TIME", repeated), ("NONEXISTENT_TIME", skipped)):
        codes = codes.where(~(hit & rows["problems"].str.contains(code)), code)
    return codes


def _hl7_orders(messages, site):
    rows = messages[messages["message_type"].isin(ORDER_TYPES)]
    said = rows["transaction_at"].notna()
    precision = rows["precision"].str.replace("transaction_at=", "said_at=").where(said, rows["precision"].str.replace("message_at=", "said_at="))
    rows = rows.assign(said_at=rows["transaction_at"].fillna(rows["message_at"]))
    rows = rows.assign(is_same_day_change=_same_day_change(rows), precision=rows["precision"] + " " + precision)
    for milestone, rank, mask, column, field in _ORDER_EVENTS:
        chosen = rows[rows[mask[0]].isin(mask[1])] if mask else rows
        yield _event(chosen, milestone, column, "hl7", field, rank, site)


def _same_day_change(rows):
    """True for an XO near the appointment that does not move it: many systems say so that the patient has come."""
    in_time = rows.sort_values("message_at", kind="stable")
    exam = in_time["accession_number"].where(in_time["accession_number"] != "", in_time["placer_order_number"])
    before = in_time.groupby(exam, sort=False)["scheduled_at"].ffill().groupby(exam, sort=False).shift().reindex(rows.index)
    due = rows["scheduled_at"].fillna(before)
    return (rows["order_control"] == "XO") & (due == before) & ((due - rows["said_at"]).abs() <= ARRIVAL_WINDOW)


def _hl7_reports(messages, reports, site):
    rows = messages[messages["message_type"] == "ORU"]
    yield _event(rows, "exam_started", "observed_at", "hl7", "OBR-7", 3, site)
    yield _event(rows, "exam_ended", "observation_ended_at", "hl7", "OBR-8", 3, site)
    for milestone, letters in _REPORT_EVENTS:
        chosen = rows[rows["result_status"].isin(letters)]
        yield _event(chosen, milestone, "status_changed_at", "hl7", "OBR-22", 1, site)
        yield _event(chosen, milestone, "message_at", "hl7", "MSH-7", 2, site)
    finals = reports[reports["result_status"].isin(["F", "C"]) & reports["acknowledgment_code"].isin(["AA", "CA"])]
    yield _event(finals, "delivered", "acknowledged_at", "hl7", "MSA-1", 1)


def _arrivals(messages, orders):
    """Exams with their `arrived_at`. A10 and A04 name no exam: the nearest one within 12 h of when the patient's exam was scheduled stands for it."""
    adt = messages[(messages["message_type"] == "ADT") & messages["trigger_event"].isin(["A04", "A10"]) & (messages["patient_id"] != "")]
    adt = adt.assign(arrived_at=known_to_the_minute(adt, "event_at").fillna(known_to_the_minute(adt, "message_at")))
    adt = adt.loc[adt["arrived_at"].notna(), ["patient_id", "arrived_at", "message_control_id", "source_file", "source_offset", "problems"]].sort_values("arrived_at", kind="stable")
    due = orders.loc[(orders["patient_id"] != "") & orders["scheduled_at"].notna(), ["patient_id", "scheduled_at", "accession_number", "study_instance_uid"]]
    met = pd.merge_asof(due.sort_values("scheduled_at"), adt, left_on="scheduled_at", right_on="arrived_at", by="patient_id", direction="nearest", tolerance=ARRIVAL_WINDOW)
    return met[met["arrived_at"].notna()]


def _dicom(studies, instances, site):
    timed = set(instances.loc[known_to_the_minute(instances, "acquired_at").notna(), "study_instance_uid"])
    acquired = studies["study_instance_uid"].isin(timed)
    for rows, rank, name in ((studies[acquired], 2, "(0008,002A)"), (studies[~acquired], 5, "(0008,0031)")):
        yield _event(rows, "exam_started", "started_at", "dicom", name, rank, site, source_id="study_instance_uid")
        yield _event(rows, "exam_ended", "ended_at", "dicom", name, rank, site, source_id="study_instance_uid")
    made = look_up(studies["study_instance_uid"], known_to_the_minute(instances, "created_at").groupby(instances["study_instance_uid"]).max())
    # Copied test images keep the creation time of their first life.
    made = studies.assign(made_at=made.where(~(made < studies["started_at"])))
    yield _event(made, "images_available", "made_at", "dicom", "(0008,0013)", 3, site, source_id="study_instance_uid")


def _mpps(steps, site):
    done = steps[steps["status"] == "COMPLETED"]
    for rows, milestone, column, field in ((steps, "exam_started", "started_at", "(0040,0244)"), (done, "exam_ended", "ended_at", "(0040,0250)"),
                                           (steps[steps["status"] == "DISCONTINUED"], "cancelled", "ended_at", "(0040,0281)")):
        yield _event(rows, milestone, column, "mpps", field, 3 if milestone == "cancelled" else 1, site, source_id="performed_procedure_step_id")


def _ris(exams, site):
    for milestone in MILESTONES:
        yield _event(exams, milestone, f"{milestone}_at", "ris", f"{milestone} of the RIS export", 2, site, source_id="placer_order_number")


def _opened(audit, site):
    """DICOM Instances Accessed (PS3.15 A.5.3.3) that succeeded, by anybody who may be about to read."""
    reads = audit[(audit["event_id"] == "110103") & audit["action"].isin(["R", ""]) & audit["outcome"].isin(["0", ""])]
    others = [user for user in reads["user_id"].unique() if any(fnmatchcase(user.casefold(), pattern.casefold()) for pattern in site.not_reading)]
    reads = reads[~reads["user_id"].isin(others)]
    # Of several studies in one message it does not say which number is whose.
    number = reads["accession_number"].where(~reads["study_instance_uid"].str.contains(" "), "")
    reads = reads.assign(accession_number=number, place=reads["source_file"] + ":" + reads["source_offset"].astype("str"),
                         study_instance_uid=reads["study_instance_uid"].str.split(" ")).explode("study_instance_uid", ignore_index=True)
    return _event(reads, "opened", "event_at", "audit", "110103", 1, site, source_id="place")


def _network(transfers):
    out = _event(transfers.assign(accession_number=""), "images_available", "ended_at", "network", "C-STORE", 1, source_id="association_id")
    # The archive is the receiver of most instances; a later copy to a workstation makes nothing available.
    main = transfers.groupby("called_ae_title")["n_stored"].sum().idxmax() if len(transfers) else ""
    return out.assign(rank=transfers["called_ae_title"].eq(main).map({True: 1, False: 4}).reindex(out.index))


def link_transfers(operations, associations, instances, studies):
    """Which association carried which study: association_id, study_instance_uid, calling_ae_title, called_ae_title, started_at, ended_at, n_stored.

    By SOP Instance UID where the log has it. Else by sender (0002,0016), number of instances and time, only where each side has
    exactly one partner.
    """
    columns = ["association_id", "study_instance_uid", "calling_ae_title", "called_ae_title", "started_at", "ended_at", "n_stored"]
    stores = operations[(operations["service"] == "C-STORE") & operations["status_category"].isin(STORED)]
    named = stores[stores["sop_instance_uid"] != ""].merge(instances[["sop_instance_uid", "study_instance_uid"]].drop_duplicates("sop_instance_uid"), on="sop_instance_uid")
    named = named.assign(started_at=named["started_at"].fillna(named["ended_at"]), ended_at=named["ended_at"].fillna(named["started_at"]))
    by_uid = named.groupby(["association_id", "study_instance_uid", "calling_ae_title", "called_ae_title"], sort=False).agg(
        started_at=("started_at", "min"), ended_at=("ended_at", "max"), n_stored=("sop_instance_uid", "nunique")).reset_index()
    told = set(stores.loc[stores["sop_instance_uid"] != "", "association_id"])
    silent = associations[~associations["association_id"].isin(told) & (associations["n_stored"] > 0) & ~associations["is_ambiguous"].fillna(False).astype(bool)]
    # Both sides by the hours in which they could meet: else every exam of a device would be tried with every association of it.
    span = TRANSFER_BEFORE + TRANSFER_AFTER
    made = studies[["study_instance_uid", "source_ae_title", "n_instances"]].assign(made_at=studies["ended_at"], hours=studies["ended_at"] - TRANSFER_BEFORE)
    made = pd.concat([made, made.assign(hours=studies["ended_at"] + TRANSFER_AFTER)])
    made = made.assign(hours=made["hours"].dt.floor(span)).dropna(subset="hours").drop_duplicates()
    pairs = silent[["association_id", "calling_ae_title", "called_ae_title", "started_at", "ended_at", "n_stored"]].assign(hours=silent["started_at"].dt.floor(span)).merge(
        made, left_on=["calling_ae_title", "n_stored", "hours"], right_on=["source_ae_title", "n_instances", "hours"])
    wait = pairs["started_at"] - pairs["made_at"]
    pairs = pairs[(wait >= -TRANSFER_BEFORE) & (wait <= TRANSFER_AFTER)]
    single = ~pairs.duplicated("association_id", keep=False) & ~pairs.duplicated(["study_instance_uid", "called_ae_title"], keep=False)
    return pd.concat([by_uid, pairs.loc[single, columns]], ignore_index=True)[columns]


def _name_exams(events, messages, studies, spelling):
    """Accession numbers filled from the study or the message that names its UID, and spelled one way."""
    by_uid = studies[studies["accession_number"] != ""].set_index("study_instance_uid")["accession_number"]
    named = messages[(messages["study_instance_uid"] != "") & (messages["accession_number"] != "")]
    # An order that names the Study UID is surer than what was typed at the device; a report that does is not.
    asked, told = (named[named["message_type"].isin(ORDER_TYPES) == is_order].drop_duplicates("study_instance_uid").set_index("study_instance_uid")["accession_number"]
                   for is_order in (True, False))
    uids = events["study_instance_uid"]
    from_uid = look_up(uids, asked).fillna(look_up(uids, by_uid)).fillna(look_up(uids, told)).fillna("")
    filled = events["accession_number"].where(events["accession_number"] != "", from_uid)
    return events.assign(accession_number=look_up(filled, spelling))


def exam_spellings(studies, messages, steps, exams, accesses, site):
    """The one spelling of every accession number, by number: that of the images, else of the order, else of the first to name it.

    Long numbers that only the cut at 16 characters (VR SH) would make equal stay apart.
    """
    is_order = messages["message_type"].isin(ORDER_TYPES)
    values = pd.concat([t["accession_number"] for t in (studies, messages[is_order], messages, steps, exams, accesses)]).drop_duplicates()
    values = pd.Series(values[values != ""].to_numpy(), dtype="str")
    clean = values.map(site.clean_accession)
    long = clean[values.str.len() > SH_LENGTH]
    clean = clean.where(~clean.isin(long[long.duplicated()]), "apart " + values)
    spelling = look_up(clean, pd.Series(values.to_numpy(), index=clean.to_numpy(), dtype="str").groupby(level=0, sort=False).first()).set_axis(values)
    return pd.concat([spelling, pd.Series({"": ""})])


def _stamp(events, orders, reports, studies, exams, spelling):
    for name in ("modality", "patient_class", "priority", "section"):
        known = pd.concat([t.loc[(t[name] != "") & (t["accession_number"] != ""), ["accession_number", name]] for t in (studies, orders, reports, exams) if name in t])
        value = known.assign(exam=look_up(known["accession_number"], spelling)).drop_duplicates("exam").set_index("exam")[name]
        found = look_up(events["accession_number"], value)
        if name in studies:
            found = found.fillna(look_up(events["study_instance_uid"], studies.set_index("study_instance_uid")[name]))
        events = events.assign(**{name: found.fillna("").to_numpy()})
    return events


_SAID = {"P": "preliminary report", "F": "final report", "C": "corrected report", "A": "partial report", "R": "dictated", "X": "report cancelled"}
_ORDERED = {"NW": "new order", "XO": "order changed", "CA": "order cancelled", "SC": "order status", "OC": "order cancelled", "DC": "order discontinued", "RE": "result"}


def build_trace(messages, instances, studies, steps, transfers, orders, reports, spelling):
    """TRACE of every exam: each message, arrival, merge, performed step, series and transfer in its lane, in plain words without a patient's value."""
    about = messages[(messages["accession_number"] != "") | (messages["study_instance_uid"] != "")]
    asked = about[about["message_type"].isin((*ORDER_TYPES, "SIU"))]
    words = asked["order_control"].map(_ORDERED).fillna(asked["order_control"]).where(asked["message_type"] != "SIU", "appointment " + asked["trigger_event"])
    told = about[about["message_type"] == "ORU"]
    answered = reports[reports["acknowledgment_code"] != ""]
    sent = transfers.assign(accession_number="")
    what = sent["n_stored"].astype("Int64").astype("str") + " instances from " + sent["calling_ae_title"] + " to " + sent["called_ae_title"]
    parts = [_lane(asked, "order", "message_at", words + (" (" + asked["order_status"] + ")").where(asked["order_status"] != "", ""), "message_control_id"),
             _lane(told, "report", "message_at", told["result_status"].map(_SAID).fillna("report"), "message_control_id"),
             _lane(answered, "acknowledgment", "acknowledged_at", "report answered " + answered["acknowledgment_code"], "message_control_id"),
             *_patient_lane(messages, orders, studies, reports), _series(instances, studies),
             _lane(steps, "dicom", "started_at", "performed step, " + steps["status"].str.lower().replace("", "status not told"), "performed_procedure_step_id", "ended_at"),
             _lane(sent, "network", "started_at", what, "association_id", "ended_at")]
    trace = _name_exams(pd.concat([p for p in parts if len(p)] or [conform([], TRACE)], ignore_index=True), messages, studies, spelling)
    return conform(trace[trace["at"].notna()].sort_values(["accession_number", "at"], kind="stable").reset_index(drop=True), TRACE)


def _patient_lane(messages, orders, studies, reports):
    """The arrival at each exam, and the merge or change of the id that its order, images or report carry."""
    yield _lane(_arrivals(messages, orders), "patient", "arrived_at", "patient arrived (A04/A10)", "message_control_id")
    merged = messages[(messages["message_type"] == "ADT") & (messages["prior_patient_id"] != "")]
    merged = merged.assign(at=merged["event_at"].fillna(merged["message_at"]))[["prior_patient_id", "trigger_event", "at", "message_control_id", "source_file", "source_offset", "problems"]]
    exams = pd.concat([t[["accession_number", "study_instance_uid", "patient_id"]] for t in (orders, studies, reports)]).drop_duplicates()
    exams = exams[(exams["accession_number"] != "") | (exams["study_instance_uid"] != "")]
    hit = exams.merge(merged, left_on="patient_id", right_on="prior_patient_id").sort_values("study_instance_uid", ascending=False, kind="stable")
    exam = hit["accession_number"].where(hit["accession_number"] != "", hit["study_instance_uid"])
    hit = hit[~hit.assign(exam=exam).duplicated(["exam", "message_control_id"])]
    yield _lane(hit, "patient", "at", "patient ID merged or changed (" + hit["trigger_event"] + ")", "message_control_id")


def _lane(rows, lane, at, what, source_id, ended_at=None):
    return pd.DataFrame({"accession_number": rows["accession_number"], "study_instance_uid": rows.get("study_instance_uid", ""), "at": rows[at],
                         "ended_at": rows[ended_at] if ended_at else pd.NaT, "lane": lane, "what": what, "source_id": rows[source_id],
                         "source_file": rows.get("source_file", ""), "source_offset": rows.get("source_offset"), "problems": rows.get("problems", "")})


def _series(instances, studies):
    rows = instances.assign(made_at=known_to_the_minute(instances, "acquired_at").fillna(
        known_to_the_minute(instances, "series_at")).fillna(instances["study_at"]))
    series = rows.groupby(["study_instance_uid", "series_instance_uid"], sort=False).agg(
        at=("made_at", "min"), ended_at=("made_at", "max"), modality=("modality", "first"), n=("sop_instance_uid", "nunique"), station_name=("station_name", "first"),
        source_file=("source_file", "first"), source_offset=("source_offset", "first")).reset_index()
    series = series[series["study_instance_uid"] != ""].assign(accession_number="")
    what = series["modality"] + " series, " + series["n"].astype("str") + " instances on " + series["station_name"].where(series["station_name"] != "", "an unnamed station")
    return _lane(series, "dicom", "at", what, "series_instance_uid", "ended_at")
