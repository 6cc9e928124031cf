"""What a container of a service runs: it takes the first replica number that is free, and becomes the service.

Replicas share the data volume, and what a replica left there (its journal, above all) is for the next process of the
same number to go on with. A number is held by a lock on a file, so that a container that died holds none. A name that
changes with each container, such as its host name, would leave such things behind for nobody.
"""

import fcntl
import os
import sys
import time
from itertools import count
from pathlib import Path


def claim(folder: Path) -> tuple[int, int]:
    """The first free number, and the descriptor that holds it for as long as it stays open."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in count():
        handle = os.open(folder / str(number), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
        else:
            return number, handle
    raise AssertionError("numbers do not end")


def wait_for(path: Path) -> None:
    """Wait until a file is there which another service makes at the first start; the container is not ready before."""
    if not path.exists():
        print(f"waiting for {path}", flush=True)  # noqa: T201 - this is the container's log
    while not path.exists():
        time.sleep(0.2)


def main() -> None:
    """Become the service that this image is for."""
    if awaited := os.environ.get("ENTREPOT_START_AFTER"):
        wait_for(Path(awaited))
    if not os.environ.get("ENTREPOT_REPLICA"):
        number, handle = claim(Path(os.environ["ENTREPOT_DATA"]) / "replicas")
        os.set_inheritable(handle, True)  # noqa: FBT003 - its only parameter
        os.environ["ENTREPOT_REPLICA"] = str(number)
    service = os.environ["ENTREPOT_SERVICE"]
    os.execv(sys.executable, [sys.executable, "-m", f"services.{service}"])  # noqa: S606 - becomes it


if __name__ == "__main__":
    main()
