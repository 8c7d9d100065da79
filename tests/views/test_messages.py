import pytest

from pacs_helpers import Site, TableError, explore_message, read_hl7_log

SITE = Site(time_zone="UTC")
FEED = ("MSH|^~\\&|RIS|SOUTH|PACS|SOUTH|20240311092000||ORU^R01|C1|P|2.5.1\rPID|1||00123^^^HOSP^MR\r"
        "OBR|1|P1|F1|70450^CT HEAD^L|||||||||||||||||||||F\rOBX|1|TX|IMP||Caf\u00e9.||||||F\rZZZ|ours\r"
        "MSH|^~\\&|RIS|SOUTH|PACS|SOUTH|20240311092000||ORU^R01|C2|P|2.5.1\rPID|1||00456\r").encode()


def fields(explored):
    return dict(zip(explored["field"], explored["value"]))


@pytest.fixture
def messages(tmp_path):
    def read(data, name="feed.hl7"):
        path = tmp_path / name
        path.write_bytes(data)
        return read_hl7_log(path, site=SITE).messages
    return read


def test_every_filled_field_has_its_name_and_value(messages):
    first, second = (explore_message(row) for _, row in messages(FEED).iterrows())
    named = {(f, n): v for f, n, v in zip(first["field"], first["name"], first["value"])}
    assert named["MSH-1", "Field Separator"] == "|" and named["MSH-10", "Message Control ID"] == "C1"
    assert named["PID-3", "Patient Identifier List"] == "00123^^^HOSP^MR" and named["OBR-25", "Result Status"] == "F"
    assert named["OBX-5", "Observation Value"] == "Café." and named["ZZZ-1", ""] == "ours"
    assert "OBR-5" not in fields(first)
    assert fields(second)["MSH-10"] == "C2" and fields(second)["PID-3"] == "00456" and "OBX-5" not in fields(second)


def test_segments_are_numbered_so_that_equal_ones_stay_apart(messages):
    row = messages(FEED.replace(b"ZZZ|ours", b"OBX|2|TX|IMP||More.||||||F")).iloc[0]
    found = explore_message(row)
    assert found.loc[found["field"] == "OBX-5", ["segment", "value"]].values.tolist() == [[4, "Café."], [5, "More."]]


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_a_message_of_a_utf_16_file_is_found(messages, codec):
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}[codec]
    assert fields(explore_message(messages(mark + FEED.decode().encode(codec)).iloc[1]))["MSH-10"] == "C2"


def test_a_message_in_a_log_line_is_shown_as_it_was_sent(messages):
    line = f"2024-03-11 09:20:00 INFO received {FEED.decode().split('ZZZ')[0]!r} from 10.0.0.1\n".encode()
    found = fields(explore_message(messages(line * 2).iloc[1]))
    assert found["MSH-2"] == "^~\\&" and found["OBX-5"] == "Café." and found["OBX-11"] == "F"


def test_a_changed_file_is_told_without_a_value(messages, tmp_path):
    row = messages(FEED).iloc[1]
    (tmp_path / "feed.hl7").write_bytes(FEED[:100])
    with pytest.raises(TableError, match="no message at byte .* any more"):
        explore_message(row)
