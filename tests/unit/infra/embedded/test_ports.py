import socket

import pytest

from infra.embedded.errors import CannotStart
from infra.embedded.ports import check_free


def test_a_taken_port_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        base = min(port, 65000)

        with pytest.raises(CannotStart, match=rf"port {port} is taken by another program: choose another base"):
            check_free(base, [port - base])


@pytest.mark.parametrize("base", [0, 80, 65535, 70000])
def test_a_base_without_room_for_all_ports_is_refused(base: int) -> None:
    with pytest.raises(CannotStart, match="between 1024 and"):
        check_free(base, [0])
