"""Processes under measurement: when they began and ended, what they said and when, and the most memory that they held."""

import os
import re
import select
import signal
import subprocess
import tempfile
import threading
import time

# Between two looks. The kernel keeps the peak itself, so nothing is missed but the last moment of a process.
LOOK_EVERY = 0.05


class Failed(Exception):
    """A process did not do what was to be measured."""


class Process:
    """One process, with the lines of its stdout and their times of arrival. Killed, if it still lives, by `kill`."""

    def __init__(self, command, env=None):
        self.command = [str(part) for part in command]
        self.errors = tempfile.TemporaryFile()
        self.lines = []
        self.peak_bytes = 0
        self.began = time.time()
        self.child = subprocess.Popen(
            self.command,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            start_new_session=True,
        )
        self.ended = None
        self.last_words = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.append((time.time(), line))

    @property
    def pid(self):
        return self.child.pid

    def is_running(self):
        self.peak_bytes = max(self.peak_bytes, peak_bytes(self.pid))
        if self.child.poll() is None:
            return True
        if self.ended is None:
            self.ended = time.time()
            self._reader.join(timeout=5)
        return False

    def said(self):
        """The end of its stderr."""
        if self.last_words is None:
            self.errors.seek(0)
            return self.errors.read().decode(errors="replace")[-4000:]
        return self.last_words

    def fail(self, what):
        raise Failed(f"{what}: {' '.join(self.command)}\n{self.said()}")

    def interrupt(self):
        self.child.send_signal(signal.SIGINT)

    def kill(self):
        """Ends it where it has not ended, and closes what was open for it."""
        if self.child.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.child.wait()
        if self.last_words is None:
            self.last_words = self.said()
            self._reader.join(timeout=5)
            self.errors.close()
            self.child.stdout.close()


def wait(processes, until=lambda: False, limit=3600, expect=(0,)):
    """Waits until all have ended well or `until()` holds; tells which by True for the latter."""
    deadline = time.time() + limit
    while True:
        running = [process.is_running() for process in processes]
        for process, runs in zip(processes, running):
            if not runs and process.child.returncode not in expect:
                process.fail(f"ended with {process.child.returncode}")
        if until():
            return True
        if not any(running):
            return False
        if time.time() > deadline:
            processes[0].fail(f"took longer than {limit} s")
        time.sleep(LOOK_EVERY)


def peak_bytes(pid):
    """The peak resident set of a process so far; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status") as status:
            return parse_peak(status.read())
    except OSError:
        return 0


def parse_peak(status):
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def kill_if(pid, name):
    """Kills a process that this program had started in a roundabout way, if `pid` still is one of that name, and waits until
    it is gone."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            program = line.read().split(b"\0")[0].decode(errors="replace")
        if os.path.basename(program) == name:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], 30)
    except OSError:
        pass  # it ended by itself in the meantime
    finally:
        os.close(handle)
