"""How fast network logs are read: `python -m benchmarks.dicomlog [LOG ...]`. MB of text a second of CPU time, beside matching one pattern to each line."""

import gzip
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

from pacs_helpers.readers.dicomlog import read_rotation

SAMPLES = sorted(Path("data/samples/network").iterdir())
STAMP = re.compile(rb"(?m)^([FEWIT]?)((?:\d{4}-\d\d-\d\d|\d{4})[ T]\d\d:\d\d:\d\d)")


def multiply(source, target, n_bytes):
    """Writes the log again and again, each time 20 minutes later, until it is at least `n_bytes` long."""
    text = source.read_bytes()
    text = gzip.decompress(text) if source.suffix == ".gz" else text
    with target.open("wb") as out:
        for number in range(-(-n_bytes // len(text))):
            out.write(STAMP.sub(lambda found, later=timedelta(days=-200, minutes=20 * number): found[1] + _shift(found[2].decode(), later), text))
    return target


def _shift(stamp, later):
    if stamp[4] == "-":
        return (datetime.fromisoformat(stamp) + later).isoformat(stamp[10]).encode()
    return f"{datetime.strptime('2026' + stamp, '%Y%m%d %H:%M:%S') + later:%m%d %H:%M:%S}".encode()


def ours(path):
    read_rotation(((str(path),), "UTC", 2025, None, None))


def each_line(path):
    pattern = re.compile(r"(\S+ \S+) +(.*)")
    with open(path, encoding="utf-8", errors="replace") as lines:
        return sum(bool(pattern.match(line)) for line in lines)


def cost(work, path):
    """`(CPU seconds, MB the process grew by)`."""
    before, started = _peak(), time.process_time()
    work(path)
    return time.process_time() - started, _peak() - before


def _peak():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def alone(work, path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(cost, work, path).result()


def wall(n, paths):
    """Seconds by the clock for `paths` in `n` processes that are up already."""
    with ProcessPoolExecutor(n) as pool:
        list(pool.map(ours, [SAMPLES[0]] * 2 * n))
        started = time.perf_counter()
        list(pool.map(ours, paths))
        return time.perf_counter() - started


def main():
    sources = [Path(name) for name in sys.argv[1:]] or SAMPLES
    print("| log | MB | ours MB/s | one pattern a line MB/s | MB grown | MB grown, four times the log |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for source in sources:
            small = multiply(source, Path(folder, "small.log"), 8 << 20)
            large = multiply(source, Path(folder, "large.log"), 32 << 20)
            size = large.stat().st_size / 1e6
            (first, _), (plain, _), (second, grown), (_, once) = (alone(*job) for job in (
                (ours, large), (each_line, large), (ours, large), (ours, small)))
            print(f"| {source.name} | {size:.0f} | {size / min(first, second):.1f} | {size / plain:.1f} | {once:.0f} | {grown:.0f} |", flush=True)
        paths = [multiply(sources[-1], Path(folder, f"{n}.log"), 16 << 20) for n in range(4)]
        pairs = [(wall(1, paths), wall(2, paths)) for _ in range(2)]
        print(f"\nTwo processes against one, four logs: {min(p[0] for p in pairs) / min(p[1] for p in pairs):.2f} times")


if __name__ == "__main__":
    main()
