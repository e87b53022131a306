#!/usr/bin/env python3
"""Measures the language model of the random checkpoint alone: prefill of 636 tokens, and decoding one token at a time from
640 tokens on. Sides: llava-gauge in several precisions, llama.cpp in several types, onnxruntime-genai, transformers.

Every side runs in a process of its own, in turn forwards and backwards; loading and warm-up are not counted, and neither
are tokenising and sampling (in onnxruntime-genai a greedy choice is part of a step). llama.cpp and onnxruntime-genai are
measured on text alone, without the vision tower, which their conversions here leave out.

    python3 perf/language_model.py --program target/release/llava-gauge
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import common
import peer_genai
import peer_llama_cpp
from common import Failed, call, in_words, load_average, machine, median, processor, ratio, rounds_in_turn, say, store, table
from program import Program
from workload import checkpoint, text_checkpoint

HERE = Path(__file__).parent
# Ratios are shown against these peers.
AGAINST = ["transformers fp32", "llama.cpp F32", "llama.cpp F16", "llama.cpp BF16", "llama.cpp Q8_0", "llama.cpp Q4_0",
           "onnxruntime-genai fp32", "onnxruntime-genai int8 b128", "onnxruntime-genai int4 b32"]
SIDES = ["llava-gauge", "llama.cpp", "onnxruntime-genai", "transformers"]


@dataclass
class Subject:
    """One side in one precision."""

    name: str
    run: Callable[[], dict]
    rounds: list[dict] = field(default_factory=list)
    failure: str | None = None

    def measure(self) -> None:
        """One round; a side that fails once is left out of further rounds, and the reason is kept."""
        if self.failure:
            return
        try:
            self.rounds.append(self.run())
        except (Failed, OSError, ValueError, KeyError, StopIteration) as failure:
            self.failure = f"{type(failure).__name__}: {failure}" if not isinstance(failure, Failed) else str(failure)
            say(f"{self.name} is left out: {self.failure}")
            return
        prefill, decode = self.seconds("prefill_seconds")[-1], self.seconds("decode_seconds")[-1]
        say(f"{self.name}: prefill {prefill:.3f} s, decode {decode * 1000:.1f} ms")

    def seconds(self, what: str) -> list[float]:
        """The median of each round."""
        return [median(figures[what]) for figures in self.rounds]

    def seconds_per_prompt_token(self) -> list[float]:
        """Of prefill: what ratios are taken of, so that a prompt of another length is no advantage."""
        return [seconds / figures["prefill_tokens"] for seconds, figures in zip(self.seconds("prefill_seconds"), self.rounds)]


def subjects_of(arguments, work: Path, folder: Path, sizes: dict, left_out: dict) -> tuple[list[Subject], dict]:
    """Prepares all sides: exports, conversions, builds. What cannot be prepared goes to `left_out` with the reason."""
    subjects, facts = [], {}
    threads = arguments.threads
    text = text_checkpoint(work, folder)
    program = Program(arguments.program, work, folder, threads)
    facts["llava_gauge"] = {"version": program.version, "sha256": program.sha256}
    if "llava-gauge" in arguments.sides:
        precisions, unknown = program.known(arguments.precisions)
        left_out.update({f"llava-gauge {name}": reason for name, reason in unknown.items()})
        for precision in precisions:
            subjects.append(Subject(
                f"llava-gauge {precision}", lambda precision=precision: program.language_model(precision, **sizes)))
    prompt = [1, *range(5, 5 + 31)]
    expected = None

    def same_tokens(name: str, tokens: list[int]) -> None:
        """In fp32 a peer must go on as transformers does, or its conversion is not the same model."""
        nonlocal expected
        if expected is None:
            settings = {"folder": str(text), "prompt": prompt, "count": 8, "threads": threads}
            expected = json.loads(call([sys.executable, HERE / "peer_transformers.py", json.dumps(settings)])[0])
        if tokens != expected:
            raise Failed(f"{name}: goes on with {tokens}, transformers with {expected}: not the same model")

    def prepare(name: str, make: Callable[[], Callable[[], dict]]) -> None:
        try:
            subjects.append(Subject(name, make()))
        except (Failed, OSError, ValueError, KeyError) as failure:
            left_out[name] = str(failure)
            say(f"{name} is left out: {failure}")

    if "llama.cpp" in arguments.sides:
        try:
            binaries = arguments.llama_cpp or peer_llama_cpp.build(work)
            for kind in arguments.llama_types:
                def llama(kind=kind):
                    file = peer_llama_cpp.convert(work, text, kind)
                    if kind == "F32":
                        same_tokens("llama.cpp F32", peer_llama_cpp.greedy(binaries, file, prompt, 8, threads))
                    attention: dict[str, str] = {}
                    return lambda: peer_llama_cpp.language_model(binaries, file, threads, attention, **sizes)
                prepare(f"llama.cpp {kind}", llama)
        except (Failed, OSError) as failure:
            left_out["llama.cpp"] = str(failure)
            say(f"llama.cpp is left out: {failure}")
    if "onnxruntime-genai" in arguments.sides:
        for build in peer_genai.BUILDS:
            def genai(build=build):
                made = peer_genai.build(work, text, build, threads)
                if build == "fp32":
                    same_tokens("onnxruntime-genai fp32", child("peer_genai.py", {
                        "folder": str(made), "prompt": prompt, "count": 8}))
                return lambda: child("peer_genai.py", {"folder": str(made), **sizes})
            prepare(f"onnxruntime-genai {build}", genai)
    if "transformers" in arguments.sides:
        features = processor()[1]
        for precision in ["fp32", "bf16"]:
            if precision == "bf16" and "avx2" in features and "avx512f" not in features:
                left_out["transformers bf16"] = "torch has no fast bf16 on a processor without AVX-512"
                continue
            settings = {"folder": str(text), "precision": precision, "threads": threads, **sizes}
            prepare(f"transformers {precision}", lambda settings=settings: lambda: child("peer_transformers.py", settings))
    return subjects, facts


def child(script: str, settings: dict):
    """Runs a peer's script in a process of its own. Its last line is its answer."""
    return json.loads(call([sys.executable, HERE / script, json.dumps(settings)])[0].strip().splitlines()[-1])


