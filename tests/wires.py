"""Hand-made captures: DICOM and MLLP conversations as TCP packets."""

import io
import struct

import dpkt

CT = "1.2.840.10008.5.1.4.1.1.2"
CLIENT, SERVER = (b"\x0a\x14\0\x0c", 40000), (b"\x0a\x14\0\x01", 104)
START = 1_700_000_000.0


def pdu(kind, body):
    return struct.pack("!BBL", kind, 0, len(body)) + body


def associate_rq(calling="CT1_DEMO", called="ARCHIVE_DEMO"):
    return pdu(1, b"\0\1\0\0" + called.ljust(16).encode() + calling.ljust(16).encode() + bytes(32))


def associate_ac(calling="CT1_DEMO", called="ARCHIVE_DEMO", syntax=""):
    """With `syntax` presentation context 1 is accepted with it."""
    name = syntax.encode()
    context = struct.pack("!BBHBBBBBBH", 0x21, 0, 8 + len(name), 1, 0, 0, 0, 0x40, 0, len(name)) + name
    return pdu(2, associate_rq(calling, called)[6:] + (context if syntax else b""))


RELEASE_RQ, RELEASE_RP = pdu(5, bytes(4)), pdu(6, bytes(4))


def command(**fields):
    """A command set; names are of the elements used here, numbers are US."""
    tags = {"sop_class": 0x0002, "field": 0x0100, "id": 0x0110, "answered": 0x0120, "data": 0x0800, "status": 0x0900, "instance": 0x1000,
            "requested_class": 0x0003, "requested_instance": 0x1001}
    out = b""
    for name, value in sorted(fields.items(), key=lambda item: tags[item[0]]):
        raw = struct.pack("<H", value) if isinstance(value, int) else value.encode() + b"\0" * (len(value) % 2)
        out += struct.pack("<HHL", 0, tags[name], len(raw)) + raw
    return out


def p_data(data, *, is_command, size=16372):
    """P-DATA-TF PDUs of one PDV each."""
    pieces = [data[i:i + size] for i in range(0, len(data), size)] or [b""]
    return b"".join(pdu(4, struct.pack("!LBB", len(p) + 2, 1, is_command | 2 * (p is pieces[-1])) + p) for p in pieces)


def store_rq(number, instance, data, sop_class=CT):
    return p_data(command(sop_class=sop_class, field=1, id=number, data=0, instance=instance), is_command=1) + p_data(data, is_command=0)


def response(number, field=0x8001, status=0):
    return p_data(command(field=field, answered=number, data=0x0101, status=status), is_command=1)


class Wire:
    """Packets of one connection, a millisecond apart; `who` 0 is the client."""

    def __init__(self, client=CLIENT, server=SERVER, *, mss=1448, at=START):
        self.ends, self.mss, self.at, self.numbers, self.packets = (client, server), mss, at, [1000, 4_294_967_000], []

    def send(self, who, data=b"", flags=dpkt.tcp.TH_ACK):
        for at in range(0, len(data), self.mss) if data else (0,):
            piece = data[at:at + self.mss]
            self.packets.append((self.at, self.frame(who, piece, flags)))
            self.numbers[who] = (self.numbers[who] + len(piece) + bool(flags & 3)) % (1 << 32)
            self.at = round(self.at + 0.001, 6)
        return self

    def open(self):
        return self.send(0, flags=dpkt.tcp.TH_SYN).send(1, flags=dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK).send(0)

    def close(self):
        return self.send(0, flags=dpkt.tcp.TH_FIN | dpkt.tcp.TH_ACK).send(1, flags=dpkt.tcp.TH_FIN | dpkt.tcp.TH_ACK)

    def frame(self, who, piece, flags):
        (host, port), (to_host, to_port) = self.ends[who], self.ends[1 - who]
        tcp = dpkt.tcp.TCP(sport=port, dport=to_port, seq=self.numbers[who], ack=self.numbers[1 - who], flags=flags, data=piece)
        if len(host) == 16:
            return ethernet(dpkt.ip6.IP6(src=host, dst=to_host, nxt=6, plen=len(tcp), hlim=64, data=tcp), 0x86DD)
        ip = dpkt.ip.IP(src=host, dst=to_host, p=6, data=tcp)
        ip.len = len(ip)
        return ethernet(ip, 0x0800)


def ethernet(data, kind):
    return bytes(dpkt.ethernet.Ethernet(src=b"\x02" * 6, dst=b"\x04" * 6, type=kind, data=data))


def pcap(packets, *, writer=dpkt.pcap.Writer, **options):
    out = io.BytesIO()
    to = writer(out, **options)
    for at, frame in packets:
        to.writepkt(frame, at)
    return out.getvalue()


def conversation(*stores, wire=None, status=0):
    """A Wire on which each of `stores` (bytes) is stored as 1.2.1, 1.2.2 ... and answered with `status`."""
    wire = (wire or Wire()).open().send(0, associate_rq()).send(1, associate_ac())
    for number, data in enumerate(stores, 1):
        wire.send(0, store_rq(number, f"1.2.{number}", data)).send(1, response(number, status=status))
    return wire.send(0, RELEASE_RQ).send(1, RELEASE_RP).close()
