"""What one more night costs: `python -m benchmarks.store [MESSAGES A NIGHT]`. A month of HL7 logs, one a night, in a store, against reading the month anew.

Bytes are those that the process asked the system for (rchar of Linux); seconds are CPU time of one process.
"""

import random
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pacs_helpers as pacs
from benchmarks.hl7 import message

HERE = SimpleNamespace(map=map)


def bytes_asked_for():
    return int(Path("/proc/self/io").read_text().split()[1])


def measured(call):
    at, before = time.process_time(), bytes_asked_for()
    found = call()
    return found, time.process_time() - at, (bytes_asked_for() - before) / 1e6


def main(a_night):
    site, chance, rows = pacs.Site(time_zone="America/Chicago"), random.Random(1), []
    with tempfile.TemporaryDirectory() as folder:
        logs, store = Path(folder, "hl7"), Path(folder, "store")
        logs.mkdir()
        for night in range(30):
            messages = ["\r".join(message(night * a_night + n, chance)) + "\r" for n in range(a_night)]
            (logs / f"{night + 1:02}.hl7").write_text("".join(messages))
            if night in (0, 28, 29):
                _, seconds, mbytes = measured(lambda: pacs.update_store(store, {"hl7": logs}, site=site, executor=HERE))
                rows.append((f"update after night {night + 1}" + (" (28 new files)" if night == 28 else ""), seconds, mbytes))
        kept, seconds, mbytes = measured(lambda: pacs.read_store(store, site=site))
        rows.append(("read_store, all of it", seconds, mbytes))
        _, seconds, mbytes = measured(lambda: pacs.read_store(store, site=site, since="2024-06-26T00:00Z"))
        rows.append(("read_store, the last days", seconds, mbytes))
        again, seconds, mbytes = measured(lambda: pacs.read_hl7_log(logs, site=site, executor=HERE))
        rows.append(("read_hl7_log of the month", seconds, mbytes))
        assert kept.hl7.messages.equals(again.messages)
        total = sum(file.stat().st_size for file in logs.iterdir()) / 1e6
        print(f"{30 * a_night:,} messages, {total:.0f} MB; a night is {total / 30:.1f} MB\n\n| | CPU s | MB asked for |\n|---|---|---|")
        print("\n".join(f"| {name} | {seconds:.2f} | {mbytes:.1f} |" for name, seconds, mbytes in rows))


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["10000"])[0]))
