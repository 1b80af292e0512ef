"""The container files: what they name is here, and their commands are ones that graphseq takes."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from graphseq.commands.command_line import arguments
from graphseq.serving.service.run import KEY, Settings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "docs" / "deploy"


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """Instruction and arguments of each step of the container file."""
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, " ".join(rest.split())) for name, rest in (line.split(" ", 1) for line in lines)]


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def settings_of(command: list[str]) -> Settings:
    """What ``graphseq`` would run."""
    options = arguments().parse_args(command)
    return Settings(**{name: getattr(options, name) for name in Settings.__dataclass_fields__})


def test_container_file_copies_what_is_here_and_what_is_not_ignored(
    steps: list[tuple[str, str]],
) -> None:
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    copied = [source for name, rest in steps if name == "COPY" for source in rest.split()[:-1]]
    assert {"graphseq", "pyproject.toml"} <= set(copied)
    assert set(copied) == kept
    assert [source for source in copied if not (ROOT / source).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [project["readme"], *project["license-files"]]
    assert {path.partition("/")[0] for path in needed} <= set(copied)


def test_container_file_installs_the_torch_under_test_and_an_extra_that_exists(
    steps: list[tuple[str, str]],
) -> None:
    commands = " ; ".join(rest for name, rest in steps if name == "RUN")
    (version,) = re.findall(r"torch==([\d.]+)", commands)
    assert f"torch=={version}" in (ROOT / "Makefile").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert re.findall(r"'\.\[(\w+)\]'", commands) == ["server"]
    assert "server" in extras["optional-dependencies"]
    assert dict(steps)["USER"] != "root"


def test_container_runs_a_command_that_graphseq_takes(steps: list[tuple[str, str]]) -> None:
    found = dict(steps)
    (script,) = json.loads(found["ENTRYPOINT"])
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert script in scripts
    settings = settings_of(json.loads(found["CMD"]))
    assert (settings.host, str(settings.port)) == ("0.0.0.0", found["EXPOSE"])
    assert f"127.0.0.1:{settings.port}/ready" in found["HEALTHCHECK"]


def test_composed_processes_share_the_store_that_stands_beside_them(compose: Any) -> None:
    service, redis = compose["services"]["graphseq"], compose["services"]["redis"]
    settings = settings_of(service["command"])
    assert settings.processes > 1
    host, port = re.fullmatch(r"redis://(\w+):(\d+)/\d", settings.store).groups()  # type: ignore[union-attr]
    assert (host, port) == ("redis", "6379")
    assert list(service["depends_on"]) == [host]
    assert service["ports"] == [f"{settings.port}:{settings.port}"]
    assert redis["command"][0] == "redis-server"
    assert redis["image"].endswith(":7-alpine")
    build = service["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT.resolve()
    assert (ROOT / build["dockerfile"]).exists()
    folder = service["volumes"][0].split(":")[1]
    assert settings.folder.startswith(f"{folder}/")
    named = [each.split(":")[0] for each in redis["volumes"]]
    assert named == list(compose["volumes"])


def test_composed_service_asks_for_a_key_and_may_finish_its_requests(compose: Any) -> None:
    service = compose["services"]["graphseq"]
    assert service["environment"][KEY].startswith(f"${{{KEY}:?")
    assert int(service["stop_grace_period"].removesuffix("s")) > 30  # longer than the service takes
