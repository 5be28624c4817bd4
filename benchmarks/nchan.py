"""nginx with nchan as a server of event streams, and what publishes to it.

`python -m benchmarks.nchan` prints the port of nginx and the ids of its two processes, master and
worker: those are the server. This process starts and ends them, and does what other servers do
themselves: each line on standard input, `COUNT RATE`, has it publish COUNT events, RATE in a second
(0: one after the other); the end of the input ends everything. Events go over one connection, and
the next does not wait for the answer to the one before.

Nginx is as its documentation says, with one worker and no access log. The ids of events are nchan's
own, which are a little shorter than those of others, and its bodies are not in chunks. It keeps as
many events as our channel does.
"""

from __future__ import annotations

import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from sselib.log import DEFAULT_HISTORY_ENTRIES

from .measuring import program
from .stream_events import EVENT_TYPE, payload

MOST_CONNECTIONS: Final = 65536  # where the system has no limit

CONFIGURATION: Final = """\
load_module {module};
daemon off;
pid {folder}/pid;
error_log stderr warn;
worker_processes 1;
worker_rlimit_nofile {files};
events {{
    worker_connections {files};
}}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        nchan_channel_id events;
        nchan_message_buffer_length {kept};
        location = / {{
            nchan_subscriber eventsource;
            nchan_subscriber_first_message newest;
        }}
        location = /publish {{
            nchan_publisher http;
        }}
        location = /hello {{
            return 200 "hello\\n";
        }}
        location = /worker {{
            return 200 "worker $pid\\n";
        }}
    }}
}}
"""


def command() -> list[str] | None:
    """Return what starts all this; ``None`` if nginx or its module is not to be had here."""
    nginx = program("nginx")
    if nginx is None or module(nginx) is None:
        return None
    return [sys.executable, "-m", "benchmarks.nchan"]


@cache
def module(nginx: str) -> Path | None:
    """Return where nginx has its module, if it has it."""
    built = subprocess.run([nginx, "-V"], check=True, capture_output=True, text=True).stderr
    folder = re.search(r"--modules-path=(\S+)", built)
    path = Path(folder[1] if folder else "/usr/lib/nginx/modules") / "ngx_nchan_module.so"
    return path if path.exists() else None


@contextmanager
def serving() -> Iterator[tuple[int, int]]:
    """Run nginx for a ``with``, and give its port and its process id."""
    nginx = program("nginx")
    assert nginx is not None
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tempfile.TemporaryDirectory() as folder:
        # Nginx takes no port 0. But it takes a socket that is named to it, as at an upgrade.
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            port = listener.getsockname()[1]
            configuration = Path(folder) / "nginx.conf"
            configuration.write_text(
                CONFIGURATION.format(
                    module=module(nginx),
                    folder=folder,
                    files=MOST_CONNECTIONS if files == resource.RLIM_INFINITY else files,
                    port=port,
                    kept=DEFAULT_HISTORY_ENTRIES,
                )
            )
            process = subprocess.Popen(
                [nginx, "-c", str(configuration), "-e", "stderr"],
                env={"NGINX": f"{listener.fileno()};"},
                pass_fds=[listener.fileno()],
            )
        with process:
            try:
                yield port, process.pid
            finally:
                process.terminate()


def ask_worker(connection: socket.socket) -> int:
    """Return the id of nginx's worker, by which it is known to work."""
    connection.sendall(b"GET /worker HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while not (worker := re.search(rb"\r\n\r\nworker (\d+)\n", answer)):
        data = connection.recv(4096)
        if not data:
            raise SystemExit(f"nginx answered {answer!r}")
        answer += data
    return int(worker[1])


def publish(connection: socket.socket, count: int, rate: float) -> None:
    """Publish so many events, so many in a second."""
    start = time.monotonic()
    for number in range(count):
        if rate:
            time.sleep(max(0, start + number / rate - time.monotonic()))
        data = payload()
        connection.sendall(
            b"POST /publish HTTP/1.1\r\nHost: localhost\r\n"
            b"X-EventSource-Event: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (EVENT_TYPE.encode(), len(data), data.encode())
        )


def read_answers(connection: socket.socket) -> None:
    """Read what nginx says of each event; whether all have come is the load client's to say."""
    while connection.recv(65536):
        pass


def main() -> None:
    """Publish as told; the end of the input ends the server."""
    with serving() as (port, master), socket.create_connection(("127.0.0.1", port)) as connection:
        print(port, master, ask_worker(connection), flush=True)
        threading.Thread(target=read_answers, args=[connection], daemon=True).start()
        for line in sys.stdin:  # in a thread of its own, so that the end is seen at once
            count, rate = map(float, line.split())
            telling = [connection, int(count), rate]
            threading.Thread(target=publish, args=telling, daemon=True).start()


if __name__ == "__main__":
    main()
