"""The event log and the trace of each exam: when it reached a milestone, and which system says so."""

import pandas as pd

from .tables import EVENTS, TRACE, conform

# A device that missed a clock change says an exam ended an hour after it was sent.
TRANSFER_BEFORE, TRANSFER_AFTER = pd.Timedelta("75min"), pd.Timedelta("60min")
ARRIVAL_WINDOW = pd.Timedelta("12h")
ORDER_TYPES = ("ORM", "OMG", "OMI")
STORED = ("Success", "Warning")
# milestone, rank (1 = best, DOMAIN order of sources), message mask, time column, field
_ORDER_EVENTS = (
    ("ordered", 1, ("order_control", ("NW", "SN")), "transaction_at", "ORC-9"), ("ordered", 2, ("order_control", ("NW", "SN")), "message_at", "MSH-7 of NW"),
    ("ordered", 3, None, "message_at", "MSH-7"), ("scheduled", 1, None, "scheduled_at", "ORC-7.4"),
    ("arrived", 2, ("order_status", ("ARRIVED",)), "transaction_at", "ORC-5=ARRIVED"), ("arrived", 3, ("order_control", ("XO",)), "transaction_at", "ORC-9 of XO"),
    ("exam_started", 3, None, "observed_at", "OBR-7"), ("exam_started", 4, ("order_status", ("IP",)), "transaction_at", "ORC-5=IP"),
    ("exam_ended", 3, None, "observation_ended_at", "OBR-8"), ("exam_ended", 4, ("order_status", ("CM",)), "transaction_at", "ORC-5=CM"),
    ("cancelled", 1, ("order_control", ("CA", "OC", "DC", "CR")), "transaction_at", "ORC-1=CA"), ("cancelled", 2, ("order_status", ("CA", "X")), "transaction_at", "ORC-5=CA"),
)
_REPORT_EVENTS = (("dictated", ("R",)), ("preliminary", ("P", "A")), ("final", ("F",)), ("addended", ("C",)))
LAST_COUNTS = ("scheduled", "exam_ended", "images_available")
_FIRST_ONLY = ("ordered", "dictated", "preliminary", "final", "addended", "delivered")


def best_events(events):
    """One row per accession number and milestone: the best-ranked source whose time is known to the minute, the earliest of equals.

    Of LAST_COUNTS the latest: an exam of two studies ends, and is complete, with the second, and a new appointment replaces the old.
    """
    usable = events[events["at"].notna() & ~events["precision"].isin(["year", "month", "day", "hour"]) & (events["accession_number"] != "")]
    at = usable["at"].astype("int64")
    usable = usable.assign(_order=at.where(~usable["milestone"].isin(LAST_COUNTS), -at)).sort_values(["rank", "_order"], kind="stable")
    return usable.drop_duplicates(["accession_number", "milestone"]).drop(columns="_order").sort_index()


def build_events(messages, instances, studies, steps, transfers, orders, reports, site):
    """EVENTS of every exam with all sources of each milestone, in time order, with the exam's attributes on each."""
    parts = [*_hl7_orders(messages, site), *_hl7_reports(messages, reports, site), _arrivals(messages, orders),
             *_dicom(studies, instances), *_mpps(steps), _network(transfers)]
    events = pd.concat([p for p in parts if len(p)] or [conform([], EVENTS)], ignore_index=True)
    events = _name_exams(events, messages, studies, site)
    first = events.sort_values("at", kind="stable").drop_duplicates(["accession_number", "study_instance_uid", "milestone", "source_field"]).index
    events = events[~events["milestone"].isin(_FIRST_ONLY) | events.index.isin(first)]
    events = events[events["at"].notna()].drop_duplicates(["accession_number", "study_instance_uid", "milestone", "source_field", "at"])
    return conform(_stamp(events, orders, reports, studies, site).sort_values(["at", "accession_number", "rank"], kind="stable").reset_index(drop=True), EVENTS)


def _event(rows, milestone, column, source, field, rank, site=None, source_id="message_control_id"):
    at = rows[column]
    out = pd.DataFrame({"accession_number": rows["accession_number"], "study_instance_uid": rows.get("study_instance_uid", ""), "milestone": milestone, "at": at,
                        "source": source, "source_field": field, "source_id": rows[source_id], "rank": rank,
                        "precision": rows["precision"].str.extract(rf"\b{column}=(\w+)", expand=False).fillna("second") if "precision" in rows else "second",
                        "problems": _clock_change(rows, at, site) if site else ""})
    return out[at.notna()]


