import gzip
import json

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pacs_helpers.readers.account import show_rejected, summarize_account
from pacs_helpers.readers.hl7log import read_hl7_log
from pacs_helpers.site import Site
from pacs_helpers.tables import TableError

CHICAGO = Site(time_zone="America/Chicago")
PID = "PID|1||00123^^^HOSP^MR||TEST^ANNA||19600102|F"
OBR = "OBR|1|P1|F1|70450^CT HEAD^L|||20240311080000|||||||||R1^REF||A1|RP1|||20240311091500||CT|F|||||||77&READER&ROSE"


def msh(control="C1", kind="ORU^R01", at="20240311092000", charset=""):
    return f"MSH|^~\\&|RIS|SOUTH|PACS|SOUTH|{at}||{kind}|{control}|P|2.5.1" + (f"||||||{charset}" if charset else "")


def hl7(*segments, end="\r"):
    return (end.join(segments) + end).encode("latin-1")


REPORT = hl7(msh(), PID, "PV1|1|O|RAD^1", "ORC|RE|P1^RIS|F1^RIS||CM", OBR, "OBX|1|TX|IMP||Normal.||||||F")
ORDER = hl7(msh("C2", "ORM^O01"), PID, "ORC|NW|P2|F2||SC", "OBR|1|P2|F2|71046^XR CHEST^L|||||||||||||||A2")


@pytest.fixture
def load(tmp_path):
    def load(data, *, name="feed.hl7", site=CHICAGO):
        path = tmp_path / name
        path.write_bytes(data)
        got = read_hl7_log(path, site=site)
        size = got.sources["n_bytes"].iloc[0]
        assert got.sources.loc[0, ["n_bytes_in_rows", "n_bytes_rejected", "n_bytes_framing"]].sum() == size
        assert got.rejected["n_bytes"].sum() == got.sources["n_bytes_rejected"].iloc[0]
        return got
    return load


def one(got):
    assert len(got.messages) == 1, got.messages[["message_control_id", "problems"]]
    return got.messages.iloc[0]


def codes(got):
    return [tuple(p.split()) for p in got.messages["problems"]]


# Columns

def test_each_column_comes_from_its_field(load):
    row = one(load(REPORT))
    want = {
        "message_control_id": "C1", "message_type": "ORU", "trigger_event": "R01", "sending_application": "RIS", "sending_facility": "SOUTH",
        "receiving_application": "PACS", "version": "2.5.1", "character_set": "", "patient_id": "00123", "issuer_of_patient_id": "HOSP",
        "patient_name": "TEST^ANNA", "patient_birth_date": "19600102", "patient_sex": "F", "patient_class": "O", "patient_location": "RAD",
        "order_control": "RE", "placer_order_number": "P1", "filler_order_number": "F1", "order_status": "CM", "procedure_code": "70450",
        "procedure_name": "CT HEAD", "modality": "CT", "result_status": "F", "requested_procedure_id": "RP1", "principal_interpreter": "77",
        "obr_18": "A1", "accession_number": "A1", "n_observations": 1, "problems": "", "raw": "", "precision": "", "source_offset": 0,
    }
    assert {column: row[column] for column in want} == want
    assert row["message_at"] == pd.Timestamp("2024-03-11T14:20:00Z")        # CDT, UTC-5, since the day before
    assert row["observed_at"] == pd.Timestamp("2024-03-11T13:00:00Z") and row["status_changed_at"] == pd.Timestamp("2024-03-11T14:15:00Z")
    assert pd.isna(row["received_at"]) and row["direction"] == ""


def test_report_text_is_nowhere_in_the_table(load):
    got = load(hl7(msh(), PID, OBR, "OBX|1|TX|IMP||Secret finding.||||||F", "NTE|1||Secret note"))
    assert "Secret" not in got.messages.to_csv() + got.rejected.to_csv()


def test_each_order_group_is_a_row_and_shares_the_message(load):
    got = load(hl7(msh(), PID, "ORC|RE|P1", "OBR|1|P1||A^ONE", "OBR|2|P2||B^TWO", "OBX|1|TX|I||x||||||F", "ORC|RE|P3", "OBR|3|P3||C^THREE", "ZDS|1.2.3^RIS"))
    assert got.messages["procedure_code"].tolist() == ["A", "B", "C"] and got.messages["order_control"].tolist() == ["RE", "", "RE"]
    assert got.messages["n_observations"].tolist() == [0, 1, 0] and got.messages["study_instance_uid"].tolist() == ["", "", "1.2.3"]
    assert got.messages["source_offset"].tolist() == [0, 0, 0]
    assert summarize_account(got).startswith("1 piece = 1 messages loaded (0 with problems) + 0 rejected")


def test_one_report_for_several_orders_lends_them_its_observation_status(load):
    got = load(hl7(msh(), PID, "ORC|RE|P1", "OBR|1|P1", "ORC|RE|P2", "OBR|2|P2", "OBX|1|TX|I||x||||||P"))
    assert got.messages["result_status"].tolist() == ["P", "P"]


