"""What is asked for: a URL, and a request that redirects turn into another one.

Rules:

- A URL is taken apart once, here. What it may not be (another scheme than http and https, one
  that holds a password, no host) is an error before anything is connected.
- What the caller gave for one origin stays there. Another origin gets the headers that say how to
  answer, and none of those that could say who asks; from https nothing leads back to http.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Self
from urllib.parse import quote, urljoin, urlsplit

import attrs
import h11

from ..http1 import check_header

Headers = Mapping[str, str] | Iterable[tuple[str, str]]

# Redirects that are followed. The standard of fetching knows no other ones.
REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))

PORTS: Final = {"http": 80, "https": 443}

# What only we can say about a request that we make and a response that we read.
_OURS: Final = frozenset(
    b"accept-encoding connection content-length expect keep-alive last-event-id te trailer "
    b"transfer-encoding upgrade".split()
)
# Of the caller's headers, those that another origin may see.
_IMPERSONAL: Final = frozenset(b"accept accept-language cache-control user-agent".split())
_OF_CONTENT: Final = b"content-"
# These say how long their body is even when it is empty.
_WITH_CONTENT: Final = frozenset(("POST", "PUT", "PATCH"))
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HOST: Final = re.compile(r"[\w-][\w.-]*|[0-9a-f.:]+(%\w+)?", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# All that may stand in a URL, and what is quoted already.
_KEPT: Final = "!$%&'()*+,/:;=?@[]~"


@attrs.frozen
class Target:
    """A URL, taken apart.

    Attributes:
        url: The URL, without its fragment.
        scheme: ``"http"`` or ``"https"``.
        host: The host, without brackets.
        port: The port.
        path: Path and query, as they are sent.
    """

    url: str
    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Self:
        """Take a URL apart.

        Raises:
            ValueError: It is none, or one that is not for us.
        """
        if _CONTROL.search(url):
            raise ValueError(f"a URL has no control characters: {url!r}")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"not a URL: {url!r}: {error}") from None
        if parts.scheme not in PORTS:
            raise ValueError(f"the URL of an event source begins with http: or https:, not {url!r}")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a URL with a password ends up in logs: say who you are in a header")
        if host is None or not _is_host(host) or port == 0:
            raise ValueError(f"the URL has no host, or none of ASCII letters, or port 0: {url!r}")
        path = quote(parts.path or "/", _KEPT)
        if parts.query:
            path += "?" + quote(parts.query, _KEPT)
        return cls(
            url=parts._replace(fragment="").geturl(),
            scheme=parts.scheme,
            host=host,
            port=PORTS[parts.scheme] if port is None else port,
            path=path,
        )

    @property
    def origin(self) -> tuple[str, str, int]:
        """What two URLs share that the same server answers for."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> bytes:
        """The value of the ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.port == PORTS[self.scheme] else f"{host}:{self.port}").encode()


@attrs.frozen(kw_only=True)
class Request:
    """One request, of which only the ``Last-Event-ID`` is still to be said.

    Attributes:
        target: Where it goes.
        method: The method.
        headers: The caller's headers; names in lower case.
        content: The body.
    """

    target: Target
    method: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content: bytes = b""

    def __attrs_post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.method) or self.method in {"HEAD", "CONNECT", "TRACE"}:
            raise ValueError(f"no event stream can answer the method {self.method!r}")

    def send(self, http: h11.Connection, *, last_event_id: bytes, user_agent: bytes) -> bytes:
        """Say the request to h11, and return its bytes."""
        given = {name for name, _ in self.headers}
        headers = [
            (b"host", self.target.authority),
            (b"accept", b"text/event-stream"),
            (b"cache-control", b"no-cache"),
            (b"user-agent", user_agent),
        ]
        headers = [header for header in headers if header[0] not in given]
        headers += self.headers
        # A connection is for one response, and a compressed stream holds its events back.
        headers += [(b"accept-encoding", b"identity"), (b"connection", b"close")]
        if last_event_id:
            headers.append((b"last-event-id", last_event_id))
        if self.content or self.method in _WITH_CONTENT:
            headers.append((b"content-length", b"%d" % len(self.content)))
        head = h11.Request(method=self.method, target=self.target.path, headers=headers)
        return b"".join(
            http.send(event) or b""
            for event in (head, h11.Data(data=self.content), h11.EndOfMessage())
        )

    def redirected(self, status: int, location: str) -> Self:
        """Return the request that follows a redirect.

        Raises:
            ValueError: It leads to no URL that is for us, or from https to http.

        Spec: https://fetch.spec.whatwg.org/#http-redirect-fetch
        """
        target = Target.of(urljoin(self.target.url, location))
        if (self.target.scheme, target.scheme) == ("https", "http"):
            raise ValueError(f"it leads from https to http: {target.url!r}")
        method, content, headers = self.method, self.content, self.headers
        if (status in (301, 302) and method == "POST") or (status == 303 and method != "GET"):
            method, content = "GET", b""
            headers = tuple(each for each in headers if not each[0].startswith(_OF_CONTENT))
        if target.origin != self.target.origin:
            headers = tuple(
                (name, value)
                for name, value in headers
                if name in _IMPERSONAL or name.startswith(_OF_CONTENT)
            )
        return attrs.evolve(self, target=target, method=method, content=content, headers=headers)


def _is_host(host: str) -> bool:
    """Whether a host can be asked for, and be put into a certificate; other scripts say xn--."""
    try:
        return bool(_HOST.fullmatch(host.encode("idna").decode())) and host.isascii()
    except UnicodeError:  # no label of a name is so long
        return False


def encoded_headers(headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
    """Return the caller's headers as they are sent: names in lower case, values in UTF-8.

    Raises:
        TypeError, ValueError: One is no header, or is for us to say.
    """
    found = []
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"a header is two strings, a name and a value: {name!r}: {value!r}")
        header = name.lower().encode(), value.encode()
        check_header(*header)
        if header[0] in _OURS:
            raise ValueError(f"the header {name!r} is for the event source to say")
        found.append(header)
    return tuple(found)


def encoded_id(last_event_id: str) -> bytes:
    """Return a last event ID as it is sent back.

    White space around it is no part of a header's value, as browsers have it too.

    Raises:
        ValueError: It has a control character in it, which no header can carry.
    """
    value = last_event_id.encode().strip(b" \t")
    check_header(b"last-event-id", value)
    return value
