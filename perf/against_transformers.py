#!/usr/bin/env python3
"""Measures llava-gauge against transformers on one machine, in one run, on one random LLaVA-shaped checkpoint.

Four workloads: `w` (8 JPEG images of 640x480, 6 questions each, 8 new tokens), `many` (32 questions an image), `single` (1
question an image) and `long` (1 question an image, 256 new tokens, 16 images), greedy. Both sides start from the same
JPEG files and end with token ids; loading is not counted on either side. In fp32 the tokens of both must be equal, or the
figures mean nothing: the script then ends with code 1. For other precisions the share of equal tokens is reported.

transformers answers one question at a time and encodes the image for each, as the common evaluation harnesses do; on `w` and
`long` other configurations are measured too. It is measured on a part of the questions, and its seconds for a question stand
for all; the table says how many were measured. --full measures it on all.

    pip install -r perf/requirements.txt
    cargo build --release
    python3 perf/against_transformers.py --program target/release/llava-gauge
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import common
from common import Failed, in_words, load_average, machine, median, ratio, rounds_in_turn, say, store, table
from peer_transformers import CONFIGURATIONS, Configuration, Transformers
from program import Answers, Program
from workload import SMOKE_WORKLOADS, WORKLOADS, Workload, checkpoint, make_benchmark

# Configurations by workload. One question an image leaves nothing to batch over an image, and `many` is held against batch 1.
MEASURED = {
    "w": [configuration.name for configuration in CONFIGURATIONS if not configuration.compiled],
    "many": ["fp32, batch 1"],
    "single": ["fp32, batch 1"],
    "long": ["fp32, batch 1", "fp32, batched"],
}
# Compilation takes minutes; it is for decoding, so it is tried where that is most of the work.
COMPILED_MEASURED = ["long"]
# A question that takes longer than this in the warm-up is not worth minutes of the measurement.
PATIENCE_SECONDS = 25.0
# Images that a batch has where there is one question an image.
IMAGES_IN_A_BATCH = 4
# Largest difference of a token's log-probability, on average over an answer, that rounding in another order explains.
TOLERANCE = 1e-4


@dataclass
class Peer:
    """One configuration's figures on one workload."""

    configuration: Configuration
    seconds_per_question: list[float] = field(default_factory=list)
    questions: int = 0
    tokens: dict = field(default_factory=dict)
    log_probabilities: dict = field(default_factory=dict)
    skipped: str | None = None

    def measure(self, peer: Transformers, batches: list[list[dict]], new_tokens: int) -> None:
        """One round. The first one begins with a warm-up, which is not counted. What fails is skipped from then on."""
        if self.skipped:
            return
        try:
            self._measure(peer, batches, new_tokens)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as failure:
            self.skipped = f"failed: {type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"
        if self.skipped:
            say(f"transformers {self.configuration.name}: {self.skipped}")
        elif self.seconds_per_question:
            say(f"transformers {self.configuration.name}: {self.seconds_per_question[-1]:.2f} s a question")

    def skip_with(self, others) -> None:
        """A precision that is too slow in one configuration is not tried in the next."""
        for other in others:
            if other.skipped and not other.seconds_per_question and other.configuration.precision == self.configuration.precision:
                self.skipped = self.skipped or f"as {other.configuration.name}: {other.skipped}"

    def _measure(self, peer: Transformers, batches: list[list[dict]], new_tokens: int) -> None:
        if not self.seconds_per_question:
            warm = peer.warm_up(self.configuration)
            if warm > PATIENCE_SECONDS and self.configuration.precision != "fp32":
                self.skipped = f"not measured: one question with 2 tokens took {warm:.0f} s"
                return
        seconds, count = 0.0, 0
        for batch in batches:
            tokens, log_probabilities, elapsed = peer.answer(self.configuration, batch, new_tokens)
            self.tokens.update(tokens)
            self.log_probabilities.update(log_probabilities)
            seconds, count = seconds + elapsed, count + len(batch)
        self.seconds_per_question.append(seconds / count)
        self.questions = len(self.tokens)


def batches_of(peer: Transformers, load: Workload, configuration: Configuration, number: int, full: bool) -> list[list[dict]]:
    """The questions of one round: other images in each round, whole images."""
    if load.questions == 1 and configuration.batched:
        images = load.images if full else min(IMAGES_IN_A_BATCH, load.images)
        return [[peer.questions[(number * images + index) % load.images] for index in range(images)]]
    wanted = range(load.images) if full else [
        (number * load.peer_images + index) % load.images for index in range(load.peer_images)]
    batches = [[question for question in peer.questions if question["image_id"] == image] for image in wanted]
    if not full and not configuration.batched:
        batches = [batch[:load.peer_questions] for batch in batches]
    return batches


