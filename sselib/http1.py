"""HTTP/1.1 as event streams need it, without I/O: response heads, and bodies both ways.

Requests, and heads that a peer sent, are h11's: it is thorough, and there is one of them for each
connection. Bodies are decoded here. h11 makes an object of every chunk, and in an event stream
every event is a chunk; here the chunks of one read cost one regular expression each.

Rules:

- Strict, so that no two parsers can disagree about where a body ends: whatever is accepted here,
  h11 accepts and reads the same. Beyond that a line ends with CRLF and nothing else, no control
  character stands in a line, and no line is folded.
- Whatever is not yet payload is bounded. Payload is never held: it is given out as it comes.
- What an application wants to send is checked when it becomes bytes, so a header cannot end its
  line early and inject another.

Spec: https://www.rfc-editor.org/rfc/rfc9112 (sections 4, 5 and 7.1)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final

from .errors import InvalidHTTP

# Extensions of one chunk, which nearly nobody sends. h11 bounds them by its buffer, at 16 KiB.
MAX_EXTENSION_BYTES: Final = 1024
# All fields behind the last chunk: as much as h11 takes for a whole head.
MAX_TRAILER_BYTES: Final = 16 * 1024

LAST_CHUNK: Final = b"0\r\n\r\n"

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VISIBLE: Final = rb"[\x21-\x7e\x80-\xff]"
_TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]"

_name: Final = re.compile(_TOKEN).fullmatch
_value: Final = re.compile(rb"(?:%b(?:%b*%b)?)?" % (_VISIBLE, _TEXT, _VISIBLE)).fullmatch
_reason: Final = re.compile(_TEXT + b"*").fullmatch

_Match = Callable[[bytes, int], re.Match[bytes] | None]

_DIGITS: Final = 16  # more bytes than anybody has
_EXTENSION: Final = rb"{0,%d}" % MAX_EXTENSION_BYTES
# Spaces behind the digits are no part of the standard, but servers pad, and h11 lets them.
_PADDING: Final = rb"(?:;%b%b|[ \t]%b)" % (_TEXT, _EXTENSION, _EXTENSION)
_LINE: Final = rb"([0-9A-Fa-f]{1,%d})%b\r\n" % (_DIGITS, _PADDING)
_first_line: Final = re.compile(_LINE).match
_next_line: Final = re.compile(rb"\r\n" + _LINE).match
_fields: Final = re.compile(rb"(?:%b:%b*\r\n)*\r\n" % (_TOKEN, _TEXT)).match

_CRLF: Final = b"\r\n"
_MAX_LINE_BYTES: Final = _DIGITS + 1 + MAX_EXTENSION_BYTES + len(_CRLF)
_LONG_TRAILER: Final = f"the fields behind the last chunk exceed {MAX_TRAILER_BYTES} bytes"
_COMPLETE: Final = "the body is complete: these bytes belong to what comes next"
_SHOWN_BYTES: Final = 20  # of what is malformed, in an error

_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}


def encode_head(
    status: int, headers: Iterable[tuple[bytes, bytes]], reason: bytes | None = None
) -> bytes:
    """Return the head of a response, with the blank line that ends it.

    Nothing is added: what frames the body (``content-length``, ``transfer-encoding``) is the
    caller's affair.

    Args:
        status: The status code, of three digits.
        headers: Names and values, in the order in which they are sent.
        reason: The words behind the status code. ``None``: those of the standard, if it has any.

    Raises:
        TypeError, ValueError: A header is none, as :func:`check_header` says; a reason has a
            control character in it; a status is no code.
    """
    if reason is None and status in _STATUS_LINES:
        parts = [_STATUS_LINES[status]]
    else:
        if not 100 <= status <= 999:
            raise ValueError(f"status must be from 100 to 999: {status!r}")
        if reason is not None and not _reason(reason):
            raise ValueError(f"a reason may not contain a control character: {reason!r}")
        parts = [b"HTTP/1.1 %d %b\r\n" % (status, reason or b"")]
    for name, value in headers:
        check_header(name, value)
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


def check_header(name: bytes, value: bytes) -> None:
    """Refuse what is no header, or would become another one.

    Raises:
        TypeError: The name or the value is not bytes.
        ValueError: The name is no token; the value has a control character in it, or white space
            around it, which its reader would drop.
    """
    if type(name) is not bytes or type(value) is not bytes:
        raise TypeError(f"a header is two bytes, a name and a value: {name!r}: {value!r}")
    if not _name(name):
        raise ValueError(f"the name of a header must be a token: {name!r}: {value!r}")
    if not _value(value):
        raise ValueError(
            "the value of a header may not contain CR, LF, NUL or another control character, "
            f"nor begin or end with white space: {name!r}: {value!r}"
        )


def encode_chunk(data: bytes) -> bytes:
    """Return ``data`` as one chunk; as nothing if it is empty, since an empty chunk is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class ChunkedDecoder:
    """Take a chunked body apart.

    It is fed bytes as they arrive, cut anywhere. Extensions and trailers are checked and dropped.

    Attributes:
        complete: Whether the body has come to its end.
        rest: The bytes behind the end, which belong to what comes next on the connection.
    """

    __slots__ = ("_expected", "_fault", "_left", "_partial", "complete", "rest")

    def __init__(self) -> None:
        self.complete = False
        self.rest = b""
        self._left = 0  # bytes of the present chunk that have not come
        self._expected: _Match = _first_line  # behind them: what matches this
        self._partial = b""  # the beginning of that
        self._fault: str | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> bytes:
        """Take the next bytes of the body and return the payload among them.

        Raises:
            InvalidHTTP: The peer broke the format or a bound. Payload that came before is returned
                first, and the next call raises; so does every later one.
            ValueError: The body was complete before.
        """
        if self._fault is not None:
            raise InvalidHTTP(self._fault)
        if self.complete:
            raise ValueError(_COMPLETE)
        if self._partial or not isinstance(data, bytes):
            data = self._partial + bytes(data)
            self._partial = b""
        size = len(data)
        end = self._left
        payload = [data[:end]]
        expected = self._expected
        while end <= size:
            found = expected(data, end)
            if found is None:
                self._fault = _fault_in(data[end:], expected)
                self._partial = data[end:]
                break
            start = found.end()
            if expected is _trailer:
                if start - end > MAX_TRAILER_BYTES:
                    self._fault = _LONG_TRAILER
                self.complete = self._fault is None
                self.rest = data[start:]
                break
            end = start + int(found[1], 16)
            if end > start:
                payload.append(data[start:end])
                expected = _next_line
            else:
                expected = _trailer
        self._left = max(0, end - size)
        self._expected = expected
        body = b"".join(payload)
        if self._fault is not None:
            self._partial = b""
            if not body:
                raise InvalidHTTP(self._fault)
        return body


