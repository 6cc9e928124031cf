"""Makes an image of a folder of Python packages, as an OCI layout; the same files make the same digest."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

_OS_RELEASE = b'ID=harbour\nVERSION_ID="1"\nPRETTY_NAME="Harbour base"\n'
_SITE = "usr/lib/python3/site-packages"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def write_layout(site: Path, folder: Path, tag: str) -> str:
    """Write a layout with one image of two layers, a base and the packages; returns the manifest's digest."""
    (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    tars = [_tar({"etc/os-release": _OS_RELEASE}), _tar(_files(site))]
    layers = [gzip.compress(content, mtime=0) for content in tars]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["python3", "-m", "harbour_clock"], "Env": [f"PYTHONPATH=/{_SITE}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in tars]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": _store(folder, _CONFIG_TYPE, json.dumps(config).encode()),
        "layers": [_store(folder, _LAYER_TYPE, layer) for layer in layers],
    }
    entry = _store(folder, _MANIFEST_TYPE, json.dumps(manifest).encode())
    named = {**entry, "annotations": {"org.opencontainers.image.ref.name": tag}}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    return str(entry["digest"])


def _files(site: Path) -> dict[str, bytes]:
    return {
        f"{_SITE}/{path.relative_to(site)}": path.read_bytes()
        for path in sorted(site.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _store(folder: Path, media_type: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    (folder / "blobs" / "sha256" / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}
