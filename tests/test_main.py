"""The command line, run as its users run it: against servers, and as a process."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from sselib import __main__ as command_line
from sselib import server
from sselib.__main__ import main

from .scripted import OPEN, Answer, on_socket, redirect, response, stream, then_stay
from .servers import SOON, Running

ONE = b"id: 1\ndata: one\n\n"
TWO = b"event: done\nid: 2\ndata: two\n\n"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def tail(*arguments: str) -> int:
    """Run `tail` to its end, in a thread and so in a run of its own."""
    with trio.fail_after(SOON):
        return await trio.to_thread.run_sync(main, ["tail", *arguments], abandon_on_cancel=True)


# ---- tail ----------------------------------------------------------------------------------------


async def test_tail_shows_events(capsys: pytest.CaptureFixture[str]) -> None:
    """Events go to standard output, and the end of the stream is the end of the command."""
    async with on_socket(stream(b": hi\n\n", ONE, b"event: said\ndata: a\ndata: b\n\n")) as (
        server,
        _,
    ):
        assert await tail(server.url, "--comments") == 0
    out, err = capsys.readouterr()
    assert out == "message: one\nsaid: a\n      b\n"
    assert err.startswith(": hi\nsselib: ended: the response came to its end; again in ")
    assert [each.last_event_id for each in server.asked] == [None, "1"]


async def test_tail_is_quiet_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """With --quiet and --json there is nothing but events, one object per line."""
    async with on_socket(stream(b": hi\n\n", ONE, TWO)) as (server, _):
        assert await tail(server.url, "--quiet", "--json") == 0
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"event": "message", "id": "1", "data": "one"},
        {"event": "done", "id": "2", "data": "two"},
    ]
    assert err == ""


async def test_tail_shows_progress(capsys: pytest.CaptureFixture[str]) -> None:
    """With --progress a field of the data is a bar."""
    events = b'data: {"progress": 0, "status": "queued"}\n\ndata: {"progress": 1}\n\n'
    async with on_socket(stream(events)) as (server, _):
        assert await tail("--progress", "-q", "--until", "x", "--", server.url) == 0
    out, _ = capsys.readouterr()
    assert out == f"[{' ' * 30}]   0%  queued\n[{'#' * 30}] 100%  \n"


async def test_tail_asks_for_what_it_is_told(tmp_path: Path) -> None:
    """Headers, method, body and the first id come from the arguments."""
    body = tmp_path / "body"
    body.write_bytes(b"from a file")
    async with on_socket() as (server, _):
        assert await tail(server.url, "-H", "X-A: b:c", "-H", "x-d:e", "--last-event-id", "7") == 0
        assert await tail(server.url, "-d", "{}") == 0
        assert await tail(server.url, "-d", f"@{body}", "-X", "PUT") == 0
    first, second, third = server.asked
    assert (first.method, first.last_event_id) == ("GET", "7")
    assert (first.headers["x-a"], first.headers["x-d"]) == ("b:c", "e")
    assert (second.method, second.body) == ("POST", b"{}")
    assert (third.method, third.body) == ("PUT", b"from a file")


@pytest.mark.parametrize(
    ("arguments", "answer", "code"),
    [
        (["--until", "done"], then_stay(stream(ONE, TWO, ONE, end=b"")), 0),
        (["--count", "1"], then_stay(stream(ONE, TWO, end=b"")), 0),
        (["--once"], stream(ONE), 0),
        (["--once"], stream(ONE, end=b""), 3),
        (["--max-failures", "0"], stream(ONE), 3),
        (["--once"], response(503), 3),
        (["--standard"], response(503), 1),
        ([], response(404), 1),
        ([], response(body=b"<html>", content_type="text/html"), 1),
        (["--idle-timeout", "0.1", "--once"], then_stay(OPEN), 3),
        (["--idle-timeout", "0", "--count", "1"], then_stay(stream(ONE, end=b"")), 0),
    ],
)
async def test_exit_codes(
    arguments: list[str], answer: Answer, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts can tell by the exit code how a stream ended, and people by standard error."""
    async with on_socket(answer) as (server, _):
        assert await tail(server.url, *arguments) == code
        assert len(server.asked) == 1
    out, err = capsys.readouterr()
    assert out in ("", "message: one\n", "message: one\ndone: two\n")
    assert ("sselib: " in err) is (code != 0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ws://test/"], "begins with http: or https:"),
        (["http://test/", "-X", "HEAD"], "HEAD"),
        (["http://test/", "-H", "a b: c"], "must be a token"),
        (["http://test/", "--last-event-id", "a\nb"], "may not contain CR or LF"),
        (["http://test/", "--cacert", "/nowhere"], "No such file"),
        (["http://test/", "--resume", "/proc"], "Is a directory"),
    ],
)
def test_wrong_use(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be asked is said in one line, with the exit code for that."""
    assert main(["tail", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["tail"],
        ["tail", "http://test/", "-H", "nonsense"],
        ["tail", "http://test/", "--count", "0"],
        ["tail", "http://test/", "--max-failures", "-1"],
        ["tail", "http://test/", "--idle-timeout", "-1"],
        ["tail", "http://test/", "-d", "@/nowhere"],
        ["tail", "http://test/", "--json", "--progress"],
        ["serve"],
        ["serve", "a:b", "--server", "apache"],
    ],
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments that make no sense are refused with the usage, with the same exit code."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: sselib")


async def test_tail_refuses_a_proxy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the environment names a proxy `tail` says so, at once or at a redirect."""
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    async with on_socket(stream(ONE)) as (server, _):
        assert await tail(server.url) == 2
        assert server.connected == 0
        assert await tail(server.url, "--direct", "--count", "1") == 0
    monkeypatch.delenv("http_proxy")
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    async with on_socket(redirect("https://test/")) as (server, _):
        assert await tail(server.url) == 2
    assert capsys.readouterr().err.count("_proxy is set in the environment") == 2


async def test_tail_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --resume the last event ID is kept in a file, and the next run begins behind it."""
    kept = tmp_path / "id"
    async with on_socket(stream(ONE, b"data: x\n\n", TWO), stream()) as (server, _):
        for count in ("1", "1", "1"):
            assert await tail(server.url, "--resume", str(kept), "--count", count, "--once") == 0
            assert kept.read_text() == "1\n"
    assert [each.last_event_id for each in server.asked] == [None, "1", "1"]
    assert list(tmp_path.iterdir()) == [kept]


async def test_tail_over_a_unix_socket(tmp_path: Path) -> None:
    """With --unix-socket the URL's host is only named."""
    path = str(tmp_path / "socket")
    app = command_line_app()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(server.serve, app, unix_path=path))
        assert await tail("http://app.local/", "--unix-socket", path, "--count", "1") == 0
        nursery.cancel_scope.cancel()