def measure(load: Workload, program: Program, peer: Transformers, precisions: list[str], benchmark: Path,
            rounds: int, full: bool, compiled: bool) -> dict:
    """All sides in turn, forwards and backwards. Returns the figures."""
    peers = {
        configuration.name: Peer(configuration) for configuration in CONFIGURATIONS
        if configuration.name in MEASURED[load.name]
        or (configuration.compiled and compiled and load.name in COMPILED_MEASURED)
    }
    if not full:
        precisions = [precision for precision in precisions if precision in load.precisions] or precisions[:1]
        rounds = min(rounds, load.rounds)
    ours: dict[str, list[Answers]] = {precision: [] for precision in precisions}
    failures: dict[str, str] = {}
    before = load_average()
    for number, subject in rounds_in_turn([*precisions, *peers.values()], rounds):
        if isinstance(subject, Peer):
            subject.skip_with(peers.values())
            subject.measure(peer, batches_of(peer, load, subject.configuration, number, full), load.new_tokens)
        elif subject not in failures:
            try:
                ours[subject].append(program.answer(subject, benchmark))
                say(f"llava-gauge {subject} {load.name}: {ours[subject][-1].seconds:.2f} s")
            except Failed as failure:
                failures[subject] = str(failure)
                say(f"llava-gauge {subject} {load.name} is left out: {failure}")
    if not peers["fp32, batch 1"].seconds_per_question:
        raise Failed(f"transformers fp32, batch 1, the reference of all, has no figures: {peers['fp32, batch 1'].skipped}")
    ours = {precision: runs for precision, runs in ours.items() if precision not in failures}
    figures = figures_of(load, ours, peers, {"before": before, "after": load_average()})
    return {**figures, "failures": failures}


