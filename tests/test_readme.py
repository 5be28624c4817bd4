"""Runs what README.md and docs/ show, so that a reader who copies a block gets what it says.

Each fenced block is one test. What is done with it follows from its language, or from an HTML
comment on the line above its fence:

- `python`: a whole program, run in an empty folder. It has to end with exit code 0, and any
  warning is an error. A block under `<!-- prints -->` that comes next is all that it prints.
- `python` or `console` under `<!-- server: 8000 -->`: started, and awaited until it accepts
  connections. The port stands for a free one: it is replaced in the block and in the sessions
  below it, and PORT in the environment is that one too (so `make demo` can be a server).
- `console`: a shell session, at the top of the project. Lines that begin with `$ ` are commands,
  given to one shell; the lines below a command are printed before the next one is given. A last
  line `...` says that it goes on; without one the session has to end there, with exit code 0.
  The last server above it, if there is one, runs meanwhile, started anew.
- `sh` or `console` with nothing but `make`, `pip install`, `git clone` and `cd`: not run, but the
  targets have to be in the Makefile, and the extras in pyproject.toml.
- any language under `<!-- quotes: path -->`: stands word for word in that file of the project,
  which other tests run.

In all that is printed, `...` within a line stands for any text. Any other block fails its test;
only in docs/ may a block in another language stand unmarked.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent
RUN = {"python", "console", "sh"}
pytestmark = pytest.mark.timeout(40)


@attrs.frozen(kw_only=True)
class Block:
    """A fenced block, and where it stands."""

    path: Path
    line: int
    language: str
    text: str
    marker: str = ""  # what its HTML comment says before the colon, and after it
    argument: str = ""
    server: Block | None = None  # the last server above it
    printed: str | None = None  # the text of the `prints` block below it

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}"

    def commands(self) -> list[str]:
        lines = self.text.splitlines()
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith("#")]


FENCE = re.compile(
    r"(?:^[ ]*<!--[ ]*(?P<marker>[\w]+)(?::[ ]*(?P<argument>\S+))?[ ]*-->\n)?"
    r"^(?P<indent>[ ]*)(?P<fence>```+|~~~+)[ ]*(?P<language>[^\s`]*)[^\n`]*\n"
    r"(?P<text>.*?)"
    r"^[ ]*(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)


def read_blocks(path: Path) -> list[Block]:
    content = path.read_text(encoding="utf-8")
    blocks: list[Block] = []
    server = None
    for match in FENCE.finditer(content):
        block = Block(
            path=path,
            line=content.count("\n", 0, match.start("fence")) + 1,
            language=match["language"],
            text=textwrap.dedent(match["text"]),
            marker=match["marker"] or "",
            argument=match["argument"] or "",
            server=server,
        )
        if block.marker == "server":
            server = block
        if block.marker == "prints":
            assert blocks[-1].language == "python", f"{block}: no program stands above it"
            blocks[-1] = attrs.evolve(blocks[-1], printed=block.text)
        blocks.append(block)
    return blocks


def check(block: Block, folder: Path) -> None:
    match block.marker, block.language:
        case "quotes", _:
            quoted = (ROOT / block.argument).read_text(encoding="utf-8")
            assert block.text in textwrap.dedent(quoted), f"{block}: not in {block.argument}"
        case "prints", _:
            pass  # compared when the program above it runs
        case "server", "python" | "console":
            with running(block, folder):
                pass
        case "", "python":
            check_program(block, folder)
        case "", "sh" | "console" if all(is_set_up(line) for line in block.commands()):
            for line in block.commands():
                check_set_up(line)
        case "", "console":
            server = running(block.server, folder) if block.server else contextlib.nullcontext("")
            with server as port:
                check_session(at_port(block, port))
        case _:
            kind = f"{block.language or 'no language'} {block.marker}".strip()
            raise AssertionError(f"{block}: nothing is known to be done with this: {kind}")


def check_program(block: Block, folder: Path) -> None:
    done = subprocess.run(
        program(block, folder), cwd=folder, env=environment(), stdout=subprocess.PIPE, check=True
    )
    if block.printed is not None:
        printed, expected = done.stdout.decode().splitlines(), block.printed.splitlines()
        assert len(printed) == len(expected), f"{block} prints {printed}"
        for line, pattern in zip(printed, expected, strict=True):
            check_line(line, pattern)


def check_session(block: Block) -> None:
    steps: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            steps.append((line.removeprefix("$ "), []))
        else:
            assert steps, f"{block}: a session begins with `$ `"
            steps[-1][1].append(line)
    assert steps, f"{block}: a session begins with `$ `"
    goes_on = steps[-1][1][-1:] == ["..."]
    if goes_on:
        steps[-1][1].pop()
    with process(["sh", "-e"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin
        assert shell.stdout
        for command, expected in steps:
            shell.stdin.write(f"{command}\n".encode())
            shell.stdin.flush()
            for pattern in expected:
                check_line(shell.stdout.readline().decode().removesuffix("\n"), pattern)
        if not goes_on:
            shell.stdin.close()
            assert shell.stdout.read() == b"", f"{block}: prints more than it shows"
            assert shell.wait() == 0, f"{block}: ended with {shell.returncode}"


def check_line(line: str, pattern: str) -> None:
    print(line)  # the test's report shows what came before the line that differs
    expression = ".*".join(map(re.escape, pattern.split("...")))
    assert re.fullmatch(expression, line), f"printed {line!r} and not {pattern!r}"


def is_set_up(command: str) -> bool:
    return re.match(r"(make|pip install|git clone|cd) ", f"{command} ") is not None


def check_set_up(command: str) -> None:
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = re.findall(r"^([\w-]+):", makefile, re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets), command
    if words[0] == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for requirement in [word for word in words[2:] if not word.startswith("-")]:
            name, _, extras = requirement.rstrip("]").partition("[")
            assert name in {".", project["name"]}, command
            known = set(project["optional-dependencies"])
            assert set(filter(None, extras.split(","))) <= known, command


@contextlib.contextmanager
def running(block: Block, folder: Path) -> Iterator[str]:
    """Run a server until the end of the `with`, which gets the port that it listens on."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = str(unused.getsockname()[1])
    moved = at_port(block, port, server=block)
    if block.language == "python":
        command, cwd = program(moved, folder), folder
    else:
        command, cwd = ["sh", "-ec", "\n".join(moved.commands())], ROOT
    with process(command, cwd=cwd, port=port) as server:
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", int(port))).close()
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"{block}: ended with {server.wait(0.05)}")
        yield port


