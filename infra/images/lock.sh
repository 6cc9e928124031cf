#!/bin/sh
# Pins what each image installs, to what requirements.lock says: the libraries of one service's extra and no others.
# `services.lock` is for all services that need nothing beside what every service needs.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p infra/images/locks

pin() {
  uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
    --constraints requirements.lock --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
    --custom-compile-command './task lock' -o "infra/images/locks/$1.lock" ${2:+--extra "$2"}
}

pin services
for extra in builder scanner provision; do
  pin "$extra" "$extra"
done
