"""`entrepot env`: settings by which unmodified clients find this suite, to be eval-ed by a shell."""

import base64
import json
import os
import shlex
import sys
from pathlib import Path

import click

from cli import account, keyfile, suite
from cli.docker.loopback import allow_http
from cli.exits import Failed
from shared import secret_files

_GOOGLE = {
    "ARTIFACTREGISTRY": "registry",
    "CLOUDBUILD": "builder",
    "SECRETMANAGER": "builder",
    "CONTAINERANALYSIS": "scanner",
    "ONDEMANDSCANNING": "scanner",
    "BINARYAUTHORIZATION": "attestor",
    "LOGGING": "audit_log",
    "ACCESSCONTEXTMANAGER": "identity",
    "IAM": "identity",
    "IAMCREDENTIALS": "identity",
    "CLOUDRESOURCEMANAGER": "identity",
    "SERVICEUSAGE": "identity",
}
"""Google's product, as gcloud's settings name it, and the service that answers for it."""


@click.group()
def env() -> None:
    """Settings for gcloud, container clients or the shell: eval "$(entrepot env sh)"."""


@env.command(short_help="What an unmodified gcloud needs.")
@suite.data_option
@suite.project_option
def gcloud(data: str, project: str) -> None:
    """What an unmodified gcloud needs: endpoints, project, and the account's key file, with a folder of its own."""
    found = suite.of(data)
    key = account.key_path(found)
    settings = {f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": f"{found.address(of)}/" for name, of in _GOOGLE.items()}
    settings |= {
        "CLOUDSDK_CONFIG": str(_folder(found, "gcloud")),
        "CLOUDSDK_CORE_PROJECT": project,
        "CLOUDSDK_CORE_ACCOUNT": keyfile.read(key).email,
        "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE": str(key),
        "CLOUDSDK_AUTH_TOKEN_HOST": keyfile.read(key).token_uri,
        "CLOUDSDK_ARTIFACTS_LOCATION": found.location,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
    }
    _export(settings)


@env.command(short_help="What docker, podman and skopeo need.")
@suite.data_option
def docker(data: str) -> None:
    """What docker, podman, buildah and skopeo need: credentials, and that HTTP on loopback will do.

    docker takes plain HTTP on loopback by itself; the others are told by a file among the user's own settings.
    """
    found = suite.of(data)
    key = keyfile.read(account.key_path(found))
    folder = _folder(found, "docker")
    secret = base64.b64encode(f"_json_key:{key.content}".encode()).decode()
    config = folder / "config.json"
    secret_files.replace(config, json.dumps({"auths": {found.registry_host: {"auth": secret}}}, indent=2).encode())
    allow_http(found.registry_host)
    _export(
        {
            "DOCKER_CONFIG": str(folder),
            "REGISTRY_AUTH_FILE": str(config),
            "ENTREPOT_REGISTRY": found.registry_host,
        }
    )


@env.command(short_help="What entrepot itself and scripts need.")
@suite.data_option
@suite.project_option
def sh(data: str, project: str) -> None:
    """What further entrepot commands and scripts need: addresses, data folder, project, key file, PATH."""
    found = suite.of(data)
    settings = {f"ENTREPOT_{name.upper()}_ADDRESS": found.address(name) for name in found.addresses}
    settings |= {"ENTREPOT_PROJECT": project, "ENTREPOT_REGISTRY": found.registry_host}
    settings["ENTREPOT_KEY_FILE"] = str(account.key_path(found).absolute())
    settings["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    if found.data:
        settings["ENTREPOT_DATA"] = str(found.data)
    _export(settings)


def _export(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _folder(found: suite.Suite, name: str) -> Path:
    if found.data is None:
        raise Failed("this needs a suite on this machine: name its data folder with --data")
    folder = found.data / "run" / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
