#!/usr/bin/env bash
# Runs one of the browser tests in a Python environment of its own (in target/, made on first use):
#
#   tests/browser/run.sh check_page.py INDEX_HTML [FOLDER]
#   tests/browser/run.sh test_report.py FOLDER
#
# Playwright drives the Chromium that is on the machine ($CHROMIUM, or the first found); it downloads none.
# Exit code 77, with the reason on standard output: no Chromium or no Python environment here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

chromium=""
for name in ${CHROMIUM:-} chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null 2>&1; then chromium=$(command -v "$name"); break; fi
done
if [ -z "$chromium" ]; then echo "skipped: no Chromium found (set CHROMIUM)"; exit 77; fi
if ! command -v python3 >/dev/null 2>&1; then echo "skipped: no python3 to drive Chromium with"; exit 77; fi

# One environment for each list of requirements. Tests run side by side: the first to come makes it, the others wait.
environment=${BROWSER_ENVIRONMENT:-${CARGO_TARGET_DIR:-$here/../../target}/browser-environment-$(cksum <"$here/requirements.txt" | cut -d' ' -f1)}
mkdir -p "$(dirname "$environment")"
exec 9>"$environment.lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi
if [ ! -e "$environment/complete" ]; then
    rm -rf "$environment"
    if ! { python3 -m venv "$environment" && "$environment/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"; } \
        >"$environment.log" 2>&1; then
        echo "skipped: no Python environment for the browser tests (venv, then pip install -r tests/browser/requirements.txt): $(tail -1 "$environment.log")"
        exit 77
    fi
    touch "$environment/complete"
fi
exec 9>&-

script=$1; shift
CHROMIUM=$chromium PYTHONDONTWRITEBYTECODE=1 exec "$environment/bin/python" "$here/$script" "$@"
