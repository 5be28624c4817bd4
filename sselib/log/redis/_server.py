"""Where a server is, and how it is greeted: what a URL says.

``redis://[user:password@]host[:port][/database]``, ``rediss://`` for TLS, and
``unix://[user:password@]/path/of/socket[?db=database]``. What is special in a URL is written with
per cents in user, password and path. Messages never show a password.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
import trio

from ._scripts import SCRIPTS
from ._wire import Lost, RedisRefused, ReplyError, Wire, is_of_the_moment

_PORT: Final = 6379
_VERSION: Final = 7

# A lost connection is closed by a reset. What a server has not taken from it is sent again on the
# next one, and is not to arrive on this one as well: it would be done twice if that is so late that
# its token was forgotten.
_DROP: Final = struct.pack("ii", 1, 0)  # to linger, and for no time


@attrs.frozen(kw_only=True)
class Server:
    """A server, and who we are there.

    Attributes:
        place: What it is called in messages.
        open_stream: Connects to it.
        user: A user of its access control lists; ``""`` for its default user.
        password: ``""`` if it asks for none.
        database: The number of the database.
    """

    place: str
    open_stream: Callable[[], Awaitable[trio.abc.Stream]]
    user: str = ""
    password: str = attrs.field(default="", repr=False)
    database: int = 0

    @classmethod
    def of(cls, url: str, *, ssl_context: ssl.SSLContext | None = None) -> Server:
        """Read a URL.

        Raises:
            ValueError: It is none that this module's description allows.
        """

        def wrong(rule: str, value: object) -> ValueError:
            if "@" in url:  # Then a password may be in it anywhere.
                return ValueError(f"{rule} (in a password, what is special is written with %)")
            return ValueError(f"{rule}: {value!r}")

        try:
            parts = urlsplit(url)
            port = parts.port or _PORT
        except ValueError:
            raise wrong("a URL must have a host, and a number for a port", url) from None
        if parts.scheme not in {"redis", "rediss", "unix"}:
            raise wrong("a URL must begin with redis, rediss or unix://", parts.scheme)
        if ssl_context is not None and parts.scheme != "rediss":
            raise ValueError(f"an ssl_context needs a rediss:// URL, not {parts.scheme}://")
        query = parse_qs(parts.query, keep_blank_values=True)
        number = parts.path.removeprefix("/")
        if parts.scheme == "unix":
            number = query.pop("db", [""])[-1]
        if query or parts.fragment:
            raise wrong("a URL with unknown options", [*query, parts.fragment])
        if number and re.fullmatch("[0-9]{1,4}", number, re.ASCII) is None:
            raise wrong("the database in a URL must be a number", number)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if user and not password:
            raise ValueError("a URL with a user must have a password: redis://user:password@host")

        if parts.scheme == "unix":
            path = unquote(parts.path)
            if parts.hostname or not path:
                raise ValueError("a unix:// URL must have an absolute path: unix:///path")
            place = f"unix://{parts.path}"

            async def open_stream() -> trio.abc.Stream:
                return await trio.open_unix_socket(path)

        else:
            host = parts.hostname
            if not host:
                raise ValueError(f"a {parts.scheme}:// URL must have a host")
            place = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}/{number or 0}"
            context = None
            if parts.scheme == "rediss":
                context = ssl_context or ssl.create_default_context()

            async def open_stream() -> trio.abc.Stream:
                stream = await trio.open_tcp_stream(host, port)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP)
                if context is None:
                    return stream
                return trio.SSLStream(stream, context, server_hostname=host)

        return cls(
            place=place,
            open_stream=open_stream,
            user=user,
            password=password,
            database=int(number or 0),
        )

    async def connect(self) -> Wire:
        """Connect and greet.

        Raises:
            OSError, Lost: There is no such server now, or it is not ready.
            RedisRefused: It will not have us, or is none that a log can be on.

        Cancellation: nothing remains open.
        """
        stream = await self.open_stream()
        try:
            wire = Wire(stream)
            await self._greet(wire)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return wire

    async def _greet(self, wire: Wire) -> None:
        hello = [b"HELLO", b"3"]
        if self.password:
            hello += [b"AUTH", self.user.encode() or b"default", self.password.encode()]
        try:
            replies = await wire.ask(
                [*hello, b"SETNAME", b"sselib"],
                [b"SELECT", self.database],
                [b"INFO"],
                *([b"SCRIPT", b"LOAD", script.text] for script in SCRIPTS),
            )
        except Lost as lost:
            if isinstance(lost.cause, ssl.SSLCertVerificationError):
                raise RedisRefused(self.place, f"TLS {lost.cause}") from lost
            raise
        for reply in replies:
            if isinstance(reply, ReplyError):
                if is_of_the_moment(reply):
                    raise Lost(str(reply))
                raise RedisRefused(self.place, str(reply))
        self._look_at(replies[2])

    def _look_at(self, info: Any) -> None:
        text = info.decode("utf-8", "replace") if isinstance(info, bytes) else ""
        says = dict(re.findall(r"^(\w+):(.*?)\r?$", text, re.ASCII | re.MULTILINE))
        version = says.get("redis_version", "")
        major = re.match(r"\d{1,9}(?=\.)", version, re.ASCII)
        if major is None or int(major[0]) < _VERSION:
            raise RedisRefused(self.place, f"VERSION {version!r}: Redis or Valkey >= 7.0 is needed")
        if says.get("cluster_enabled") == "1":
            raise RedisRefused(self.place, "CLUSTER mode: a log is on one server and its replicas")
        policy = says.get("maxmemory_policy", "")
        if policy.startswith("allkeys") and says.get("maxmemory") != "0":
            raise RedisRefused(
                self.place, f"POLICY maxmemory-policy {policy} would evict parts of topics"
            )
        if says.get("role") != "master":
            raise Lost(f"the server is a replica: {says.get('role')!r}")
