"""Trying a runtime leaves nothing behind, also without root: an overlay's folders are closed to their owner."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NOBODY = 65534
TRY = """
import asyncio, sys
from pathlib import Path
from services.builder.errors import NoRuntime
from services.builder.sandbox.cgroups import Cgroups
from services.builder.sandbox.probe import find_sandbox
from services.builder.sandbox.users import Users

async def main():
    users = await Users.open()
    cgroups = Cgroups((), "")
    print((await find_sandbox(Path(sys.argv[1]), users, cgroups)).runtime)
    users.close()

try:
    asyncio.run(main())
except NoRuntime as refused:
    sys.exit(f"refused: {refused}")
"""


def somebody() -> list[str]:
    """The words that make a program somebody without root; root's own Python may be out of reach of others."""
    if os.geteuid() != 0:
        return [sys.executable]
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "/usr/bin/python3"]


@pytest.mark.skipif(not (shutil.which("crun") or shutil.which("runc")), reason="neither crun nor runc is installed")
def test_a_runtime_is_tried_without_root_and_nothing_is_left() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        libraries = os.pathsep.join((str(ROOT), sysconfig.get_path("platlib")))
        ran = subprocess.run(
            [*somebody(), "-c", TRY, folder],
            env={"PYTHONPATH": libraries, "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if "ModuleNotFoundError" in ran.stderr or "refused:" in ran.stderr:
            pytest.skip(f"nobody cannot try it here: {ran.stderr.strip()[-200:]}")
        assert ran.returncode == 0, ran.stderr
        assert list(Path(folder).iterdir()) == []