def _look_up(keys, values):
    """`values` by key, on the index of `keys`; unlike Series.map it also works when there are none."""
    return values.reindex(keys).set_axis(keys.index)


def _clock_change(rows, at, site):
    """The code of the repeated or skipped hour, on those times only that lie in it; the message says only that one of its times does."""
    local = at.dt.tz_convert(site.time_zone).dt.tz_localize(None)
    repeated = local.dt.tz_localize(site.time_zone, ambiguous="NaT", nonexistent="shift_forward").isna() & local.notna()
    told = rows["problems"].str.contains("AMBIGUOUS_TIME")
    skipped = rows["problems"].str.contains("NONEXISTENT_TIME") & local.dt.hour.between(0, 4) & (
        at.dt.tz_convert(site.time_zone).map(lambda t: t.utcoffset(), na_action="ignore") != (at - pd.Timedelta("2h")).dt.tz_convert(site.time_zone).map(lambda t: t.utcoffset(), na_action="ignore"))
    return pd.Series("", index=rows.index, dtype="str").where(~(repeated & told), "AMBIGUOUS_TIME").where(~skipped, "NONEXISTENT_TIME")


def _hl7_orders(messages, site):
    rows = messages[messages["message_type"].isin(ORDER_TYPES)]
    rows = rows.assign(transaction_at=rows["transaction_at"].fillna(rows["message_at"]))
    for milestone, rank, mask, column, field in _ORDER_EVENTS:
        chosen = rows[rows[mask[0]].isin(mask[1])] if mask else rows
        yield _event(chosen, milestone, column, "hl7", field, rank, site)


def _hl7_reports(messages, reports, site):
    rows = messages[messages["message_type"] == "ORU"]
    yield _event(rows, "exam_started", "observed_at", "hl7", "OBR-7", 3, site)
    yield _event(rows, "exam_ended", "observation_ended_at", "hl7", "OBR-8", 3, site)
    for milestone, letters in _REPORT_EVENTS:
        chosen = rows[rows["result_status"].isin(letters)]
        yield _event(chosen, milestone, "status_changed_at", "hl7", "OBR-22", 1, site)
        yield _event(chosen, milestone, "message_at", "hl7", "MSH-7", 2, site)
    finals = reports[reports["result_status"].isin(["F", "C"]) & reports["acknowledgment_code"].isin(["AA", "CA"])]
    answers = messages[messages["acknowledgment_code"].isin(["AA", "CA"])].sort_values("message_at").drop_duplicates("acknowledged_control_id").set_index("acknowledged_control_id")
    told = _look_up(finals["message_control_id"], answers["message_at"])
    yield _event(finals.assign(told_at=told), "delivered", "told_at", "hl7", "MSA-1", 1)


def _arrivals(messages, orders):
    """A10 and A04 name no exam: the nearest one within 12 h of when the patient's exam was scheduled stands for it."""
    adt = messages[(messages["message_type"] == "ADT") & messages["trigger_event"].isin(["A04", "A10"]) & (messages["patient_id"] != "")]
    adt = adt.assign(arrived_at=adt["event_at"].fillna(adt["message_at"]))[["patient_id", "arrived_at", "message_control_id"]].dropna().sort_values("arrived_at")
    due = orders[(orders["patient_id"] != "") & orders["scheduled_at"].notna()].drop(columns=["message_control_id", "problems"]).sort_values("scheduled_at")
    met = pd.merge_asof(due, adt, left_on="scheduled_at", right_on="arrived_at", by="patient_id", direction="nearest", tolerance=ARRIVAL_WINDOW)
    return _event(met, "arrived", "arrived_at", "hl7", "EVN-2", 1)


def _dicom(studies, instances):
    timed = set(instances.loc[instances["acquired_at"].notna() & ~instances["precision"].str.contains("acquired_at="), "study_instance_uid"])
    acquired = studies["study_instance_uid"].isin(timed)
    for rows, rank, name in ((studies[acquired], 2, "(0008,002A)"), (studies[~acquired], 5, "(0008,0031)")):
        yield _event(rows, "exam_started", "started_at", "dicom", name, rank, source_id="study_instance_uid")
        yield _event(rows, "exam_ended", "ended_at", "dicom", name, rank, source_id="study_instance_uid")
    made = _look_up(studies["study_instance_uid"], instances.groupby("study_instance_uid")["created_at"].max())
    # Copied test images keep the creation time of their first life.
    yield _event(studies.assign(made_at=made.where(~(made < studies["started_at"]))), "images_available", "made_at", "dicom", "(0008,0013)", 3, source_id="study_instance_uid")


