"""Signals as something to wait for: everything the launcher does between two waits is never interrupted."""

import signal
import time

_STOPPING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_HEARD = _STOPPING | {signal.SIGCHLD}


class Stopped(BaseException):
    """Somebody asked the launcher to stop. Like KeyboardInterrupt it is no error to be caught on the way."""


class Signals:
    """Blocks the signals that the launcher answers, and takes them one at a time."""

    def __init__(self) -> None:
        """From here on signals wait until `wait` takes them."""
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)

    def wait(self, seconds: float) -> bool:
        """Sleep up to `seconds`; true as soon as a child may have ended. Raises Stopped when asked to stop."""
        heard = signal.sigtimedwait(_HEARD, max(seconds, 0))
        if heard is not None and heard.si_signo in _STOPPING:
            raise Stopped
        return heard is not None

    def wait_on(self, seconds: float) -> None:
        """Sleep up to `seconds` or until a child ends; requests to stop are taken and forgotten: it is stopping."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            heard = signal.sigtimedwait(_HEARD, left)
            if heard is not None and heard.si_signo == signal.SIGCHLD:
                return

    def unblock(self) -> None:
        """In a child: answer signals as before."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
