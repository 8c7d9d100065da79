"""Runs work in a child process that strace stops, or refuses something, at one of its system calls."""

import os
import re
import shutil
import signal
import subprocess
import threading
from collections import Counter

import pytest

CALLS = "openat,read,write,fsync,close,unlink,unlinkat,mkdir,flock,link,linkat,rename,renameat2,ftruncate,fchmod,lseek,newfstatat,fstat,statx,getdents64"
SECONDS = 60


def need_strace():
    if not shutil.which("strace"):
        (pytest.fail if os.environ.get("REQUIRE_PROGRAMS") else pytest.skip)("no strace on this machine; install it to run these tests")


def run_in_child(work, trace, inject=None):
    """How a forked child ended: what `work()` returned (a small int), "killed" or "failed". `inject`: an expression of strace; `trace`: the file of its calls."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.kill(os.getpid(), signal.SIGSTOP)
            code = work()
        finally:
            os._exit(code)
    os.waitpid(child, os.WUNTRACED)
    tracer = subprocess.Popen(["strace", "-p", str(child), "-o", str(trace), "-e", f"trace={CALLS}", *(["-e", f"inject={inject}"] if inject else [])], stderr=subprocess.PIPE, text=True)
    try:
        said = tracer.stderr.readline()
        os.kill(child, signal.SIGCONT if "attached" in said else signal.SIGKILL)
    finally:
        last = threading.Timer(SECONDS, os.kill, (child, signal.SIGKILL))
        last.start()
        status = os.waitpid(child, 0)[1]
        last.cancel()
        tracer.stderr.close()
        tracer.wait(SECONDS)
    assert "attached" in said, f"strace cannot trace a child of this process: {said}"
    return "killed" if os.WIFSIGNALED(status) else "failed" if os.WEXITSTATUS(status) == 99 else os.WEXITSTATUS(status)


def points_of(work, trace):
    """`[(call, n), ...]`: the n-th such call, for every traced call that `work` makes when nothing stops it."""
    assert run_in_child(work, trace) == 0
    names = re.findall(r"^(\w+)\(", trace.read_text(errors="replace"), re.M)
    return [(name, n) for name, count in Counter(names).items() for n in range(1, count + 1)]
