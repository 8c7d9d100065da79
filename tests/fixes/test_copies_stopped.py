"""What corrected copies promise when they are stopped, or refused something, at each of their system calls."""

import hashlib
import shutil

import pytest

from pacs_helpers import locks
from pacs_helpers.fixes.copies import CopiesStopped, write_corrected_copies
from pacs_helpers.fixes.corrections import verify_corrections
from pacs_helpers.fixes.ledger import LedgerError, read_ledger

from .images import decide, image, loaded, save
from .stopping import need_strace, points_of, run_in_child

WRITTEN, STOPPED = 0, 1
KILLED_AT = ("openat", "write", "fsync", "close", "unlink", "link", "linkat", "mkdir")
# Not close: it releases the file also when it fails, and strace would leave it open and locked.
REFUSED = {"ENOSPC": ("openat", "write", "fsync", "link", "linkat", "mkdir"), "EIO": ("write", "fsync", "unlink")}
COPIES = ["000001.dcm", "000002.dcm"]


class Run:
    """Two files, a decision on both, and a folder for the copies that is made anew for each try."""

    def __init__(self, folder):
        self.folder, self.n, self.trace = folder, 0, folder / "trace"
        for n in (1, 2):
            save(folder / "source" / f"{n}.dcm", image(instance=f"2.25.11{n}"))
        decide(folder / "decided.jsonl")
        self.found, self.sources = loaded(folder / "source"), digests(folder / "source")
        self.begin()
        assert self.write() == WRITTEN
        self.wanted = digests(self.out)

    def begin(self):
        self.n += 1
        self.ledger, self.out = self.folder / f"{self.n}.jsonl", self.folder / f"out{self.n}"
        shutil.copy(self.folder / "decided.jsonl", self.ledger)
        return self

    def copies(self):
        return write_corrected_copies(self.found.instances, self.ledger, self.out, dept=self.found.dept, confirm=2)

    def write(self):
        try:
            self.copies()
        except (CopiesStopped, LedgerError):
            return STOPPED
        return WRITTEN

    def points(self, calls):
        """The calls from the moment that the run takes its lock."""
        all_of_it = points_of(self.begin().write, self.trace)
        lines = self.trace.read_text(errors="replace").splitlines()
        start = next(i for i, line in enumerate(lines) if "plan.json.lock" in line)
        before = {call: sum(line.startswith(call + "(") for line in lines[:start]) for call, _ in all_of_it}
        return [(call, n) for call, n in all_of_it if n > before[call] and call in calls]

    def check(self, outcome):
        """The laws: sources untouched, nothing half under a final name, what the ledger says is there; the same call goes on, and then has nothing to do."""
        assert digests(self.folder / "source") == self.sources
        there = {name: digest for name, digest in digests(self.out).items() if name in self.wanted} if self.out.exists() else {}
        assert there.items() <= self.wanted.items(), outcome
        assert verify_corrections(self.ledger)["is_whole"]
        logged = [record["output"] for record in read_ledger(self.ledger) if record["op"] == "applied"]
        assert set(logged) <= set(there) and (outcome != WRITTEN or logged == COPIES)
        told = self.copies()
        assert digests(self.out) == self.wanted and told.account.endswith("0 to do") and told.strays == ()
        assert self.copies().account == "2 copies: 0 written, 0 recovered, 2 there already; 0 files refused; 0 to do"
        records = read_ledger(self.ledger)
        assert sorted(r["output"] for r in records if r["op"] == "applied") == COPIES and [r["op"] for r in records].count("apply_end") == 1


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    need_strace()
    return Run(tmp_path_factory.mktemp("copies"))


@pytest.fixture(autouse=True)
def no_wait(monkeypatch):
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0)      # for a lock whose program died before it signed


def test_killed_at_any_system_call_the_same_call_gives_the_same_bytes(run):
    points = run.points(KILLED_AT)
    assert len(points) >= 100
    for call, n in points:
        assert run_in_child(run.begin().write, run.trace, f"{call}:signal=KILL:when={n}") == "killed", (call, n)
        run.check("killed")


@pytest.mark.parametrize("fault", REFUSED)
def test_refused_at_any_system_call_it_stops_or_is_whole_and_the_same_call_goes_on(run, fault):
    outcomes = {}
    for call, n in run.points(REFUSED[fault]):
        outcomes[call, n] = run_in_child(run.begin().write, run.trace, f"{call}:error={fault}:when={n}")
        assert outcomes[call, n] in (WRITTEN, STOPPED), (call, n)
        run.check(outcomes[call, n])
    assert {outcome for (call, _), outcome in outcomes.items() if call in ("write", "fsync")} == {STOPPED}
