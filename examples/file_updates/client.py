"""``python -m examples.file_updates.client [URL]``: print what happens to the files.

The client of the API's documentation, for longer: it comes back when the connection breaks or the
server is replaced, and notices by the missing keepalives when the server is gone without a word.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Final

import trio

from sselib import Interruption, RetryPolicy, open_event_source

POLICY: Final = RetryPolicy(idle_timeout=60)  # seconds: the server says something every 15


async def main(url: str = "http://localhost:60534/api/updates") -> None:
    """Print updates until told to stop."""
    async with open_event_source(url, policy=POLICY, on_interruption=tell) as source:
        async for event in source:
            update = event.json()
            print(f"[{update['opcode']}] {update['data']}", flush=True)


def tell(lost: Interruption) -> None:
    """Say why there may be updates that nobody saw."""
    print(f"no updates for {lost.wait:.1f} s: {lost.message}", file=sys.stderr)


if __name__ == "__main__":
    try:
        trio.run(partial(main, *sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
