"""The example as its users meet it: in memory, or as a process of its own."""

from __future__ import annotations

import json
import math
import os
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from examples.file_updates.app import FileUpdates, open_app
from sselib import ServerSentEvent
from sselib.testing import ReceivedStream, open_stream

from ..processes import Example

SECONDS = 30  # far more than anything here takes

_FILE = ("path", "filename")
_ITEM = ("id", "file_path", "action", "status")
# What each update has, in this order. Of a status update it "varies", as the documentation says.
FIELDS: dict[str, tuple[str, ...]] = {
    "file_parsing": _FILE,
    "file_parsed": _FILE,
    "file_summarizing": _FILE,
    "file_summarized": _FILE,
    "file_embedding": _FILE,
    "file_embedded": _FILE,
    "file_complete": _FILE,
    "file_failed": (*_FILE, "error"),
    "file_skipped": (*_FILE, "reason"),
    "file_created": ("path",),
    "file_modified": ("path",),
    "file_deleted": ("path",),
    "file_moved": ("src_path", "dest_path"),
    "directory_deleted": ("path",),
    "directory_moved": ("src_path", "dest_path"),
    "watch_started": ("path", "recursive"),
    "watch_added": ("path",),
    "watch_removed": ("path",),
    "directory_processing_started": ("path",),
    "directory_processing_completed": ("path",),
    "queue_item_added": _ITEM,
    "queue_item_updated": _ITEM,
    "queue_item_processing": _ITEM,
    "queue_item_completed": _ITEM,
    "queue_item_failed": ("id", "file_path", "action", "error"),
    "queue_item_removed": _ITEM,
    "queue_paused": ("source",),
    "queue_resumed": ("source",),
    "scheduler_paused": (),
    "scheduler_resumed": (),
    "status_update": ("queue", "files_indexed"),
    "error": ("message",),
    "info": ("message",),
    "shutting_down": (),
}

ROOT = Path(__file__).parent.parent.parent


@attrs.define(eq=False)
class Client:
    """A client of the API, and a listener of the stream, in memory.

    Attributes:
        app: The application.
        stream: The stream, open from before the first request.
        updates: What was read from it, by a task that always reads, and not yet taken.
        heard: All updates so far.
        done: How many items were completed so far.
    """

    app: FileUpdates
    stream: ReceivedStream
    updates: trio.MemoryReceiveChannel[ServerSentEvent]
    heard: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)
    done: int = 0

    async def ask(
        self, method: str, path: str, content: Any = None, **headers: str
    ) -> tuple[int, Any]:
        """Send a request and return the status and the JSON of its answer."""
        body = b"" if content is None else json.dumps(content).encode()
        given = {"content-type": "application/json"} if content is not None else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        with trio.fail_after(SECONDS):
            async with open_stream(
                self.app, path, method=method, body=body, headers=given
            ) as answer:
                whole = await answer.read_body()
                await answer.wait_ended()
                return answer.status, json.loads(whole)

    async def get(self, path: str) -> Any:
        """Ask for something that is there."""
        status, value = await self.ask("GET", path)
        assert status == 200
        return value

    async def watch(self, directory: Path) -> list[tuple[str, dict[str, Any]]]:
        """Have a directory watched, and return what is said up to the end of the first look."""
        status, _ = await self.ask("POST", "/api/watch/", {"directory_path": str(directory)})
        assert status == 201
        return await self.until("status_update")

    async def update(self) -> tuple[str, dict[str, Any]]:
        """Wait for the next update."""
        with trio.fail_after(SECONDS):
            event = await self.updates.receive()
        assert event.event == "update"
        value = event.json()
        assert event.data == json.dumps(value, ensure_ascii=False)  # as spaced as it is documented
        assert list(value) == ["opcode", "data"]
        if value["opcode"] != "status_update":
            assert tuple(value["data"]) == FIELDS[value["opcode"]]
        self.heard.append((value["opcode"], value["data"]))
        self.done += value["opcode"] == "queue_item_completed"
        return self.heard[-1]

    async def until(self, opcode: str, **data: Any) -> list[tuple[str, dict[str, Any]]]:
        """Wait for an update with these data, and return what was said up to it."""
        begin = len(self.heard)
        while True:
            found, having = await self.update()
            if found == opcode and having.items() >= data.items():
                return self.heard[begin:]

    async def completed(self, count: int) -> None:
        """Wait until so many items were completed, from the beginning on."""
        while self.done < count:
            await self.until("queue_item_completed")

    async def opcodes_until(self, opcode: str, **data: Any) -> list[str]:
        """Wait for an update, and return the opcodes up to it."""
        return [opcode for opcode, _ in await self.until(opcode, **data)]

    async def search(self, query: str, **more: Any) -> list[str]:
        """Return the paths that a search finds."""
        status, value = await self.ask("POST", "/api/search/", {"query": query, **more})
        assert status == 200
        return [each["file"]["path"] for each in value["results"]]


@asynccontextmanager
async def using(*directories: os.PathLike[str], **options: Any) -> AsyncIterator[Client]:
    """Open the application, with short times, and listen to it."""
    options = {"cooldown": 0.05, "scan_cooldown": 0} | options
    async with (
        open_app(map(os.fspath, directories), **options) as app,
        open_stream(app, "/api/updates", window=10**8) as stream,  # as a kernel keeps much, too
        trio.open_nursery() as nursery,
    ):
        keep, updates = trio.open_memory_channel[ServerSentEvent](math.inf)

        async def read() -> None:
            with keep:
                async for event in stream:
                    keep.send_nowait(event)

        nursery.start_soon(read)
        yield Client(app, stream, updates)
        nursery.cancel_scope.cancel()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory to watch, with its real path."""
    path = tmp_path.resolve() / "root"
    path.mkdir()
    return path


class Server(Example):
    """A running example."""

    @property
    def directory(self) -> Path:
        """The directory it watches."""
        return (self.folder / "watched").resolve()

    def ask(self, method: str, path: str) -> Any:
        """Send a request without a body, and return the JSON of its answer."""
        request = urllib.request.Request(self.url + path, method=method)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)


@pytest.fixture(params=["hypercorn", "sselib"])
def start_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Give a function that starts the example, with further arguments, and waits until it is up."""
    directory = tmp_path / "watched"
    directory.mkdir()
    always = ("--watch", str(directory), "--server", request.param)
    with Server.starting(
        "examples.file_updates", tmp_path, *always, is_up="In a terminal:"
    ) as start:
        yield start


STAGES = [
    "file_parsing",
    "file_parsed",
    "file_summarizing",
    "file_summarized",
    "file_embedding",
    "file_embedded",
    "file_complete",
]
INDEXED = ["queue_item_processing", *STAGES, "queue_item_completed"]


def named(path: Path) -> dict[str, str]:
    return {"path": str(path), "filename": path.name}


async def indexed(client: Client, path: Path, text: str = "A zebra has stripes.") -> None:
    """Write a file, and wait until it is indexed."""
    path.write_text(text)
    await client.until("queue_item_completed", file_path=str(path))
