import gzip
import io

import dpkt
import pandas as pd
import pytest

from pacs_helpers import Site, TableError
from pacs_helpers.readers.capture import read_capture
from pacs_helpers.readers.hl7log import read_hl7_log
from tests.wires import (
    RELEASE_RP,
    RELEASE_RQ,
    SERVER,
    START,
    Wire,
    associate_ac,
    associate_rq,
    command,
    conversation,
    ethernet,
    p_data,
    pcap,
    pdu,
    response,
    store_rq,
)

SITE = Site(time_zone="UTC")
MESSAGE = b"MSH|^~\\&|RIS|S|PACS|S|20240311092000||ORU^R01|C1|P|2.5.1\rPID|1||00123\rOBR|1|P1|F1\r"


@pytest.fixture
def load(tmp_path):
    def load(data, *, name="day.pcap"):
        (tmp_path / name).write_bytes(data)
        got = read_capture(tmp_path / name, site=SITE)
        source = got.sources.iloc[0]
        assert source["n_bytes"] == (len(gzip.decompress(data)) if name.endswith(".gz") else len(data))
        assert source["n_bytes_in_rows"] + source["n_bytes_rejected"] + source["n_bytes_framing"] == source["n_bytes"]
        assert got.rejected["n_bytes"].sum() == source["n_bytes_rejected"]
        return got
    return load


def at(packet):
    """The instant of the n-th packet of a Wire."""
    return pd.Timestamp(START + packet / 1000, unit="s", tz="UTC").round("ms")


def test_an_association_and_its_stores_have_exact_times_and_sizes(load):
    got = load(pcap(conversation(b"x" * 3000, b"y" * 100).packets))
    row = got.associations.iloc[0]
    want = {"calling_ae_title": "CT1_DEMO", "called_ae_title": "ARCHIVE_DEMO", "peer_address": "10.20.0.12", "outcome": "released", "n_operations": 2, "n_stored": 2,
            "n_failed": 0, "n_bytes": 3100, "n_bytes_source": "exact", "is_ambiguous": False, "problems": ""}
    assert {name: row[name] for name in want} == want and len(got.associations) == 1
    # packets: 0-2 handshake, 3 request, 4 accept, 5-7 first store (3,000 bytes in three packets), 8 answer, 9 second store, 10 answer, 11-12 release
    assert row[["started_at", "ended_at"]].tolist() == [at(3), at(12)]
    stores = got.operations
    assert stores["sop_instance_uid"].tolist() == ["1.2.1", "1.2.2"] and stores["n_bytes"].tolist() == [3000, 100] and stores["modality"].tolist() == ["CT", "CT"]
    assert stores["started_at"].tolist() == [at(5), at(9)] and stores["data_ended_at"].tolist() == [at(7), at(9)] and stores["ended_at"].tolist() == [at(8), at(10)]
    assert stores["status_code"].tolist() == ["0000", "0000"] and stores["calling_ae_title"].tolist() == ["CT1_DEMO"] * 2


def test_bytes_of_the_stream_are_rows_and_headers_are_framing(load):
    wire = conversation(b"x" * 3000)
    source = load(pcap(wire.packets)).sources.iloc[0]
    spoken = len(associate_rq() + associate_ac() + store_rq(1, "1.2.1", b"x" * 3000) + response(1) + RELEASE_RQ + RELEASE_RP)
    assert source["n_bytes_in_rows"] == spoken and source["n_bytes_rejected"] == 0


@pytest.mark.parametrize("mss", [1, 5, 6, 7, 100, 1448, 60000])
def test_where_packets_are_cut_changes_nothing_but_times(load, mss):
    got = load(pcap(conversation(b"x" * 900, b"", b"y" * 40, wire=Wire(mss=mss)).packets))
    assert got.operations["n_bytes"].tolist() == [900, 0, 40] and got.associations["outcome"].tolist() == ["released"]


def test_packets_out_of_order_and_sent_again_are_put_right(load):
    wire = conversation(b"x" * 9000)
    packets = list(wire.packets)
    packets[6], packets[8] = packets[8], packets[6]
    packets[10:10] = [packets[7], packets[5]]
    got = load(pcap(packets))
    assert got.operations["n_bytes"].tolist() == [9000] and got.associations["outcome"].tolist() == ["released"] and got.associations["problems"].tolist() == [""]
    assert got.sources["n_bytes_in_rows"].tolist() == load(pcap(wire.packets)).sources["n_bytes_in_rows"].tolist()


