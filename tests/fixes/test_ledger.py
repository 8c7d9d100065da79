import errno
import json
import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pacs_helpers import locks
from pacs_helpers.fixes import ledger as module
from pacs_helpers.fixes.corrections import read_corrections, record_correction, record_corrections, undo_correction, verify_corrections
from pacs_helpers.fixes.ledger import LedgerError, append_record, read_ledger
from pacs_helpers.tables import TableError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "corrections.jsonl"


def decide(path, target="2.25.1", old="A", new="B", kind="patient_id", **more):
    return record_correction(path, kind=kind, target=target, old=old, new=new, reason="TYPED_WRONG", decided_by="Pat", **more)


def test_a_decision_is_one_line_that_only_its_owner_can_read(path):
    record = decide(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 and json.loads(lines[0])["hash"] == record["hash"]
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_record_tells_who_what_when_and_why(path):
    record = decide(path, text="wrong key", evidence="IDs differ", finding_id="U05a-1")
    wanted = {"v", "tool", "expect", "seq", "id", "ts_utc", "utc_offset", "user", "account", "host", "pid", "op", "kind", "target", "field", "old", "new", "reason", "text", "evidence", "prev", "hash"}
    assert wanted <= set(record)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert record["tool"] == f"{project['name']} {project['version']}"
    assert (record["seq"], record["op"], record["user"], record["old"], record["new"]) == (1, "decide", "Pat", "A", "B")


def test_undo_is_a_new_record_and_undoing_it_brings_the_decision_back(path):
    first = decide(path)
    undo = undo_correction(path, first["id"], decided_by="Pat")
    assert len(read_corrections(path)) == 0
    undo_correction(path, undo["id"], decided_by="Pat")
    assert read_corrections(path)["new"].tolist() == ["B"] and len(read_ledger(path)) == 3


def test_records_that_a_caller_changes_are_read_again_as_they_stand(path):
    decide(path)
    read_ledger(path)[0]["new"] = "C"
    assert read_ledger(path)[0]["new"] == "B"


def test_the_ledger_is_never_rewritten(path):
    decide(path)
    before = path.read_bytes()
    undo_correction(path, read_ledger(path)[0]["id"], decided_by="Pat")
    assert path.read_bytes().startswith(before)


@pytest.mark.parametrize("damage", [
    lambda lines: [lines[0].replace('"new": "B"', '"new": "C"'), *lines[1:]],
    lambda lines: lines[1:],
    lambda lines: [lines[1], lines[0], *lines[2:]],
    lambda lines: [lines[0], lines[0], *lines[1:]],
])
def test_an_edited_cut_or_shuffled_ledger_is_found_and_not_written(path, damage):
    for n in range(3):
        decide(path, target=f"2.25.{n}")
    path.write_text("\n".join(damage(path.read_text(encoding="utf-8").splitlines())) + "\n", encoding="utf-8")
    assert verify_corrections(path)["is_whole"] is False
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="LOG_CHAIN_BROKEN"):
        decide(path, target="2.25.9")
    assert path.read_bytes() == before


def test_where_fewer_records_stand_than_were_seen_nothing_is_recorded(path):
    for n in range(4):
        decide(path, target=f"2.25.{n}")
    cut = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(cut)
    with pytest.raises(LedgerError, match="LOG_CHAIN_BROKEN: decision NOT recorded: 4 records were seen and 1 stand"):
        decide(path, target="2.25.9", expect=4)
    assert path.read_bytes() == cut


def test_a_record_that_was_decided_on_more_than_stands_before_it_is_found(path):
    for n in range(3):
        decide(path, target=f"2.25.{n}", expect=n)
    first, _, last = read_ledger(path)
    moved = {**last, "seq": 2, "prev": first["hash"]}
    moved["hash"] = module.digest_of(moved)
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0] + module._line_of(moved))
    assert verify_corrections(path)["problem"].startswith("LOG_CHAIN_BROKEN: line 2 ")


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_half_a_last_line_is_sealed_with_a_note_and_nothing_is_lost(path, cut):
    decide(path, target="2.25.1")
    whole = path.read_bytes()
    decide(path, target="2.25.2")
    path.write_bytes(path.read_bytes()[:len(whole) + cut])
    decide(path, target="2.25.3")
    assert read_corrections(path)["target"].tolist() == ["2.25.1", "2.25.3"]
    assert [r["op"] for r in read_ledger(path)] == ["decide", "recovered", "decide"] and verify_corrections(path)["is_whole"]


