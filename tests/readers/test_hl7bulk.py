"""Blocks of plain messages give the cells that one message at a time gives, wherever a file is cut into blocks, ranges and processes."""

import gzip
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pacs_helpers.readers import account, hl7parts
from pacs_helpers.readers.hl7lines import hashes_of
from pacs_helpers.readers.hl7log import read_hl7_log
from pacs_helpers.site import Site

SITE = Site(time_zone="America/Chicago", statuses={"wet read": "P"})
HERE = SimpleNamespace(map=map)         # an executor that reads in this process
ONE_BY_ONE, IN_COLUMNS = 1 << 40, 1     # hl7parts.FEWEST
MESSAGES = [
    b"MSH|^~\\&|RIS|SOUTH|PACS|SOUTH|20240311092000||ORM^O01^ORM_O01|C1|P|2.5.1||||||UNICODE UTF-8\rPID|1|123|123^^^HOSP&1.2&ISO^MR~9^^^SSA^SS||M\xc3\x9cLLER^ANNA^^^MS||19600102|F\r"
    b"PV1|1|O|RAD^1\rORC|NW|P1^RIS|F1^PACS||SC||1^^^20240311100000^^S||20240311091500\r"
    b"OBR|1|P1^RIS|F1^PACS|CTX^CT CHEST \\T\\ ABDOMEN^L|||20240311080000|||||||||R1^REF||A1|RP1|||20240311091500||CT|S\rZDS|1.2.3^RIS\r",
    b"MSH|^~\\&|RIS|SOUTH|PACS|SOUTH|20240311092000.123-0500||ORU^R01|C2|P|2.5.1\rPID|1||77^^^H^PI~123^^^H^MR~5^^^X^SS|OLD 1|DOE^JOHN^Q^JR^DR||196001021530|M\r"
    b"ORC|RE|P1||| CM \rOBR|1|P1|F1|A^ONE\rOBX|1|TX|18782-3^Study observation^LN||Report \\.br\\ text||||||F\rOBR|2|P2|F2|B^TWO\rOBX|1|HD|113014^Study^DCM||1.2.840.1.2.3.4||||||wet read\r",
    b"MSH|^~\\&|ADT|SOUTH|||202403110920||ADT^A40|C3|P|2.3\rEVN|A40|20240310023000\rPID|1||\"\"||X^Y||2024\rMRG|8^^^H\rPV1|1|I|WARD|||||||||||||||||V1\r",
    b"MSH|^~\\&|PACS|SOUTH|||20241103013000||ACK|C4|P|2.3\rMSA|AE|C1|no such order\rERR|||207\r",
]
PUT_IN = (b"|", b"^", b"~", b"&", b"\\T\\", b"\\X0D\\", b"\\", b'""', b" ", b"\t", b"\r", b"\n", b"\x0b", b"\x1c\r", b"\xc2\xa0", b"\xff", b"MSH|^~\\&|", b"<CR>", b"8859/1", b"\0",
          b"PID|1||5^^^H~5^^^H\r", b"OBX|1|TX|STUDY INSTANCE UID||1.2.3.4.5.6.7||||||P\r", b"BTS|2\r", b"2024-03-11 10:00:00 received from 10.0.0.1\r", b"free text\r", b"20249999", b"ORC|NW|P9\r")


@pytest.fixture
def read(monkeypatch, tmp_path):
    def read(data, fewest=IN_COLUMNS, chunk=1 << 22, block=1 << 21, part=1 << 25):
        for name, value in (("FEWEST", fewest), ("CHUNK_BYTES", chunk), ("RANGE_BYTES", part)):
            monkeypatch.setattr(hl7parts, name, value)
        monkeypatch.setattr(account, "BLOCK_BYTES", block)
        (tmp_path / "feed.hl7").write_bytes(data)
        got = read_hl7_log(tmp_path / "feed.hl7", site=SITE, executor=HERE)
        return got._replace(sources=got.sources.drop(columns=["seconds", "modified_at"]))
    return read


def assert_same(one, other):
    for left, right in zip(one, other, strict=True):
        pd.testing.assert_frame_equal(left, right)


@st.composite
def feeds(draw):
    """Messages in one of the usual frames, some with something put in where a field begins or anywhere."""
    out = []
    frame = draw(st.sampled_from([(b"", b""), (b"", b"\r"), (b"\x0b", b"\x1c\r")]))
    end = draw(st.sampled_from([b"\r", b"\n", b"\r\n"]))
    for message in draw(st.lists(st.sampled_from(MESSAGES), min_size=2, max_size=12)):
        for _ in range(draw(st.integers(0, 2))):
            at = draw(st.sampled_from([0, *(i + 1 for i, byte in enumerate(message) if byte in b"|^\r")]))
            message = message[:at] + draw(st.sampled_from(PUT_IN)) + message[at:]
        out.append(frame[0] + message.replace(b"\r", end) + frame[1])
    return b"".join(out)