def test_observations_of_an_order_are_not_its_result(load):
    assert one(load(hl7(msh(kind="ORM^O01"), PID, "ORC|NW|P1", "OBR|1|P1", "OBX|1|NM|WEIGHT||80||||||F")))["result_status"] == ""


@pytest.mark.parametrize("segments", [["OBX|1|TX|I||x||||||F", "ZDS|1.2.840.1^RIS"], ["ZDS|1.2.840.1^RIS", "OBX|1|TX|I||x||||||F"],
                                      ["IPC|A9|RP|1.2.840.1^^1.2.3^ISO|SPS"], ["OBX|1|HD|113014^DICOM Study^DCM||1.2.840.1.2.3.4||||||F"]])
def test_study_uid_is_found_wherever_the_group_holds_it(load, segments):
    row = one(load(hl7(msh(), PID, "ORC|RE|P1", "OBR|1|P1", *segments)))
    assert row["study_instance_uid"] in ("1.2.840.1", "1.2.840.1.2.3.4")


def obr(**at):
    fields = {int(k[1:]): v for k, v in at.items()}
    return "OBR|" + "|".join(fields.get(i, "") for i in range(1, 37))


@pytest.mark.parametrize("segments, priority, scheduled", [
    (["ORC|NW|P|||||^^^20240311100000^^S", obr(f27="^^^20240311110000^^T")], "T", "15:00"),
    (["ORC|NW|P|||||^^^20240311100000^^S", obr(f5="A", f27="^^^20240311110000^^T")], "A", "15:00"),
    (["ORC|NW|P|||||^^^20240311100000^^S", obr(f36="20240311113000")], "S", "15:00"),
    (["ORC|NW|P", "TQ1|1||||||20240311103000||S^Stat", obr(f36="20240311113000")], "S", "15:30"),
    (["ORC|NW|P", obr(f27="^^^20240311110000^^T", f36="20240311113000")], "T", "16:00"),
    (["ORC|NW|P", obr(f36="20240311113000")], "", "16:30"),
])
def test_priority_and_schedule_come_from_the_first_place_that_is_filled(load, segments, priority, scheduled):
    row = one(load(hl7(msh(kind="ORM^O01"), PID, *segments)))
    assert row["priority"] == priority and row["scheduled_at"] == pd.Timestamp(f"2024-03-11T{scheduled}:00Z")


def test_appointment_time_is_the_schedule(load):
    row = one(load(hl7(msh(kind="SIU^S12"), "SCH|1|2|||||||||^^^20240311100000", PID)))
    assert row["scheduled_at"] == pd.Timestamp("2024-03-11T15:00:00Z")


def test_status_words_of_the_feed_become_letters_and_stay_in_raw(load):
    site = Site(time_zone="UTC", statuses={"Wet Read": "P"})
    row = one(load(hl7(msh(), PID, "ORC|RE|P1||| Final", "OBR|1" + "|" * 24 + "Wet Read"), site=site))
    assert row["result_status"] == "P" and json.loads(row["raw"])["result_status"] == "Wet Read"


def test_acknowledgments_are_rows_with_what_they_answer(load):
    row = one(load(hl7(msh("K1", "ACK"), "MSA|AE|C1|no such order", "ERR|||207")))
    assert (row["acknowledgment_code"], row["acknowledged_control_id"], row["error_text"]) == ("AE", "C1", "no such order")
    row = one(load(hl7(msh("K1", "ACK"), "MSA|AR|C1", "ERR|||101^Required field missing|||||Field OBR-4 is empty")))
    assert row["error_text"] == "Field OBR-4 is empty"


def test_each_pair_of_a_merge_is_a_row(load):
    got = load(hl7(msh(kind="ADT^A40^ADT_A39"), "EVN|A40|20240311080000", "PID|1||1^^^H||A^A", "MRG|9^^^H~8", "PID|2||2^^^H||B^B", "PV1|1|I", "MRG|7^^^H"))
    assert got.messages[["patient_id", "prior_patient_id", "patient_class"]].values.tolist() == [["1", "9", ""], ["2", "7", "I"]]
    assert (got.messages["event_at"] == pd.Timestamp("2024-03-11T13:00:00Z")).all()


def test_results_of_two_patients_in_one_message_keep_their_own_patient(load):
    got = load(hl7(msh(), "PID|1||1||A^A", "PV1|1|I", "OBR|1|P1", "PID|2||2||B^B", "OBR|1|P2"))
    assert got.messages[["patient_id", "patient_class", "placer_order_number"]].values.tolist() == [["1", "I", "P1"], ["2", "", "P2"]]


def test_medical_record_number_comes_first_and_the_others_are_kept(load):
    row = one(load(hl7(msh(), "PID|1|E5|123-45^^^SSA^SS~00123^^^HOSPA&1.2&ISO^MR~123^^^HOSPB^MR|OLD1^^^HOSP A|X^Y")))
    assert (row["patient_id"], row["issuer_of_patient_id"]) == ("00123", "HOSPA")
    assert row["other_patient_ids"] == "123^^^HOSPB 123-45^^^SSA E5 OLD1^^^HOSP_A"


