"""Debian's docker-registry as a peer, in its strongest setting: no access log, no login, descriptors in memory."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from tests.support.ports import free_port

_CONFIG = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {folder}}}
  cache: {{blobdescriptor: inmemory}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@contextlib.contextmanager
def docker_registry() -> Generator[int]:
    """Run it on a free loopback port, which is given."""
    program = shutil.which("docker-registry")
    if program is None:
        raise SystemExit("docker-registry is not installed: apt-get install docker-registry")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        config = Path(folder, "config.yml")
        config.write_text(_CONFIG.format(folder=folder, port=port))
        process = subprocess.Popen(
            [program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(port)
            yield port
        finally:
            process.terminate()
            process.wait(10)


_NGINX = """daemon off; master_process off; worker_processes 1; error_log stderr crit; pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}/files; }}
}}
"""


@contextlib.contextmanager
def nginx() -> Generator[tuple[int, Path] | None]:
    """nginx with sendfile on a free port, and the folder whose files it serves; None where it is not installed."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        Path(folder).chmod(0o755)
        files = Path(folder, "files")
        files.mkdir()
        config = Path(folder, "nginx.conf")
        config.write_text(_NGINX.format(folder=folder, port=port))
        process = subprocess.Popen([program, "-c", str(config), "-p", folder], stderr=subprocess.DEVNULL)
        try:
            wait_for(port)
            yield port, files
        finally:
            process.terminate()
            process.wait(10)


def wait_for(port: int, seconds: float = 20) -> None:
    """Until somebody listens."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on port {port} after {seconds} s")
