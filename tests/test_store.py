"""A store gives back what reading everything at once gives, however often it is updated, and reads only what is new."""

import gzip
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

import pacs_helpers as pacs
from pacs_helpers import store as module
from pacs_helpers.tables import TableError

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "data" / "samples"
READERS = {"hl7": pacs.read_hl7_log, "dicom": pacs.read_headers, "network": pacs.read_dicom_log}


@pytest.fixture
def site():
    return pacs.Site.load(SAMPLES / "site.toml")


@pytest.fixture
def store(tmp_path, site):
    """`store(kind, path)` updates and gives {file name: what}; `store.read(...)` reads."""

    def update(kind, path, **options):
        done = pacs.update_store(tmp_path / "store", {kind: path}, site=site, **options)
        return {Path(file).name: what for file, what in zip(done["source_file"], done["what"].astype("str"))}

    update.read = lambda **bounds: pacs.read_store(tmp_path / "store", site=site, **bounds)
    update.folder = tmp_path / "store"
    return update


def message(number, *, at="20260301080000", status="F", patient="T1"):
    return (f"MSH|^~\\&|RIS|MAIN|PACS|MAIN|{at}||ORU^R01|{number}|P|2.3\rPID|1||{patient}\rOBR|1|P{number}|F{number}|CT^CT HEAD|||{at}|||||||||||A{number}||||{at}||CT|{status}\r")


def places_of(network):
    """What stands for an association id: where the association begins. Ids are the store's own, but name one association each."""
    rows = network.associations
    assert rows["association_id"].is_unique
    return {"": "", **dict(zip(rows["association_id"], rows["source_file"] + ":" + rows["source_offset"].astype("str")))}


def same(got, want):
    """The tables are equal, in any order of files; what an update numbers and times does not count."""
    for name in want._fields:
        tables = [getattr(result, name).drop(columns=["seconds", "modified_at"], errors="ignore") for result in (got, want)]
        if "association_id" in tables[0]:
            tables = [table.assign(association_id=table["association_id"].map(places_of(result))) for table, result in zip(tables, (got, want))]
        order = [c for c in ("source_file", "source_offset", "started_at") if c in tables[0]]
        pd.testing.assert_frame_equal(*(table.sort_values(order, kind="stable").reset_index(drop=True) for table in tables))


@pytest.mark.parametrize("kind", READERS)
def test_a_store_gives_back_what_its_reader_gives(kind, store, site):
    store(kind, SAMPLES / kind)
    same(getattr(store.read(), kind), READERS[kind](SAMPLES / kind, site=site))


def test_lists_of_transfers_of_two_nights_under_one_name_are_both_kept(tmp_path):
    file, site = tmp_path / "list.csv", pacs.Site(time_zone="UTC", transfers={"started": "Start", "calling_ae_title": "From", "called_ae_title": "To", "n_stored": "Images"})
    nights = [f"Start,From,To,Images\n2026-03-0{day} 08:00:00,CT1,PACS,{day}0\n2026-03-0{day} 09:00:00,CT1,PACS,{day}5\n" for day in (1, 2)]
    for night in nights:
        file.write_text(night)
        pacs.update_store(tmp_path / "store", {"transfers": file}, site=site)
    got = pacs.read_store(tmp_path / "store", site=site).transfers
    assert sorted(got.associations["n_stored"]) == [10, 15, 20, 25] and got.associations["association_id"].is_unique
    assert got.operations.merge(got.associations, on="association_id").eval("n_instances == n_stored").all() and len(got.operations) == 4
    late = pacs.read_store(tmp_path / "store", site=site, since=pd.Timestamp("2026-03-02", tz="UTC")).transfers
    assert sorted(late.operations["n_instances"]) == [20, 25]


