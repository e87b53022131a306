"""What every part of the measurement shares: facts about the machine, medians and ratios, tables, the file of results."""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

PACKAGES = ["torch", "transformers", "tokenizers", "numpy", "pillow", "onnxruntime", "onnxruntime-genai", "gguf"]


def say(text: str) -> None:
    """Progress goes to standard error with the time since the script began; results go to standard output."""
    print(f"[{time.perf_counter() - STARTED:6.0f} s] {text}", file=sys.stderr, flush=True)


STARTED = time.perf_counter()


def cores() -> int:
    """Physical cores that this process may run on: what every side gets as its number of threads.

    Two hardware threads of one core share its arithmetic units; dense kernels lose by using both.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = set()
    for core in allowed:
        listed = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        siblings.add(listed.read_text().strip() if listed.exists() else str(core))
    return len(siblings)


def processor() -> tuple[str, list[str]]:
    """The processor's name and those of its feature flags that decide which kernels can run."""
    wanted = {"avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"}
    name, flags = platform.processor() or platform.machine(), []
    information = Path("/proc/cpuinfo")
    for line in information.read_text().splitlines() if information.exists() else []:
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
        if line.startswith("flags"):
            flags = sorted(wanted & set(line.split(":", 1)[1].split()))
    return name, flags


def machine() -> dict:
    """Facts about the machine and the versions of what is installed, for the file of results."""
    name, flags = processor()
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return {
        "processor": name, "features": flags, "cores": cores(), "memory_bytes": memory,
        "system": platform.platform(), "versions": versions,
    }


def load_average() -> float:
    """Runnable processes in the last minute. More than the threads in use means that others worked at the same time."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def median(values: list[float]) -> float:
    return statistics.median(values)


def ratio(slower: list[float], faster: list[float]) -> dict:
    """How many times `faster` is faster: round by round, because both sides of a round saw the machine in one state.

    Returns the median over rounds, and the smallest and largest ratio of a round. A side that was measured in one round
    only is held against every round of the other.
    """
    if len(slower) != len(faster):
        if 1 not in (len(slower), len(faster)):
            raise ValueError(f"{len(slower)} rounds against {len(faster)}: ratios need rounds of equal number, or one")
        slower, faster = slower * (len(faster) if len(slower) == 1 else 1), faster * (len(slower) if len(faster) == 1 else 1)
    values = [other / own for other, own in zip(slower, faster)]
    return {"median": median(values), "least": min(values), "most": max(values)}


def in_words(value: dict | None) -> str:
    """A ratio with its range, for a table."""
    if value is None:
        return "-"
    return f"{value['median']:.2f} ({value['least']:.2f} to {value['most']:.2f})"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def rounds_in_turn(subjects: list, rounds: int):
    """Yields (round, subject) so that a machine that slows down favours nobody: A B C, then C B A, and so on."""
    for number in range(rounds):
        for subject in subjects if number % 2 == 0 else list(reversed(subjects)):
            yield number, subject


def store(work: Path, part: str, figures: dict) -> None:
    """Writes the figures of one part, whole or not at all; called after every round, so that a failure loses little."""
    folder = work / "results"
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{part}.json.new"
    unfinished.write_text(json.dumps({"format": 1, "part": part, **figures}, indent=2) + "\n")
    unfinished.replace(folder / f"{part}.json")


def call(command: list, environment: dict | None = None, check: bool = True) -> tuple[str, float, int]:
    """Runs a program to its end. Returns standard output, wall seconds, and the peak resident memory in bytes.

    Standard error passes through where the program fails: a failure is shown, not guessed at.
    """
    command = [str(part) for part in command]
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **(environment or {})},
    ) as child:
        watched = Path(f"/proc/{child.pid}/status")
        output, errors, peak = _drain(child, watched)
    seconds = time.perf_counter() - started
    if check and child.returncode != 0:
        tail = "\n".join((errors.strip() or output.strip()).splitlines()[-12:])
        raise Failed(f"{Path(command[0]).name} {' '.join(command[1:4])} … ended with {child.returncode}:\n{tail}")
    return output, seconds, peak


def _drain(child: subprocess.Popen, status: Path) -> tuple[str, str, int]:
    """Reads both pipes to their ends while it looks at the peak of resident memory (VmHWM) four times a second."""
    peak = 0
    while True:
        try:
            output, errors = child.communicate(timeout=0.25)
            return output, errors, peak
        except subprocess.TimeoutExpired:
            try:
                for line in status.read_text().splitlines():
                    if line.startswith("VmHWM"):
                        peak = max(peak, int(line.split()[1]) * 1024)
            except OSError:
                pass


class Failed(RuntimeError):
    """A side could not be measured; its text says why in words for the reader of the table."""


def parser(documentation: str, program: bool = True) -> argparse.ArgumentParser:
    """The options that all parts have in common."""
    arguments = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--program", type=Path, required=program, help="the llava-gauge binary, release build")
    arguments.add_argument("--work", type=Path, default=Path("target/perf"), help="folder for checkpoints, packages, results")
    arguments.add_argument("--checkpoint", type=Path, help="a LLaVA-1.5 checkpoint instead of the random one")
    arguments.add_argument("--threads", type=int, default=cores(), help="threads of every side [default: physical cores]")
    arguments.add_argument("--rounds", type=int, default=2, help="rounds, in turn forwards and backwards [default: 2]")
    arguments.add_argument(
        "--precisions", nargs="+", default=["fp32", "int8", "int8-weights", "int4"], metavar="NAME",
        help="precisions of llava-gauge; what the binary does not know is left out with a line that says so",
    )
    arguments.add_argument("--smoke", action="store_true", help="tiny shapes: shows that the scripts work, measures nothing")
    arguments.add_argument("--full", action="store_true", help="measure the slow peers on all questions, not on a part")
    return arguments


def room_for(work: Path, gigabytes: float) -> None:
    """Ends with a clear line where the disk lacks room."""
    work.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(work).free / 1e9
    if free < gigabytes:
        raise Failed(f"{work}: {free:.1f} GB free, {gigabytes:.0f} GB needed")