def _mpps(steps):
    done = steps[steps["status"] == "COMPLETED"]
    for rows, milestone, column, field in ((steps, "exam_started", "started_at", "(0040,0244)"), (done, "exam_ended", "ended_at", "(0040,0250)"),
                                           (steps[steps["status"] == "DISCONTINUED"], "cancelled", "ended_at", "(0040,0281)")):
        yield _event(rows, milestone, column, "mpps", field, 3 if milestone == "cancelled" else 1, source_id="performed_procedure_step_id")


def _network(transfers):
    ranked = transfers.assign(accession_number="")
    out = _event(ranked, "images_available", "ended_at", "network", "C-STORE", 1, source_id="association_id")
    # The archive is the receiver of most instances; a later copy to a workstation makes nothing available.
    main = transfers.groupby("called_ae_title")["n_stored"].sum().idxmax() if len(transfers) else ""
    return out.assign(rank=ranked["called_ae_title"].eq(main).map({True: 1, False: 4}).reindex(out.index))


def link_transfers(operations, associations, instances, studies):
    """Which association carried which study: association_id, study_instance_uid, calling_ae_title, called_ae_title, started_at, ended_at, n_stored.

    By SOP Instance UID where the log has it. Else by sender (0002,0016), number of instances and time, only where each side has
    exactly one partner.
    """
    columns = ["association_id", "study_instance_uid", "calling_ae_title", "called_ae_title", "started_at", "ended_at", "n_stored"]
    stores = operations[(operations["service"] == "C-STORE") & operations["status_category"].isin(STORED)]
    named = stores[stores["sop_instance_uid"] != ""].merge(instances[["sop_instance_uid", "study_instance_uid"]].drop_duplicates("sop_instance_uid"), on="sop_instance_uid")
    named = named.assign(ended_at=named["ended_at"].fillna(named["started_at"]))
    by_uid = named.groupby(["association_id", "study_instance_uid", "calling_ae_title", "called_ae_title"], sort=False).agg(
        started_at=("started_at", "min"), ended_at=("ended_at", "max"), n_stored=("sop_instance_uid", "nunique")).reset_index()
    told = set(stores.loc[stores["sop_instance_uid"] != "", "association_id"])
    silent = associations[~associations["association_id"].isin(told) & (associations["n_stored"] > 0) & ~associations["is_ambiguous"].fillna(False).astype(bool)]
    pairs = silent[["association_id", "calling_ae_title", "called_ae_title", "started_at", "ended_at", "n_stored"]].merge(
        studies[["study_instance_uid", "source_ae_title", "n_instances", "ended_at"]].rename(columns={"ended_at": "made_at"}),
        left_on=["calling_ae_title", "n_stored"], right_on=["source_ae_title", "n_instances"])
    wait = pairs["started_at"] - pairs["made_at"]
    pairs = pairs[(wait >= -TRANSFER_BEFORE) & (wait <= TRANSFER_AFTER)]
    single = ~pairs.duplicated("association_id", keep=False) & ~pairs.duplicated(["study_instance_uid", "called_ae_title"], keep=False)
    return pd.concat([by_uid, pairs.loc[single, columns]], ignore_index=True)[columns]


def _name_exams(events, messages, studies, site):
    """Accession numbers filled from the study or the message that names its UID, and spelled one way."""
    by_uid = studies[studies["accession_number"] != ""].set_index("study_instance_uid")["accession_number"]
    named = messages[(messages["study_instance_uid"] != "") & (messages["accession_number"] != "")]
    # An order that names the Study UID is surer than what was typed at the device; a report that does is not.
    asked, told = (named[named["message_type"].isin(ORDER_TYPES) == is_order].drop_duplicates("study_instance_uid").set_index("study_instance_uid")["accession_number"]
                   for is_order in (True, False))
    uids = events["study_instance_uid"]
    from_uid = _look_up(uids, asked).fillna(_look_up(uids, by_uid)).fillna(_look_up(uids, told)).fillna("")
    filled = events["accession_number"].where(events["accession_number"] != "", from_uid)
    spelling = exam_spellings(studies, messages, site)
    return events.assign(accession_number=filled.map(lambda a: spelling.get(site.clean_accession(a), a)))


def exam_spellings(studies, messages, site):
    """`{cleaned accession number: the one spelling of it}`: that of the images, else of the order."""
    spelling = {}
    for value in [*studies["accession_number"].unique(), *messages["accession_number"].unique()]:
        if value:
            spelling.setdefault(site.clean_accession(value), value)
    return spelling


