#!/usr/bin/env bash
# Runs a package on benchmarks and gates it against a baseline: the steps of workflow.yml and gitlab-ci.yml, which can be run
# by hand as well. The exit code is that of `llava-gauge gate`: 0 passed, 5 passed but incomplete, 100 worse or beyond a limit,
# 101 too many samples without an answer, 104 not comparable, 106 a run or the baseline is damaged.
#
#   MODEL       package or packages (folders, or names of shipped ones), separated by blanks; none: gate what RUNS holds
#   BENCHMARKS  benchmarks, separated by blanks
#   BASELINE    name of a saved baseline, its folder, run directories, or a tag
#   POLICY      policy file                          [gate.toml beside this script]
#   RUNS        folder of runs                       [runs]
#   RESULTS     folder for everything that is made   [results]
#   LIMIT       ask only so many questions of each benchmark
#   BASELINES   folder of saved baselines            [baselines]
#   GAUGE       the program                          [llava-gauge]
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
gauge="${GAUGE:-llava-gauge}"
runs="${RUNS:-runs}"
results="${RESULTS:-results}"
policy="${POLICY:-$here/gate.toml}"
: "${BASELINE:?name a baseline: BASELINE=main}"

mkdir -p "$results"

if [ -n "${MODEL:-}" ]; then
    read -r -a models <<<"$MODEL"
    read -r -a benchmarks <<<"${BENCHMARKS:?name benchmarks: BENCHMARKS=\"pico-pope pico-vqa\"}"
    "$gauge" --no-progress run --model "${models[@]}" --benchmark "${benchmarks[@]}" ${LIMIT:+--limit "$LIMIT"} -o "$runs"
fi

exports=(
    --export "junit=$results/junit.xml"
    --export "github=$results/summary.md"
    --export "github-comment=$results/comment.md"
    --export "benchmark-bigger=$results/accuracy.json"
    --export "benchmark-smaller=$results/latency.json"
    --export "bmf=$results/bencher.json"
    --export "csv=$results/results.csv"
    --export "json=$results/results.json"
)
# GitHub shows what is written here below the job.
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
    exports+=(--export "github=$GITHUB_STEP_SUMMARY")
fi

code=0
"$gauge" gate "$runs" --baseline "$BASELINE" --baselines "${BASELINES:-baselines}" --policy "$policy" "${exports[@]}" || code=$?

# The pages to look at, whatever the gate says. Runs that cannot be reported are no second failure.
"$gauge" report "$runs" --output "$results/report" >/dev/null || echo "no report was written" >&2

exit "$code"
