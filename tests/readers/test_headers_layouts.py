"""A data set laid out like one met before is read without a walk: the answer must be the walk's, to the last byte."""

import os
from struct import pack

import pytest
from pydicom.data import get_charset_files, get_testdata_files

from pacs_helpers.readers.elements import walk
from pacs_helpers.readers.headerrows import OPENED, OWN, WANTED, header_row
from pacs_helpers.readers.headers import read_headers
from pacs_helpers.readers.layouts import Layouts
from pacs_helpers.readers.part10 import _meta_of, _read_meta, read_elements
from pacs_helpers.site import Site
from tests.readers.test_headers import BASE, BIG, DEFLATED, IMPLICIT, ITEM_END, JPEG, PIXELS, SEQUENCE_END, UNDEFINED, dataset, el, implicit, item, part10

ZONE = "America/Chicago"


def read(content, **how):
    return read_elements(lambda p, n: content[p:p + n], len(content), WANTED, OPENED, OWN, **how)


def assert_same(content, name):
    walked = read(content, is_remembered=False)
    remembered = read(content)
    assert remembered[1] == walked[1], name
    if walked[0]:
        assert remembered[0].whole()._replace(likeness=None) == walked[0], name
        assert header_row(remembered[0], ZONE) == header_row(walked[0], ZONE), name


def trap(accession):
    """The top level's own tags, in a private sequence and in an item of a standard one."""
    inside = el(0x00080050, "SH", accession) + el(0x00100020, "LO", "NESTED") + el(0x0020000D, "UI", "2.25.99")
    return inside, el(0x00290010, "SQ", item(inside, UNDEFINED) + ITEM_END + SEQUENCE_END, length=UNDEFINED)


def image(n, *, accession="A1", pixels=None, order="<"):
    request = el(0x00400275, "SQ", item(el(0x00080050, "SH", accession) + el(0x00401001, "SH", f"R{n}"), UNDEFINED) + ITEM_END + SEQUENCE_END, length=UNDEFINED)
    pixels = el(PIXELS, "OW", bytes(64)) if pixels is None else pixels
    changes = {0x00080018: ("UI", f"2.25.1{n}"), 0x00200013: ("IS", str(n)), 0x00100010: ("PN", "TEST^" + "A" * (n % 7))}
    return dataset(changes, last=trap(accession)[1] + request + pixels)


IMAGES = {
    "explicit": lambda n: part10(image(n)),
    "fragments": lambda n: part10(image(n, pixels=el(PIXELS, "OB", item(b"") + item(bytes(2 * n)) + SEQUENCE_END, length=UNDEFINED)), JPEG),
    "implicit": lambda n: part10(b"".join(implicit(t, v if isinstance(v, bytes) else v.encode()) for t, (_, v) in
                                          sorted({**BASE, 0x00200013: ("IS", "1" * (n % 5))}.items())), IMPLICIT),
    "big endian": lambda n: part10(dataset({0x00200013: ("IS", "1" * (n % 5)), 0x00280010: ("US", pack(">H", 4))}, order=">"), BIG),
    "no preamble": lambda n: image(n),
    "item of known length": lambda n: part10(dataset(last=el(0x00400275, "SQ", item(el(0x00401001, "SH", "R" * n))))),
    "ISO 2022": lambda n: part10(dataset({0x00080005: ("CS", "\\ISO 2022 IR 87"), 0x00100010: ("PN", b"Yamada^Tarou=\x1b$B;3ED\x1b(B" + b"A" * n)})),
}


@pytest.mark.parametrize("name", IMAGES)
def test_files_of_one_device_are_read_as_the_walk_reads_them(name):
    for n in range(24):
        assert_same(IMAGES[name](n), f"{name} {n}")


def ask(layouts, content):
    return layouts.read(lambda p, n: content[p:p + n], content, 0, len(content), (False, False))


def values(found):
    return found[2]()[0]


def learn(layouts, content):
    passed = []
    values, items, codes, _ = walk(lambda p, n: content[p:p + n], 0, len(content), implicit=False, big=False, wanted=WANTED, opened=OPENED, passed=passed)
    assert not codes
    layouts.learn(lambda p, n: content[p:p + n], 0, len(content), (False, False), passed, (values, items), OWN)


def test_a_known_layout_answers_and_an_unknown_one_does_not():
    layouts = Layouts()
    first, second, other = (dataset({0x00100020: ("LO", text)}, last=trap("X1")[1]) for text in ("TEST1", "TEST99999", "TEST1"))
    other = other.replace(b"\x28\0\x10\0US", b"\x28\0\x11\0US")
    assert ask(layouts, first) is None
    learn(layouts, first)
    assert values(ask(layouts, first))[0x00100020] == [b"TEST1 "] and ask(layouts, second) is None
    learn(layouts, second)       # the id may now have any length
    found = values(ask(layouts, dataset({0x00100020: ("LO", "TEST1234567")}, last=trap("X1")[1])))
    assert found[0x00100020] == [b"TEST1234567 "] and found[0x00080050] == [b"A1"] and found[0x0020000D] == [b"2.25.2"]
    assert ask(layouts, other) is None and ask(layouts, first + b"\0\0") is None and ask(layouts, first[:-2]) is None