def figures_of(subjects: list[Subject]) -> dict:
    """Samples and medians of each side, and the ratios of ours to each peer."""
    by_name = {subject.name: subject for subject in subjects if subject.rounds}
    figures = {}
    for name, subject in by_name.items():
        prefill, decode = subject.seconds("prefill_seconds"), subject.seconds("decode_seconds")
        tokens = subject.rounds[0]["prefill_tokens"]
        figures[name] = {
            "prefill_tokens": tokens, "prefill_seconds": median(prefill), "prefill_tokens_per_second": tokens / median(prefill),
            "decode_seconds": median(decode), "decode_tokens_per_second": 1 / median(decode), "rounds": subject.rounds,
        }
        if name.startswith("llava-gauge"):
            peers = {peer: by_name[peer] for peer in by_name if not peer.startswith("llava-gauge")}
            even = {peer: other for peer, other in peers.items() if len(other.rounds) == len(subject.rounds)}
            figures[name]["times_faster"] = {
                peer: {
                    "prefill": ratio(other.seconds_per_prompt_token(), subject.seconds_per_prompt_token()),
                    "decode": ratio(other.seconds("decode_seconds"), decode),
                } for peer, other in even.items()
            }
    return figures


def report(figures: dict) -> str:
    """The tables, in Markdown."""
    sides = figures["sides"]
    rows = [[
        name, f"{side['prefill_seconds']:.3f}", f"{side['prefill_tokens_per_second']:.0f}",
        f"{side['decode_seconds'] * 1000:.1f}", f"{side['decode_tokens_per_second']:.1f}",
    ] for name, side in sides.items()]
    sizes = figures["sizes"]
    parts = [table([
        "language model alone", f"prefill of {sizes['prompt']}, s", "tokens/s", f"decode from {sizes['depth']}, ms", "tokens/s",
    ], rows)]
    ours = [name for name, side in sides.items() if side.get("times_faster")]
    peers = [peer for peer in AGAINST if any(peer in sides[name]["times_faster"] for name in ours)]
    for what in ["prefill", "decode"]:
        if ours and peers:
            parts.append(table([f"{what}: times faster than", *ours], [
                [peer, *[in_words(sides[name]["times_faster"].get(peer, {}).get(what)) for name in ours]] for peer in peers
            ]))
    notes = [f"* {name}: {reason.splitlines()[0]}" for name, reason in figures["left_out"].items()]
    loads = figures["load_average"]
    notes.append(f"* load average {loads['before']:.1f} before, {loads['after']:.1f} after")
    return "### language model\n\n" + "\n\n".join([*parts, "\n".join(notes)])


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--llama-cpp", type=Path, help="folder with a llama-bench built elsewhere [default: built here]")
    parser.add_argument("--llama-types", nargs="+", choices=peer_llama_cpp.TYPES, default=peer_llama_cpp.TYPES)
    arguments = parser.parse_args()
    work = arguments.work
    common.room_for(work, 0.5 if arguments.smoke else 16)
    folder = checkpoint(work, arguments.checkpoint, arguments.smoke, arguments.program)
    sizes = {"prompt": 76, "depth": 80, "steps": 4, "repetitions": 2} if arguments.smoke else {
        "prompt": 636, "depth": 640, "steps": 24, "repetitions": 2}
    left_out: dict[str, str] = {}
    subjects, facts = subjects_of(arguments, work, folder, sizes, left_out)
    figures = {
        "machine": machine(), "threads": arguments.threads, "sizes": sizes, "checkpoint": folder.name, **facts,
        "load_average": {"before": load_average()},
    }
    for _, subject in rounds_in_turn(subjects, arguments.rounds):
        subject.measure()
        left_out.update({subject.name: subject.failure} if subject.failure else {})
        figures["load_average"]["after"] = load_average()
        figures |= {"sides": figures_of(subjects), "left_out": left_out}
        store(work, "language-model", figures)
    print(report(figures))
    broken = [name for name, reason in left_out.items() if "not the same model" in reason]
    for name in broken:
        print(f"FAILED: {left_out[name]}", file=sys.stderr)
    return 1 if broken or not figures.get("sides") else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
