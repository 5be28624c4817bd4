"""Everything at once: what is said leads to what is there, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from examples.file_updates.changes import (
    Change,
    DirectoryDeleted,
    DirectoryMoved,
    FileCreated,
    FileDeleted,
    FileFound,
    FileModified,
    FileMoved,
)
from examples.file_updates.watching import (
    Watcher,
)

from .listening import SECONDS, watch


class Mirror:
    """What somebody knows of a tree who does what the watcher says, and reads what it names."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | None] = {}

    def follow(self, change: Change) -> None:
        match change:
            case FileFound(path) | FileCreated(path):
                assert path not in self.files
                self.read(path)
            case FileModified(path):
                assert path in self.files
                self.read(path)
            case FileDeleted(path):
                del self.files[path]
            case FileMoved(src_path=src, dest_path=dest):
                assert dest not in self.files
                self.move(src, dest)
            case DirectoryMoved(src_path=src, dest_path=dest):
                for path in [path for path in self.files if path.startswith(f"{src}/")]:
                    self.move(path, dest + path[len(src) :])
            case DirectoryDeleted(path):
                assert not any(other.startswith(f"{path}/") for other in self.files)
            case _:
                raise AssertionError(change)

    def move(self, src: str, dest: str) -> None:
        self.files[dest] = self.files.pop(src)
        if self.files[dest] is None:  # it had moved before it could be read
            self.read(dest)

    def read(self, path: str) -> None:
        try:
            self.files[path] = Path(path).read_bytes()
        except OSError:
            self.files[path] = None  # gone or moved already, which will be said


def act_at_random(roots: list[Path], *, seed: int, steps: int) -> None:
    """Make, write, move, replace and delete what is there, and what is not."""
    chance = random.Random(seed)

    def somewhere() -> Path:
        names = [chance.choice("abc") for _ in range(chance.randint(1, 4))]
        return chance.choice(roots).joinpath(*names)

    def plant(path: Path, names: list[str]) -> None:
        path.mkdir(parents=True)
        for name in names:
            (path / name).write_bytes(b"new")

    actions: list[Callable[[Path, Path], object]] = [
        lambda path, _: plant(path, []),
        lambda path, _: path.write_bytes(chance.randbytes(chance.randint(0, 3))),
        lambda path, _: path.write_bytes(chance.randbytes(2)),
        lambda path, _: (path.mkdir(parents=True), (path / "a").write_bytes(b"new")),  # type: ignore[func-returns-value] # two steps in one
        lambda path, other: path.replace(other),
        lambda path, other: path.replace(other),
        lambda path, other: path in other.parents or shutil.copytree(path, other),
        lambda path, _: path.unlink(),
        lambda path, _: shutil.rmtree(path),
    ]
    for _ in range(steps):
        with contextlib.suppress(OSError, shutil.Error):
            chance.choice(actions)(somewhere(), somewhere())


def files_below(roots: list[Path]) -> dict[str, bytes]:
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize("seed", range(3))
async def test_a_mirror_of_restless_trees(watcher: Watcher, root: Path, seed: int) -> None:
    """Whoever follows what is said of two trees in upheaval ends up with what is there."""
    mirror = Mirror()
    roots = [root / "one", root / "two"]
    for directory in roots:
        directory.mkdir()
        await watch(watcher, directory)
    end = roots[0] / "end"

    async def act() -> None:
        await trio.to_thread.run_sync(partial(act_at_random, roots, seed=seed, steps=3000))
        end.touch()

    there: dict[str, bytes] | None = None  # when everything has come to rest
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(act)
            while True:
                change = await watcher.receive()
                mirror.follow(change)
                if change == FileCreated(str(end)):
                    there = files_below(roots)
                if mirror.files == there:
                    break
    with trio.move_on_after(0.2):  # what is said now may be said once too often, and is not wrong
        while True:
            mirror.follow(await watcher.receive())
    assert mirror.files == there
