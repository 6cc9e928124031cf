import json
from pathlib import Path

import pytest

from cli.cleanup import read_policies
from cli.exits import Failed

OLD = {"action": "DELETE", "condition": {"olderThan": "30d"}}


def written(folder: Path, content: object) -> Path:
    path = folder / "policies.json"
    path.write_text(json.dumps(content))
    return path


def test_policies_by_id_are_sent_as_they_are(tmp_path: Path) -> None:
    assert read_policies(written(tmp_path, {"old": OLD})) == {"old": OLD}


def test_the_list_that_gcloud_reads_is_read_too(tmp_path: Path) -> None:
    listed = [{"name": "old", "action": {"type": "Delete"}, "condition": {"olderThan": "30d"}}]

    assert read_policies(written(tmp_path, listed)) == {"old": OLD}


def test_anything_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="neither policies by id"):
        read_policies(written(tmp_path, [1]))