def test_sequence_numbers_that_start_again_are_followed(load):
    wire = Wire()
    wire.numbers = [4_294_966_000, 4_294_967_200]
    assert load(pcap(conversation(b"x" * 5000, wire=wire).packets)).operations["n_bytes"].tolist() == [5000]


def test_a_packet_lost_inside_a_data_set_is_flagged_and_its_size_is_still_exact(load):
    packets = conversation(b"x" * 9000).packets
    got = load(pcap(packets[:7] + packets[8:]))
    assert got.operations["n_bytes"].tolist() == [9000] and got.associations[["outcome", "problems"]].values.tolist() == [["released", "PACKETS_LOST"]]


def test_after_a_lost_header_nothing_is_counted(load):
    packets = conversation(b"x" * 100, b"y" * 100).packets
    got = load(pcap([p for n, p in enumerate(packets) if n != 7]))      # the second store request
    row = got.associations.iloc[0]
    assert row["outcome"] == "released" and row["problems"] == "PACKETS_LOST" and pd.isna(row["n_stored"])
    assert got.operations["sop_instance_uid"].tolist() == ["1.2.1"]
    assert got.rejected["code"].tolist() == ["PACKETS_LOST"]


def test_an_association_of_which_one_side_was_captured_says_so(load):
    wire = conversation(b"x" * 3000, b"y" * 100)
    mine = [(at, frame) for at, frame in wire.packets if dpkt.ethernet.Ethernet(frame).data.data.sport == 40000]
    got = load(pcap(mine))
    assert got.associations[["outcome", "problems"]].values.tolist() == [["unfinished", "ONE_SIDED"]] and got.associations["n_operations"].isna().all()
    other = [p for p in wire.packets if p not in mine]
    assert "capture both directions" in load(pcap(other)).rejected["reason"].iloc[0]


def test_packets_cut_when_captured_say_how_to_capture(load):
    got = load(pcap([(at, frame[:90]) for at, frame in conversation(b"x" * 300, wire=Wire(mss=60000)).packets]))
    assert "tcpdump -s 0" in got.rejected["reason"].iloc[0]


def test_short_captured_packets_keep_sizes_and_times(load):
    wire = conversation(b"x" * 9000, wire=Wire(mss=60000))
    cut = [(stamp, frame[:400]) for stamp, frame in wire.packets]
    got = load(pcap(cut))
    assert got.operations["n_bytes"].tolist() == [9000] and got.operations["status_code"].tolist() == ["0000"]


@pytest.mark.parametrize(("reply", "outcome", "reason"), [
    (pdu(3, b"\0\1\1\7"), "rejected", "called AE title not recognized"), (pdu(3, b"\0\2\3\2"), "rejected", "local limit exceeded"),
    (pdu(7, b"\0\0\2\0"), "aborted", "by the service provider"),
])
def test_a_refused_association_says_why(load, reply, outcome, reason):
    row = load(pcap(Wire().open().send(0, associate_rq()).send(1, reply).close().packets)).associations.iloc[0]
    assert [row["outcome"], row["reason"], row["n_stored"], row["ended_at"]] == [outcome, reason, 0, at(4)]


def test_an_abort_in_the_middle_of_a_store_stores_nothing(load):
    wire = Wire().open().send(0, associate_rq()).send(1, associate_ac()).send(0, store_rq(1, "1.2.1", b"x" * 9000)[:4000]).send(0, pdu(7, bytes(4))[:0])
    wire.send(0, store_rq(1, "1.2.1", b"x" * 9000)[4000:]).send(1, pdu(7, bytes(4))).close()
    got = load(pcap(wire.packets))
    assert got.associations[["outcome", "reason", "n_stored"]].values.tolist() == [["aborted", "by the service user", 0]]
    assert got.operations["status_code"].tolist() == [""]


