"""Runs programs of tests one after another, in a process next to the tests: see ``conftest.py``.

Argument: a JSON file with the programs, each a name, arguments of Python and environment variables.
For each of them ``<name>.json`` next to that file gets its exit code and the end of its output.
Ends with the process that started it, or on SIGTERM.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PARENT = os.getppid()
stopped: list[int] = []


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def wait(running: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit code; ``None`` if it still runs after so many seconds, or the tests have ended."""
    end = time.monotonic() + seconds
    while running.poll() is None and time.monotonic() < end:
        if stopped or os.getppid() != PARENT:
            break
        time.sleep(0.05)
    return running.poll()


def main(file: Path) -> None:
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    for name, arguments, environment in json.loads(file.read_text()):
        port = str(free_port())
        command = [sys.executable, *(each.replace("{port}", port) for each in arguments)]
        output = file.with_name(f"{name}.out")
        with output.open("wb") as out:
            running = subprocess.Popen(
                command, env={**os.environ, **environment}, stdout=out, stderr=subprocess.STDOUT
            )
            code = wait(running, 600)
        if code is None:
            running.terminate()  # torchrun then ends its processes
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(30)
            os.killpg(0, signal.SIGKILL)
        unfinished = file.with_name(f"{name}.unfinished")
        end = output.read_text(errors="replace")[-20_000:]
        unfinished.write_text(json.dumps([code, end]))
        unfinished.replace(file.with_name(f"{name}.json"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
