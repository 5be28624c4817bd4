"""Who may import whom, read from the sources; and what every test owes its reader."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

import sselib

PACKAGE = Path(sselib.__file__).parent
TESTS = Path(__file__).parent

# From the ground up: a room may import the rooms before it. A room is a module, or a package with
# what it holds except for the rooms that stand here themselves.
ROOMS = [
    "errors",
    "events",
    "codec",
    "http1",
    "lifecycle",
    "log",
    "log.memory",
    "log.sqlite",
    "log.redis",
    "window",
    "subscription",
    "channel",
    "topics",
    "policy",
    "stream",
    "registry",
    "listening",
    "process",
    "transport",
    "requests",
    "pump",
    "connection",
    "server",
    "hypercorn",
    "jobs",
    "client",
    "testing",
    "starlette",
    "terminal",
    "__main__",
]
ROOT = "sselib"  # the public names: imports what it likes, and is imported by no room

# Values and state machines: without I/O, tasks, clock and chance, so that tests decide it all.
PURE = ["errors", "events", "codec", "http1", "lifecycle"]
IMPURE = {
    *("trio", "asyncio", "threading", "multiprocessing", "concurrent"),
    *("os", "io", "pathlib", "socket", "select", "selectors", "ssl", "subprocess"),
    *("time", "random", "secrets", "uuid"),
}

# What may be imported from a package that has internal modules without an underscore.
PUBLIC = {"hypercorn": ("hypercorn.config", "hypercorn.trio.serve", "hypercorn.typing")}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, package: Path) -> Iterator[str]:
    """Yield the dotted name of whatever the module imports, in a function or for types as well."""
    name = module_name(path, package)
    parent = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            source = importlib.util.resolve_name(relative, parent)
            yield from (f"{source}.{alias.name}" for alias in node.names)


def room(name: str) -> str:
    """Return the room of a dotted name, the longest that fits: `log.memory`, not `log`."""
    inside = name.removeprefix(ROOT).removeprefix(".")
    fits = [known for known in ROOMS if f"{inside}.".startswith(f"{known}.")]
    return max(fits, key=len, default=ROOT)


def broken_rules(path: Path, package: Path) -> list[str]:
    name = module_name(path, package)
    here = room(name)
    found = []
    if here == ROOT and name != ROOT:
        found.append(f"{name} has no place in the list of rooms")
    for imported in imports(path, package):
        top, *rest = imported.split(".")
        if top == ROOT:
            there = room(imported)
            if here != ROOT and (there == ROOT or ROOMS.index(there) > ROOMS.index(here)):
                found.append(f"{name} imports {imported}, which stands above it")
            continue
        if here in PURE and top in IMPURE:
            found.append(f"{name} is pure and imports {imported}")
        if any(part.startswith("_") and not part.startswith("__") for part in rest):
            found.append(f"{name} imports {imported}, which is private")
        if not imported.startswith(PUBLIC.get(top, "")):
            found.append(f"{name} imports {imported}, which is internal")
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: module_name(path, PACKAGE))
def test_modules_import_only_what_stands_below_them(path: Path) -> None:
    """No module imports a room above its own, and what is private or impure only as allowed."""
    assert broken_rules(path, PACKAGE) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("codec", "from .events import Comment", None),
        ("codec", "from .channel import EventChannel", "stands above it"),
        ("codec", "from . import channel", "stands above it"),
        ("codec", "import sselib.channel", "stands above it"),
        ("codec", "from sselib import Comment", "stands above it"),
        ("codec", "def late():\n    from .log import memory", "stands above it"),
        ("codec", "if TYPE_CHECKING:\n    from .log import EventLog", "stands above it"),
        ("codec", "import time", "is pure"),
        ("codec", "from trio import Event", "is pure"),
        ("log.__init__", "from .memory import MemoryLog", "stands above it"),
        ("log.memory", "from . import EventLog", None),
        ("log.memory", "from ..codec import encode", None),
        ("testing.conformance", "from .app import open_app", None),
        ("channel", "import trio", None),
        ("channel", "from __future__ import annotations", None),
        ("channel", "from trio._core import Task", "is private"),
        ("channel", "from trio import _core", "is private"),
        ("hypercorn", "from hypercorn.trio import serve", None),
        ("hypercorn", "from hypercorn.config import Config", None),
        ("hypercorn", "from hypercorn.trio import tcp_server", "is internal"),
        ("hypercorn", "from hypercorn.trio.run import worker_serve", "is internal"),
        ("attic", "", "no place"),
        ("__init__", "from .starlette import EventStreamResponse", None),
    ],
)
def test_the_rules_find_what_breaks_them(
    tmp_path: Path, module: str, source: str, complaint: str | None
) -> None:
    """Each rule sees a module that breaks it, and leaves alone one that does not."""
    package = tmp_path / ROOT
    path = package / Path(*module.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    found = broken_rules(path, package)
    assert [complaint in problem for problem in found] == [True] if complaint else found == []


def test_every_test_says_what_it_shows() -> None:
    """Each test function has a docstring."""
    silent = [
        f"{path.relative_to(TESTS)}:{node.lineno} {node.name}"
        for path in TESTS.rglob("*.py")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == []
