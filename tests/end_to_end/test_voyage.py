"""The voyage, as `./task demo` sails it, against a suite that a user started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.suite import ROOT, Suite


def sail(suite: Suite, cache: Path, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "examples.voyage", "--data", str(suite.data), "--cache", str(cache)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.timeout(300)
def test_an_image_with_flaws_is_refused_and_the_mended_one_let_in(suite: Suite, tmp_path: Path) -> None:
    said = sail(suite, tmp_path)
    places = [
        said.index(words)
        for words in ("image.pushed", "scan.completed", "denied", "attestation.created", "admission: allowed")
    ]
    assert places == sorted(places)
    assert "harbour-clock 1.0.0, fixed in 1.0.1" in said
    assert "would delete 1.0.0" in said
    assert "PutManifest x" in said.partition("Who did what")[2]
    assert "CreateAttestor" in said


@pytest.mark.timeout(300)
def test_the_voyage_can_be_sailed_again_and_without_a_network(suite: Suite, tmp_path: Path) -> None:
    """The second time nothing is new; where no wheel can be fetched the demo's own application is the image."""
    said = sail(suite, tmp_path, PIP_INDEX_URL="http://127.0.0.1:9/", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert "no network" in said
    assert "admission: allowed" in said
