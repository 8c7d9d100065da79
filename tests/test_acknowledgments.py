import pandas as pd

from pacs_helpers import conform, pair_acknowledgments
from pacs_helpers.schemas import MESSAGES

DAY = "2024-03-11T"


def sent(control, at, **more):
    return {"message_type": "ORU", "message_control_id": control, "message_at": f"{DAY}{at}Z", "sending_application": "RIS", **more}


def answer(code, control, at, **more):
    return {"message_type": "ACK", "message_control_id": f"K{at}", "message_at": f"{DAY}{at}Z", "acknowledgment_code": code, "acknowledged_control_id": control,
            "receiving_application": "RIS", **more}


def pair(*rows):
    messages = [{"source_file": "feed", "source_offset": i * 100, **row} for i, row in enumerate(rows)]
    return pair_acknowledgments(conform(messages, MESSAGES))


def test_each_message_has_the_answer_that_names_it_or_none():
    got = pair(sent("A", "10:00"), sent("B", "10:01"), sent("C", "10:02"), answer("AR", "C", "10:04", error_text="no such patient"), answer("AA", "A", "10:05"))
    assert got[["message_control_id", "acknowledgment_code", "error_text"]].values.tolist() == [["A", "AA", ""], ["B", "", ""], ["C", "AR", "no such patient"]]
    assert got["acknowledged_at"].tolist() == [pd.Timestamp(f"{DAY}10:05Z"), pd.NaT, pd.Timestamp(f"{DAY}10:04Z")]
    assert got["acknowledgment_control_id"].tolist() == ["K10:05", "", "K10:04"]


def test_a_message_sent_again_is_told_apart_from_the_first_sending():
    got = pair(sent("A", "10:00"), answer("AE", "A", "10:01"), sent("A", "10:05"), answer("AA", "A", "10:06"))
    assert got[["sending_number", "acknowledgment_code"]].values.tolist() == [[1, "AE"], [2, "AA"]]


def test_the_last_sending_takes_all_further_answers_and_of_them_the_first_that_accepts():
    got = pair(sent("A", "10:00"), answer("AE", "A", "10:01"), answer("AA", "A", "10:02"), answer("AA", "A", "10:03"))
    assert got["acknowledgment_control_id"].tolist() == ["K10:02"]


def test_two_systems_that_count_alike_have_their_own_answers():
    got = pair(sent("7", "10:00"), sent("7", "10:00", sending_application="VR"), answer("AE", "7", "10:01", receiving_application="VR"))
    assert got[["sending_application", "acknowledgment_code"]].values.tolist() == [["RIS", ""], ["VR", "AE"]]


def test_an_answer_to_nothing_sent_here_makes_no_row():
    assert len(pair(sent("A", "10:00"), answer("AA", "Z", "10:01"))) == 1


def test_a_message_of_several_orders_is_one_row():
    assert len(pair_acknowledgments(conform([{"source_file": "feed", "source_offset": 0, **sent("A", "10:00")}] * 2, MESSAGES))) == 1


def test_a_copy_in_another_log_is_no_second_sending():
    copy = sent("A", "10:00", source_file="other", problems="DUPLICATE_MESSAGE")
    assert pair(sent("A", "10:00"), answer("AA", "A", "10:01"), copy)[["source_file", "acknowledgment_code"]].values.tolist() == [["feed", "AA"]]
    again = sent("A", "10:00", problems="DUPLICATE_MESSAGE")
    assert pair(sent("A", "10:00"), again, answer("AA", "A", "10:01"), copy)["acknowledgment_code"].tolist() == ["AA", ""]
