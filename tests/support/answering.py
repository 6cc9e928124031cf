"""A server that answers GET as a test says, for clients that are tried without the suite."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer


@dataclass(frozen=True)
class Answer:
    """What is sent, and how long it says that it is; None: as long as it is."""

    content: bytes
    status: int = 200
    length: int | None = None


@contextmanager
def answering(answer: Callable[[str], Answer]) -> Generator[str]:
    """Answers the path of each GET; its address is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = answer(self.path)
            self.send_response(said.status)
            self.send_header("Content-Length", str(len(said.content) if said.length is None else said.length))
            self.end_headers()
            self.wfile.write(said.content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