def at_port(block: Block, port: str, *, server: Block | None = None) -> Block:
    server = server or block.server
    return attrs.evolve(block, text=block.text.replace(server.argument, port)) if server else block


def program(block: Block, folder: Path) -> list[str]:
    path = folder / f"line_{block.line}.py"
    path.write_text(block.text, encoding="utf-8")
    return [sys.executable, "-W", "error", str(path)]


@contextlib.contextmanager
def process(
    command: list[str],
    *,
    cwd: Path,
    port: str = "",
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, and end it with all that it started."""
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=environment() | {"PORT": port},
        stdin=stdin,
        stdout=stdout,
        start_new_session=True,
    ) as started:
        try:
            yield started
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)


def environment() -> dict[str, str]:
    """Return ours, with this Python as `python` and the project's packages at hand."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    path = os.pathsep.join([str(Path(sys.executable).parent), ours["PATH"]])
    return ours | {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


DOCUMENTS = [path for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")] if path.exists()]
BLOCKS = [
    block
    for path in DOCUMENTS
    for block in read_blocks(path)
    if path.name == "README.md" or block.marker or block.language in RUN
]


SERVER = """\
<!-- server: 8000 -->
```python
import os
from http.server import BaseHTTPRequestHandler, HTTPServer


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"data: 1\\n\\ndata: 2\\n\\n")


assert os.environ["PORT"] == "8000"
HTTPServer(("127.0.0.1", 8000), Answer).serve_forever()
```
"""


@pytest.mark.parametrize(
    ("sample", "complaint"),
    [
        ("```python\nprint(1 + 1)\n```\n<!-- prints -->\n```text\n2\n```", None),
        ("```python\nprint(1 + 1)\n```\n<!-- prints -->\n```text\n3\n```", "'2' and not '3'"),
        ("```python\nprint('a 17')\n```\n<!-- prints -->\n```text\na ...\n```", None),
        ("```python\nprint(1)\n```\n<!-- prints -->\n```text\n1\n2\n```", "prints"),
        ("```python\nawait 1\n```", "exit status 1"),
        ("```python\nimport warnings\nwarnings.warn('old')\n```", "exit status 1"),
        ("```console\n$ make test\n```", None),
        ("```sh\ngit clone somewhere\ncd sselib\nmake nonsense\n```", "make nonsense"),
        ("```sh\npip install 'sselib[hypercorn]'\n```", None),
        ("```sh\npip install 'sselib[nonsense]'\n```", "nonsense"),
        ("```sh\npip install ssellib\n```", "ssellib"),
        ("```console\n$ echo a\na\n$ echo b\nb\n```", None),
        ("```console\n$ echo a\nb\n```", "'a' and not 'b'"),
        ("```console\n$ echo a; echo b\na\n```", "more than it shows"),
        ("```console\n$ echo a; echo b; sleep 100\na\n...\n```", None),
        ("```console\n$ exit 3\n```", "ended with 3"),
        ("  ```console\n  $ echo '  a'\n    a\n  ```", None),
        ("```\nx\n```", "nothing is known"),
        ("```yaml\nx: 1\n```", "nothing is known"),
        ("<!-- quotes: LICENSE -->\n```text\nMIT License\n```", None),
        ("<!-- quotes: LICENSE -->\n```text\nGPL\n```", "not in LICENSE"),
        (SERVER, None),
        (SERVER + "```console\n$ curl -N http://127.0.0.1:8000/\ndata: 1\n\ndata: 2\n\n```", None),
        (SERVER + "```console\n$ curl -N http://127.0.0.1:8000/\ndata: 2\n```", "'data: 1'"),
        ("<!-- server: 8000 -->\n```console\n$ exit 4\n```", "ended with 4"),
    ],
)
def test_the_convention(tmp_path: Path, sample: str, complaint: str | None) -> None:
    """Each kind of block passes when it does what it shows, and fails when it does not."""
    path = tmp_path / "README.md"
    path.write_text(sample, encoding="utf-8")
    problems = []
    for block in read_blocks(path):
        try:
            check(block, tmp_path)
        except (AssertionError, subprocess.CalledProcessError) as error:
            problems.append(str(error))
    if complaint is None:
        assert problems == []
    else:
        [problem] = problems
        assert complaint in problem


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_does_what_it_shows(block: Block, tmp_path: Path) -> None:
    """The block runs, prints what is shown, or stands where it is quoted from."""
    check(block, tmp_path)


def test_no_fence_is_overlooked() -> None:
    """Each line of README.md that opens or closes a block belongs to one that was found."""
    content = (ROOT / "README.md").read_text(encoding="utf-8")
    found = [block for block in BLOCKS if block.path.name == "README.md"]
    assert found
    assert len(re.findall(r"^\s*(?:```|~~~)", content, re.MULTILINE)) == 2 * len(found)
