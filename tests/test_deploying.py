"""What the units of the documentation run, is run: their commands, as systemd would start them."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from .redis_servers import PROGRAMS, free_port, redis_server

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "deploying.md"
PATIENCE = 30  # seconds
GUILD = {"authorization": "Bearer acc_demo"}
BRIEF = {"title": "Brook", "briefText": "# Brook\n\nA cafe by the brook, with a garden.\n"}

UNITS = dict(re.findall(r"```ini\n# (\S+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))


def service_of(unit: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # names have capitals
    parser.read_string(unit)
    assert set(parser) >= {"Unit", "Service", "Install"}
    return parser["Service"]


class Machine:
    """Starts what a unit says, with other places, ports and servers."""

    def __init__(self, directory: Path, redis: str | None) -> None:
        self.port = free_port()
        self.state = directory / "state"
        self.state.mkdir()
        self.redis = redis
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, unit: str) -> None:
        service = service_of(unit)
        environment = {**os.environ, "STATE_DIRECTORY": str(self.state)}
        if "Environment" in service:
            name, _, value = service["Environment"].partition("=")
            assert value.startswith("redis://")
            assert self.redis is not None
            environment[name] = self.redis
        program, *arguments = shlex.split(service["ExecStart"])
        assert program == f"{service['WorkingDirectory']}/.venv/bin/python"
        assert arguments[arguments.index("--port") + 1] == "8004"
        arguments[arguments.index("--port") + 1] = str(self.port)
        command = [os.path.expandvars(each) for each in arguments]
        for name, value in environment.items():
            command = [each.replace(f"${{{name}}}", value) for each in command]
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"In a browser:")

    def ask(self, method: str, path: str, **options: object) -> requests.Response:
        return requests.request(
            method,
            f"http://127.0.0.1:{self.port}{path}",
            headers=GUILD,
            timeout=PATIENCE,
            **options,  # type: ignore[arg-type] # passed on as they are
        )

    def stop(self) -> list[int]:
        """Do what `systemctl stop` does, and return with what they ended."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        return [process.wait(timeout=PATIENCE) for process in self.processes]


def test_there_is_a_unit_for_each_of_the_three() -> None:
    """One process, one machine, many machines."""
    assert len(UNITS) == 3


@pytest.mark.parametrize("path", UNITS)
def test_what_a_unit_starts_works(
    path: str, tmp_path: Path, require_program: Callable[..., str]
) -> None:
    """A template is started twice. What was built is there after a restart of all."""
    with redis_server(require_program(*PROGRAMS), tmp_path / "redis") as redis:
        machine = Machine(tmp_path, redis.url)
        times = 2 if path.endswith("@.service") else 1
        try:
            for _ in range(times):
                machine.start(UNITS[path])
            submitted = machine.ask("POST", "/briefs", json=BRIEF).json()
            project = f"/projects/{submitted['projectId']}"
            assert b'"status":"done"' in machine.ask("GET", f"{project}/sse").content
            assert machine.stop() == [0] * times

            machine.start(UNITS[path])
            assert machine.ask("GET", f"{project}/status").json()["status"] == "done"
            machine.stop()
        finally:
            for process in machine.processes:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()


def test_a_log_in_memory_is_not_shared() -> None:
    """It is refused, with the reason."""
    command = [sys.executable, "-m", "examples.guild", "--port", "0", "--reuse-port"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr == (
        "--reuse-port needs a log that the processes share: sqlite:PATH or redis://...\n"
    )