def test_cut_at_any_byte_the_ledger_takes_the_next_decision_and_is_whole(path):
    """Also one byte before its end, where the cut line would read as a record that nobody was told of."""
    decide(path, target="2.25.1")
    first = len(path.read_bytes())
    decide(path, target="2.25.2")
    whole = path.read_bytes()
    for cut in (*range(0, first, 10), *range(first, len(whole))):
        path.write_bytes(whole[:cut])
        decide(path, target="2.25.3")
        kept = ["2.25.1"] if cut >= first else []
        assert (read_corrections(path)["target"].tolist(), verify_corrections(path)["is_whole"]) == ([*kept, "2.25.3"], True), cut


def test_a_torn_line_that_was_sealed_but_not_noted_is_noted_by_the_next(path):
    decide(path)
    with open(path, "ab") as torn:
        torn.write(b'{"half#\n')
    decide(path, target="2.25.2")
    assert [r["op"] for r in read_ledger(path)] == ["decide", "recovered", "decide"] and verify_corrections(path)["n_sealed"] == 1


@pytest.mark.parametrize("edit", [lambda b: b.replace(b"\n", b"\r\n"), lambda b: b.replace(b'": ', b'":'), lambda b: b" " + b])
def test_an_editor_that_only_changed_line_ends_or_spaces_is_found(path, edit):
    decide(path)
    path.write_bytes(edit(path.read_bytes()))
    assert verify_corrections(path)["problem"].startswith("LOG_CHAIN_BROKEN: line 1 ")


def test_text_with_a_broken_character_is_kept_and_the_chain_holds(path):
    decide(path, text="M\udcfcller")
    assert read_corrections(path)["text"].tolist() == [r"M\udcfcller"] and verify_corrections(path)["is_whole"]


def test_a_decision_conflicts_with_another_about_the_same_finding_under_another_target(path):
    decide(path, finding_id="U05a-1")
    with pytest.raises(LedgerError, match="CONFLICT: Pat"):
        record_correction(path, kind="dismiss", target="U05a-1", finding_id="U05a-1", reason="TYPED_WRONG", decided_by="Sam", expect=0)
    decide(path, target="2.25.2", finding_id="U05a-2", expect=0)
    assert len(read_ledger(path)) == 2


def test_what_was_undone_cannot_be_undone_again(path):
    first = decide(path)
    undo_correction(path, first["id"], decided_by="Pat")
    with pytest.raises(TableError, match="taken back already"):
        undo_correction(path, first["id"], decided_by="Pat")
    assert len(read_ledger(path)) == 2


def test_a_second_decision_on_what_somebody_decided_meanwhile_is_a_conflict_that_names_them(path):
    decide(path)
    with pytest.raises(LedgerError, match="CONFLICT: Pat decided on this at"):
        decide(path, old="B", new="C", expect=0)
    assert len(read_ledger(path)) == 1


@pytest.mark.parametrize("fitting", [0, 7, 150])
def test_a_full_disk_says_not_recorded_and_the_next_try_is_whole(path, monkeypatch, fitting):
    decide(path)
    real, left = os.write, [fitting]

    def write(descriptor, data):
        if not data.startswith(b"{") and left == [fitting]:
            return real(descriptor, data)
        n, left[0] = left[0], 0
        if not n:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:n])

    monkeypatch.setattr(module.os, "write", write)
    with pytest.raises(LedgerError, match="LOG_NOT_WRITTEN: decision NOT recorded"):
        decide(path, target="2.25.2")
    monkeypatch.undo()
    decide(path, target="2.25.3")
    assert read_corrections(path)["target"].tolist() == ["2.25.1", "2.25.3"] and verify_corrections(path)["is_whole"]


def test_of_decisions_recorded_together_a_full_disk_keeps_what_fitted_and_says_which_are_not_recorded(path, monkeypatch):
    together = [{"kind": "dismiss", "target": name, "finding_id": name, "reason": "NO_ERROR", "decided_by": "Pat"} for name in ("one", "two", "one", "three", "four")]
    real, lines = os.write, []

    def write(descriptor, data):
        lines.extend([data] if data.startswith(b"{") else [])
        if len(lines) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(module.os, "write", write)
    made = record_corrections(path, together, expect=0)
    monkeypatch.undo()
    assert [getattr(one, "code", "saved") for one in made] == ["saved", "saved", "CONFLICT", "LOG_NOT_WRITTEN", "LOG_NOT_WRITTEN"]
    assert read_corrections(path)["target"].tolist() == ["one", "two"]
    assert [r["target"] for r in record_corrections(path, together[3:], expect=2)] == ["three", "four"] and verify_corrections(path)["n_records"] == 4


