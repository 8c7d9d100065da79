"""What goes wrong while files are read: the share vanishes, a file grows, a name comes to mean another file. Injected where the system is called."""

import errno
import io
import os
import shutil

import pytest

from pacs_helpers.readers import account
from pacs_helpers.readers.account import ShareLost
from pacs_helpers.readers.dicomlog import read_dicom_log
from pacs_helpers.readers.headers import read_headers
from tests.readers.test_headers import CHICAGO, dataset, load, part10

IMAGE = part10(dataset())


def images(folder, n):
    for number in range(n):
        (folder / f"{number:03}").write_bytes(part10(dataset({0x00080018: ("UI", f"2.25.1{number:03}")})))
    return folder


@pytest.fixture
def before_reading(monkeypatch):
    """Runs `act(name)` before each read of the system."""
    def install(act):
        class File(io.FileIO):
            def read(self, n=-1):
                act(os.path.basename(self.name))
                return super().read(n)

        names, opening, reading = {}, os.open, os.read

        def name_opened(name, *how):
            names[handle := opening(name, *how)] = os.path.basename(name)
            return handle

        def read(handle, n):
            if handle in names:
                act(names[handle])
            return reading(handle, n)

        monkeypatch.setattr(os, "open", name_opened)
        monkeypatch.setattr(os, "read", read)
        monkeypatch.setattr(account, "open", lambda name, mode: File(name), raising=False)
    return install


@pytest.fixture
def before_opening(monkeypatch):
    """Runs `act(name)` before each opening of a file."""
    def install(act):
        real = os.open

        def opening(name, *how):
            act(name)
            return real(name, *how)

        monkeypatch.setattr(os, "open", opening)
    return install


def failing(names, code):
    def act(name):
        if name in names:
            raise OSError(code, os.strerror(code))
    return act


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_a_share_that_vanishes_stops_the_load_with_how_far_it_came(tmp_path, before_reading, code):
    before_reading(failing({f"{n:03}" for n in range(520, 600)}, code))
    with pytest.raises(ShareLost, match=r"Read 512 of at least 600; nothing saved as complete") as lost:
        read_headers(images(tmp_path, 600), site=CHICAGO)
    assert os.strerror(code) in str(lost.value) and "share is mounted" in str(lost.value)


def test_four_failures_in_a_row_are_four_rejected_files(tmp_path, before_reading):
    bad = {f"{n:03}" for n in range(20) if n % 5}
    before_reading(failing(bad, errno.EIO))
    got = read_headers(images(tmp_path, 20), site=CHICAGO)
    assert got.rejected["code"].tolist() == ["IO_ERROR"] * 16 and len(got.instances) == 4
    assert {os.path.basename(f) for f in got.rejected["source_file"]} == bad
    assert (got.sources["n_bytes_rejected"] + got.sources["n_bytes_in_rows"]).tolist() == [os.path.getsize(f) for f in got.sources["source_file"]]


def test_failures_of_one_load_do_not_count_in_the_next(tmp_path, before_reading):
    before_reading(failing({f"{n:03}" for n in range(4)}, errno.EIO))
    for _ in range(3):
        assert len(read_headers(images(tmp_path, 4), site=CHICAGO).rejected) == 4


def test_logs_on_a_share_that_vanishes_stop_the_load_too(tmp_path, before_reading):
    for n in range(16):
        (tmp_path / f"a{n:02}.log").write_text("I: Association Received\n")
    before_reading(failing({f"a{n:02}.log" for n in range(5, 16)}, errno.ESTALE))
    with pytest.raises(ShareLost, match="Read 9 of at least 16; nothing saved as complete"):
        read_dicom_log(tmp_path, site=CHICAGO)


def test_a_folder_that_cannot_be_listed_is_rejected_with_its_reason(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    real = os.scandir

    def scandir(folder):
        if str(folder).endswith("gone"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    got = read_headers(images(tmp_path, 1), site=CHICAGO)
    assert got.rejected["code"].tolist() == ["IO_ERROR"] and len(got.instances) == 1


def grow(file):
    with open(file, "ab") as stream:
        stream.write(b"\x29\0\x10\0LO\2\0AB")


def test_a_file_that_grew_while_it_was_read_is_read_again(tmp_path, before_reading):
    (tmp_path / "000").write_bytes(IMAGE)
    before_reading(lambda name: os.path.getsize(tmp_path / name) == len(IMAGE) and grow(tmp_path / name))
    got = read_headers(tmp_path, site=CHICAGO)
    assert got.instances["problems"].tolist() == [""] and got.instances["n_bytes"].tolist() == [len(IMAGE) + 10]


@pytest.mark.parametrize("hash_files", [True, False])
def test_a_file_that_does_not_stop_changing_is_kept_and_marked(tmp_path, before_reading, hash_files):
    (tmp_path / "000").write_bytes(IMAGE)
    (tmp_path / "001").write_bytes(b"no image")
    times = iter(range(99))
    before_reading(lambda name: os.utime(tmp_path / name, (1, next(times))))
    got = read_headers(tmp_path, site=CHICAGO, hash_files=hash_files)
    assert got.instances["problems"].tolist() == ["CHANGED_WHILE_READ"] and got.instances["patient_id"].tolist() == ["TEST1"]
    assert got.rejected["code"].tolist() == ["NOT_DICOM"]


def as_link(file):
    file.unlink()
    os.symlink(file.with_name("secret"), file)


def as_pipe(file):
    file.unlink()
    os.mkfifo(file)


def as_folder(file):
    file.unlink()
    file.mkdir()


def as_other(file):
    (other := file.with_name("new")).write_bytes(part10(dataset({0x00100020: ("LO", "OTHER1")})))
    os.replace(other, file)


@pytest.mark.parametrize("change", [as_link, as_pipe, as_folder, as_other])
def test_a_name_that_means_another_file_than_was_listed_is_rejected(tmp_path, before_opening, change):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "000").write_bytes(IMAGE)
    (tmp_path / "in" / "secret").write_bytes(part10(dataset({0x00100020: ("LO", "OTHER")})))
    before_opening(lambda name: name.endswith("000") and change(tmp_path / "in" / "000"))
    got = read_headers(tmp_path / "in", site=CHICAGO)
    assert got.rejected["code"].tolist() == ["CHANGED"] and got.rejected["source_file"].iloc[0].endswith("000")
    assert got.instances["patient_id"].tolist() == ["OTHER"] and got.sources["n_bytes"].iloc[0] == got.sources["n_bytes_rejected"].iloc[0]


def test_a_file_that_only_grew_or_got_another_number_is_read(tmp_path, before_opening):
    (tmp_path / "000").write_bytes(IMAGE)
    (tmp_path / "001").write_bytes(part10(dataset({0x00080018: ("UI", "2.25.9")})))

    def act(name):
        if name.endswith("000"):        # as file systems without lasting numbers do
            shutil.copy2(name, name + ".copy")
            os.replace(name + ".copy", name)
        else:
            grow(name)

    before_opening(act)
    assert read_headers(tmp_path, site=CHICAGO).instances["problems"].tolist() == ["", ""]


def test_a_link_that_is_named_is_followed_and_one_that_is_met_is_not(tmp_path):
    load(tmp_path, IMAGE)
    os.symlink(tmp_path / "000", tmp_path / "link")
    assert read_headers(tmp_path / "link", site=CHICAGO).instances["patient_id"].tolist() == ["TEST1"]
    assert read_headers(tmp_path, site=CHICAGO).rejected["code"].tolist() == ["LINK_SKIPPED"]