def figures_of(load: Workload, ours: dict[str, list[Answers]], peers: dict[str, Peer], loads: dict) -> dict:
    """The figures of one workload, by precision and by configuration, and the ratios of both."""
    count = load.images * load.questions
    reference = peers["fp32, batch 1"]
    measured = {name: peer for name, peer in peers.items() if peer.seconds_per_question}
    settings = {name: peer for name, peer in measured.items() if not peer.configuration.shared_prefix}
    best = min(settings, key=lambda name: median(settings[name].seconds_per_question))
    figures = {
        "images": load.images, "questions_per_image": load.questions, "new_tokens": load.new_tokens,
        "load_average": loads, "best_configuration": best,
        "transformers": {
            name: {
                "questions_measured": peer.questions, "questions": count, "skipped": peer.skipped,
                "seconds_per_question": peer.seconds_per_question,
                "seconds": median(peer.seconds_per_question) * count if peer.seconds_per_question else None,
                "answers_equal_to_batch_1": agreement(reference.tokens, peer.tokens)[0] if peer.tokens else None,
                "answers_compared": agreement(reference.tokens, peer.tokens)[1],
            } for name, peer in peers.items()
        },
        "llava_gauge": {},
    }
    for precision, runs in ours.items():
        own = [run.seconds / count for run in runs]
        middle = sorted(runs, key=lambda run: run.seconds)[(len(runs) - 1) // 2]
        equal, compared = agreement(reference.tokens, middle.tokens)
        same, total = token_agreement(reference.tokens, middle.tokens)
        wrong = [key for key, tokens in middle.tokens.items() if len(tokens) != load.new_tokens]
        figures["llava_gauge"][precision] = {
            "seconds": [run.seconds for run in runs], "wall_seconds": [run.wall_seconds for run in runs],
            "stages_seconds": middle.stages, "peak_memory_bytes": max(run.peak_memory_bytes for run in runs),
            "ratio_to": {name: ratio(peer.seconds_per_question, own) for name, peer in measured.items()},
            "answers_equal": equal, "answers_compared": compared, "tokens_equal": same, "tokens_compared": total,
            "log_probability_difference_per_token": largest_difference(reference, middle, load.new_tokens),
            "distinct_tokens": len({token for tokens in middle.tokens.values() for token in tokens}),
            "answers_of_other_length": len(wrong),
            "runs_agree": all(run.tokens == middle.tokens for run in runs),
        }
    return figures


def agreement(reference: dict, other: dict) -> tuple[int, int]:
    """Answers with equal tokens, of those that both have."""
    keys = reference.keys() & other.keys()
    return sum(reference[key] == other[key] for key in keys), len(keys)


def token_agreement(reference: dict, other: dict) -> tuple[int, int]:
    """Tokens that are equal at their place, of those of answers that both have."""
    keys = reference.keys() & other.keys()
    equal = sum(one == two for key in keys for one, two in zip(reference[key], other[key]))
    return equal, sum(len(reference[key]) for key in keys)


def largest_difference(reference: Peer, run: Answers, new_tokens: int) -> float | None:
    """Of summed log-probabilities, over answers with equal tokens, for each token."""
    return max((
        abs(value - run.log_probabilities[key]) / new_tokens for key, value in reference.log_probabilities.items()
        if run.tokens.get(key) == reference.tokens[key] and len(reference.tokens[key]) == new_tokens
    ), default=None)


def problems(figures: dict, random_checkpoint: bool) -> list[str]:
    """Why the figures would mean nothing. A checkpoint of the user's may end its answers; the random one never does."""
    found = []
    for name, load in figures["workloads"].items():
        found += [f"{name}, {precision}: {reason}" for precision, reason in load["failures"].items()]
        for precision, own in load["llava_gauge"].items():
            if own["answers_of_other_length"] and random_checkpoint:
                found.append(
                    f"{name}, {precision}: {own['answers_of_other_length']} answers have not {load['new_tokens']} tokens")
            if precision != "fp32":
                continue
            if own["answers_equal"] != own["answers_compared"] or own["answers_compared"] == 0:
                found.append(f"{name}: {own['answers_equal']} of {own['answers_compared']} answers have transformers' tokens")
            difference = own["log_probability_difference_per_token"]
            if difference is not None and difference > TOLERANCE:
                found.append(f"{name}: log-probabilities differ by {difference:.1e} a token, expected at most {TOLERANCE:.0e}")
    return found


def report(figures: dict) -> str:
    """The tables, in Markdown."""
    parts = []
    for name, load in figures["workloads"].items():
        count = load["images"] * load["questions_per_image"]
        best = load["best_configuration"]
        rows = []
        for configuration, peer in load["transformers"].items():
            if peer["seconds"] is None:
                rows.append([f"transformers {configuration}", peer["skipped"] or "not measured", "-", "-", "-", "-"])
                continue
            rows.append([
                f"transformers {configuration}", f"{peer['seconds']:.1f} ({peer['questions_measured']} of {count} measured)",
                f"{peer['seconds'] / count:.2f}", "-", "-",
                f"{peer['answers_equal_to_batch_1']} of {peer['answers_compared']} answers",
            ])
        for precision, own in load["llava_gauge"].items():
            tokens = f"{own['answers_equal']} of {own['answers_compared']} answers, " \
                f"{100 * own['tokens_equal'] / own['tokens_compared']:.0f} % of tokens"
            seconds = median(own["seconds"])
            rows.append([
                f"llava-gauge {precision}", f"{seconds:.1f}", f"{seconds / count:.2f}",
                in_words(own["ratio_to"]["fp32, batch 1"]), in_words(own["ratio_to"][best]), tokens,
            ])
        header = [
            f"{load['images']} images x {load['questions_per_image']} x {load['new_tokens']} tokens", "s", "s/question",
            "times faster than fp32 batch 1", f"than its best setting ({best})", "equal to fp32 batch 1",
        ]
        stages = [
            f"{precision}: " + ", ".join(
                f"{stage.replace('_', ' ')} {seconds:.2f} s" for stage, seconds in own["stages_seconds"].items())
            + f"; whole process {median(own['wall_seconds']):.1f} s with loading, peak memory "
            f"{own['peak_memory_bytes'] / 1e9:.2f} GB" for precision, own in load["llava_gauge"].items()
        ]
        loads = load["load_average"]
        parts.append(
            f"### `{name}`\n\n{table(header, rows)}\n\n" + "\n".join(f"* {line}" for line in stages)
            + f"\n* load average {loads['before']:.1f} before, {loads['after']:.1f} after")
    return "\n\n".join(parts)


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--compiled", action="store_true", help="also transformers with a static cache and torch.compile")
    arguments = parser.parse_args()
    work, smoke = arguments.work, arguments.smoke
    common.room_for(work, 0.2 if smoke else 14)
    folder = checkpoint(work, arguments.checkpoint, smoke, arguments.program)
    program = Program(arguments.program, work, folder, arguments.threads)
    precisions, left_out = program.known(arguments.precisions)
    figures = {
        "machine": machine(), "threads": arguments.threads, "program": program.version, "program_sha256": program.sha256,
        "checkpoint": folder.name, "rounds": arguments.rounds, "left_out": left_out, "workloads": {},
    }
    peer = None
    for name in arguments.workloads:
        load = (SMOKE_WORKLOADS if smoke else WORKLOADS)[name]
        benchmark = make_benchmark(work, folder, load)
        next_peer = Transformers(folder, benchmark.parent, arguments.threads)
        next_peer.models = peer.models if peer else {}
        peer = next_peer
        figures["workloads"][name] = measure(
            load, program, peer, precisions, benchmark, arguments.rounds, arguments.full or smoke,
            arguments.compiled)
        store(work, "transformers", figures)
    print(report(figures))
    found = problems(figures, arguments.checkpoint is None)
    for problem in found:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