async def test_tail_trusts_whom_it_is_told(tmp_path: Path) -> None:
    """With --cacert other authorities are trusted than the system's."""
    authority = trustme.CA()
    pem = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    async with on_socket(stream(ONE), tls=tls, host="localhost") as (server, _):
        assert await tail(server.url) == 1
        assert await tail(server.url, "--cacert", str(pem), "--count", "1") == 0


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the command without a traceback, with the exit code of shells."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trio.run", interrupt)
    assert main(["tail", "http://test/"]) == 130


# ---- as a process --------------------------------------------------------------------------------


async def test_tail_as_a_process() -> None:
    """Each event is out when it has come, and Ctrl-C ends the process."""
    async with (
        on_socket(then_stay(stream(ONE, end=b""))) as (scripted, _),
        trio.open_nursery() as nursery,
    ):
        running = await start(nursery, "tail", scripted.url)
        assert await running.line() == "message: one"
        running.process.send_signal(signal.SIGINT)
        await running.exit()
        assert running.process.returncode == 130


async def test_nobody_reads(require_program: Callable[..., str]) -> None:
    """When what it writes is read by nobody any more, the process ends and says nothing."""
    command = (
        f"{sys.executable} -m sselib tail --json $URL 2>&1 | head -n 1; echo ${{PIPESTATUS[0]}}"
    )

    async def flood(peer: trio.abc.Stream) -> None:
        await peer.send_all(OPEN)
        while True:
            await peer.send_all(b"%x\r\n%b\r\n" % (len(ONE), ONE))

    async with on_socket(flood) as (scripted, _):
        with trio.fail_after(SOON):
            done = await trio.run_process(
                [require_program("bash"), "-c", command],
                capture_stdout=True,
                env={"URL": scripted.url},
            )
    assert done.stdout.decode().splitlines()[1:] == ["141"]


async def start(nursery: trio.Nursery, *arguments: str, **options: Any) -> Running:
    command = [sys.executable, "-m", "sselib", *arguments]
    run = partial(
        trio.run_process, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False
    )
    return Running(await nursery.start(partial(run, **options)))


# ---- serve ---------------------------------------------------------------------------------------

APPLICATION = """
from contextlib import asynccontextmanager
from sselib import EventChannel, EventStream, ServerSentEvent

channel = EventChannel()
channel.publish_nowait(ServerSentEvent("hello"), key="greeting")
app = EventStream(channel)

@asynccontextmanager
async def opened():
    print("opened", flush=True)
    yield app
    print("closed", flush=True)

def broken():
    raise RuntimeError("broken")
"""