def test_name_stands_as_dicom_orders_it(load):
    assert one(load(hl7(msh(), "PID|1||1||VAN TEST&VAN^ANNA^B^JR^DR^MD^L~OTHER")))["patient_name"] == "VAN TEST^ANNA^B^DR^JR"
    assert one(load(hl7(msh(), "PID|1||1||MARTIN^MATT^DAVID^^^^D")))["patient_name"] == "MARTIN^MATT^DAVID"


def test_an_identifier_is_text_and_the_null_value_is_empty(load):
    row = one(load(hl7(msh(), 'PID|1||000123||""||""|""', "OBR|1|1E5||9007199254740993")))
    assert (row["patient_id"], row["placer_order_number"], row["procedure_code"]) == ("000123", "1E5", "9007199254740993")
    assert (row["patient_name"], row["patient_sex"], row["problems"]) == ("", "", "")


def test_the_accession_field_can_be_named_by_the_site(load):
    assert one(load(REPORT, site=Site(time_zone="UTC", hl7_field="OBR-3.1")))["accession_number"] == "F1"


# Where messages stand

@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r\n"])
def test_any_line_end_separates_segments(load, end):
    row = one(load(REPORT.replace(b"\r", end.encode())))
    assert (row["patient_id"], row["obr_18"], row["n_observations"], row["problems"]) == ("00123", "A1", 1, "")


def test_mixed_line_ends_and_blank_lines_between_glued_messages(load):
    got = load(b"\r\n" + REPORT.replace(b"\r", b"\n", 2) + b"\n\n" + ORDER.rstrip(b"\r") + b"\r\n" + hl7(msh("C3"), PID))
    assert got.messages["message_control_id"].tolist() == ["C1", "C2", "C3"] and codes(got) == [(), (), ()] and got.rejected.empty


def test_a_message_glued_to_the_last_field_is_a_message(load):
    got = load(REPORT.rstrip(b"\r") + ORDER)
    assert got.messages["message_control_id"].tolist() == ["C1", "C2"] and got.messages["result_status"].tolist() == ["F", ""]


def test_an_msh_inside_a_value_is_no_message(load):
    got = load(hl7(msh(), "PID|1||1||MSH|||MSH|12", "NTE|1||MSH|^~\\&|LAB is how it began", "OBR|1|P1"))
    assert one(got)["placer_order_number"] == "P1"


def test_frames_are_framing(load):
    got = load(b"\x0b" + REPORT + b"\x1c\r\x0b" + ORDER + b"\x1c\r")
    assert codes(got) == [(), ()] and got.sources["n_bytes_framing"].iloc[0] == 6 + REPORT.count(b"\r") + ORDER.count(b"\r")


def test_a_frame_without_its_end_is_flagged_and_both_messages_kept(load):
    got = load(b"\x0b" + REPORT + b"\x0b" + ORDER + b"\x1c\r" + b"\x0b" + hl7(msh("C3"), PID) + b"\x1c\r")
    assert codes(got) == [("MLLP_FRAME",), (), ()]


def test_frame_end_right_after_the_last_field(load):
    assert codes(load(b"\x0b" + REPORT[:-1] + b"\x1c\r\x0b" + ORDER[:-1] + b"\x1c\r")) == [(), ()]


@pytest.mark.parametrize("said, flagged", [("2", []), ("3", ["BATCH_COUNT"]), ("", [])])
def test_batch_trailer_is_held_against_the_messages(load, said, flagged):
    got = load(b"FHS|^~\\&|X\rBHS|^~\\&|X\r" + REPORT + ORDER + f"BTS|{said}\rFTS|1\r".encode())
    assert codes(got) == [tuple(flagged)] * 2 and got.rejected.empty


def test_file_trailer_counts_batches(load):
    assert codes(load(b"FHS|^~\\&|X\rBHS|^~\\&|X\r" + REPORT + b"BTS|1\rFTS|2\r")) == [("BATCH_COUNT",)]


def test_python_log_lines_give_messages_direction_peer_and_time(load):
    text = hl7(msh(charset="8859/1"), PID.replace("ANNA", "ZO\xc9 O'HARA"), "OBX|1|TX|I||ends with \\.br\\").decode("latin-1")
    log = (f"2024-03-11 09:20:01,500 INFO [in] connection from 10.0.0.5:4711\n2024-03-11 09:20:02,250 INFO [in] RECV 10.0.0.5:4711 {text!r}\n"
           f"2024-03-11 09:20:03,000 INFO [in] SEND 10.0.0.5:4711 {hl7(msh('K1', 'ACK'), 'MSA|AA|C1').decode()!r}\n")
    got = load(log.encode(), name="engine.log")
    assert got.messages["message_control_id"].tolist() == ["C1", "K1"] and got.messages["direction"].tolist() == ["in", "out"]
    assert got.messages["patient_name"].tolist() == ["TEST^ZO\xc9 O'HARA", ""] and codes(got) == [(), ()]
    assert got.messages["received_at"].tolist() == [pd.Timestamp("2024-03-11T14:20:02.250Z"), pd.Timestamp("2024-03-11T14:20:03Z")]
    assert got.messages["peer"].tolist() == ["10.0.0.5:4711"] * 2 and got.messages["n_observations"].tolist() == [1, 0]
    assert got.rejected["code"].tolist() == ["NOT_HL7"] and show_rejected(got, 0).endswith(b"connection from 10.0.0.5:4711")
    assert "10.0.0.5" not in got.rejected["reason"].iloc[0]


