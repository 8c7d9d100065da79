"""A packet capture -> the TCP segments in it, in the order of the file (RFC 9293), with where each packet stands and why it has none."""

import struct
from typing import NamedTuple

import dpkt

ETHERNET, RAW_IP, LOOPBACK, LINUX_COOKED, LINUX_COOKED_2 = 1, 101, 0, 113, 276
_VLANS = (0x8100, 0x88A8)
_IP_FAMILIES = {2: 0x0800, 10: 0x86DD, 23: 0x86DD, 24: 0x86DD, 28: 0x86DD, 30: 0x86DD}     # AF_INET and the AF_INET6 of BSD, macOS, Linux, Windows
_EXTENSIONS = (0, 43, 60)       # IPv6 hop-by-hop, routing, destination options
_TCP = 6
SYN, FIN, RST, ACK = 2, 1, 4, 16
_DAMAGED = (dpkt.Error, struct.error, ValueError)


class Packet(NamedTuple):
    """`at` is in microseconds since 1970; `kind` is "" for a TCP segment, else what the packet is. `n_missing` bytes of the payload were not captured."""

    offset: int
    n_bytes: int
    at: int
    kind: str
    source: tuple = ()
    target: tuple = ()
    flags: int = 0
    number: int = 0
    payload: memoryview = b""
    n_missing: int = 0
    acknowledged: int = 0


def read_packets(stream):
    """Packets of an open pcap or pcapng file; the bytes before the first and between them belong to the packet that follows.

    The last one has kind "cut" when the file ends inside it or is damaged from there. ValueError when the file is no capture.
    """
    try:
        reader = dpkt.pcap.UniversalReader(stream)
    except _DAMAGED as error:
        raise ValueError("no capture") from error
    link, before = reader.datalink(), 0
    packets = iter(reader)
    while True:
        try:
            stamp, data = next(packets)
        except StopIteration:
            break
        except _DAMAGED:
            stream.seek(0, 2)
            yield Packet(before, stream.tell() - before, 0, "cut")
            return
        after = stream.tell()
        try:
            yield _segment(before, after - before, round(stamp * 1_000_000), memoryview(data), link)
        except (IndexError, struct.error):
            yield Packet(before, after - before, round(stamp * 1_000_000), "cut packets")
        before = after
    stream.seek(0, 2)
    if stream.tell() > before:
        yield Packet(before, stream.tell() - before, 0, "cut")


def _segment(offset, n_bytes, at, data, link):
    kind, start = _network_layer(data, link)
    if kind == 0x0800:
        start, end, protocol, hosts = _ip_4(data, start)
    elif kind == 0x86DD:
        start, end, protocol, hosts = _ip_6(data, start)
    else:
        return Packet(offset, n_bytes, at, "packets that are not IP")
    if protocol != _TCP:
        return Packet(offset, n_bytes, at, "fragments" if protocol is None else "packets that are not TCP")
    from_port, to_port, number, acknowledged, length, flags = struct.unpack_from("!HHLLBB", data, start)
    first = start + (length >> 4) * 4
    return Packet(offset, n_bytes, at, "", (hosts[0], from_port), (hosts[1], to_port), flags, number, data[first:end], max(end - max(len(data), first), 0), acknowledged)


def _network_layer(data, link):
    """`(EtherType, where the network layer begins)`."""
    if link == ETHERNET:
        kind, start = struct.unpack_from("!H", data, 12)[0], 14
        while kind in _VLANS:
            kind, start = struct.unpack_from("!H", data, start + 2)[0], start + 4
        return kind, start
    if link == LINUX_COOKED:
        return struct.unpack_from("!H", data, 14)[0], 16
    if link == LINUX_COOKED_2:
        return struct.unpack_from("!H", data)[0], 20
    if link == LOOPBACK:
        return _IP_FAMILIES.get(max(data[0], data[3]), 0), 4
    if link in (RAW_IP, 12, 14, 228, 229):
        return {4: 0x0800, 6: 0x86DD}.get(data[0] >> 4, 0), 0
    return 0, 0


def _ip_4(data, start):
    """`(where the next layer begins, where it ends, its protocol or None for a fragment, the two addresses)`."""
    n_total, _, fragment, _, protocol = struct.unpack_from("!HHHBB", data, start + 2)
    end = start + n_total if n_total else len(data)       # 0 where the network card cut the packet
    hosts = bytes(data[start + 12:start + 16]), bytes(data[start + 16:start + 20])
    return start + (data[start] & 15) * 4, end, None if fragment & 0x3FFF else protocol, hosts


def _ip_6(data, start):
    n_payload, protocol = struct.unpack_from("!HB", data, start + 4)
    hosts, at = (bytes(data[start + 8:start + 24]), bytes(data[start + 24:start + 40])), start + 40
    end = at + n_payload if n_payload else len(data)
    while protocol in _EXTENSIONS:
        protocol, at = data[at], at + (data[at + 1] + 1) * 8
    return at, end, None if protocol == 44 else protocol, hosts
