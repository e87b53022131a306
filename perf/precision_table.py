"""Formats what perf/precision_table.sh collected as one Markdown table. Python's own library only."""

import json
import sys
from pathlib import Path

HEADER = [
    "package", "benchmark", "accuracy [95 %]", "difference [95 %]", "broken / fixed", "mean KL", "first token equal", "led tokens equal",
    "ms a question", "disk MB", "peak MB",
]


def interval(estimate):
    low_high = estimate.get("interval")
    shown = f"{estimate['value']:.1f}"
    return shown if low_high is None else f"{shown} [{low_high[0]:.1f}, {low_high[1]:.1f}]"


def percent(share):
    return f"{100 * share['share']:.1f} %"


def difference(pair):
    found = pair["metrics"][0]["difference"]
    ends = found.get("interval")
    return f"{found['value']:+.1f}" if ends is None else f"{found['value']:+.1f} [{ends[0]:+.1f}, {ends[1]:+.1f}]"


def rows(folder):
    compared = json.loads((folder / "compare.json").read_text())
    pairs = {(pair["benchmark"], pair["new"]): pair for pair in compared["pairs"]}
    agreements = {}
    for path in folder.glob("agreement-*.json"):
        found = json.loads(path.read_text())
        for package in found["packages"]:
            agreements[found["benchmark"], package["name"]] = package
    for run in compared["runs"]:
        name, benchmark = run["header"]["model"]["name"], run["header"]["benchmark"]["name"]
        pair, package = pairs.get((benchmark, name)), agreements[benchmark, name]
        agreement = package["agreement"]
        primary = next(metric for metric in run["metrics"] if metric["primary"])
        memory = run.get("peak_memory_bytes")
        yield [
            name,
            benchmark,
            interval(primary["estimate"]),
            "" if pair is None else difference(pair),
            "" if pair is None else f"{pair['broken']} / {pair['fixed']} of {pair['paired']}",
            "" if agreement is None else f"{agreement['first_token_mean_kl']:.1e}",
            "" if agreement is None else percent(agreement["first_token"]),
            "" if agreement is None else percent(agreement["led_tokens"]),
            f"{run['latency']['per_question_ms']:.1f}",
            f"{package['disk_bytes'] / 1e6:.1f}",
            "–" if memory is None else f"{memory / 1e6:.0f}",
        ]


def main():
    work, *packages = sys.argv[1:]
    print("| " + " | ".join(HEADER) + " |")
    print("|" + " --- |" * len(HEADER))
    for package in packages:
        for row in rows(Path(work) / package):
            print("| " + " | ".join(row) + " |")


main()