def test_python_bytes_literals_with_frames(load):
    data = b"\x0b" + hl7(msh(charset="8859/1"), PID.replace("ANNA", "ZO\xc9")) + b"\x1c\r"
    row = one(load(f"2024-03-11 09:20:02 DEBUG got {data!r}\n".encode(), name="engine.log"))
    assert row["patient_name"] == "TEST^ZO\xc9" and row["problems"] == "" and row["received_at"] == pd.Timestamp("2024-03-11T14:20:02Z")


def test_json_lines_with_messages(load):
    lines = [json.dumps({"t": "2024-03-11T09:20:02Z", "msg": text.decode("latin-1"), "note": "x"}) for text in (hl7(msh(), PID.replace("ANNA", 'Zo\xeb "Z"')), ORDER)]
    got = load("\n".join(lines).encode(), name="messages.jsonl")
    assert got.messages["message_control_id"].tolist() == ["C1", "C2"] and got.messages["patient_name"].tolist() == ['TEST^Zo\xeb "Z"', "TEST^ANNA"]
    assert got.messages["received_at"].iloc[0] == pd.Timestamp("2024-03-11T09:20:02Z") and got.rejected.empty


def socat(data, mark, total):
    shown = data.replace(b"\\", b"\\\\").replace(b"\r", b"\\r").replace(b"\x0b", b"\\v").replace(b"\x1c", b".")
    return b"%s 2024/03/11 09:20:02.000250000  length=%d from=%d to=%d\n" % (mark, len(data), total, total + len(data) - 1) + shown


def test_socat_dump_loses_no_dot_and_joins_what_it_cut(load):
    long = b"\x0b" + hl7(msh(), PID, OBR, "OBX|1|TX|I||One. Two.||||||P") + b"\x1c\r"
    answer = b"\x0b" + hl7(msh("K1", "ACK"), "MSA|AA|C1|done.")[:-1] + b"\x1c\r"
    cut = long.index(b"One.") + 6
    got = load(socat(long[:cut], b">", 0) + socat(long[cut:], b">", cut) + socat(answer, b"<", 0), name="socat.log")
    assert got.messages["message_control_id"].tolist() == ["C1", "K1"] and got.messages["direction"].tolist() == ["in", "out"]
    assert got.messages["error_text"].tolist() == ["", "done."] and codes(got) == [(), ()]
    assert got.messages["n_observations"].tolist() == [1, 0] and got.rejected.empty


def test_spelled_line_ends_and_frames(load):
    body = "".join(s + "<R>\n" for s in REPORT.decode().rstrip("\r").split("\r"))
    got = load(f"2024-03-11 09:20:02.5|INFO|Tcp|\n<SB>\n{body}<EB>2024-03-11 09:20:09.5|INFO|Tcp|\n<SB>\n{body.replace('|C1|', '|C2|')}<EB>\n".encode(), name="listener.log")
    assert got.messages["received_at"].tolist() == [pd.Timestamp("2024-03-11T14:20:02.5Z"), pd.Timestamp("2024-03-11T14:20:09.5Z")]
    assert codes(got) == [(), ()] and got.rejected["n_bytes"].tolist() == [31, 31]


def test_messages_on_one_line_with_spelled_returns(load):
    got = load(b"2024-03-11T09:20:02+01:00 received: " + REPORT[:-1].replace(b"\r", b"\\r") + b"\nnothing else\n", name="engine.log")
    assert one(got)["received_at"] == pd.Timestamp("2024-03-11T08:20:02Z") and one(got)["n_observations"] == 1


def test_xml_exports_with_entities(load):
    text = REPORT.replace(b"ANNA", b"ANNA & CO").replace(b"&", b"&amp;").replace(b"\r", b"&#xd;")
    row = one(load(b"<export>\n<raw>" + text + b"</raw>\n</export>\n", name="channel.xml"))
    assert (row["patient_name"], row["principal_interpreter"], row["n_observations"]) == ("TEST^ANNA", "77", 1)


IN_XML = b'<ORU_R01 xmlns="urn:hl7-org:v2xml">\n  <MSH>\n    <MSH.1>|</MSH.1>\n    <MSH.2>^~\\&amp;</MSH.2>\n  </MSH>\n  <PID><PID.3><CX.1>00123</CX.1></PID.3></PID>\n</ORU_R01>\n'


