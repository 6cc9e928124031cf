"""What the engine asks from time to time: whether the service in this container is ready, by its own account.

It is asked of every container again and again, so it imports next to nothing.
"""

import os
import socket
import sys

_SECONDS = 8.0
_REQUEST = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def main() -> int:
    """0 when it is, 1 when not."""
    try:
        answer = _ask(int(os.environ["ENTREPOT_PORT"]))
    except OSError as error:
        print(error)  # noqa: T201 - the engine keeps it for `inspect`
        return 1
    head, _, body = answer.partition(b"\r\n\r\n")
    print(body[:1000].decode(errors="replace"))  # noqa: T201 - the same
    return int(head.split(b" ")[1:2] != [b"200"])


def _ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as plain:
        line = _encrypted(plain) if os.environ.get("ENTREPOT_TLS_CERTIFICATE") else plain
        line.sendall(_REQUEST)
        return b"".join(iter(lambda: line.recv(4096), b""))


def _encrypted(plain: socket.socket) -> socket.socket:
    import ssl  # noqa: PLC0415 - only where the service itself speaks TLS

    context = ssl.create_default_context()
    # The certificate names the address that clients use, not this one; nothing secret is asked or sent.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


if __name__ == "__main__":
    sys.exit(main())