def test_a_department_from_a_store_has_the_same_findings(tmp_path, site):
    paths = {kind: SAMPLES / kind for kind in READERS}
    pacs.update_store(tmp_path, paths, site=site)
    kept = pacs.read_store(tmp_path, site=site)
    both = [pacs.build_department(hl7=hl7, dicom=dicom, network=network, site=site)
            for hl7, dicom, network in ((kept.hl7, kept.dicom, kept.network), [READERS[kind](paths[kind], site=site) for kind in READERS])]
    _, as_of = pacs.measure_period(both[1])
    pd.testing.assert_frame_equal(*(pacs.find_mismatches(dept, site=site, as_of=as_of).sort_values("finding_id", ignore_index=True) for dept in both))


def test_what_did_not_change_is_not_read_again(tmp_path, store):
    log = tmp_path / "a.hl7"
    log.write_text(message(1))
    store("hl7", log)
    before = os.stat(log)
    log.write_text(message(2))      # other bytes of the same size under the same time: only a store that opens the file sees them
    os.utime(log, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store("hl7", log) == {"a.hl7": "unchanged"}
    assert store.read().hl7.messages["message_control_id"].tolist() == ["1"]


def test_nights_add_up_to_the_month_and_repeats_show_across_nights(tmp_path, store, site):
    logs = tmp_path / "logs"
    logs.mkdir()
    for night in range(1, 6):
        (logs / f"{night}.hl7").write_text(message(night) + message(100 + night) + (message(1) if night == 4 else "") + (message(2, status="P") if night == 5 else ""))
        done = store("hl7", logs)
        assert done == {f"{n}.hl7": "unchanged" if n < night else "new" for n in range(1, night + 1)}
    got = store.read().hl7
    same(got, pacs.read_hl7_log(logs, site=site))
    told = got.messages[got.messages["problems"] != ""]
    assert [(Path(f).name, i, p) for f, i, p in zip(told["source_file"], told["message_control_id"], told["problems"])] == [
        ("2.hl7", "2", "CONTROL_ID_REUSED"), ("4.hl7", "1", "DUPLICATE_MESSAGE"), ("5.hl7", "2", "CONTROL_ID_REUSED")]


def test_a_grown_log_takes_the_place_of_what_was_read_of_it(tmp_path, store, site):
    log = tmp_path / "a.hl7"
    whole = message(1) + message(2)
    log.write_text(whole[:-40])
    store("hl7", log)
    assert store.read().hl7.messages["problems"].tolist() == ["", "TRUNCATED"]
    log.write_text(whole + message(3))
    assert store("hl7", log) == {"a.hl7": "grown"}
    same(store.read().hl7, pacs.read_hl7_log(log, site=site))


def test_a_log_written_anew_leaves_the_rows_of_the_old_one(tmp_path, store):
    log = tmp_path / "today.hl7"
    for night in (1, 2, 3):
        log.write_text(message(night))
        store("hl7", log)
    got = store.read().hl7
    assert got.messages["message_control_id"].tolist() == ["3", "1", "2"]
    assert got.messages["source_file"].nunique() == 3 and got.messages["source_file"][0] == log.as_posix()


def test_rows_of_files_that_are_gone_stay_until_told_otherwise(tmp_path, store):
    logs = tmp_path / "logs"
    logs.mkdir()
    for n in (1, 2):
        (logs / f"{n}.hl7").write_text(message(n))
    store("hl7", logs)
    (logs / "1.hl7").unlink()
    assert store("hl7", logs) == {"2.hl7": "unchanged", "1.hl7": "gone"}
    assert store("hl7", logs) == {"2.hl7": "unchanged"}
    assert store.read().hl7.messages["message_control_id"].tolist() == ["1", "2"]
    assert store("hl7", logs, keep_gone=False) == {"2.hl7": "unchanged", "1.hl7": "dropped"}
    assert store.read().hl7.messages["message_control_id"].tolist() == ["2"]


def test_a_moved_file_keeps_its_rows_and_an_image_written_anew_is_read_again(tmp_path, store, site):
    images = tmp_path / "images"
    first, second = sorted((SAMPLES / "dicom").rglob("*.dcm"))[10:12]
    images.mkdir()
    shutil.copy(first, images / "a.dcm")
    shutil.copy(first, images / "b.dcm")
    with zipfile.ZipFile(images / "c.zip", "w") as archive:
        archive.write(first, "one.dcm")
        archive.write(second, "two.dcm")
    store("dicom", images)
    (images / "a.dcm").rename(images / "d.dcm")
    shutil.copy(second, images / "b.dcm")
    (images / "b.dcm").touch()
    assert store("dicom", images) == {"b.dcm": "changed", "c.zip": "unchanged", "d.dcm": "moved"}
    got = store.read().dicom.instances
    assert [Path(f).name for f in got["source_file"]] == ["b.dcm", "c.zip!one.dcm", "c.zip!two.dcm", "d.dcm"]
    # One of each pair of copies is the first: the zip is read before d.dcm, b.dcm before the zip.
    assert got["problems"].str.contains("DUPLICATE_FILE").tolist() == [False, False, True, True]


def rotate(folder, pieces, how, update):
    """Write `pieces` of a log night by night as a program that rotates its log does, and update after each."""
    log = folder / "server.log"
    for night, piece in enumerate(pieces):
        for number in range(night, 0, -1):
            old = folder / f"server.log.{number - 1}" if number > 1 else log
            if old is log and how == "copytruncate":
                shutil.copy(log, folder / "server.log.1")
            else:
                old.rename(folder / f"server.log.{number}")
        log.write_bytes(piece)
        update("network", folder)


@pytest.mark.parametrize("how", ["rename", "copytruncate"])
def test_an_association_goes_on_in_the_next_file_of_a_rotation(tmp_path, store, site, how):
    data = next(file for file in sorted((SAMPLES / "network").iterdir()) if b"Association Received" in file.read_bytes()).read_bytes()
    lines = data.splitlines(keepends=True)[:3000]
    logs = tmp_path / "logs"
    logs.mkdir()
    middle = next(i for i, line in enumerate(lines) if i > 1000 and b"Store" in line) + 1
    rotate(logs, [b"".join(lines[:middle]), b"".join(lines[middle:2000]), b"".join(lines[2000:])], how, store)
    got, want = store.read().network, pacs.read_dicom_log(logs, site=site)
    same(got, want)
    assert (got.associations["outcome"] != "unfinished").sum() > 20


def test_the_part_of_a_log_that_was_read_is_not_counted_twice_after_rotation(tmp_path, store, site):
    """Read in the middle of the day, then rotated by copying: the copy begins with what was read."""
    data = next(file for file in sorted((SAMPLES / "network").iterdir()) if b"Association Received" in file.read_bytes()).read_bytes().splitlines(keepends=True)
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "server.log").write_bytes(b"".join(data[:500]))
    store("network", logs)
    (logs / "server.log.1").write_bytes(b"".join(data[:900]))
    (logs / "server.log").write_bytes(b"".join(data[900:1500]))
    assert store("network", logs) == {"server.log": "new", "server.log.1": "grown"}
    same(store.read().network, pacs.read_dicom_log(logs, site=site))