@pytest.mark.parametrize(("data", "n"), [(b'<?xml version="1.0"?>\n' + IN_XML, 1), (IN_XML.replace(b"\n", b"") + IN_XML.replace(b"<", b"<h:").replace(b"<h:/", b"</h:"), 1), (IN_XML * 2, 2),
                                         (b"<ACK><MSH><MSH.1>|</MSH.1></MSH></ACK>", 1), (IN_XML.decode().encode("utf-16"), 1)])
def test_a_file_of_messages_in_xml_encoding_is_named_as_one(load, data, n):
    got = load(data)
    assert got.messages.empty and got.rejected["code"].tolist() == ["XML_ENCODED"] and got.rejected["n_bytes"].tolist() == [len(data)]
    assert got.rejected["reason"].iloc[0].startswith(f"{n} HL7 v2 message") and "ER7" in got.rejected["reason"].iloc[0] and "00123" not in got.rejected["reason"].iloc[0]


def test_messages_in_xml_encoding_are_a_row_of_rejected_each_in_a_log(load):
    cut = IN_XML[:90]
    pieces = [REPORT, IN_XML, IN_XML, b"2024-03-11 09:20:03 INFO again\n", cut, b"\n2024-03-11 09:20:03 INFO sent\n", IN_XML, ORDER, b"bye\n"]
    got = load(b"".join(pieces), name="engine.log")
    assert got.messages[["message_control_id", "problems"]].values.tolist() == [["C1", ""], ["C2", ""]]
    assert got.rejected["code"].tolist() == ["XML_ENCODED"] * 2 + ["NOT_HL7", "XML_ENCODED", "NOT_HL7", "XML_ENCODED", "NOT_HL7"]
    assert [show_rejected(got, i).strip() for i in range(7)] == [piece.strip() for piece in pieces if piece not in (REPORT, ORDER)]


@pytest.mark.parametrize("end", [b"&#xd;", b"&#xd;\n", b"&#13;&#10;", b"\r", b"\n"])
def test_an_exported_message_of_mirth_has_the_message_as_received_and_as_sent(load, end):
    text = hl7(msh(), PID.replace("ANNA", "ANNA <B> & CO"), OBR, "OBX|1|TX|I||a < b \\T\\ c||||||F")
    escaped = text.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b">", b"&gt;").replace(b"\r", end)
    in_xml = b"&lt;HL7Message&gt;&lt;MSH&gt;&lt;MSH.1&gt;|&lt;/MSH.1&gt;&lt;/MSH&gt;&lt;/HL7Message&gt;"
    data = b"".join(b"<%s>\n  <encrypted>false</encrypted>\n  <content>%s</content>\n</%s>\n" % (kind, content, kind)
                    for kind, content in ((b"raw", escaped), (b"transformed", in_xml), (b"encoded", escaped)))
    got = load(b"<message>\n" + data + b"</message>\n", name="export.xml")
    assert got.messages["patient_name"].tolist() == ["TEST^ANNA <B>"] * 2 and got.messages["n_observations"].tolist() == [1, 1]
    assert codes(got) == [(), ("DUPLICATE_MESSAGE",)] and got.rejected["code"].tolist() == ["NOT_HL7", "NOT_HL7", "XML_ENCODED", "NOT_HL7", "NOT_HL7"]


def test_log_lines_between_segments_are_rejected_and_the_message_kept(load):
    lines = REPORT.decode().split("\r")
    got = load("\n".join(["2024-03-11 09:20:02 INFO got one", *lines[:2], "2024-03-11 09:20:02 DEBUG queue 3", *lines[2:-1], "2024-03-11 09:20:03 INFO done", ""]).encode())
    row = one(got)
    assert (row["patient_id"], row["obr_18"], row["n_observations"], row["problems"]) == ("00123", "A1", 1, "")
    assert got.rejected["code"].tolist() == ["NOT_HL7"] * 3


def test_chatter_in_a_row_is_one_rejected_row(load):
    got = load(b"hello\nworld\n\nagain\n" + REPORT + b"\nbye\n")
    assert [show_rejected(got, i) for i in range(2)] == [b"hello\nworld\n\nagain", b"bye"] and got.rejected["source_offset"].tolist() == [0, 19 + len(REPORT) + 1]


def test_log_words_before_every_segment_are_taken_off(load):
    got = load("".join(f"2024-03-11 09:20:0{i} INFO  {s}\n" for i, s in enumerate(REPORT.decode().split("\r")[:-1])).encode())
    row = one(got)
    assert (row["obr_18"], row["n_observations"], row["problems"]) == ("A1", 1, "LINE_PREFIX") and got.rejected.empty


def test_indented_segments_are_read(load):
    assert one(load(REPORT.replace(b"\rOBR", b"\r  OBR")))["obr_18"] == "A1"
    assert codes(load(b"  " + REPORT)) == [("LINE_PREFIX",)]


# Bad input

def test_line_feed_in_a_report_hides_nothing(load):
    row = one(load(hl7(msh(), PID, "OBR|1|P1", "OBX|1|TX|I||FINDINGS:\n\nNormal | clear.\nThe end.||||||F", "OBX|2|TX|I||x||||||F", "ZDS|1.2.3")))
    assert (row["result_status"], row["n_observations"], row["study_instance_uid"], row["problems"]) == ("F", 2, "1.2.3", "RAW_NEWLINE")


