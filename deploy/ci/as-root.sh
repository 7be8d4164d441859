#!/usr/bin/env bash
# Runs a command as root, with this environment: through sudo where we are not root yet.
set -euo pipefail
if [[ $EUID -eq 0 ]]; then exec "$@"; else exec sudo -E "$@"; fi