SETTINGS = settings(max_examples=max(settings.default.max_examples // 5, 1), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(feeds())
def test_columns_at_once_are_the_rows_one_by_one(read, data):
    assert_same(read(data), read(data, fewest=ONE_BY_ONE))


@SETTINGS
@given(feeds(), st.integers(50, 2000), st.integers(50, 2000), st.integers(500, 5000))
def test_where_a_file_is_cut_changes_nothing(read, data, chunk, block, part):
    assert_same(read(data), read(data, chunk=chunk, block=block, part=part))


def test_plain_messages_are_not_read_one_by_one(read, monkeypatch):
    """Repeated ids, escapes, UTF-8, several orders and clock changes are plain; the last message is not, as the file may be cut in it."""
    walked = []
    monkeypatch.setattr(hl7parts, "rows_of", lambda message, *rest, real=hl7parts.rows_of: walked.append(message) or real(message, *rest))
    got = read(b"".join(MESSAGES[i] for i in (0, 2, 3, 0, 2, 3)))
    assert len(got.messages) == 6 and len(walked) == 1


def test_a_range_that_is_spelled_in_another_way_has_the_whole_file_read(read):
    data = b"".join(MESSAGES) * 40 + b"2024-03-11 10:00:00 sent MSH|^~\\&|A|B|||20240311||ACK|C9|P|2.3<CR>MSA|AA|C1<CR>\n"
    got = read(data, part=8000)
    assert_same(got, read(data, fewest=ONE_BY_ONE))
    assert got.messages["acknowledgment_code"].iloc[-1] == "AA"


def test_a_batch_is_counted_over_all_blocks(read):
    head, tail = b"FHS|^~\\&|A\rBHS|^~\\&|A\r", b"BTS|%d\rFTS|1\r"
    for count, problem in ((40, ""), (39, "BATCH_COUNT")):
        got = read(head + b"".join(MESSAGES[3].replace(b"C4", b"K%d" % i) for i in range(40)) + tail % count, chunk=1000, block=500, part=1500)
        assert [p.split()[:1] for p in got.messages["problems"]] == [[problem] if problem else ["AMBIGUOUS_TIME"]] * 40


@pytest.mark.parametrize("size", [100, 1000])
def test_a_file_too_long_for_one_block_has_its_own_digest(read, size):
    data = b"".join(MESSAGES) * 5
    whole, cut = read(data).sources, read(data, block=size, chunk=size, part=2000).sources
    assert whole["sha256"].tolist() == cut["sha256"].tolist() and cut["n_bytes"].tolist() == [len(data)]


def test_copies_are_found_in_other_files_frames_and_line_ends(tmp_path):
    feed = [MESSAGES[3].replace(b"C4", b"K%d" % i) for i in range(50)]
    changed = feed[7].replace(b"207", b"208")
    (tmp_path / "a.hl7").write_bytes(b"".join(feed))
    (tmp_path / "b.hl7.gz").write_bytes(gzip.compress(b"".join(b"\x0b" + message + b"\x1c\r" for message in [*feed[:49], changed])))
    (tmp_path / "c.hl7").write_bytes(b"".join([*feed[:7], feed[49], changed]).replace(b"\r", b"\r\n"))
    messages = read_hl7_log(tmp_path, site=SITE, executor=HERE).messages
    told = [" ".join(p.split()[1:]) for p in messages["problems"]]      # the first is AMBIGUOUS_TIME
    copies = [""] * 50 + ["DUPLICATE_MESSAGE"] * 49 + [""] + ["DUPLICATE_MESSAGE"] * 9
    reused = {7, 57, 99, 108}
    assert told == [f"{copy} CONTROL_ID_REUSED".strip() if i in reused else copy for i, copy in enumerate(copies)]


def test_a_text_has_one_number_wherever_it_stands():
    texts = ["", "a", "b", "ab", "ba", "12345678", "123456789", "1234567890123456", "x12345678", "é" * 9, "a\0"]
    hashes = hashes_of(pd.Series(texts * 2, dtype="str")).tolist()
    assert hashes[:11] == hashes[11:] and len(set(hashes)) == 11 - 1      # nulls at the end do not count, and are no part of a value
    many = pd.Series([str(n) for n in range(70_000)], dtype="str")
    assert len(set(hashes_of(many).tolist())) == 70_000 and hashes_of(many.iloc[66_000:]).tolist() == hashes_of(many)[66_000:].tolist()