def test_a_connection_that_closes_without_release_failed_and_one_that_goes_on_is_unfinished(load):
    wire = Wire().open().send(0, associate_rq()).send(1, associate_ac())
    assert load(pcap(wire.packets)).associations["outcome"].tolist() == ["unfinished"]
    assert load(pcap(wire.close().packets)).associations["outcome"].tolist() == ["failed"]


def test_a_failed_store_has_its_status(load):
    got = load(pcap(conversation(b"x" * 10, status=0xA700).packets))
    assert got.operations[["status_code", "status_category"]].values.tolist() == [["A700", "Failure"]]
    assert got.associations[["n_stored", "n_failed"]].values.tolist() == [[0, 1]]


def test_pending_answers_are_not_the_end_and_images_of_a_c_get_come_back(load):
    get = p_data(command(sop_class="1.2.840.10008.5.1.4.1.2.2.3", field=0x10, id=1, data=0), is_command=1) + p_data(b"q" * 20, is_command=0)
    wire = Wire().open().send(0, associate_rq()).send(1, associate_ac()).send(0, get).send(1, store_rq(7, "1.2.9", b"x" * 50)).send(0, response(7))
    wire.send(1, response(1, field=0x8010, status=0xFF00)).send(1, response(1, field=0x8010)).send(0, RELEASE_RQ).send(1, RELEASE_RP).close()
    got = load(pcap(wire.packets)).operations
    assert got["service"].astype("str").tolist() == ["C-GET", "C-STORE"] and got["ended_at"].tolist() == [at(9), at(7)]
    assert got["calling_ae_title"].tolist() == ["CT1_DEMO", "ARCHIVE_DEMO"] and got["n_bytes"].tolist() == [20, 50]


def test_associations_side_by_side_are_told_apart(load):
    one = conversation(b"x" * 4000, wire=Wire())
    two = conversation(b"y" * 500, b"z" * 500, wire=Wire(client=(b"\x0a\x14\0\x0d", 40001), at=START + 0.0004))
    got = load(pcap(sorted(one.packets + two.packets))).associations
    assert got["peer_address"].tolist() == ["10.20.0.12", "10.20.0.13"] and got["n_bytes"].tolist() == [4000, 1000] and not got["is_ambiguous"].any()


def test_a_port_used_again_is_another_association(load):
    first = conversation(b"x" * 10)
    again = Wire(at=first.at)
    again.numbers = [5_000_000, 77]
    got = load(pcap(first.packets + conversation(b"y" * 20, wire=again).packets)).associations
    assert got["n_bytes"].tolist() == [10, 20] and got["outcome"].tolist() == ["released", "released"]


@pytest.mark.parametrize("kind", ["ipv6", "vlan", "pcapng", "nanoseconds", "raw ip", "gz"])
def test_capture_formats_and_layers(load, kind):
    wire = conversation(b"x" * 10, wire=Wire(client=(bytes(15) + b"\1", 40000), server=(bytes(15) + b"\2", 104)) if kind == "ipv6" else None)
    packets, options, name = wire.packets, {}, "day.pcap"
    if kind == "vlan":
        packets = [(t, f[:12] + b"\x81\0\0\5" + f[12:]) for t, f in packets]
    elif kind == "pcapng":
        options = {"writer": dpkt.pcapng.Writer}
    elif kind == "nanoseconds":
        options = {"nano": True}
    elif kind == "raw ip":
        packets, options = [(t, f[14:]) for t, f in packets], {"linktype": 101}
    data = pcap(packets, **options)
    if kind == "gz":
        data, name = gzip.compress(data), "day.pcap.gz"
    got = load(data, name=name)
    assert got.associations[["outcome", "n_bytes"]].values.tolist() == [["released", 10]] and got.associations["started_at"].tolist() == [at(3)]
    assert got.associations["peer_address"].tolist() == ["::1" if kind == "ipv6" else "10.20.0.12"]


def test_messages_of_both_sides_have_their_sender_and_time(load):
    answer = MESSAGE.split(b"\r")[0].replace(b"ORU^R01|C1", b"ACK|K1") + b"\rMSA|AA|C1\r"
    wire = Wire(server=(SERVER[0], 2575), mss=50).open().send(0, b"\x0b" + MESSAGE + b"\x1c\r").send(1, b"\x0b" + answer + b"\x1c\r").close()
    got = load(pcap(wire.packets)).messages
    assert got["message_control_id"].tolist() == ["C1", "K1"] and got["patient_id"].tolist() == ["00123", ""] and got["problems"].tolist() == ["", ""]
    assert got["peer"].tolist() == ["10.20.0.12:40000", "10.20.0.1:2575"] and got["received_at"].tolist()[0] == at(4)


