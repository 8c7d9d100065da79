"""Laws that every reader keeps for any bytes: each is read, accounted for and read alike again, whatever was done to the file.

The byte law is checked by the readers on every call: AccountingError would fail each test here.
"""

import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.seeds import LONGEST, READERS, SITE, seeds

FILES = 20
EXAMPLES = settings(max_examples=max(settings.default.max_examples // FILES, 1))
JUNK = (b"\r", b"\n", b"\0", b"\x0b", b"\x1c\r", b"|", b"\\", b"MSH|^~\\&|", b"\xff", b"\xc3", b'"', b"OBX|1|TX|", b"DICM", b"\xff\xff\xff\xff", b"  ", b"I1101 01:56:49.063352 ")


@st.composite
def damaged(draw, kind):
    """A sample after up to four accidents: bytes lost, repeated, changed or put in."""
    data = draw(st.sampled_from(seeds(kind)))
    for _ in range(draw(st.integers(0, 4))):
        a, b = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
        accident = draw(st.sampled_from(["lose", "repeat", "put in", "change", "cut"]))
        if accident == "lose":
            data = data[:a] + data[min(b, a + 40):]
        elif accident == "repeat":
            data = data[:b] + data[a:b] + data[b:]
        elif accident == "put in":
            data = data[:a] + draw(st.sampled_from(JUNK)) + data[a:]
        elif accident == "change":
            data = data[:a] + draw(st.binary(min_size=1, max_size=4)) + data[a + 1:]
        else:
            data = data[:a]
    return data[:4 * LONGEST] if kind != "dicom" else data


def together(kind):
    """Files of one load: reading twenty at once costs little more than reading one."""
    return st.lists(damaged(kind), min_size=FILES, max_size=FILES).map(lambda datas: {f"{n:02}": data for n, data in enumerate(datas)})


def read(kind, files):
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        got = READERS[kind](folder, site=SITE)
        tables = {name: table.drop(columns=["seconds", "modified_at"], errors="ignore") for name, table in got._asdict().items()}
        return {name: table.assign(**{c: table[c].str.replace(folder + "/", "") for c in ("source_file", "association_id") if c in table}) for name, table in tables.items()}


def assert_same(one, other):
    for name in one:
        pd.testing.assert_frame_equal(one[name].reset_index(drop=True), other[name].reset_index(drop=True), obj=name)


def rows_of(tables, files, without=()):
    return {name: table[table["source_file"].isin(list(files))].drop(columns=without, errors="ignore") for name, table in tables.items()}


@pytest.mark.parametrize("kind", READERS)
def test_any_bytes_are_accounted_for_and_read_alike_again(kind):
    @EXAMPLES
    @given(together(kind))
    def law(files):
        once = read(kind, files)
        sources = once["sources"].set_index("source_file")
        told = sources[["n_bytes_in_rows", "n_bytes_rejected", "n_bytes_framing"]]
        assert sources["n_bytes"].to_dict() == {name: len(data) for name, data in files.items()}
        assert told.sum(axis=1).eq(sources["n_bytes"]).all() and (told >= 0).all(axis=None)
        assert sources["n_rejected"].sum() == len(once["rejected"])
        assert_same(once, read(kind, files))

    law()


@pytest.mark.parametrize("kind", READERS)
def test_files_do_not_change_each_others_rows(kind):
    """Save for marks of repeats and for the choice of one accession field, which are about all files together."""
    about_all = ["problems", "accession_number"]

    @EXAMPLES
    @given(together(kind), st.randoms(use_true_random=False))
    def law(files, chance):
        whole = read(kind, files)
        whole.pop("performed_steps", None) if kind == "capture" else None      # a step goes on in the next file
        some = {name: data for name, data in files.items() if chance.random() < 0.5} or files
        assert_same(rows_of(whole, some, about_all), rows_of(read(kind, some), some, about_all))

    law()


@pytest.mark.parametrize("kind", READERS)
def test_a_file_cut_at_any_byte_loads(kind):
    """A prefix never has more rows than the whole, and a message that ended before the cut is there."""
    @EXAMPLES
    @given(st.sampled_from(seeds(kind)), st.lists(st.floats(0, 1), min_size=FILES, max_size=FILES))
    def law(data, shares):
        sizes = {f"{n:02}": round(len(data) * share) for n, share in enumerate(shares)}
        first, whole = next(iter(read(kind, {"whole": data}).items()))
        cut = read(kind, {name: data[:size] for name, size in sizes.items()})[first]
        starts = sorted(set(whole["source_offset"]))
        for name, size in sizes.items():
            rows = cut[cut["source_file"] == name]
            assert len(rows) <= len(whole)
            if kind == "hl7":
                ended = [start for start, after in zip(starts, starts[1:]) if after <= size]
                assert ended == sorted(set(rows["source_offset"]))[:len(ended)]

    law()
