"""How fast HL7 v2 files are read: `python -m benchmarks.hl7 [N]`. Ours and the peers that are installed, each in its own process, on the same messages.

The file is made anew, the same each time. Ours gives every column of `messages` with times, problems and the account; the peers give 25 fields as text.
"""

import importlib.util
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

FIELDS = {"MSH": (3, 4, 7, 9, 10), "PID": (3, 5, 7, 8), "PV1": (2, 3), "ORC": (1, 2, 3, 5, 9), "OBR": (2, 3, 4, 7, 18, 22, 25, 32), "MSA": (1,)}
COLUMNS = [f"{name}-{field}" for name, fields in FIELDS.items() for field in fields]
TEXTS = ("No acute abnormality is identified on this examination.", "The heart size is normal \\T\\ the mediastinum is unremarkable.", "Comparison: none.",
         "Lungs are clear without focal consolidation, effusion or pneumothorax.", "1. Stable 4 mm nodule in the right upper lobe.", "")
PROCEDURES = ("CTTHX^CT THORAX W CONTRAST", "MRHEAD^MR HEAD", "XRCH2^XR CHEST 2 VIEWS", "USABD^US ABDOMEN \\T\\ PELVIS")
NAMES = ("SMITH^JOHN", "MÜLLER^ANNA", "GARCIA^LUIS", "ÅKESSON^VAN", "O'BRIEN^MAEVE")


def message(number, chance):
    """15 of 100 acknowledgments, 25 patient updates, 30 orders, 30 reports of 5 to 40 observations."""
    at, kind = f"202406{number // 43200 % 28 + 1:02}{number // 1800 % 24:02}{number // 30 % 60:02}{number % 60:02}", chance.random()
    head, person = f"{at}||{{}}|MSG{number:09}|P|2.5.1|||AL|NE||UNICODE UTF-8", number % 350_000
    if kind < 0.15:
        return [f"MSH|^~\\&|PACS|RADIOLOGY|RIS|MAIN|{at}||ACK^R01|ACK{number:09}|P|2.5.1", f"MSA|{'AE' if number % 50 == 0 else 'AA'}|MSG{number - 1:09}|"]
    about = [f"PID|1|{person}|{person:07}^^^MAIN^MR~{person + 9_000_000}^^^NHS^SS||{NAMES[person % 5]}^^^MS||19{person % 80 + 10}0{person % 9 + 1}11|{'MF'[person % 2]}|||"
             f"{person % 999} LONG STREET^^SAMPLETOWN^ST^12345^USA|||||M|NON|{person}",
             f"PV1|1|{'IEO'[number % 3]}|{number % 9}WEST^{number % 400}^{number % 4}^MAIN||||{number % 999}^ATTENDING^ANNA^^^DR|||||||||||V{number:08}"]
    if kind < 0.40:
        return ["MSH|^~\\&|ADT|MAIN|PACS|RADIOLOGY|" + head.format("ADT^A08^ADT_A01"), f"EVN|A08|{at}", about[0], "NK1|1|DOE^SPOUSE|SPO", about[1], "AL1|1|DA|PENICILLIN^PENICILLIN|SV|RASH"]
    is_order = kind < 0.70
    order = [f"ORC|{'NW' if is_order else 'RE'}|{number}^RIS|{number}^PACS||{'SC' if is_order else 'CM'}||1^^^{at}^^R||{at}|U123^USER^ONE",
             f"OBR|1|{number}^RIS|{number}^PACS|{PROCEDURES[number % 4]}^LOCAL|R|{at}|{at}|||||||||{number % 555}^ORDERER^CAROL||A{number // 3:08}|A{number // 3:08}|RP{number:07}||{at}||CT|"
             f"{'S' if is_order else 'F'}||1^^^{at}^^R||||COUGH|{number % 99}&READER&DAN^{at}|||U9&TECH&EVE"]
    if is_order:
        return ["MSH|^~\\&|RIS|MAIN|PACS|RADIOLOGY|" + head.format("ORM^O01^ORM_O01"), *about, *order * (2 if number % 20 == 0 else 1), f"ZDS|1.2.826.0.1.3680043.10.9999.{number}^PACS"]
    report = [f"OBX|{n + 1}|TX|GDT^REPORT^LN||{TEXTS[(number + n) % 6]}||||||F|||{at}" for n in range(chance.randint(5, 40))]
    return ["MSH|^~\\&|RIS|MAIN|PACS|RADIOLOGY|" + head.format("ORU^R01^ORU_R01"), *about, *order, *report]


def texts(path, n):
    with open(path, "rb") as source:
        return [text.decode() + "\r" for text in islice(filter(None, source.read(n * 2000).split(b"\r\r")), n)]


def ours(path, n):
    import pacs_helpers as pacs
    return pacs.read_hl7_log(path, site=pacs.Site(time_zone="America/Chicago"), executor=SimpleNamespace(map=map)), n


def ours_on_two(path, n):
    import pacs_helpers as pacs
    with ProcessPoolExecutor(2) as pool:
        return pacs.read_hl7_log(path, site=pacs.Site(time_zone="America/Chicago"), executor=pool), n


