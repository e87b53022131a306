#!/usr/bin/env bash
# Opens a report in headless Chromium and fails if it reports anything on the console, asks for anything over a network,
# lets injected markup act, is wider than a phone, a tablet or a desk, is not accessible, or its samples cannot be filtered.
#
#   tests/report_in_browser.sh INDEX_HTML [FOLDER]
#
# Leaves wide.png (1440 px), tablet.png (768 px), narrow.png (390 px), the same in dark colours, and print.pdf in FOLDER
# (default: beside the page). SCREENSHOTS=0 only checks. Exit code 77: no Chromium or no Python environment on this machine.
exec bash "$(dirname "$0")/browser/run.sh" check_page.py "$@"
