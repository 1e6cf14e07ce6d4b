#!/usr/bin/env bash
# Hold every manifest against the Kubernetes JSON schemas, strictly, with no cluster: the package
# kubernetes-validate brings the schemas. It gets an environment of its own, in $VENV.
set -euo pipefail
cd "$(dirname "$0")"
venv=${VENV:-${TMPDIR:-/tmp}/tandem-kubernetes-validate}
if [ ! -x "$venv/bin/kubernetes-validate" ]; then
  "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check 'kubernetes-validate==1.37.0'
fi
for file in *.yaml; do
  case $file in
    kustomization.yaml | prometheus-adapter.yaml) ;;  # kubectl's and the chart's own formats
    *) "$venv/bin/kubernetes-validate" --strict "$file" ;;
  esac
done
