"""What known faults of HL7 feeds come to, from the file to the minutes: those of the numbered list that are about more than one segment's bytes."""

import pandas as pd
import pytest

import pacs_helpers as pacs

SITE = pacs.Site(time_zone="America/Chicago", hl7_field="OBR-3")
AS_OF = pd.Timestamp("2024-03-12T12:00Z")


def message(kind, control, at, *segments, pid="00123^^^HOSP^MR"):
    return "\r".join([f"MSH|^~\\&|RIS|S|PACS|S|{at}||{kind}|{control}|P|2.5.1", f"PID|1||{pid}||ROE^R", *segments]) + "\r"


def order(at, accession="A1"):
    return message("ORM^O01", f"O{at}", at, f"ORC|NW|P1|||SC||||{at}", f"OBR|1|P1|{accession}|CT1^CT HEAD")


def report(ended, signed, accession="A1", status="F"):
    return message("ORU^R01", f"R{signed}{status}", signed, f"OBR|1|P1|{accession}|CT1^CT HEAD|||{ended}|{ended}||||||||||||||{signed}|||{status}", f"OBX|1|TX|I||x||||||{status}")


@pytest.fixture
def load(tmp_path):
    def load(text):
        (tmp_path / "feed.hl7").write_text(text, newline="")
        got = pacs.read_hl7_log(tmp_path, site=SITE)
        source = got.sources.iloc[0]
        assert source["n_bytes_in_rows"] + source["n_bytes_rejected"] + source["n_bytes_framing"] == len(text)
        return got
    return load


def minutes(got, start, end):
    dept = pacs.build_department(hl7=got, site=SITE)
    return pacs.measure_turnaround(dept.events, start, end, as_of=AS_OF)


def test_60_a_result_before_its_order_is_measured_by_time_and_keeps_its_place(load):
    got = load(report("20240311090000", "20240311093000") + order("20240311080000"))
    assert got.messages["message_type"].tolist() == ["ORU", "ORM"]
    assert minutes(got, "ordered", "final")["minutes"].tolist() == [90]


def test_63_an_interval_over_midnight_is_ten_minutes(load):
    assert minutes(load(report("20240310235500", "20240311000500")), "exam_ended", "final")["minutes"].tolist() == [10]


def test_64_a_clock_seven_minutes_ahead_gives_a_negative_interval_that_is_shown(load):
    got = minutes(load(report("20240311090700", "20240311090000")), "exam_ended", "final")
    assert got[["minutes", "is_negative"]].values.tolist() == [[-7, True]]


def test_62_a_time_of_the_repeated_hour_is_told_and_left_out(load):
    got = minutes(load(report("20231105013000", "20231105031000")), "exam_ended", "final")
    assert got["left_out"].tolist() == ["ambiguous time"]


def test_69_two_patients_whose_numbers_differ_by_zeros_stay_two(load):
    got = load(message("ADT^A04", "1", "20240311", pid="00123^^^HOSP^MR") + message("ADT^A04", "2", "20240311", pid="123^^^HOSP^MR"))
    assert got.messages["patient_id"].tolist() == ["00123", "123"]


def test_70_every_number_keeps_its_authority(load):
    got = load(message("ADT^A04", "1", "20240311", pid="00123^^^HOSPA^MR~123^^^HOSPB^MR~9^^^STATE^SS"))
    row = got.messages.iloc[0]
    assert [row["patient_id"], row["issuer_of_patient_id"], row["other_patient_ids"]] == ["00123", "HOSPA", "123^^^HOSPB 9^^^STATE"]


@pytest.mark.parametrize("size", [200_000, 3_000_000, 8_000_000])
def test_73_a_segment_of_megabytes_is_read_like_any(load, size):
    text = message("ORU^R01", "1", "20240311090000", "OBR|1|P1|A1|CT1", f"OBX|1|TX|I||{'x' * size}||||||F")
    got = load(text + report("20240311090000", "20240311093000"))
    assert got.messages["result_status"].tolist() == ["F", "F"] and got.messages["problems"].tolist() == ["", ""]