def test_files_that_swap_two_values_are_not_alike():
    layouts = Layouts()
    one, longer, swapped = (dataset({0x00080080: ("LO", place), 0x00081010: ("SH", station)}) for place, station in (("AA", "BB"), ("AAAA", "BB"), ("BB", "AA")))
    learn(layouts, one)
    before = ask(layouts, one)[1]
    learn(layouts, longer)
    assert before == ask(layouts, one)[1] != ask(layouts, swapped)[1]


def test_a_last_value_far_longer_than_those_before_is_read_whole():
    layouts, end = Layouts(), 0x00400244
    before = el(0x00290010, "OB", bytes(30_000))
    contents = [dataset(last=before + el(end, "DA", "2" * n)) for n in (8, 10, 9000)]
    learn(layouts, contents[0])
    learn(layouts, contents[1])
    head, whole = contents[2][:1 << 14], contents[2]
    found = layouts.read(lambda p, n: whole[p:p + n], head, 0, len(whole), (False, False))
    assert found is None or values(found)[end] == [b"2" * 9000]


@pytest.mark.parametrize("n_bytes", [10_000, 16_000, 16_380, 40_000, 70_000])
def test_what_follows_a_long_private_value_is_read_as_the_walk_reads_it(n_bytes):
    def content(n):
        return part10(dataset(last=el(0x00290010, "OB", bytes(n_bytes)) + el(0x00400244, "DA", "2" * (8 + n % 3 * 2)) + el(0x00400275, "SQ", item(trap("A1")[0])) + el(PIXELS, "OW", bytes(64))))
    for n in range(6):
        assert_same(content(n), n)
    last = content(4)
    for at in range(len(last) - 250, len(last)):
        assert_same(last[:at], f"cut at {at}")
        assert_same(last[:at] + bytes([last[at] ^ 2]) + last[at + 1:], f"changed at {at}")


META = {
    "plain": el(0x00020002, "UI", "1.2.3") + el(0x00020003, "UI", "2.25.1") + el(0x00020010, "UI", "1.2.840"),
    "no instance": el(0x00020002, "UI", "1.2.3") + el(0x00020010, "UI", "1.2.840"),
    "its header in a value": el(0x00020002, "UI", b"\2\0\3\0UI\4\0") + el(0x00020003, "UI", "2.25.1"),
    "its header in the last value": el(0x00020010, "UI", "1.2.840") + el(0x00020013, "SH", b"ab\2\0\3\0UI\2\0cd"),
    "twice": el(0x00020003, "UI", "2.25.1") + el(0x00020003, "UI", "2.25.2") + el(0x00020010, "UI", "1.2.840"),
    "around it twice": el(0x00020010, "UI", "1.2.8") + el(0x00020003, "UI", "2.25.2") + el(0x00020010, "UI", "1.2.840"),
    "long form cut short": b"\2\0\1\0OB\0\0" + el(0x00020003, "UI", "2.25.1") + el(0x00020010, "UI", "1.2.840"),
}


@pytest.mark.parametrize("name", META)
@pytest.mark.parametrize("wrong", [0, -8, 8, 1, 60])
def test_meta_information_is_that_of_a_walk_wherever_its_instance_lies(name, wrong):
    meta = META[name]
    head = bytes(128) + b"DICM" + el(0x00020000, "UL", pack("<L", max(0, len(meta) + wrong))) + meta + dataset()
    assert _meta_of(head, 132) == _meta_of(head, 132) == _read_meta(head, 132)


def test_any_changed_byte_and_any_cut_of_a_known_file_is_read_as_the_walk_reads_it():
    for n in range(12):
        read(IMAGES["explicit"](n))
        read(IMAGES["fragments"](n))
    for content in (IMAGES["explicit"](3), IMAGES["fragments"](3)):
        for at in range(132, len(content)):
            assert_same(content[:at], f"cut at {at}")
            for byte in (0, 1, 2, 0xFF, content[at] ^ 2):
                assert_same(content[:at] + bytes([byte]) + content[at + 1:], f"{byte} at {at}")


def test_pydicoms_own_files_are_read_alike_the_first_and_the_second_time():
    files = [f for f in sorted({*get_testdata_files(), *get_charset_files("*.dcm")}) if os.path.isfile(f) and 0 < os.path.getsize(f) < 4 << 20]
    for file in files * 2:
        with open(file, "rb") as stream:
            assert_same(stream.read(), os.path.basename(file))


def test_headers_alone_give_the_rows_that_whole_files_give(tmp_path):
    contents = [*(IMAGES["explicit"](n) for n in range(5)), IMAGES["explicit"](3), part10(image(4, accession="A2")), part10(dataset(), DEFLATED), b"junk"]
    for n, content in enumerate(contents):
        (tmp_path / f"{n:03}").write_bytes(content)
    whole, headers = (read_headers(tmp_path, site=Site(time_zone=ZONE), hash_files=h) for h in (True, False))
    assert whole.instances.equals(headers.instances) and whole.rejected.equals(headers.rejected)
    assert "DUPLICATE_FILE" in whole.instances["problems"][5] and "DUPLICATE_SOP_UID" in whole.instances["problems"][6]
    assert (whole.sources["sha256"].str.len() == 64).all() and (headers.sources["sha256"] == "").all()
