"""llava-gauge as one side of the measurement: exports, runs, and what their records say."""

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from common import Failed, call, say

STAGES = ["vision", "projector", "prefill", "decode"]


@dataclass
class Answers:
    """What one run of a workload gave."""

    tokens: dict[str, list[int]]
    """Generated token ids by question."""
    log_probabilities: dict[str, float]
    """Sum of the log-probabilities of a question's tokens."""
    seconds: float
    """From JPEG files to token ids, loading not counted: the sum of the stages, of waiting for images and of the program's own
    share. A binary that does not record the last two is charged with all its image decoding instead."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds by stage."""
    wall_seconds: float = 0.0
    """The whole process, with start, loading and writing."""
    peak_memory_bytes: int = 0
    """Largest resident set of the process, mapped weights included."""


class Program:
    """The llava-gauge binary and the packages that it exports from one checkpoint."""

    def __init__(self, binary: Path, work: Path, checkpoint: Path, threads: int):
        if not binary.exists():
            raise Failed(f"{binary}: no such file; build it with `cargo build --release`")
        self.binary, self.work, self.checkpoint, self.threads = binary.resolve(), work, checkpoint, threads
        self.sha256 = hashlib.sha256(binary.read_bytes()).hexdigest()
        self.version = call([self.binary, "--version"])[0].strip()

    def package(self, precision: str) -> Path:
        """Exports the checkpoint in a precision, once for each binary. Raises Failed where the binary does not know it."""
        package = self.work / "packages" / f"{self.checkpoint.name}-{precision}"
        made_by = package.with_suffix(".made-by")
        if package.exists() and made_by.exists() and made_by.read_text() == self.sha256:
            return package
        say(f"llava-gauge exports {precision}")
        package.parent.mkdir(parents=True, exist_ok=True)
        command = [self.binary, "export", self.checkpoint, "-o", package, "--name", package.name, "--force"]
        call(command if precision == "fp32" else [*command, "--precision", precision])
        made_by.write_text(self.sha256)
        return package

    def known(self, precisions: list[str]) -> tuple[list[str], dict[str, str]]:
        """The precisions that could be exported, and why the others could not."""
        could, left_out = [], {}
        for precision in precisions:
            try:
                self.package(precision)
                could.append(precision)
            except Failed as failure:
                text = str(failure)
                unknown = "unexpected argument" in text or "invalid value" in text
                left_out[precision] = "this binary does not know the precision" if unknown else text
                say(f"llava-gauge {precision} is left out: {left_out[precision]}")
        if not could:
            raise Failed("no precision could be exported")
        return could, left_out

    def answer(self, precision: str, benchmark: Path, more: tuple[str, ...] = ()) -> Answers:
        """Runs a workload and reads its records."""
        output = self.work / "runs" / f"{benchmark.parent.name}-{precision}"
        shutil.rmtree(output, ignore_errors=True)
        command = [
            self.binary, "run", "--model", self.package(precision), "--benchmark", benchmark, "-o", output,
            "--threads", self.threads, "--no-progress", *more,
        ]
        _, wall, peak = call(command)
        tokens, log_probabilities, groups = {}, {}, {}
        for line in next(output.rglob("samples.jsonl")).read_text().splitlines():
            record = json.loads(line)["record"]
            if record.get("failure") is not None:
                raise Failed(f"question {record['key']} failed: {record['failure']}")
            tokens[record["key"]] = record["token_ids"]
            log_probabilities[record["key"]] = record["log_probability"]
            groups[record["cluster"]] = record["timings"]["group"]
        recorded = all(group.get("harness_ms") is not None for group in groups.values())
        stages = {
            stage: sum(group[f"{stage}_ms"] for group in groups.values()) / 1000
            for stage in [*(["image_wait", "harness"] if recorded else ["image"]), *STAGES]
        }
        return Answers(tokens, log_probabilities, sum(stages.values()), stages, wall, peak)

    def language_model(self, precision: str, prompt: int, depth: int, steps: int, repetitions: int) -> dict:
        """`bench`: prefill of `prompt` tokens and decode steps from `depth` on, in seconds."""
        command = [
            self.binary, "bench", self.package(precision), "--test", f"prefill {prompt}", "--test", f"decode {steps}@{depth}",
            "--repetitions", repetitions, "--warmup", 1, "--threads", self.threads, "--no-progress", "--json",
        ]
        series = {test["test"]: test["samples_ms"] for test in json.loads(call(command)[0])["series"]}
        return {
            "prefill_tokens": prompt,
            "prefill_seconds": [ms / 1000 for ms in series[f"prefill {prompt}"]],
            "decode_seconds": [ms / 1000 / steps for ms in series[f"decode {steps}@{depth}"]],
        }
