"""What a suite's description tells the commands."""

import pytest

from cli.suite import Suite, pullable

SUITE = Suite({"registry": "http://127.0.0.1:5000"})


@pytest.mark.parametrize("uri", ["local-docker.pkg.dev/demo/web/app@sha256:1", "https://any:1/demo/web/app@sha256:1"])
def test_an_image_is_shown_by_the_address_it_can_be_pulled_from(uri: str) -> None:
    assert pullable(uri, SUITE) == "127.0.0.1:5000/demo/web/app@sha256:1"
