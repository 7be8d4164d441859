#!/usr/bin/env bash
# What action.yml runs: inputs as variables in, the command's options out, and its results as the
# step's outputs and summary. Inputs are never part of a command's text.
set -euo pipefail

options=(--image "$IMAGE" --tests-in "$TESTS_IN" --fail-on "$FAIL_ON" --job "$JOB"
  --timeout-seconds "$TIMEOUT_SECONDS" --warn-below-percent "$WARN_BELOW_PERCENT"
  --output "$OUTPUT")
if [[ $RULE_OUT == true ]]; then options+=(--rule-out); fi
if [[ -n $PORT ]]; then options+=(--port "$PORT"); fi
if [[ -n $ATTACH ]]; then options+=(--attach "$ATTACH"); fi
if [[ -z ${VEXSTREAM_SIGNING_KEY:-} ]]; then
  unset VEXSTREAM_SIGNING_KEY
elif [[ -z $SIGN ]]; then
  SIGN=key
fi
if [[ -z ${VEXSTREAM_SIGSTORE_TRUST_CONFIG:-} ]]; then unset VEXSTREAM_SIGSTORE_TRUST_CONFIG; fi
case $SIGN in
  "" | none) ;;
  key) options+=(--sign) ;;
  keyless)
    options+=(--sign)
    export VEXSTREAM_SIGNING_KEYLESS=true
    ;;
  *)
    echo "::error title=vexstream::sign is key, keyless or none, not $SIGN" >&2
    exit 2
    ;;
esac

# lines TEXT OPTION: each line of the text with the option before it.
lines() {
  local line
  while IFS= read -r line; do
    if [[ -n $line ]]; then options+=("$2" "$line"); fi
  done <<<"$1"
}
lines "$VARIABLES" --env
lines "$PRODUCTS" --product

command=()
while IFS= read -r line; do
  if [[ -n $line ]]; then command+=("$line"); fi
done <<<"$COMMAND"

# Of an earlier step: this one may end before it writes its own.
"$GITHUB_ACTION_PATH/deploy/ci/as-root.sh" rm -f "$OUTPUT/result.json"
status=0
"$GITHUB_ACTION_PATH/deploy/ci/as-root.sh" \
  "${VEXSTREAM_CI:-$GITHUB_ACTION_PATH/.venv/bin/vexstream}" ci "${options[@]}" -- "${command[@]}" >"${RUNNER_TEMP:-/tmp}/vexstream-ci.out" || status=$?

if [[ -f $OUTPUT/result.json ]]; then
  cat "$OUTPUT/summary.md" >>"$GITHUB_STEP_SUMMARY"
  python3 - "$OUTPUT" >>"$GITHUB_OUTPUT" <<'PYTHON'
import json
import os
import sys

folder = sys.argv[1]
with open(f"{folder}/result.json") as file:
    result = json.load(file)
counts = result["counts"]
print(f"outcome={result['outcome']}")
print(f"affected={counts['affected']}")
print(f"under-investigation={counts['under_investigation']}")
print(f"not-affected={counts['not_affected']}")
print(f"violations={result['violations']}")
print(f"openvex={folder}/openvex.json" if result["has_document"] else "openvex=")
signed = os.path.exists(f"{folder}/openvex.sigstore.json")
print(f"attestation={folder}/openvex.sigstore.json" if signed else "attestation=")
print(f"sarif={folder}/vexstream.sarif")
print(f"junit={folder}/junit.xml")
for warning in result["warnings"]:
    print(f"::warning title=vexstream::{warning}", file=sys.stderr)
if result.get("not_published"):
    why = " ".join(result["not_published"].split())
    print(f"::error title=vexstream::not published: {why}", file=sys.stderr)
PYTHON
else
  echo "outcome=no_evidence" >>"$GITHUB_OUTPUT"
fi
exit "$status"
