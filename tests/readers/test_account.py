import os
from pathlib import Path

import pytest

from pacs_helpers import Site, read_capture, read_dicom_log, read_hl7_log, summarize_account
from pacs_helpers.readers import account
from pacs_helpers.readers.account import Blocks, run_over
from tests.wires import SERVER, Wire, conversation, pcap

ROOT = Path(__file__).resolve().parents[2]


def test_the_account_of_a_capture_counts_associations_and_messages(tmp_path):
    message = b"\x0bMSH|^~\\&|RIS|S|PACS|S|20240311092000||ORU^R01|C1|P|2.5.1\rPID|1||00123\rOBR|1|P1|F1\rOBR|2|P1|F2\r\x1c\r"
    feed = Wire(client=(b"\x0a\x14\0\x0d", 40001), server=(SERVER[0], 2575)).open().send(0, message).close()
    (tmp_path / "day.pcap").write_bytes(pcap(sorted(conversation(b"x").packets + feed.packets)))
    said = summarize_account(read_capture(tmp_path, site=Site(time_zone="UTC")))
    assert said.startswith("2 pieces = 1 associations loaded (0 with problems) + 1 messages + 0 rejected; 0 bytes unaccounted")


def test_who_stops_a_load_is_told_how_far_it_came():
    def worker(unit):
        if unit == 3:
            raise KeyboardInterrupt
        return unit

    with pytest.raises(KeyboardInterrupt) as stop:
        run_over(worker, [1, 2, 3, 4], n_bytes=0)
    assert stop.value.__notes__ == ["Stopped after 2 of 4 parts of the work; nothing of it is kept."]


def test_114_a_folder_that_cannot_be_opened_is_named_and_the_scan_goes_on(tmp_path, monkeypatch):
    for name in ("closed", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.hl7").write_text("MSH|^~\\&|RIS|S|PACS|S|20240311092000||ORU^R01|C1|P|2.5.1\r")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)     # the tests may run as root, whom no folder refuses
    got = read_hl7_log(tmp_path, site=Site(time_zone="UTC"))
    assert got.rejected[["source_file", "code"]].values.tolist() == [[(tmp_path / "closed").as_posix(), "PERMISSION"]]
    assert got.messages["source_file"].tolist() == [(tmp_path / "open" / "a.hl7").as_posix()]


def test_stores_that_a_log_names_without_an_association_count_as_pieces():
    got = read_dicom_log(ROOT / "data" / "samples" / "network" / "edview_storescp_xcr.log", site=Site(time_zone="UTC"))
    assert summarize_account(got).startswith("347 pieces = 0 associations loaded (0 with problems) + 347 operations of no one association + 0 rejected; 0 bytes unaccounted in 1 file")


@pytest.mark.parametrize(("meanwhile", "codes"), [
    (lambda file: os.truncate(file, 10), ["CHANGED_WHILE_READ"]), (lambda file: file.write_bytes(b"y" * 300), ["CHANGED_WHILE_READ"]),
    (lambda file: file.open("ab").write(b"z" * 5), []), (lambda file: None, [])], ids=["cut", "written anew", "grown", "left alone"])
def test_119_a_log_that_is_cut_or_written_anew_while_it_is_read_says_so(tmp_path, monkeypatch, meanwhile, codes):
    monkeypatch.setattr(account, "BLOCK_BYTES", 100)
    file = tmp_path / "a.log"
    file.write_bytes(b"x" * 300)
    os.utime(file, ns=(0, 0))
    blocks = Blocks(str(file))
    pieces = iter(blocks)
    first = next(pieces)
    meanwhile(file)
    read = first + b"".join(pieces)
    assert [row["code"] for row in blocks.rejected] == codes and read.startswith(first) and len(first) == 100