def python_hl7(path, n, most=10_000):
    import hl7
    rows = []
    for text in texts(path, min(n, most)):
        parsed = hl7.parse(text)
        first = {str(segment[0]): segment for segment in reversed(parsed)}
        rows.append([str(first[name][f]) if name in first and f < len(first[name]) else None for name, fields in FIELDS.items() for f in fields])
    return framed(rows), len(rows)


def hl7lw(path, n, most=20_000):
    import hl7lw
    rows, parser = [], hl7lw.Hl7Parser()
    for text in texts(path, min(n, most)):
        first = {segment.name: segment for segment in reversed(parser.parse_message(text).segments)}
        rows.append([str(first[name][f]) if name in first and f <= len(first[name].fields) else None for name, fields in FIELDS.items() for f in fields])
    return framed(rows), len(rows)


def medforge(path, n, most=20_000):
    import medforge
    rows = []
    for text in texts(path, min(n, most)):
        parsed, row = medforge.parse(text), []
        for column in COLUMNS:
            try:
                row.append(parsed.get(column))
            except KeyError:        # no such segment
                row.append(None)
        rows.append(row)
    return framed(rows), len(rows)


def hl7kit(path, n, most=20_000):
    import hl7kit
    rows = [[parsed.get(column) for column in COLUMNS] for parsed in hl7kit.parse_many([text.encode() for text in texts(path, min(n, most))])]
    return framed(rows), len(rows)


def hl7conv2(path, n, most=20_000):
    import hl7conv2
    rows = []
    for text in texts(path, min(n, most)):
        first = {found.get("segment_name"): found for found in reversed(hl7conv2.Hl7Json(text).hl7_json)}
        rows.append([first.get(name, {}).get(str(f)) for name, fields in FIELDS.items() for f in fields])
    return framed(rows), len(rows)


def polars(path, n):
    """What one writes by hand with a general tool."""
    import polars as pl
    lines = pl.read_csv(path, separator="\x01", eol_char="\r", has_header=False, quote_char=None, schema={"line": pl.String}, truncate_ragged_lines=True).lazy()
    lines = lines.with_columns(name=pl.col("line").str.slice(0, 4)).with_columns(message=(pl.col("name") == "MSH|").cum_sum())
    table = None
    for name, fields in FIELDS.items():
        split = lines.filter(pl.col("name") == name + "|").unique("message", keep="first", maintain_order=True).select("message", part=pl.col("line").str.splitn("|", max(fields) + 2))
        part = split.select("message", *[pl.col("part").struct.field(f"field_{f - (name == 'MSH')}").alias(f"{name}-{f}") for f in fields])
        table = part if table is None else table.join(part, on="message", how="left")
    return table.collect().to_pandas(), n


def framed(rows):
    import pandas as pd
    return pd.DataFrame(rows, columns=COLUMNS, dtype="str")


CONTENDERS = {"ours": (ours, "pandas"), "ours, two processes": (ours_on_two, "pandas"), "polars recipe": (polars, "polars"), "hl7lw": (hl7lw, "hl7lw"), "hl7conv2": (hl7conv2, "hl7conv2"),
              "medforge": (medforge, "medforge"), "hl7kit": (hl7kit, "hl7kit"), "python-hl7": (python_hl7, "hl7")}


def size_of(found):
    return sum(int(table.memory_usage(deep=True).sum()) for table in (found if isinstance(found, tuple) else (found,))) >> 20


def run(name, path, n):
    """Messages, CPU and wall seconds, MB at the peak beyond the imports, MB of the result."""
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401
    if name.startswith("ours"):
        import pacs_helpers  # noqa: F401
    before, wall, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), sum(os.times()[:4])
    found, count = CONTENDERS[name][0](path, n)
    print(count, sum(os.times()[:4]) - cpu, time.perf_counter() - wall, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10, size_of(found))


def main(n):
    with tempfile.TemporaryDirectory() as folder:
        path, chance = Path(folder, "feed.hl7"), random.Random(7)
        with open(path, "wb") as feed:
            for number in range(n):
                feed.write(("\r".join(message(number, chance)) + "\r\r").encode())
        lines, base = [], None
        for name, (_, module) in reversed(CONTENDERS.items()):
            if importlib.util.find_spec(module):
                environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
                out = subprocess.run([sys.executable, "-m", "benchmarks.hl7", "--run", name, path, str(n)], env=environment, capture_output=True, text=True, check=False)
                if out.returncode:
                    print(name, "failed:", out.stderr.strip().splitlines()[-1])
                    continue
                count, cpu, wall, peak, result = (float(x) for x in out.stdout.split())
                base = base or count / cpu
                lines.append(f"| {name} | {count:,.0f} | {count / cpu:,.0f} | {count / cpu / base:.1f} | {count / wall:,.0f} | {peak:,.0f} | {result:,.0f} |")
                print(lines[-1], flush=True)
        print(f"\n{n:,} messages, {path.stat().st_size / 1e6:,.0f} MB\n")
        print("| contender | messages | messages per CPU second | times python-hl7 | messages/s of the clock | peak MB beyond imports | MB of result |\n" + "|---" * 7 + "|")
        print("\n".join(reversed(lines)))


if __name__ == "__main__":
    run(sys.argv[2], sys.argv[3], int(sys.argv[4])) if sys.argv[1:2] == ["--run"] else main(int(sys.argv[1]) if sys.argv[1:] else 1_000_000)
