"""The compose file as it is written, and the settings of a builder beside it."""

from typing import Any

import yaml

from tests.support.suite import ROOT

FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CONTAINERS: dict[str, dict[str, Any]] = FILE["services"]
OUTSIDE = ("--file", "infra/compose/outside-builder.yml")
"""What is named beside the file where a builder runs on the machine."""


def outside_settings() -> dict[str, str]:
    """What such a builder is told."""
    lines = (ROOT / "infra/compose/outside-builder.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
