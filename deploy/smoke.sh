#!/usr/bin/env bash
# Start a bundle on the official TF Serving, hold the client's contract and the signatures against
# it, and take it down again.
#
#   deploy/smoke.sh runs/mine/bundle
#
# Ends with PASSED and status 0, FAILED and status 1, or, where there is no Docker engine or no
# Compose, with SKIPPED and status 0. PYTHON names the interpreter (default .venv/bin/python).
set -euo pipefail

if [ $# -ne 1 ] || [ ! -f "$1/manifest.json" ]; then
  echo "usage: deploy/smoke.sh BUNDLE, a folder that \`tandem export\` wrote" >&2
  exit 2
fi
bundle=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
project=tandem-smoke-$$

if ! docker info >/dev/null 2>&1; then
  echo "SKIPPED: no Docker engine answers; start one, or set DOCKER_HOST"
  exit 0
fi
if ! docker compose version >/dev/null 2>&1; then
  echo "SKIPPED: docker has no compose plugin; install Docker Compose 2"
  exit 0
fi

free_port() {
  "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
export TANDEM_HOST=127.0.0.1 TANDEM_GRPC_PORT TANDEM_REST_PORT
TANDEM_GRPC_PORT=$(free_port)
TANDEM_REST_PORT=$(free_port)

compose() { docker compose --project-name "$project" --file "$bundle/docker-compose.yml" "$@"; }

finish() {
  status=$?
  trap - EXIT
  [ $status -eq 0 ] || compose logs --tail 50 || true
  compose down --volumes --timeout 10 || true
  if [ $status -eq 0 ]; then echo PASSED; else echo FAILED; status=1; fi
  exit $status
}
trap finish EXIT

compose up --detach --wait --wait-timeout 300
cd "$root"
TANDEM_SERVER=127.0.0.1:$TANDEM_GRPC_PORT \
TANDEM_REST=127.0.0.1:$TANDEM_REST_PORT \
TANDEM_BUNDLE=$bundle \
  "$python" -m pytest tests/contracts/test_client.py
