"""How fast DICOM headers become rows: `python -m benchmarks.headers FOLDER`. CPU time of one process, contenders alternating on the same files.

Peers that are not installed are left out. Theirs is reading the same attributes as values; ours is the finished tables.
"""

import statistics
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.filereader import read_partial

import pacs_helpers as pacs
from pacs_helpers.readers import dicomtext, headerrows, part10, times
from pacs_helpers.readers.headerrows import WANTED

TAGS = sorted({*WANTED, 0x00400275})
WORDS = [keyword_for_tag(tag) for tag in TAGS]
LAST = max(TAGS)
SITE = pacs.Site(time_zone="America/Chicago")
ROUNDS = 5
SHARE = 10      # the slow ones get every tenth file


class Here:
    """An executor of one process."""

    map = staticmethod(map)


def ours(files):
    pacs.read_headers(files, site=SITE, executor=Here(), hash_files=False)


def ours_on_new_files(files):
    """Every other file, after the ones between: the devices are known, the files are not."""
    ours_from_nothing(files[::2])
    started = time.process_time()
    ours(files[1::2])
    return time.process_time() - started


def ours_from_nothing(files):
    part10._MET.known.clear()
    part10._MET.loose.clear()
    headerrows._SERIES.clear()
    for remembered in (part10._meta_around, headerrows._moment, dicomtext._shown, times._hour, times.parse_time):
        remembered.cache_clear()
    ours(files)


def ours_hashed(files):
    pacs.read_headers(files, site=SITE, executor=Here())


def pydicom_tags(files):
    for file in files:
        ds = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=TAGS, force=True)
        [ds.get(word) for word in WORDS]


def pydicom_partial(files):
    for file in files:
        with open(file, "rb") as stream:
            ds = read_partial(stream, stop_when=lambda tag, vr, length: tag > LAST, specific_tags=TAGS, force=True)
        [ds.get(word) for word in WORDS]


def fastdicom(files):
    import fastdicom
    for file in files:
        ds = fastdicom.dcmread(file, stop_before_pixels=True)
        [ds.get(word, None) for word in WORDS]


def dicomsdl(files):
    import dicomsdl
    for file in files:
        ds = dicomsdl.open(file, load_until=LAST + 1)
        [ds[word] for word in WORDS]


def fw_file_rs(files):
    from fw_file_rs.dcm import Context
    context = Context().include_tags(WORDS)
    for file in files:
        try:
            found = context.parse_header(context.read_until_pixels(file))
        except ValueError:      # it refuses deflated data sets
            continue
        [found.get(word) for word in WORDS]


def gdcm(files):
    import gdcm
    scanner = gdcm.Scanner()
    for tag in TAGS:
        scanner.AddTag(gdcm.Tag(tag >> 16, tag & 0xFFFF))
    scanner.Scan(gdcm.FilenamesType(files))


ALL = {"ours, the same files again": ours, "ours, new files of known devices": ours_on_new_files, "ours, from nothing": ours_from_nothing, "ours, from nothing, one file in ten": ours_from_nothing,
       "ours with sha256 of whole files": ours_hashed, "pydicom dcmread, specific_tags": pydicom_tags, "pydicom read_partial": pydicom_partial,
       **{work.__name__: work for work in (fastdicom, dicomsdl, fw_file_rs, gdcm) if find_spec(work.__name__)}}


def main(folder):
    warnings.simplefilter("ignore")
    files = sorted(f.as_posix() for f in Path(folder).rglob("*") if f.is_file())
    costs = {name: [] for name in ALL}
    for _ in range(ROUNDS):
        for name, work in ALL.items():
            mine = files if name.startswith("ours") and not name.endswith("ten") else files[len(costs[name]) % SHARE::SHARE]
            started = time.process_time()
            spent = work(mine)
            costs[name].append(((time.process_time() - started) / len(mine)) if spent is None else spent / len(mine[1::2]))
    base = costs["pydicom dcmread, specific_tags"]
    print("| contender | us a file | files/s | times pydicom |\n|---|---|---|---|")
    for name, spent in costs.items():
        middle, times = statistics.median(spent), statistics.median(b / s for b, s in zip(base, spent, strict=True))
        print(f"| {name} | {1e6 * middle:,.0f} | {1 / middle:,.0f} | {times:.1f} |")


if __name__ == "__main__":
    main(sys.argv[1])