@pytest.mark.parametrize("kind", ["network", "hl7"])
def test_a_log_that_is_packed_when_it_is_rotated_stays_one_log(tmp_path, store, site, kind):
    logs = tmp_path / "logs"
    logs.mkdir()
    first, second = ((SAMPLES / "network" / "workstation_dcmqrscp.log").read_bytes().splitlines(keepends=True)[n:n + 600] for n in (0, 600)) if kind == "network" else (
        [message(1).encode(), message(2).encode()], [message(3).encode()])
    (logs / "a.log").write_bytes(b"".join(first[:-1]))
    store(kind, logs)
    with gzip.open(logs / "a.log.1.gz", "wb") as packed:
        packed.write(b"".join(first))
    (logs / "a.log").write_bytes(b"".join(second))
    assert store(kind, logs) == {"a.log": "new", "a.log.1.gz": "grown"}
    same(getattr(store.read(), kind), READERS[kind](logs, site=site))
    plain = gzip.decompress((logs / "a.log.1.gz").read_bytes())
    (logs / "a.log.1.gz").unlink()
    (logs / "a.log.2").write_bytes(plain)
    assert store(kind, logs) == {"a.log": "unchanged", "a.log.2": "moved"}


def test_a_store_among_the_traces_does_not_read_itself(tmp_path, site):
    (tmp_path / "a.hl7").write_text(message(1))
    for _ in range(2):
        done = pacs.update_store(tmp_path / "store", {"hl7": tmp_path}, site=site)
        assert [Path(file).name for file in done["source_file"]] == ["a.hl7"]


