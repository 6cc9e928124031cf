#!/bin/sh
# Builds one image a service, and `provision`. What follows is handed to each build, such as `--build-arg BASE=...`.
#   ENTREPOT_IMAGE_PREFIX=registry.example/entrepot/ ENTREPOT_IMAGE_TAG=1.2 sh infra/images/build.sh --pull
set -eu
cd "$(dirname "$0")/../.."
engine=${ENGINE:-docker}
for target in provision identity registry builder scanner attestor cleanup audit_log; do
  name=${ENTREPOT_IMAGE_PREFIX:-entrepot/}$(echo "$target" | tr _ -):${ENTREPOT_IMAGE_TAG:-latest}
  "$engine" build --file infra/images/Dockerfile --target "$target" --tag "$name" "$@" .
  echo "$name"
done