def test_a_report_broken_in_its_last_segment_is_whole(load):
    got = load(hl7(msh(), PID, "OBR|1|P1", "OBX|1|TX|I||FINDINGS:\n\nNormal.\nThe end.||||||P"))
    assert one(got)["result_status"] == "P" and got.rejected.empty


def test_carriage_return_in_a_note_is_part_of_it(load):
    got = load(hl7(msh(), PID, "OBR|1|P1", "NTE|1||one\rtwo", "ZDS|1.2.3"))
    assert one(got)["problems"] == "RAW_NEWLINE" and one(got)["study_instance_uid"] == "1.2.3" and got.rejected.empty


def test_text_after_a_complete_observation_is_not_its_text(load):
    got = load(hl7(msh(), PID, "OBR|1|P1", "OBX|1|TX|I||x||||||F", "queue is empty now"))
    assert one(got)["problems"] == "" and show_rejected(got, 0) == b"queue is empty now"
    got = load(hl7(msh(), PID, "OBR|1|P1", "OBX|1|TX|I||x||||||F", "queue | empty | now"))
    assert one(got)["problems"] == "" and show_rejected(got, 0) == b"queue | empty | now"


def test_segments_without_a_header_are_rejected_with_their_place(load):
    got = load(hl7(PID, "OBR|1|P1"))
    assert got.messages.empty and got.rejected[["source_offset", "n_bytes", "code"]].values.tolist() == [[0, len(PID) + 10, "NO_MSH"]]
    got = load(b"\x0b" + REPORT + b"\x1c\r" + hl7(PID.replace("00123", "00999"), "OBR|1|P1"))
    assert one(got)["patient_id"] == "00123" and got.rejected["code"].tolist() == ["NO_MSH"]


@pytest.mark.parametrize("cut", range(1, len(ORDER)))
def test_a_message_cut_by_the_end_of_the_file_is_flagged_or_rejected(load, cut):
    got = load(REPORT + ORDER[:cut])
    ends_whole = ORDER[cut - 1:cut] == b"\r"
    assert got.messages["message_control_id"].iloc[0] == "C1" and got.messages["problems"].iloc[0] == ""
    if cut < 9:
        assert len(got.messages) == 1 and len(got.rejected) == 1
    else:
        assert ("TRUNCATED" in got.messages["problems"].iloc[1]) == (not ends_whole)


def test_a_cut_single_message_is_flagged_but_a_missing_last_line_end_is_not(load):
    assert codes(load(hl7(msh(), PID)[:-12][:100])) == [("TRUNCATED",)]
    assert codes(load(REPORT[:-1])) == [()]


def test_header_of_seven_fields(load):
    assert codes(load(hl7("MSH|^~\\&|RIS|SOUTH|PACS|SOUTH|20240311092000", PID))) == [("MISSING_FIELD",)]


@pytest.mark.parametrize("separators", ["|^~\\&", "#^~\\&", "|*~\\&", "!%$\\?", "|^~"])
def test_delimiters_are_the_messages_own(load, separators):
    text = REPORT.decode()
    mapping = dict(zip("|^~\\&", separators + "|^~\\&"[len(separators):], strict=True))
    other = "".join(mapping.get(c, c) for c in text)
    if len(separators) == 3:
        other = other.replace("^~\\&", "^~", 1)
    row = one(load(other.encode()))
    assert (row["patient_id"], row["patient_name"], row["obr_18"], row["principal_interpreter"]) == ("00123", "TEST^ANNA", "A1", "77")


def test_a_backslash_lost_from_the_header_is_no_escape(load):
    row = one(load(REPORT.replace(b"^~\\&", b"^~ &").replace(b"CT HEAD", b"CT HEAD LEFT")))
    assert row["procedure_name"] == "CT HEAD LEFT" and row["problems"] == ""


def test_escapes_are_undone_and_wrong_ones_kept(load):
    row = one(load(hl7(msh(), PID, r"OBR|1|P1||C\T\D^a\F\b\S\c\R\d\E\e\X41\\.br\f")))
    assert (row["procedure_code"], row["procedure_name"], row["problems"]) == ("C&D", "a|b^c~d\\eA\nf", "")
    row = one(load(hl7(msh(), PID, r"OBR|1|P1||C^a\Q\b and c\d")))
    assert (row["procedure_name"], row["problems"]) == (r"a\Q\b and c\d", "BAD_ESCAPE")
    assert codes(load(hl7(msh(), PID, "OBR|1|P1", r"OBX|1|TX|I||one\X0D0A\two||||||F"))) == [()]
    assert codes(load(hl7(msh(), PID, "OBR|1|P1", r"OBX|1|TX|I||C:\new||||||F"))) == [("BAD_ESCAPE",)]