def test_times_read_in_another_zone_are_not_passed_off_as_this_ones(tmp_path):
    here, there = pacs.Site(time_zone="America/Chicago"), pacs.Site(time_zone="UTC")
    for name in ("a", "b"):
        (tmp_path / f"{name}.hl7").write_text(message(name))
    pacs.update_store(tmp_path / "store", {"hl7": [tmp_path / "a.hl7", tmp_path / "b.hl7"]}, site=there)
    with pytest.raises(TableError, match="were read as UTC, not America/Chicago; call update_store"):
        pacs.read_store(tmp_path / "store", site=here)
    pacs.update_store(tmp_path / "store", {"hl7": tmp_path / "b.hl7"}, site=here)
    got = pacs.read_store(tmp_path / "store", site=here).hl7.messages
    assert list(zip(got["message_control_id"], got["message_at"].dt.hour, got["problems"])) == [("a", 8, "OTHER_TIME_ZONE"), ("b", 14, "")]


def test_bounds_leave_out_rows_by_time_and_no_mark(tmp_path, store):
    log = tmp_path / "a.hl7"
    log.write_text(message(1, at="20260301080000") + message(2, at="20260302080000") + message(3, at="20260303080000") + message(1, at="20260301080000")
                   + message(4, at="not a time"))
    (tmp_path / "b.hl7").write_text(message(2, at="20260302080000"))
    store("hl7", [log, tmp_path / "b.hl7"])
    got = store.read(since=pd.Timestamp("2026-03-02", tz="UTC"), until=pd.Timestamp("2026-03-03", tz="UTC")).hl7
    # Without time 4 cannot be told to be outside; the second 2 repeats one inside, and the rest is outside.
    assert list(zip(got.messages["message_control_id"], got.messages["problems"])) == [("2", ""), ("4", "BAD_TIME"), ("2", "DUPLICATE_MESSAGE")]
    assert got.sources["n_rows"].sum() == 6
    late = store.read(since=pd.Timestamp("2026-03-03", tz="UTC")).hl7.messages
    assert late["message_control_id"].tolist() == ["3", "4"]
    with pytest.raises(TableError, match="since: an instant with a time zone"):
        store.read(since="2026-03-02")


def test_what_an_older_reader_read_is_read_again(tmp_path, store, monkeypatch):
    log = tmp_path / "a.hl7"
    log.write_text(message(1))
    store("hl7", log)
    monkeypatch.setattr(module, "_version", lambda: "older")
    assert store("hl7", log) == {"a.hl7": "reread"}
    assert len(store.read().hl7.messages) == 1


