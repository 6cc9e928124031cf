"""An empty list of findings is an answer only about an image that was scanned."""

import pytest

from cli.exits import Failed, Missing
from cli.scan import require_analysis


def test_an_image_that_was_scanned_may_have_no_findings() -> None:
    require_analysis("h/p/r/i@d", [{"discovery": {"analysisStatus": "FINISHED_SUCCESS"}}])


def test_an_image_that_was_never_scanned_is_not_clean() -> None:
    with pytest.raises(Missing, match="was not scanned"):
        require_analysis("h/p/r/i@d", [])


def test_an_image_whose_scan_failed_is_not_clean() -> None:
    failed = {"analysisStatus": "FINISHED_FAILED", "analysisStatusError": {"message": "a layer is broken"}}

    with pytest.raises(Failed, match="FINISHED_FAILED a layer is broken"):
        require_analysis("h/p/r/i@d", [{"discovery": failed}])