def _stamp(events, orders, reports, studies, site):
    clean = events["accession_number"].map(site.clean_accession)
    for name in ("modality", "patient_class", "priority", "section"):
        known = pd.concat([t.loc[t[name] != "", ["accession_number", name]] for t in (studies, orders, reports) if name in t])
        known = known[known["accession_number"] != ""]
        value = known.assign(clean=known["accession_number"].map(site.clean_accession)).drop_duplicates("clean").set_index("clean")[name]
        found = _look_up(clean, value)
        if name in studies:
            found = found.fillna(_look_up(events["study_instance_uid"], studies.set_index("study_instance_uid")[name]))
        events = events.assign(**{name: found.fillna("").to_numpy()})
    return events


_SAID = {"P": "preliminary report", "F": "final report", "C": "corrected report", "A": "partial report", "R": "dictated", "X": "report cancelled"}
_ORDERED = {"NW": "new order", "XO": "order changed", "CA": "order cancelled", "SC": "order status", "OC": "order cancelled", "DC": "order discontinued", "RE": "result"}


def build_trace(messages, instances, studies, steps, transfers, orders, reports, site):
    """TRACE of every exam: each message, series and transfer in its lane, in plain words without a patient's value."""
    about = messages[(messages["accession_number"] != "") | (messages["study_instance_uid"] != "")]
    asked = about[about["message_type"].isin(["ORM", "OMG", "OMI", "SIU"])]
    words = asked["order_control"].map(_ORDERED).fillna(asked["order_control"])
    parts = [_lane(asked, "order", "message_at", words + asked["order_status"].map(lambda s: f" ({s})" if s else ""), "message_control_id")]
    told = about[about["message_type"] == "ORU"]
    parts.append(_lane(told, "report", "message_at", told["result_status"].map(_SAID).fillna("report"), "message_control_id"))
    answered = reports[reports["acknowledgment_code"] != ""]
    answers = messages[messages["acknowledgment_code"] != ""].sort_values("message_at").drop_duplicates("acknowledged_control_id").set_index("acknowledged_control_id")["message_at"]
    answered = answered.assign(told_at=_look_up(answered["message_control_id"], answers))
    parts.append(_lane(answered, "acknowledgment", "told_at", "report answered " + answered["acknowledgment_code"], "message_control_id"))
    met = _arrivals(messages, orders)
    parts.append(_lane(met, "patient", "at", "patient arrived (A04/A10)", "source_id"))
    parts.append(_series(instances, studies))
    sent = transfers.assign(accession_number="")
    what = sent["n_stored"].astype("Int64").astype("str") + " instances from " + sent["calling_ae_title"] + " to " + sent["called_ae_title"]
    parts.append(_lane(sent, "network", "started_at", what, "association_id", "ended_at"))
    trace = _name_exams(pd.concat([p for p in parts if len(p)] or [conform([], TRACE)], ignore_index=True), messages, studies, site)
    return conform(trace[trace["at"].notna()].sort_values(["accession_number", "at"], kind="stable").reset_index(drop=True), TRACE)


def _lane(rows, lane, at, what, source_id, ended_at=None):
    return pd.DataFrame({"accession_number": rows["accession_number"], "study_instance_uid": rows.get("study_instance_uid", ""), "at": rows[at],
                         "ended_at": rows[ended_at] if ended_at else pd.NaT, "lane": lane, "what": what, "source_id": rows[source_id],
                         "source_file": rows.get("source_file", ""), "source_offset": rows.get("source_offset"), "problems": rows.get("problems", "")})


def _series(instances, studies):
    rows = instances.assign(made_at=instances["acquired_at"].fillna(instances["series_at"]).fillna(instances["study_at"]))
    series = rows.groupby(["study_instance_uid", "series_instance_uid"], sort=False).agg(
        at=("made_at", "min"), ended_at=("made_at", "max"), modality=("modality", "first"), n=("sop_instance_uid", "nunique"), station_name=("station_name", "first"),
        source_file=("source_file", "first"), source_offset=("source_offset", "first")).reset_index()
    series = series[series["study_instance_uid"] != ""].assign(accession_number="")
    what = series["modality"] + " series, " + series["n"].astype("str") + " instances on " + series["station_name"].where(series["station_name"] != "", "an unnamed station")
    return _lane(series, "dicom", "at", what, "series_instance_uid", "ended_at")