def test_a_readers_own_arguments_count_as_part_of_it(tmp_path, store):
    shutil.copy(SAMPLES / "network" / "archive_orthanc_1.log.gz", tmp_path)
    assert store("network", tmp_path / "archive_orthanc_1.log.gz", options={"network": {"year": 2025}}) == {"archive_orthanc_1.log.gz": "new"}
    assert store.read().network.associations["started_at"].dt.year.unique().tolist() == [2025]
    assert store("network", tmp_path / "archive_orthanc_1.log.gz", options={"network": {"year": 2024}}) == {"archive_orthanc_1.log.gz": "reread"}
    assert store.read().network.associations["started_at"].dt.year.unique().tolist() == [2024]


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path, store, monkeypatch):
    log = tmp_path / "a.hl7"
    log.write_text(message(1))
    real = open

    def failing(path, *rest, **options):
        if str(path) == log.as_posix():
            raise OSError(5, "Input/output error")
        return real(path, *rest, **options)

    monkeypatch.setattr("builtins.open", failing)
    store("hl7", log)
    monkeypatch.undo()
    assert store.read().hl7.rejected["code"].tolist() == ["IO_ERROR"]
    assert store("hl7", log) == {"a.hl7": "changed"}
    got = store.read().hl7
    assert len(got.messages) == 1 and not len(got.rejected)


def test_two_updates_at_once_are_refused(tmp_path, store, monkeypatch):
    log = tmp_path / "a.hl7"
    log.write_text(message(1))
    store("hl7", log)
    monkeypatch.setattr("pacs_helpers.locks.LOCK_SECONDS", 0)
    (store.folder / "files.parquet.lock").write_text(f"elsewhere {os.getpid()}")
    with pytest.raises(TableError, match="another update of .* is running"):
        store("hl7", log)


def test_a_mistake_of_the_caller_is_named(tmp_path, store, site):
    with pytest.raises(TableError, match="'hl8' is not one of .* Did you mean 'hl7'"):
        store("hl8", tmp_path)
    for paths, options, words in (("logs", None, "paths: .*is needed, such as"), ({"HL7": tmp_path}, None, "'HL7' is not one of .* Did you mean 'hl7'"),
                                  ({}, {"network": {"yaer": 1}}, "'yaer' is not one of .* Did you mean 'year'")):
        with pytest.raises(TableError, match=words):
            pacs.update_store(tmp_path / "store", paths, site=site, options=options)
    with pytest.raises(TableError, match="site: a Site is needed, not NoneType"):
        pacs.update_store(tmp_path / "store", {}, site=None)
    with pytest.raises(TableError, match="no store in"):
        pacs.read_store(tmp_path / "nothing", site=site)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("call", ["open", "fsync", "replace", "mkdir"])
def test_an_update_killed_at_any_call_goes_on_without_loss_or_double_count(tmp_path, site, call):
    """Killed just before each such call of an update in turn: what is read back is then a part of the truth, and all of it after the next update."""
    logs = tmp_path / "logs"
    logs.mkdir()
    for n in range(4):
        (logs / f"{n}.hl7").write_text(message(n))
    want = pacs.read_hl7_log(logs, site=site)
    code = (f"import os, pathlib, signal, sys\nimport pacs_helpers as pacs\nfrom pacs_helpers import locks, store\nreal, left = os.{call}, [int(sys.argv[3])]\n"
            f"def dying(*a, **k):\n    left[0] -= 1\n    left[0] or os.kill(os.getpid(), signal.SIGKILL)\n    return real(*a, **k)\n"
            f"os.{call} = dying\nstore.BATCH_FILES = 2\npacs.update_store(sys.argv[1], {{'hl7': sys.argv[2]}}, site=pacs.Site.load('data/samples/site.toml'))")
    for n in range(1, 60):
        folder = tmp_path / f"store{n}"
        ran = subprocess.run([sys.executable, "-c", code, str(folder), str(logs), str(n)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode in (0, -signal.SIGKILL), ran.stderr
        if ran.returncode and (folder / "files.parquet").exists():
            part = pacs.read_store(folder, site=site).hl7
            assert set(part.messages["message_control_id"]) <= {"0", "1", "2", "3"} and len(part.messages) == len(part.sources) in (2, 4)
        pacs.update_store(folder, {"hl7": logs}, site=site)
        same(pacs.read_store(folder, site=site).hl7, want)
        assert len(list((folder / "parts").iterdir())) <= 2
        if ran.returncode == 0:
            return
    raise AssertionError("the update never came to its end")