@pytest.mark.parametrize("charset, sent, code", [
    ("8859/1", "latin-1", ""), ("UNICODE UTF-8", "utf-8", ""), ("UTF-8", "utf-8", ""), ("8859/1", "utf-8", "CHARSET_MISMATCH"),
    ("UNICODE UTF-8", "latin-1", "CHARSET_MISMATCH"), ("ASCII", "latin-1", "CHARSET_MISMATCH"), ("", "utf-8", "CHARSET_MISSING"),
    ("", "latin-1", "CHARSET_MISSING"), ("8859/9", "iso8859_9", ""), ("NOT SUPPLIED", "utf-8", "CHARSET_UNKNOWN"),
])
def test_text_is_right_whatever_the_header_says_of_it(load, charset, sent, code):
    data = hl7(msh(charset=charset), PID.replace("TEST", "MÜLLER")).decode("latin-1").encode(sent)
    row = one(load(data))
    assert row["patient_name"] == "MÜLLER^ANNA" and row["problems"] == code and row["character_set"] == charset


def test_windows_quotes_under_a_latin_label(load):
    row = one(load(hl7(msh(charset="8859/1"), PID).replace(b"TEST", b"O\x92HARA")))
    assert row["patient_name"] == "O\u2019HARA^ANNA" and row["problems"] == "CHARSET_MISMATCH"


@pytest.mark.parametrize("charset, codec, name", [("ISO IR87", "iso2022_jp", "山田^太郎"), ("GB 18030-2000", "gb18030", "丂昞^李"), ("BIG-5", "big5", "功^許")])
def test_delimiters_inside_a_multi_byte_character_split_nothing(load, charset, codec, name):
    row = one(load(hl7(msh(charset=f"ASCII~{charset}"), PID, "OBR|1|P1").decode().replace("TEST^ANNA", name).encode(codec)))
    assert row["patient_name"] == name and row["placer_order_number"] == "P1" and row["problems"] == ""


def test_each_message_has_its_own_character_set(load):
    got = load(hl7(msh("C1"), PID.replace("ANNA", "ZOÉ")) + hl7(msh("C2"), PID.replace("ANNA", "ZOÉ")).decode("latin-1").encode())
    assert got.messages["patient_name"].tolist() == ["TEST^ZOÉ"] * 2


def test_byte_order_mark_costs_no_message(load):
    assert codes(load(b"\xef\xbb\xbf" + REPORT + b"\xef\xbb\xbf" + ORDER)) == [(), ()]


@pytest.mark.parametrize("mark, codec", [(b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"", "utf-16-le")])
def test_utf_16_is_read_and_places_are_those_of_the_file(load, mark, codec):
    text = hl7(msh(), PID.replace("ANNA", "ZOÉ")).decode("latin-1") + "chatter 𝄞\r" + ORDER.decode()
    got = load(mark + text.encode(codec) + b"\x00")
    assert got.messages["patient_name"].tolist() == ["TEST^ZOÉ", "TEST^ANNA"] and got.messages["problems"].tolist() == ["", ""]
    assert show_rejected(got, 0).decode(codec) == "chatter 𝄞"


def test_nuls_are_taken_out_and_flagged(load):
    row = one(load(REPORT.replace(b"00123", b"001\x0023")))
    assert row["patient_id"] == "00123" and row["problems"] == "NUL_BYTES"


def test_control_characters_are_shown_not_sent_to_the_terminal(load):
    row = one(load(REPORT.replace(b"00123", b"00\x1b[2J123")))
    assert row["patient_id"] == "00\\x1b[2J123" and row["problems"] == "CONTROL_CHARS"


def test_packed_files_keep_all_whole_messages(load):
    packed = gzip.compress(REPORT + ORDER)
    assert codes(load(packed)) == [(), ()]
    assert codes(load(gzip.compress(REPORT) + gzip.compress(ORDER))) == [(), ()]
    got = load(gzip.compress(REPORT + ORDER, compresslevel=0)[:-60])
    assert got.messages["message_control_id"].tolist() == ["C1", "C2"] and codes(got) == [(), ("TRUNCATED",)]
    assert got.rejected["code"].tolist() == ["TRUNCATED_GZIP"]