def test_messages_in_one_packet_and_a_frame_without_end(load):
    wire = Wire(server=(SERVER[0], 2575)).open().send(0, (b"\x0b" + MESSAGE + b"\x1c\r") * 2 + b"\x0b" + MESSAGE.replace(b"C1", b"C2")).close()
    got = load(pcap(wire.packets)).messages
    assert got["message_control_id"].tolist() == ["C1", "C1", "C2"] and got["problems"].tolist() == ["", "DUPLICATE_MESSAGE", "MLLP_FRAME"]


def test_a_feed_that_began_before_the_capture_is_read_from_its_next_message(load):
    frame = b"\x0b" + MESSAGE + b"\x1c\r"
    wire = Wire(server=(SERVER[0], 2575)).send(0, frame[30:]).send(0, frame).send(1, frame.replace(b"C1", b"K1")).send(0, frame.replace(b"C1", b"C2"))
    got = load(pcap(wire.packets))
    assert got.messages["message_control_id"].tolist() == ["C1", "K1", "C2"]
    assert got.rejected[["code", "n_bytes"]].values.tolist() == [["PACKETS_LOST", len(frame) - 30]]


def test_messages_of_a_feed_are_those_of_a_file_of_the_same_bytes(load, tmp_path):
    """Plain ones are read in columns, the others one by one; the order is that of their last packets."""
    order, note = MESSAGE.replace(b"ORU^R01", b"ORM^O01"), MESSAGE + b"OBX|1|TX|I||one\ntwo||||||F\r"
    known = [body.replace(b"C1", b"K%d" % number) for number, body in enumerate([MESSAGE, order, note, MESSAGE.replace(b"|2.5.1", b"|2.5.1||||||8859/1")] * 5)]
    odd = [MESSAGE.replace(b"00123", b"M\xfcller"), MESSAGE.replace(b"\r", b"\r\n"), MESSAGE + MESSAGE.replace(b"C1", b"C2"), MESSAGE.replace(b"|00123", b"|\\T\\ \\Q\\")]
    frames = [b"\x0b" + body + b"\x1c\r" for body in known + odd]
    wire = Wire(server=(SERVER[0], 2575), mss=100).open()
    for frame in frames:
        wire.send(0, frame)
    (tmp_path / "feed.hl7").write_bytes(b"".join(frames))
    want, got = read_hl7_log(tmp_path / "feed.hl7", site=SITE).messages, load(pcap(wire.close().packets)).messages
    shown = [column for column in want if column not in ("source_file", "source_offset", "received_at", "peer")]
    assert got[shown].values.tolist() == want[shown].values.tolist() and got["source_offset"].is_monotonic_increasing and len(got) == 25


@pytest.mark.parametrize(("body", "code"), [(b"<ACK><MSH><MSH.1>|</MSH.1></MSH></ACK>", "XML_ENCODED"), (b"hello\rPID|1||00123\r", "NOT_HL7")])
def test_a_frame_without_a_message_is_rejected(load, body, code):
    frame = b"\x0b" + body + b"\x1c\r"
    got = load(pcap(Wire(server=(SERVER[0], 2575)).open().send(0, b"\x0b" + MESSAGE + b"\x1c\r").send(0, frame).close().packets))
    assert got.messages["message_control_id"].tolist() == ["C1"]
    assert got.rejected[["code", "n_bytes"]].values.tolist() == [[code, len(frame) - 1]] and "00123" not in got.rejected["reason"].iloc[0]


def test_a_lost_packet_costs_one_message_of_a_feed(load):
    wire = Wire(server=(SERVER[0], 2575), mss=60).open()
    for number in range(3):
        wire.send(0, b"\x0b" + MESSAGE.replace(b"C1", b"C%d" % number) + b"\x1c\r")
    got = load(pcap([p for n, p in enumerate(wire.packets) if n != 6]))      # the second packet of the second message
    assert got.messages["message_control_id"].tolist() == ["C0", "C2"] and got.rejected["code"].tolist() == ["PACKETS_LOST"]


