"""Which processes count as alive."""

import os
import signal
import subprocess
import sys

from stages.tracking.process import is_alive, start_mark


def test_a_process_that_ended_counts_as_gone_though_nobody_asked_for_its_exit_code() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        mark = start_mark(process.pid)
        assert mark and is_alive(process.pid, mark)
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now, and stays one
        assert not is_alive(process.pid, mark)
        assert start_mark(process.pid) == ""
    finally:
        process.kill()
        process.wait()


def test_another_process_with_the_same_pid_is_not_the_same() -> None:
    assert is_alive(os.getpid(), start_mark(os.getpid()))
    assert not is_alive(os.getpid(), "0.00")
