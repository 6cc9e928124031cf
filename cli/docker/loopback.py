"""Plain HTTP on loopback: docker takes it by itself, podman, buildah and skopeo where a file says so."""

from pathlib import Path

from shared import secret_files


def allow_http(host: str) -> None:
    """Write that file, among the user's own settings; every version of these clients reads it."""
    home = Path.home() / ".config" / "containers" / "registries.conf.d"
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"entrepot-{host.replace(':', '-')}.conf"
    secret_files.replace(path, f'[[registry]]\nlocation = "{host}"\ninsecure = true\n'.encode())


def is_loopback(host: str) -> bool:
    """Whether a registry's host, perhaps with a port, is this machine."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return name in {"localhost", "[::1]"} or name.startswith("127.")
