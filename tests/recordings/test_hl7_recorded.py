"""Real engines and a real RIS feed: nothing lost, names right, the same message the same everywhere."""

import json
from datetime import datetime, timezone

import hl7 as python_hl7
import pandas as pd
import pytest

from pacs_helpers.readers import account, hl7parts
from pacs_helpers.readers.accession import measure_accession_fields
from pacs_helpers.readers.hl7log import read_hl7_log
from pacs_helpers.site import Site

SITE = Site(time_zone="UTC")
PLACE = ["source_file", "source_offset", "received_at", "direction", "peer", "problems"]


def left_over(got):
    s = got.sources
    return int((s["n_bytes"] - s["n_bytes_in_rows"] - s["n_bytes_rejected"] - s["n_bytes_framing"]).abs().sum())


def n_messages(got):
    return len(got.messages.drop_duplicates(["source_file", "source_offset"]))


@pytest.fixture(scope="module")
def day(shared):
    return read_hl7_log(shared / "rig/hl7/all_messages_cr.hl7", site=SITE)


def test_all_messages_of_the_day_load_with_their_names_although_the_file_is_not_utf8(day):
    assert n_messages(day) == 104 and left_over(day) == 0 and day.rejected.empty
    names = set(day.messages.loc[day.messages["patient_id"] == "MRN100799", "patient_name"])
    assert names == {"BEAUCHAMP^ZOÉ"}


SHARED = {
    "message_control_id": "MSH.10", "message_type": "MSH.9.1", "trigger_event": "MSH.9.2", "sending_application": "MSH.3", "sending_facility": "MSH.4",
    "receiving_application": "MSH.5", "version": "MSH.12", "character_set": "MSH.18", "patient_id": "PID.3.1", "issuer_of_patient_id": "PID.3.4",
    "patient_birth_date": "PID.7", "patient_sex": "PID.8", "prior_patient_id": "MRG.1.1", "patient_class": "PV1.2", "patient_location": "PV1.3.1", "visit_number": "PV1.19",
}
OF_GROUP = {
    "order_control": "ORC.1", "orc_2": "ORC.2.1", "orc_3": "ORC.3.1", "order_status": "ORC.5", "obr_2": "OBR.2.1", "obr_3": "OBR.3.1", "obr_18": "OBR.18", "obr_20": "OBR.20",
    "procedure_code": "OBR.4.1", "procedure_name": "OBR.4.2", "priority": "OBR.5", "modality": "OBR.24", "result_status": "OBR.25", "requested_procedure_id": "OBR.19",
    "principal_interpreter": "OBR.32.1.1",
}
TIMES = {"message_at": "MSH.7", "event_at": "EVN.2", "transaction_at": "ORC.9", "observed_at": "OBR.7", "observation_ended_at": "OBR.8", "status_changed_at": "OBR.22", "scheduled_at": "ORC.7.4"}


def said(message, place, group):
    """What python-hl7 has at SEG.field.component.subcomponent; of the n-th ORC and OBR."""
    name, *numbers = place.split(".")
    field, component, sub = ([int(n) for n in numbers] + [1, 1])[:3]
    try:
        return message.extract_field(name, group + 1 if name in ("ORC", "OBR") else 1, field, 1, component, sub)
    except (LookupError, KeyError):
        return ""


def instant(text):
    if not text:
        return pd.NaT
    at = datetime.strptime(text, "%Y%m%d%H%M%S%z" if text[-5:-4] in ("+", "-") else "%Y%m%d%H%M%S" if len(text) == 14 else "%Y%m%d%H%M")
    return pd.Timestamp(at if at.tzinfo else at.replace(tzinfo=timezone.utc))


def test_every_field_agrees_with_python_hl7(shared, day):
    lines = [json.loads(line) for line in (shared / "rig/hl7/messages.jsonl").read_text(encoding="utf-8").splitlines()]
    messages = list(day.messages.groupby("source_offset"))
    assert len(lines) == len(messages) == 104
    wrong, n_compared = [], 0
    for line, (_, rows) in zip(lines, messages):
        message = python_hl7.parse(line["msg"])
        n_groups = max(line["msg"].count("\rORC|"), line["msg"].count("\rOBR|"), 1)
        assert len(rows) == n_groups
        for group, row in enumerate(rows.to_dict("records")):
            want = {column: said(message, place, group) for column, place in {**SHARED, **OF_GROUP}.items()}
            want |= {column: instant(said(message, place, group)) for column, place in TIMES.items()}
            want["priority"] = want["priority"] or said(message, "ORC.7.6", group)
            want["patient_name"] = "^".join(filter(None, (said(message, f"PID.5.{c}", 0) for c in (1, 2, 3))))
            for column, value in want.items():
                n_compared += 1
                if not (row[column] == value or pd.isna(row[column]) and value is pd.NaT):
                    wrong.append((line["cid"], column))
        assert rows["n_observations"].sum() == line["msg"].count("\rOBX|")
    assert wrong == [] and n_compared == 106 * 39


