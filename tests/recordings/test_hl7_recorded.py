"""Real engines and a real RIS feed: nothing lost, names right, the same message the same everywhere."""

import json

import hl7 as python_hl7
import pandas as pd
import pytest

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


def test_every_field_agrees_with_python_hl7(shared, day):
    first = day.messages.drop_duplicates(["source_file", "source_offset"]).set_index("source_offset").sort_index()
    lines = [json.loads(line) for line in (shared / "rig/hl7/messages.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == len(first)
    for line, (_, row) in zip(lines, first.iterrows(), strict=True):
        message = python_hl7.parse(line["msg"])

        def said(segment, field, component=1, message=message):
            try:
                return message.extract_field(segment, 1, field, 1, component, 1)
            except (LookupError, KeyError):
                return ""

        for column, place in {"message_control_id": ("MSH", 10), "patient_id": ("PID", 3), "patient_sex": ("PID", 8), "patient_birth_date": ("PID", 7), "order_control": ("ORC", 1),
                              "obr_3": ("OBR", 3), "obr_18": ("OBR", 18), "orc_2": ("ORC", 2), "procedure_name": ("OBR", 4, 2), "result_status": ("OBR", 25),
                              "acknowledgment_code": ("MSA", 1), "prior_patient_id": ("MRG", 1)}.items():
            assert row[column] == said(*place), (line["cid"], column)
        assert row["patient_name"] == "^".join(filter(None, (said("PID", 5, c) for c in (1, 2, 3))))


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


def test_every_public_sample_loads_with_the_law_kept(shared):
    folders = [f for f in sorted((shared / "corpus").iterdir()) if f.is_dir()]
    total = 0
    for folder in folders:
        got = read_hl7_log(folder, site=SITE)
        assert left_over(got) == 0, folder.name
        total += n_messages(got)
    assert total > 2000
