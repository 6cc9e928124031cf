"""What the engine asks from time to time: whether the service in this container is ready, by its own account."""

import http.client
import os
import ssl
import sys

_SECONDS = 4.0


def main() -> int:
    """0 when it is, 1 when not."""
    line = _line(int(os.environ["ENTREPOT_PORT"]))
    try:
        line.request("GET", "/readyz")
        answer = line.getresponse()
        print(answer.read(2000).decode(errors="replace"))  # noqa: T201 - the engine keeps it for `inspect`
    except (OSError, http.client.HTTPException) as error:
        print(type(error).__name__)  # noqa: T201 - the same
        return 1
    else:
        return int(answer.status != 200)
    finally:
        line.close()


def _line(port: int) -> http.client.HTTPConnection:
    if not os.environ.get("ENTREPOT_TLS_CERTIFICATE"):
        return http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    context = ssl.create_default_context()
    # The certificate names the address that clients use, not this one; nothing secret is asked or sent.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=_SECONDS, context=context)


if __name__ == "__main__":
    sys.exit(main())
