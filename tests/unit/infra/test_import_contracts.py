import tomllib
from pathlib import Path
from typing import Any


def contracts() -> list[dict[str, Any]]:
    return tomllib.loads(Path("pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def test_the_import_contracts_name_every_service() -> None:
    folders = {f"services.{path.parent.name}" for path in Path("services").glob("*/__init__.py")}
    (independence,) = [contract for contract in contracts() if contract["type"] == "independence"]
    (layers,) = [contract for contract in contracts() if contract["type"] == "layers"]

    assert set(independence["modules"]) == set(layers["containers"]) == folders


def test_every_service_has_an_extra_of_its_own() -> None:
    extras = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    folders = {path.parent.name.replace("_", "-") for path in Path("services").glob("*/__init__.py")}

    assert folders <= set(extras)