def test_of_decisions_recorded_together_a_wrong_one_is_left_out_and_two_of_them_make_no_circle(path):
    ids = [("A", "B"), ("B", ""), ("B", "C"), ("C", "A")]
    made = record_corrections(path, [{"kind": "patient_id", "target": f"2.25.{n}", "old": old, "new": new, "reason": "TYPED_WRONG", "decided_by": "Pat"} for n, (old, new) in enumerate(ids)])
    assert [type(one).__name__ for one in made] == ["dict", "TableError", "dict", "TableError"] and "in a circle" in str(made[3])
    assert read_corrections(path)["new"].tolist() == ["B", "C"]


def test_a_lock_that_could_not_be_signed_is_taken_away(path, monkeypatch):
    monkeypatch.setattr(module.os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(LedgerError, match="LOG_NOT_WRITTEN"):
        decide(path)
    monkeypatch.undo()
    decide(path)
    assert len(read_ledger(path)) == 1


def test_a_disk_that_does_not_confirm_is_not_called_saved(path, monkeypatch):
    decide(path)
    monkeypatch.setattr(module.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(LedgerError, match="LOG_NOT_SYNCED.*look at the finding again"):
        decide(path, target="2.25.2", expect=1)
    monkeypatch.undo()
    with pytest.raises(LedgerError, match="CONFLICT"):
        decide(path, target="2.25.2", expect=1)


def test_a_full_disk_while_sealing_a_torn_line_is_told_like_any_other(path, monkeypatch):
    decide(path)
    path.write_bytes(path.read_bytes() + b'{"half')
    real = os.write
    monkeypatch.setattr(module.os, "write", lambda d, data: real(d, data) if data[:1] not in b"#{" else (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(LedgerError, match="LOG_NOT_WRITTEN: decision NOT recorded"):
        decide(path, target="2.25.2")


@pytest.mark.skipif(os.name == "nt", reason="no flock on Windows")
def test_a_share_without_flock_is_guarded_by_the_lock_file(path, monkeypatch):
    monkeypatch.setattr(module.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOTSUP, "Operation not supported")))
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0)
    decide(path)
    lock = path.with_name(path.name + ".lock")
    lock.write_text(f"{module.socket.gethostname()} {os.getpid()}")
    with pytest.raises(LedgerError, match="LOG_LOCKED"):
        decide(path, target="2.25.2")


def test_a_lock_whose_program_died_before_signing_is_taken_away_after_the_wait(path, monkeypatch):
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0)
    path.with_name(path.name + ".lock").write_text("")
    decide(path)
    assert len(read_ledger(path)) == 1


def test_two_writers_at_once_lose_nothing(path):
    code = ("import sys; from pacs_helpers.fixes.corrections import record_correction\n"
            "for n in range(15): record_correction(sys.argv[1], kind='dismiss', target=f'{sys.argv[2]}-{n}', reason='NO_PARTNER', decided_by=sys.argv[2])")
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name], cwd=ROOT) for name in ("ann", "bob")]
    assert [w.wait(60) for w in writers] == [0, 0]
    assert len(read_ledger(path)) == 30 and read_corrections(path)["user"].value_counts().to_dict() == {"ann": 15, "bob": 15}


def test_a_lock_left_by_a_dead_program_does_not_stop_the_next(path):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    path.with_name(path.name + ".lock").write_text(f"{module.socket.gethostname()} {gone.pid}")
    decide(path)
    assert len(read_ledger(path)) == 1


@pytest.mark.parametrize(("more", "words"), [
    ({"kind": "patientid"}, "Did you mean 'patient_id'"), ({"decided_by": " "}, "decided_by"), ({"new": ""}, "needs the new value"), ({"target": ""}, "target"), ({"field": "patient_name"}, "field"),
])
def test_a_decision_that_says_too_little_is_refused(path, more, words):
    with pytest.raises(TableError, match=words):
        record_correction(path, **{"kind": "patient_id", "target": "2.25.1", "old": "A", "new": "B", "reason": "TYPED_WRONG", "decided_by": "Pat", **more})
    assert not path.exists()


def test_a_decision_that_changes_nothing_is_refused_and_one_of_old_makes_no_circle(path):
    for kind in ("patient_id", "link"):
        with pytest.raises(TableError, match="new: this is the old value"):
            decide(path, kind=kind, old="A", new=" A ")
    assert not path.exists()
    append_record(path, op="decide", kind="patient_id", target="2.25.1", field="patient_id", old="A", new="A", reason="NO_ERROR", user="Pat", finding_id="")
    decide(path, target="2.25.2", old="B", new="A")
    assert len(read_ledger(path)) == 2


def test_two_ids_cannot_be_turned_into_each_other(path):
    decide(path, old="A", new="B")
    decide(path, target="2.25.2", old="B", new="C")
    with pytest.raises(TableError, match="in a circle"):
        decide(path, target="2.25.3", old="C", new="A")
