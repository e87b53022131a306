#!/usr/bin/env python3
"""Measures everything: the limits of the machine, llava-gauge against transformers, and the language model against llama.cpp,
onnxruntime-genai and transformers. Prints the tables of perf/README.md, in Markdown, and leaves the figures with all samples
in `target/perf/results/*.json`. A part that fails costs its own tables only.

    pip install -r perf/requirements.txt
    cargo build --release
    python3 perf/all.py --program target/release/llava-gauge > table.md

--smoke takes tiny shapes and leaves out nothing: it shows in a few minutes that every script works.
"""

import json
import subprocess
import sys
from pathlib import Path

import common
from common import processor, say

HERE = Path(__file__).parent


def machine_line(results: Path) -> str:
    """One line that says what the figures belong to."""
    for file in sorted(results.glob("*.json")):
        figures = json.loads(file.read_text())
        facts = figures["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
        return f"{processor()[0]} ({', '.join(facts['features'])}), {figures['threads']} threads. {versions}."
    return "nothing was measured"


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--compiled", action="store_true", help="also transformers with a static cache and torch.compile")
    arguments = parser.parse_args()
    shared = ["--work", str(arguments.work), "--threads", str(arguments.threads)]
    shared += ["--smoke"] if arguments.smoke else []
    sides = ["--program", str(arguments.program), "--rounds", str(arguments.rounds), "--precisions", *arguments.precisions]
    sides += ["--full"] if arguments.full else []
    sides += ["--checkpoint", str(arguments.checkpoint)] if arguments.checkpoint else []
    whole = shared + sides + (["--compiled"] if arguments.compiled else [])
    parts = {"limits.py": shared, "language_model.py": shared + sides, "against_transformers.py": whole}
    tables, failed = [], []
    for script, options in parts.items():
        say(script)
        done = subprocess.run([sys.executable, HERE / script, *options], stdout=subprocess.PIPE, text=True, check=False)
        tables.append(done.stdout.strip())
        if done.returncode != 0:
            failed.append(script)
            say(f"{script} ended with {done.returncode}")
    print("\n\n".join([machine_line(arguments.work / "results"), *filter(None, tables)]))
    if failed:
        print(f"\nFAILED: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
