"""Runs programs of tests one after another, in a process next to the tests: see ``conftest.py``.

Argument: a JSON file with the programs, each a name, arguments of Python and environment variables.
For each of them ``<name>.json`` next to that file gets its exit code and the end of its output.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def main(file: Path) -> None:
    for name, arguments, environment in json.loads(file.read_text()):
        port = str(free_port())
        command = [sys.executable, *(each.replace("{port}", port) for each in arguments)]
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            found = [done.returncode, (done.stdout + done.stderr)[-20_000:]]
        except subprocess.TimeoutExpired:
            found = [1, "still running after 600 s"]
        unfinished = file.with_name(f"{name}.unfinished")
        unfinished.write_text(json.dumps(found))
        unfinished.replace(file.with_name(f"{name}.json"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