@pytest.mark.parametrize(("speech", "said"), [(b"\x16\x03\x01\x02\x00" + bytes(50), "TLS"), (b"GET / HTTP/1.1\r\n\r\n", "HTTP"), (b"hello", "neither DICOM nor MLLP")])
def test_other_connections_are_one_rejected_row_each(load, speech, said):
    got = load(pcap(Wire().open().send(0, speech).send(1, speech).close().packets))
    assert got.rejected["code"].tolist() == ["UNKNOWN_STREAM"] and said in got.rejected["reason"][0] and "10.20.0.12:40000 to 10.20.0.1:104" in got.rejected["reason"][0]


def test_a_connection_from_before_the_capture_is_rejected_with_that_reason(load):
    got = load(pcap(conversation(b"x" * 9000).packets[6:]))
    assert got.rejected["code"].tolist() == ["UNKNOWN_STREAM"] and "began before the capture" in got.rejected["reason"][0] and len(got.associations) == 0


def test_packets_of_other_kinds_are_one_rejected_row_a_kind(load):
    arp, udp = ethernet(b"\0" * 28, 0x0806), ethernet(dpkt.ip.IP(src=b"\x0a\0\0\1", dst=b"\x0a\0\0\2", p=17, data=dpkt.udp.UDP(sport=1, dport=2, data=b"x")), 0x0800)
    got = load(pcap([(START, arp), (START, udp), (START, arp), (START, b"short")]))
    assert dict(zip(got.rejected["reason"], got.rejected["code"])) == {
        "2 packets that are not IP; nothing to do": "OTHER_TRAFFIC", "1 packets that are not TCP; nothing to do": "OTHER_TRAFFIC", "1 cut packets; nothing to do": "OTHER_TRAFFIC"}


def test_a_file_cut_anywhere_is_accounted_for(load):
    data = pcap(conversation(b"x" * 60, wire=Wire(mss=200)).packets)
    for n in range(1, len(data), 7):       # 7 is in no step with packets of 200 bytes
        got = load(data[:n])
        assert len(got.associations) <= 1


def test_bytes_beside_the_first_syn_are_read(load):
    wire = Wire(server=(SERVER[0], 2575))
    wire.send(0, b"\x0b" + MESSAGE + b"\x1c\r", dpkt.tcp.TH_SYN)
    got = load(pcap(wire.packets))
    assert got.messages["message_control_id"].tolist() == ["C1"] and len(got.rejected) == 0


def test_a_capture_damaged_in_the_middle_keeps_what_came_before(load):
    out = io.BytesIO()
    writer = dpkt.pcapng.Writer(out)
    for stamp, data in conversation(b"x" * 3000).packets:
        writer.writepkt(data, stamp)
    whole = out.getvalue()
    second = whole.index(b"\x06\0\0\0", whole.index(b"\x06\0\0\0") + 4)
    damaged = whole[:second + 4] + b"\xff\xff\0\0" + whole[second + 8:]
    got = load(damaged, name="day.pcapng")
    assert got.rejected[["code", "source_offset", "n_bytes"]].values.tolist() == [["TRUNCATED", second, len(whole) - second]]


@pytest.mark.parametrize(("data", "code"), [(b"", "EMPTY_FILE"), (b"MSH|^~\\&|", "UNKNOWN_FORMAT"), (b"\0" * 100, "UNKNOWN_FORMAT")])
def test_what_is_no_capture_is_one_rejected_row(load, data, code):
    assert load(data).rejected["code"].tolist() == [code]


def test_a_damaged_packing_keeps_what_came_before(tmp_path):
    data = gzip.compress(pcap(conversation(b"x" * 10).packets))
    (tmp_path / "day.pcap.gz").write_bytes(data[:-30])
    got = read_capture(tmp_path, site=SITE)
    assert len(got.rejected) >= 1 and got.sources["n_rejected"].tolist() == [len(got.rejected)]


def test_site_must_be_a_site(tmp_path):
    with pytest.raises(TableError, match="a Site is needed"):
        read_capture(tmp_path, site=None)