def test_damage_or_junk_in_a_packed_file_costs_no_message_before_it(load):
    many = b"".join(REPORT.replace(b"|C1|", b"|N%d|" % i).replace(b"Normal.", b"%x" % (i ** 40)) for i in range(3000))
    packed = bytearray(gzip.compress(many))
    packed[len(packed) * 9 // 10] ^= 0xFF
    got = load(bytes(packed))
    assert len(got.messages) > 2000 and "BAD_GZIP" in set(got.rejected["code"]) and "TRUNCATED" in got.messages["problems"].iloc[-1]
    got = load(gzip.compress(REPORT) + gzip.compress(ORDER) + b"junk!")
    assert codes(got) == [(), ("TRAILING_BYTES",)] and got.rejected["reason"].tolist() == ["5 bytes after the packed data are not gzip; check how the file was copied"]
    assert load(gzip.compress(REPORT) + b"\0" * 512).rejected.empty
    got = load(gzip.compress(REPORT + ORDER)[:-8] + b"badcheck")
    assert got.messages["message_control_id"].tolist() == ["C1", "C2"] and got.rejected["code"].tolist() == ["BAD_GZIP"]


@pytest.mark.parametrize("data, code", [(b"", "EMPTY_FILE"), (b"\r\n\r\n", "NO_MSH"), (b"no message here\n", "NO_MSH"), (b"\xd4\xc3\xb2\xa1" + REPORT, "NOT_TEXT"),
                                        (b"\0" * 100, "NO_MSH")])
def test_a_file_without_messages_is_one_rejected_row(load, data, code):
    got = load(data)
    assert got.messages.empty and got.rejected["code"].tolist() == [code] and got.rejected["n_bytes"].tolist() == [len(data)]


def test_one_control_id_with_two_contents_and_one_content_twice(load):
    final = REPORT.replace(b"|CT|F|", b"|CT|P|")
    assert codes(load(final + REPORT)) == [("CONTROL_ID_REUSED",)] * 2
    assert codes(load(REPORT + REPORT.replace(b"\r", b"\r\n") + ORDER)) == [(), ("DUPLICATE_MESSAGE",), ()]
    assert codes(load(REPORT + REPORT.replace(b"|SOUTH|PACS", b"|NORTH|PACS"))) == [(), ()]


def test_an_empty_patient_id_is_flagged_and_a_missing_patient_is_not(load):
    assert codes(load(hl7(msh(), "PID|1||^^^HOSP||TEST^ANNA", "OBR|1|P1"))) == [("EMPTY_ID",)]
    assert codes(load(hl7(msh(kind="ORM^O01"), "ORC|CA|P1"))) == [()]


@pytest.mark.parametrize("value, at, precision, code", [
    ("20240311", "2024-03-11T05:00Z", "message_at=day", ""), ("202403110915", "2024-03-11T14:15Z", "message_at=minute", ""),
    ("20240311091500-0800", "2024-03-11T17:15Z", "", "OTHER_OFFSET"), ("20240311091500.1234", "2024-03-11T14:15:00.1234Z", "", ""),
    ("20240310023000", "2024-03-10T08:30Z", "", "NONEXISTENT_TIME"), ("20241103013000", "2024-11-03T06:30Z", "", "AMBIGUOUS_TIME"),
    ("2024-03-11 09:15", None, "", "BAD_TIME"), ("20241311091500", None, "", "BAD_TIME"), ("", None, "", ""),
])
def test_times_keep_their_precision_and_doubts(load, value, at, precision, code):
    row = one(load(hl7(msh(at=value), PID)))
    assert row["problems"] == code and row["precision"] == precision
    assert pd.isna(row["message_at"]) if at is None else row["message_at"] == pd.Timestamp(at)
    assert row["raw"] == (json.dumps({"message_at": value}) if code == "BAD_TIME" else "")


def test_birth_date_keeps_the_date_only(load):
    assert one(load(hl7(msh(), "PID|1||1||A^B||19600102000000-0600")))["patient_birth_date"] == "19600102"
    assert codes(load(hl7(msh(), "PID|1||1||A^B||02/01/1960"))) == [("BAD_DATE",)]


def test_the_clock_change_in_a_log_is_a_doubt_of_the_message(load):
    assert codes(load(b"2024-11-03 01:30:00 RECV " + REPORT, name="engine.log")) == [("AMBIGUOUS_TIME",)]


def test_site_must_be_a_site():
    with pytest.raises(TableError, match="site: a Site is needed"):
        read_hl7_log("x", site="America/Chicago")


# Properties

SAMPLE = (b"\xef\xbb\xbf2024-03-11 09:20:02 RECV 'MSH|^~\\\\&|A|B|||20240311||ORU^R01|C0|P|2.3\\rPID|1||1\\r'\r\nchatter\n\x0b" + REPORT + b"\x1c\r" + b"BHS|^~\\&|X\r"
          + ORDER.replace(b"\r", b"\r\n") + b"BTS|1\rOBX|1\r\n" + hl7(msh("C3"), PID, "OBX|1|TX|I||a\nb||||||F") + b"\0\0")


@given(st.integers(0, len(SAMPLE)), st.integers(0, len(SAMPLE)), st.binary(max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_piece_of_a_file_is_accounted_for(load, start, end, noise):
    got = load(SAMPLE[min(start, end):max(start, end)] + noise)
    assert (got.sources["n_bytes_rejected"] >= 0).all() and (got.sources["n_bytes_framing"] >= 0).all()


@given(st.permutations(range(4)))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_files_changes_no_row(tmp_path, order):
    files = [tmp_path / name for name in "abcd"]
    for file, data in zip(files, (REPORT, ORDER, REPORT, REPORT.replace(b"|F|", b"|P|")), strict=True):
        file.write_bytes(data)
    got, want = (read_hl7_log([files[i] for i in places], site=CHICAGO).messages for places in (order, range(4)))
    pd.testing.assert_frame_equal(got, want)
    assert want["problems"].tolist() == ["CONTROL_ID_REUSED", "", "DUPLICATE_MESSAGE CONTROL_ID_REUSED", "CONTROL_ID_REUSED"]
