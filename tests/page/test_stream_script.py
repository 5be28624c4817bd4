"""The script that the examples' pages share, on its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path


def test_the_shared_script_does_what_its_tests_say(require_program: Callable[..., str]) -> None:
    """They are in JavaScript, beside this file, for Node's own test runner."""
    command = [require_program("node"), "--test", str(Path(__file__).with_name("stream.test.mjs"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
