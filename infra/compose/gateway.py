"""The gateway's configuration: one port a service, every replica of it found through the engine's DNS."""

from infra.embedded.ports import SERVICES

FIRST_PORT = 5000
CERTIFICATE, KEY = "/entrepot/tls/tls.crt", "/entrepot/tls/tls.key"

_HEAD = """\
# Written by `init` at every start.
worker_processes auto;
pid /tmp/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  server_tokens off;
  merge_slashes off;
  # Asked again after two seconds, so that replicas come and go without a word to the gateway.
  resolver 127.0.0.11 valid=2s ipv6=off;
  client_body_temp_path /tmp/body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;
  # Layers are large: they pass through as they come, neither limited nor kept here.
  client_max_body_size 0;
  proxy_request_buffering off;
  proxy_buffering off;
  proxy_http_version 1.1;
  proxy_connect_timeout 5s;
  proxy_read_timeout 900s;
  proxy_send_timeout 900s;
  proxy_set_header Host $http_host;
  proxy_set_header Connection "";
  # Not appended to what came: whatever a client writes there is not believed.
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme;
"""

_TLS = f"""\
  ssl_certificate {CERTIFICATE};
  ssl_certificate_key {KEY};
  ssl_protocols TLSv1.2 TLSv1.3;
"""


def configuration(*, tls: bool) -> str:
    """The file that nginx reads."""
    servers = [_server(name.replace("_", "-"), FIRST_PORT + offset, tls=tls) for name, offset in SERVICES.items()]
    return "".join([_HEAD, _TLS if tls else "", *servers, "}\n"])


def _server(service: str, port: int, *, tls: bool) -> str:
    # The name stands in a variable: otherwise it would be looked up once, at the gateway's start, and never again.
    return f"""\
  server {{
    listen {port}{" ssl" if tls else ""};
    set $service http://{service}:{port};
    location = /metrics {{ return 404; }}
    location / {{ proxy_pass $service; }}
  }}
"""