def command_line_app() -> Any:
    names: dict[str, Any] = {}
    exec(APPLICATION, names)  # what the processes import
    return names["app"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "greeting.py").write_text(APPLICATION)
    (tmp_path / "needy.py").write_text("import nowhere_to_be_found\n")
    return tmp_path


@pytest.mark.parametrize("name", command_line.SERVERS)
async def test_serve_as_a_process(folder: Path, name: str) -> None:
    """An application is served until SIGTERM, by either server; what it stands on is around it."""
    async with trio.open_nursery() as nursery:
        arguments = ["serve", "greeting:opened", "--factory", "--server", name, "--port", "0"]
        running = await start(nursery, *arguments, "--drain-window", "0.2", cwd=folder)
        assert await running.line() == "opened"
        where = (await running.line()).removeprefix("Serving on ")
        assert await tail(where, "--count", "1") == 0
        running.process.send_signal(signal.SIGTERM)
        assert await running.rest() == ["closed"]
        await running.exit()
        assert running.process.returncode == 0


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Run `serve` up to where the server takes over, and return what that is given."""
    taken: list[tuple[Any, dict[str, Any]]] = []
    for name in command_line.SERVERS:
        module = "sselib.server" if name == "sselib" else f"sselib.{name}"
        monkeypatch.setattr(f"{module}.run", lambda app, **given: taken.append((app, given)))

    def run(*arguments: str) -> tuple[Any, dict[str, Any]]:
        assert main(["serve", *arguments]) == 0
        return taken.pop()

    return run


def test_what_a_server_is_given(
    given: Callable[..., tuple[Any, dict[str, Any]]],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The arguments are the server's options, and where it listens is said."""
    monkeypatch.chdir(folder)
    for name in command_line.SERVERS:
        app, options = given("greeting:app", "--server", name, "--host", "::1", "--port", "81")
        assert type(app).__name__ == "EventStream"
        assert (options["host"], options["port"], options["unix_path"]) == ("::1", 81, None)
        assert "registry" not in options
        options["started"]([("::1", 81), ("127.0.0.1", 81), "/a/socket"])
    assert capsys.readouterr().out.splitlines() == 2 * [
        *("Serving on http://[::1]:81/", "Serving on http://127.0.0.1:81/"),
        "Serving on /a/socket",
    ]


def test_tls_of_the_servers(
    given: Callable[..., tuple[Any, dict[str, Any]]],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A certificate and its key, in one file or in two, are TLS on either server."""
    monkeypatch.chdir(folder)
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path("both.pem")
    _, options = given("greeting:app", "--certfile", "both.pem")
    assert isinstance(options["ssl_context"], ssl.SSLContext)
    options["started"]([("127.0.0.1", 81)])
    assert capsys.readouterr().out == "Serving on https://127.0.0.1:81/\n"
    _, options = given("greeting:app", "--certfile", "both.pem", "--server", "hypercorn")
    assert (options["config"].certfile, options["config"].keyfile) == ("both.pem", "both.pem")
    assert main(["serve", "greeting:app", "--certfile", "greeting.py"]) == 2
    assert main(["serve", "greeting:app", "--keyfile", "both.pem"]) == 2


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ("greeting", "no MODULE:NAME"),
        (":app", "no MODULE:NAME"),
        ("nowhere:app", "no module 'nowhere'"),
        ("greeting.part:app", "no module 'greeting.part'"),
        ("greeting:nothing", "no attribute 'nothing'"),
        ("greeting:app.nothing", "no attribute 'nothing'"),
    ],
)
def test_what_cannot_be_served(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    complaint: str,
) -> None:
    """What is not there is said in one line."""
    monkeypatch.chdir(folder)
    assert main(["serve", place]) == 2
    assert complaint in capsys.readouterr().err


def test_what_a_module_does_wrong_is_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault inside a module is no wrong use: its traceback says more than we could."""
    monkeypatch.chdir(folder)
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        main(["serve", "needy:app"])
    with pytest.raises(RuntimeError, match="broken"):
        main(["serve", "greeting:broken", "--factory"])


def test_hypercorn_may_be_absent(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the extra, asking for Hypercorn says what to install."""
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "hypercorn.config", None)
    assert main(["serve", "greeting:app", "--server", "hypercorn"]) == 2
    assert "hypercorn" in capsys.readouterr().err


async def test_the_address_may_be_taken(folder: Path) -> None:
    """A port that is taken is said in one line, with exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with trio.open_nursery() as nursery:
            running = await start(nursery, "serve", "greeting:app", "--port", port, cwd=folder)
            await running.exit()
            assert running.process.returncode == 1
