"""What a stream costs whose client has stopped reading, while its publisher goes on.

The streams are opened, each gets an event, and then their clients read nothing any more, while a
megabyte per second is published for a minute. Process memory is what the server has grown by;
kernel memory is what all TCP sockets of the machine hold more than before, of which the clients'
unread side is a part. Both per stream.

By default our servers let such a client go after 30 seconds, and then it costs nothing any more.
Here their write timeout is longer than the run, so that every stream is paid for to its end; how
many were open until then is in the table too. Peers are not measured: most of them keep all that a
client does not read, so the figure would be what was published. See :mod:`benchmarks.streams` for
the rest of the method.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Final

from .measuring import Report, require_linux
from .streams import chosen, measured, report

STREAMS: Final = 200
SECONDS: Final = 60.0
RATE: Final = 1000.0  # events per second, of a kilobyte
PADDING: Final = 850
LONGER: Final = 60.0  # seconds by which the write timeout exceeds the run

PROCESS: Final = "process memory per stalled stream"
KERNEL: Final = "kernel memory per stalled stream"
OPEN: Final = "streams open at the end"
ROWS: Final = (
    (PROCESS, "KiB", "sselib <= 32"),
    (KERNEL, "KiB", "sselib <= 512"),
    (OPEN, "", ""),
)
OURS: Final = ("sselib", "sselib-starlette", "sselib-hypercorn")


def kernel_memory() -> int:
    """Return the KiB that the TCP sockets of this machine hold."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        words = line.split()
        if words[0] == "TCP:":
            return int(words[words.index("mem") + 1]) * resource.getpagesize() // 1024
    raise SystemExit("/proc/net/sockstat does not say what TCP sockets hold")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what one can choose."""
    parser.add_argument("servers", nargs="*", help=f"all by default: {', '.join(OURS)}")
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of publishing")


def run(options: argparse.Namespace) -> Report:
    """Measure each server."""
    require_linux()
    found: dict[str, dict[str, float] | None] = {}
    timeout = options.seconds + LONGER
    for kind in chosen(options.servers, OURS):
        with measured(kind, PADDING=str(PADDING), WRITE_TIMEOUT=str(timeout)) as server:
            if server is None:
                found[kind.title] = None
                continue
            server.open(10)
            server.deliver(2000, RATE)  # what is kept of the topic is there before
            files = server.files()
            server.open(options.streams)
            server.deliver(1, RATE)
            memory, kernel = server.memory(), kernel_memory()
            server.mute()
            server.publish(int(options.seconds * RATE), RATE)
            time.sleep(options.seconds)
            found[kind.title] = {
                PROCESS: (server.memory() - memory) / options.streams,
                KERNEL: (kernel_memory() - kernel) / options.streams,
                OPEN: server.files() - files,
            }
    return report(
        "stalled",
        found,
        ROWS,
        settings={"streams": options.streams, "seconds": options.seconds, "bytes/s": 1e6},
    )