def test_a_message_reads_the_same_in_the_engines_log(shared, day):
    logs = read_hl7_log(shared / "rig/logs/hl7", site=SITE)
    assert left_over(logs) == 0
    wanted = day.messages.drop(columns=PLACE).set_index("message_control_id").sort_index(kind="stable")
    for name in ("py_hl7_server_oru.log", "socat_v_adt_orm.log"):
        mine = logs.messages[logs.messages["source_file"].str.endswith(name) & (logs.messages["message_type"] != "ACK")]
        assert len(mine) >= 20 and mine["received_at"].notna().all() and set(mine["direction"]) == {"in"}
        mine = mine.drop(columns=PLACE).set_index("message_control_id").sort_index(kind="stable")
        for control in mine.index.unique():
            # The socat dump shows only bytes that print, so a Latin-1 name cannot be whole there.
            lost = ["patient_name", "character_set", "raw"] if name.startswith("socat") else ["raw"]
            left, right = (t.loc[[control]].drop(columns=[*lost, "accession_number"]).reset_index(drop=True) for t in (mine, wanted))
            pd.testing.assert_frame_equal(left, right, obj=control)


def test_a_ris_feed_of_386_listener_logs_loads_whole(shared):
    got = read_hl7_log(shared / "corpus/washu-scout/tests/ingest/staging_test_data/postgres", site=SITE)
    assert len(got.sources) == 386 and n_messages(got) == 407 and left_over(got) == 0
    assert set(got.rejected["code"]) == {"NOT_HL7"} and (got.rejected["reason"] != "").all()
    fields = measure_accession_fields(got.messages, SITE).set_index("field")
    assert fields.index[fields["is_chosen"]].tolist() == ["OBR-3"] and bool(fields.loc["OBR-3", "is_guess"])


def test_a_network_capture_is_one_clear_line(shared):
    got = read_hl7_log(shared / "corpus/gen-network-captures/mllp_hl7.pcap", site=SITE)
    assert got.messages.empty and got.rejected["code"].tolist() == ["NOT_TEXT"] and "network capture" in got.rejected["reason"].iloc[0]


def test_logs_without_message_bodies_say_so(shared):
    got = read_hl7_log([shared / "rig/logs/hl7/mllp2http.log", shared / "rig/logs/hl7/mllp_send_txhl7.log"], site=SITE)
    assert got.rejected[["source_offset", "n_bytes", "code"]].values.tolist() == [[0, 1591, "NO_MSH"]]
    assert (got.messages["message_type"] == "ACK").all() and (got.messages["acknowledgment_code"] == "AA").all() and len(got.messages) == 18


def test_thousand_messages_of_a_simulated_hospital_are_clean(shared):
    got = read_hl7_log(shared / "corpus/simhospital/messages.out", site=SITE)
    assert n_messages(got) == 1013 and (got.messages["problems"] == "").all() and got.rejected.empty


def test_every_public_sample_loads_with_the_law_kept(shared):
    folders = [f for f in sorted((shared / "corpus").iterdir()) if f.is_dir()]
    total = 0
    for folder in folders:
        got = read_hl7_log(folder, site=SITE)
        assert left_over(got) == 0, folder.name
        total += n_messages(got)
    assert total > 2000


@pytest.mark.parametrize("cut", [{}, {"CHUNK_BYTES": 20_000, "BLOCK_BYTES": 7_000, "RANGE_BYTES": 60_000}])
def test_recordings_read_in_columns_are_as_read_one_by_one(shared, monkeypatch, cut):
    def read(**numbers):
        for name, value in numbers.items():
            monkeypatch.setattr(account if name == "BLOCK_BYTES" else hl7parts, name, value)
        got = read_hl7_log([shared / "rig/hl7", shared / "rig/logs/hl7", *(f for f in sorted((shared / "corpus").iterdir()) if f.is_dir())], site=SITE)
        return got._replace(sources=got.sources.drop(columns="seconds"))

    for one, other in zip(read(FEWEST=1 << 40), read(FEWEST=1, **cut), strict=True):
        pd.testing.assert_frame_equal(one, other)
