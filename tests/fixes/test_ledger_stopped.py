"""What the ledger promises when it is stopped, or refused something, at each of its system calls."""

import errno
import os

import pytest

from pacs_helpers import locks
from pacs_helpers.fixes import ledger as module
from pacs_helpers.fixes.corrections import count_records, read_corrections, record_correction, record_corrections, verify_corrections
from pacs_helpers.fixes.ledger import LedgerError

from .stopping import need_strace, points_of, run_in_child

SAVED, NOT_SAVED, NOT_SYNCED = 0, 1, 2


@pytest.fixture(autouse=True)
def no_wait(monkeypatch):
    need_strace()
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0)      # for a lock whose program died before it signed


def decide(path, target, decided_by="Pat", **more):
    try:
        record_correction(path, kind="dismiss", target=target, reason="NO_ERROR", decided_by=decided_by, **more)
    except LedgerError as error:
        return NOT_SYNCED if error.code == "LOG_NOT_SYNCED" else NOT_SAVED
    return SAVED


def new(path):
    return []


def grown(path):
    decide(path, "first")
    return ["first"]


def torn(path):
    decide(path, "first")
    with path.open("ab") as file:
        file.write(b'{"half a record": ')
    return ["first"]


@pytest.fixture(params=[new, grown, torn], ids=["a new ledger", "a ledger with a record", "a ledger with a torn end"])
def begun(request, tmp_path):
    """A function that makes the ledger anew, and gives its path and the targets in it."""
    number = iter(range(10_000))

    def begin():
        path = tmp_path / f"{next(number)}.jsonl"
        return path, request.param(path)

    return begin


def check(path, before, outcome):
    """The laws: what was there is there, what said saved is there, and what says that it is not is not; the next decision is taken, and the chain holds."""
    found = read_corrections(path)["target"].tolist()
    allowed = {SAVED: [[*before, "x"]], NOT_SAVED: [before], NOT_SYNCED: [[*before, "x"]], "killed": [before, [*before, "x"]]}[outcome]
    assert found in allowed, outcome
    assert decide(path, "next") == SAVED
    assert read_corrections(path)["target"].tolist() == [*found, "next"] and verify_corrections(path)["is_whole"]


def test_killed_at_any_system_call_loses_nothing_that_said_saved(begun, tmp_path):
    path, _ = begun()
    points = points_of(lambda: decide(path, "x"), tmp_path / "trace")
    assert {"openat", "write", "fsync", "close", "unlink", "flock"} <= {call for call, _ in points}
    for call, n in points:
        path, before = begun()
        outcome = run_in_child(lambda: decide(path, "x"), tmp_path / "trace", f"{call}:signal=KILL:when={n}")     # noqa: B023  it runs at once
        assert outcome == "killed", (call, n)
        check(path, before, outcome)


def test_decisions_recorded_together_and_killed_at_any_system_call_lose_nothing_that_said_saved(begun, tmp_path):
    def together(path):
        made = record_corrections(path, [{"kind": "dismiss", "target": name, "reason": "NO_ERROR", "decided_by": "Pat"} for name in "xyz"])
        return SAVED if all(isinstance(record, dict) for record in made) else NOT_SAVED

    path, _ = begun()
    points = points_of(lambda: together(path), tmp_path / "trace")
    n_writes = sum(call == "write" for call, _ in points)
    for call, n in (point for point in points if point[0] in ("write", "fsync")):
        path, before = begun()
        assert run_in_child(lambda: together(path), tmp_path / "trace", f"{call}:signal=KILL:when={n}") == "killed"     # noqa: B023
        found = read_corrections(path)["target"].tolist()
        assert found in [[*before, *"xyz"[:k]] for k in range(4)], (call, n)
        assert decide(path, "next") == SAVED and read_corrections(path)["target"].tolist() == [*found, "next"] and verify_corrections(path)["is_whole"]
    for n in range(2, n_writes + 1):
        path, before = begun()
        outcome = run_in_child(lambda: together(path), tmp_path / "trace", f"write:error=ENOSPC:when={n}")     # noqa: B023
        assert outcome in (SAVED, NOT_SAVED, "failed") and verify_corrections(path)["is_whole"]
        assert outcome != SAVED or read_corrections(path)["target"].tolist() == [*before, *"xyz"]


@pytest.mark.parametrize("fault", ["ENOSPC", "EIO"])
def test_refused_at_any_write_sync_open_or_close_it_never_says_what_is_not_so(begun, tmp_path, fault):
    path, _ = begun()
    points = [(call, n) for call, n in points_of(lambda: decide(path, "x"), tmp_path / "trace") if call in ("openat", "write", "fsync", "close", "read", "unlink")]
    outcomes = {}
    for call, n in points:
        path, before = begun()
        outcomes[call, n] = run_in_child(lambda: decide(path, "x"), tmp_path / "trace", f"{call}:error={fault}:when={n}")     # noqa: B023
        check(path, before, outcomes[call, n])
    refused = {call for (call, _), outcome in outcomes.items() if outcome != SAVED}
    assert {"openat", "write", "fsync"} <= refused
    assert all(outcome == NOT_SAVED for (call, _), outcome in outcomes.items() if call == "write")


@pytest.mark.parametrize("fault", ["ENOLCK", "EOPNOTSUPP"])
def test_a_share_whose_locks_do_not_work_takes_decisions(begun, tmp_path, fault):
    path, before = begun()
    outcome = run_in_child(lambda: decide(path, "x"), tmp_path / "trace", f"flock:error={fault}")
    assert outcome == SAVED
    check(path, before, outcome)


def both(works):
    """How several children ended that ran at once."""
    children = []
    for work in works:
        children.append(os.fork())
        if children[-1] == 0:
            code = 99
            try:
                code = work()
            finally:
                os._exit(code)
    return [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children]


@pytest.mark.parametrize("locks_work", [True, False])
def test_of_two_who_decide_on_the_same_at_once_one_is_told_of_the_conflict(tmp_path, monkeypatch, locks_work):
    monkeypatch.setattr(locks, "LOCK_SECONDS", 20)
    if not locks_work:
        monkeypatch.setattr(module.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "No locks available")))
    path = tmp_path / "corrections.jsonl"
    for n in range(12):
        seen = count_records(path)
        outcomes = both([lambda name=name: decide(path, f"2.25.{n}", name, expect=seen) for name in ("Ann", "Bob")])      # noqa: B023
        assert sorted(outcomes) == [SAVED, NOT_SAVED]
    assert len(read_corrections(path)) == 12 and verify_corrections(path)["is_whole"]
