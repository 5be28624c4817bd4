"""What the built package holds and asks for.

`make wheel` runs this where nothing is installed but the wheel, what it depends on, and pytest
without plugins; the source tree is out of reach. Anywhere else there is no wheel to look at.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sselib

FILES = [
    PurePosixPath(path)
    for distribution in metadata.distributions(name="sselib")
    for path in distribution.files or []
]
if PurePosixPath("sselib/__init__.py") not in FILES:
    pytest.skip("`make wheel` runs this, where sselib is a wheel", allow_module_level=True)

# The rooms that need an extra.
OPTIONAL = ("sselib.hypercorn", "sselib.log.redis", "sselib.starlette", "sselib.testing")


def needed_by(name: str) -> set[str]:
    """Return the distributions that one needs without any extra."""
    asked = map(Requirement, metadata.requires(name) or [])
    return {
        canonicalize_name(requirement.name)
        for requirement in asked
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }


def test_it_needs_four_distributions() -> None:
    """Trio, h11, attrs and cattrs are all that an installation without extras brings in."""
    assert needed_by("sselib") == {"trio", "h11", "attrs", "cattrs"}


def test_it_imports_nothing_else() -> None:
    """Every module that needs no extra loads, and loads only what sselib depends on."""
    modules = {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if path.suffix == ".py"
    }
    optional = tuple(f"{name}." for name in OPTIONAL)
    plain = {name for name in modules if not f"{name}.".startswith(optional)}
    statements = [f"import {name}" for name in sorted(plain - {"sselib.__main__"})]
    assert "import sselib" in statements
    loaded = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", "\n".join(statements) + SAY_WHAT_IS_LOADED],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split()

    allowed = {"sselib"}
    while found := set().union(*map(needed_by, allowed)) - allowed:
        allowed |= found
    distributions = metadata.packages_distributions()
    foreign = {
        name
        for name in loaded
        if not allowed & {canonicalize_name(owner) for owner in distributions.get(name, [])}
    }
    assert foreign == set()


SAY_WHAT_IS_LOADED = """
import sys
tops = {name.partition(".")[0] for name in sys.modules}
print(*tops - set(sys.stdlib_module_names) - set(sys.builtin_module_names) - {"__main__"})
"""


def test_the_wheel_holds_the_library_alone() -> None:
    """Nothing is installed outside of sselib but its command; tests and examples least of all."""
    outside = {path for path in FILES if path.parts[0] == ".."}
    assert {path.stem for path in outside} == {"sselib"}
    assert all(path.parts[-2] in ("bin", "Scripts") for path in outside)
    tops = {path.parts[0] for path in FILES if path not in outside}
    assert tops == {"sselib", f"sselib-{metadata.version('sselib')}.dist-info"}


def test_it_says_that_it_is_typed() -> None:
    """Type checkers read the annotations of an installed sselib."""
    assert PurePosixPath("sselib/py.typed") in FILES


def test_the_license_comes_with_it() -> None:
    """The license's text is part of what is installed."""
    assert any(path.name == "LICENSE" for path in FILES)


def test_the_version_stands_in_one_place() -> None:
    """`sselib.__version__` is the version of the distribution."""
    assert metadata.version("sselib") == sselib.__version__
