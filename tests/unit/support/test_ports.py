import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ports import SUITE, Blocks, free_base, free_port

PORTS = range(9_000 + os.getpid() % 20 * 40, 9_040 + os.getpid() % 20 * 40)


@contextmanager
def blocks(size: int = 10) -> Generator[Blocks]:
    made = Blocks(PORTS, size, f"ports {os.getpid()}")
    try:
        yield made
    finally:
        made.give_back()


def test_nobody_is_given_a_block_that_another_one_has() -> None:
    with blocks() as one, blocks() as other:
        assert not set(one.block) & set(other.block)


def test_a_block_that_was_given_back_is_there_for_others() -> None:
    with blocks(len(PORTS)) as one:
        assert one.block == PORTS
    with blocks(len(PORTS)) as other:
        assert other.block == PORTS


def test_without_a_block_left_it_is_said_so() -> None:
    with blocks(len(PORTS)) as one, blocks(len(PORTS)) as other:
        assert one.block
        with pytest.raises(RuntimeError, match="other test processes have all ports"):
            other.free(again=True)


def test_all_ports_of_a_block_are_gone_through_before_one_comes_again() -> None:
    with blocks() as made:
        first = [made.free(again=True) for _ in range(10)]
        assert sorted(first) == list(made.block)
        assert made.free(again=True) == first[0]


def test_a_port_that_somebody_listens_on_is_passed_over() -> None:
    with blocks() as made, socket.socket() as taken:
        taken.bind(("127.0.0.1", made.block[3]))
        taken.listen()
        assert made.block[3] not in {made.free(again=True) for _ in range(20)}
        assert {made.free(5, again=False) for _ in range(4)} == {made.block[5]}


def test_another_process_is_given_other_ports() -> None:
    asked = "from tests.support.ports import free_base, free_port; print(free_port(), free_base())"
    ours = {free_port() for _ in range(500)}
    ran = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    port, base = map(int, ran.stdout.split())
    assert port not in ours
    assert abs(base - free_base()) >= SUITE