class PlainDecoder:
    """Take a body that is not chunked: of a length that was told, or up to the connection's end.

    Args:
        length: Its bytes. ``None``: it ends with the connection, and is never complete before.

    Attributes:
        length: As given.
        complete: As in :class:`ChunkedDecoder`.
        rest: As in :class:`ChunkedDecoder`.
    """

    __slots__ = ("_left", "complete", "length", "rest")

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.complete = length == 0
        self.rest = b""
        self._left = length

    def feed(self, data: bytes | bytearray | memoryview) -> bytes:
        """Take the next bytes and return those that are the body's.

        Raises:
            ValueError: The body was complete before.
        """
        if self.complete:
            raise ValueError(_COMPLETE)
        body = bytes(data)
        if self._left is not None:
            body, self.rest = body[: self._left], body[self._left :]
            self._left -= len(body)
            self.complete = self._left == 0
        return body


def _trailer(data: bytes, start: int) -> re.Match[bytes] | None:
    # Fields are looked at once, when their end has come, and not again with each byte of them.
    if data.startswith(_CRLF, start) or data.find(_CRLF * 2, start) >= 0:
        return _fields(data, start)
    return None


def _fault_in(partial: bytes, expected: _Match) -> str | None:
    """Say why this can never be the beginning of what is expected, if it cannot."""
    if expected is _trailer:
        if len(partial) > MAX_TRAILER_BYTES:
            return _LONG_TRAILER
        return "the fields behind the last chunk are malformed" if _CRLF * 2 in partial else None
    line = partial
    if expected is _next_line:
        if not partial.startswith(_CRLF[: len(partial)]):
            return f"a chunk does not end where its size says: {partial[:_SHOWN_BYTES]!r}"
        line = partial[len(_CRLF) :]
    if b"\n" in line:
        return f"not the line of a chunk, or a long one: {line[:_SHOWN_BYTES]!r}"
    if len(line) > _MAX_LINE_BYTES:
        return f"the line of a chunk exceeds {_MAX_LINE_BYTES} bytes"
    return None
