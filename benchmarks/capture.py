"""How fast captures are read: `python -m benchmarks.capture`. MB of the file a second of CPU time, beside what passing the packets through dpkt alone costs."""

import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import dpkt

import pacs_helpers as pacs
from tests.wires import SERVER, Wire, conversation, pcap

CASES = (("C-STORE of 524 kB, packets of 1,500 bytes", 1448, 400, 524_000), ("C-STORE of 524 kB, packets of 32 kB", 32_000, 400, 524_000),
         ("C-STORE of 30 kB, packets of 1,500 bytes", 1448, 4_000, 30_000), ("the same, ten times as long", 1448, 40_000, 30_000))
MESSAGE = b"\x0bMSH|^~\\&|RIS|S|PACS|S|20240311092000||ORU^R01|C%06d|P|2.5.1\rPID|1||00123\rOBR|1|P1|F1\r" + b"OBX|1|TX|IMP||No text in the sample.||||||F\r" * 20 + b"\x1c\r"


def stores(mss, n, size):
    return pcap(conversation(*[bytes(size)] * n, wire=Wire(mss=mss)).packets)


def feed(n):
    wire = Wire(server=(SERVER[0], 2575)).open()
    for number in range(n):
        wire.send(0, MESSAGE % number)
    return pcap(wire.packets)


def ours(path):
    pacs.read_capture(path, site=pacs.Site(time_zone="UTC"))


def packets_only(path):
    with open(path, "rb") as stream:
        for _, data in dpkt.pcap.UniversalReader(stream):
            dpkt.ethernet.Ethernet(data)


def cost(work, path):
    """`(CPU seconds, peak MB of the process)`."""
    started = time.process_time()
    work(path)
    used = time.process_time() - started
    # Not ru_maxrss: it begins with what the parent had.
    return used, int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def alone(work, path):
    """The same in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(cost, work, path).result()


def main():
    print("| capture | MB | ours MB/s | dpkt parsing alone MB/s | ours / dpkt | peak MB of our process |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "day.pcap")
        for name, make in (*((name, lambda mss=mss, n=n, size=size: stores(mss, n, size)) for name, mss, n, size in CASES), ("MLLP messages of 1.1 kB", lambda: feed(20_000))):
            path.write_bytes(make())
            megabytes = path.stat().st_size / 1e6
            rounds = [(alone(ours, path), alone(packets_only, path)) for _ in range(3)]
            a, b = (sorted(seconds for seconds, _ in column)[1] for column in zip(*rounds))
            print(f"| {name} | {megabytes:.0f} | {megabytes / a:.0f} | {megabytes / b:.0f} | {b / a:.2f} | {max(peak for (_, peak), _ in rounds):.0f} |")


if __name__ == "__main__":
    main()
