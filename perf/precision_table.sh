#!/usr/bin/env bash
# The precision table of the README: exports each shipped LLaVA package in several precisions, runs all of them on its benchmarks,
# compares them with fp32, and prints one Markdown table on standard output.
#
#   perf/precision_table.sh [WORK_FOLDER]
#
# GAUGE names the program (default: target/release/llava-gauge), LIMIT the questions of each benchmark (default: all),
# PACKAGES and VARIANTS parts of what is done. The same command again continues. Needs python3 for the formatting.
set -euo pipefail
cd "$(dirname "$0")/.."
gauge=${GAUGE:-target/release/llava-gauge}
work=${1:-/tmp/llava-gauge-precision-table}
packages=${PACKAGES:-pico-llava-1.5 pico-llava-next pico-llava-med}
variants=${VARIANTS:-bf16 int8 int8-smooth int8-weights int4-rtn int4-guided int4-gptq int4-128-rtn int4-128-guided int4-128-gptq}
limit=()
[ -z "${LIMIT:-}" ] || limit=(--limit "$LIMIT")
mkdir -p "$work"

# Calibration sees other questions than those that are scored, where the package has more than one benchmark.
calibration() { case $1 in *-med) echo pico-vqa-rad:64 ;; *) echo pico-textvqa:64 ;; esac; }
benchmarks() { case $1 in *-med) echo pico-vqa-rad ;; *) echo pico-vqa pico-pope ;; esac; }
options() {
    local calibrate=(--calibrate "$(calibration "$1")")
    case $2 in
        bf16 | int8 | int8-weights) echo --precision "$2" ;;
        int8-smooth) echo --precision int8 "${calibrate[@]}" ;;
        int4-rtn) echo --precision int4 ;;
        int4-guided) echo --precision int4 "${calibrate[@]}" --method rtn ;;
        int4-gptq) echo --precision int4 "${calibrate[@]}" --method gptq ;;
        int4-128-rtn) echo --precision int4 --block-size 128 ;;
        int4-128-guided) echo --precision int4 --block-size 128 "${calibrate[@]}" --method rtn ;;
        int4-128-gptq) echo --precision int4 --block-size 128 "${calibrate[@]}" --method gptq ;;
        *) echo "no variant is called $2" >&2; exit 2 ;;
    esac
}

for package in $packages; do
    tower=()
    [ ! -d "exports/$package/vision_tower" ] || tower=(--vision-tower "exports/$package/vision_tower")
    made=()
    for variant in $variants; do
        folder=$work/$package/packages/$package-$variant
        # shellcheck disable=SC2046
        [ -f "$folder/package.toml" ] ||
            "$gauge" --no-progress export "exports/$package" "${tower[@]}" -o "$folder" $(options "$package" "$variant") >&2
        made+=("$folder")
    done
    for benchmark in $(benchmarks "$package"); do
        "$gauge" --no-progress run --model "exports/$package" "${made[@]}" --benchmark "$benchmark" "${limit[@]}" \
            -o "$work/$package/runs" >&2
        "$gauge" --no-progress package compare "exports/$package" "${made[@]}" --benchmark "$benchmark" --limit "${LIMIT:-256}" --json \
            >"$work/$package/agreement-$benchmark.json"
    done
    "$gauge" compare "$work/$package/runs" --base "$package" --flips 0 --json >"$work/$package/compare.json"
done
# shellcheck disable=SC2086
python3 perf/precision_table.py "$work" $packages
