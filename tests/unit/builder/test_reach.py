"""Which addresses builds reach, by routes and by the builder's own requests."""

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.builder.errors import NoRuntime
from services.builder.reach import PRIVATE, Reach, own_addresses

TABLE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
Local:
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 203.0.113.7
        /32 host LOCAL
     |-- 203.0.113.255
        /32 link BROADCAST
"""


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),  # noqa: S104
        *("255.255.255.255", "224.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "not an address", ""),
    ],
)
def test_private_addresses_are_closed_however_they_are_written(address: str) -> None:
    assert not Reach().allows(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_open(address: str) -> None:
    assert Reach().allows(address)


def test_what_the_operator_names_is_open_and_nothing_beside_it() -> None:
    reach = Reach.parse("10.20.0.0/16, fd12::/64,192.168.7.5")
    assert reach.allows("10.20.255.1")
    assert reach.allows("::ffff:10.20.0.1")
    assert reach.allows("fd12::9")
    assert reach.allows("192.168.7.5")
    assert not reach.allows("10.21.0.1")
    assert not reach.allows("192.168.7.6")


def test_a_setting_that_is_no_network_is_refused_in_words() -> None:
    with pytest.raises(NoRuntime, match="ENTREPOT_BUILDER_REACH"):
        Reach.parse("10.0.0.1/8")


def test_routes_close_what_is_private_and_the_machine_itself() -> None:
    lines = Reach.parse("10.20.0.0/16").routes(["203.0.113.7", "8.8.4.4"], "10.0.2.2")
    assert "route replace unreachable 10.0.0.0/8" in lines
    assert "route replace 10.20.0.0/16 via 10.0.2.2" in lines
    assert "route replace unreachable 8.8.4.4/32" in lines
    assert lines.index("route replace 10.20.0.0/16 via 10.0.2.2") > lines.index("route replace unreachable 10.0.0.0/8")


def test_the_machine_itself_stays_closed_in_a_network_that_is_open() -> None:
    lines = Reach.parse("10.0.0.0/8").routes(["10.1.2.3"], "10.0.2.2")
    assert "route replace unreachable 10.0.0.0/8" not in lines
    assert "route replace unreachable 10.1.2.3/32" in lines
    assert "route replace unreachable 10.1.2.3/32" not in Reach.parse("10.1.2.3").routes(["10.1.2.3"], "10.0.2.2")


@given(st.ip_addresses(v=4))
def test_routes_and_requests_agree(address: ipaddress.IPv4Address) -> None:
    closed = [ipaddress.ip_network(line.rpartition(" ")[2]) for line in Reach().routes([], "10.0.2.2")]
    assert Reach().allows(str(address)) == (not any(address in net for net in closed))
    assert len(closed) == len(PRIVATE)


@given(st.text())
def test_any_text_is_an_answer(text: str) -> None:
    assert Reach().allows(text) in {True, False}


def test_the_addresses_of_the_machine_are_read_from_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "table").write_text(TABLE)
    assert own_addresses(tmp_path / "table") == ["203.0.113.7"]
    assert own_addresses(tmp_path / "none") == ()
