#!/usr/bin/env python3
"""Measures llava-gauge on a GPU, beside transformers on the same GPU, as shares of what the GPU can do.

    python3 tests/gpu/measure.py --binary target/release/llava-gauge --work /tmp/gauge \
        [--runtime libonnxruntime.so] [--cuda-libs DIR] [--provider cuda] [--shapes 7b]

Needs a release binary, ONNX Runtime's shared libraries and those of CUDA, and disk for two copies of the weights; no network and
no Rust. PyTorch and transformers are needed for the comparison and for the GPU's own limits; without them these parts are
skipped by name.

What it does, all in one run:

1.  makes a checkpoint of random weights with the shapes asked for (`synth`), exports it, and verifies an export of a smaller one
    stage by stage on the provider (`package verify`);
2.  measures the package: images, prefill, decoding, and questions about one image, 1, 6 and 32 together (`bench`), and a whole
    run on pictures that it draws (`run`);
3.  measures transformers on the same checkpoint and device (fp16, sdpa; batch 1 and the best batch);
4.  measures matrix products and copies with PyTorch, and says how near both come to them.

Writes OUTPUT/NAME.json and OUTPUT/NAME.md (default: reports/gpu). Ratios above 1 are llava-gauge being faster. Weights are random
and so are answers; how fast they come does not depend on them, as no answer may end early.

`--provider cpu --shapes small` does all of it in a minute or two on any machine, in 32 bits on the side of transformers: it shows that
the script works, and its numbers mean nothing.
"""

import argparse
import json
import os
import platform
import random
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

SYSTEM_TOKENS = 35
QUESTION_TOKENS = 25
QUESTIONS = (1, 6, 32)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
# A larger batch has to gain this much, or the search for the best ends.
WORTHWHILE_GAIN = 1.03
SHAPES = {"small": "pico", "7b": "llava-1.5-7b"}
# The 32-bit reference of a verification runs on the processor: a shape that it can run.
VERIFIED_SHAPES = {"small": "pico", "7b": "M1"}


class Failed(Exception):
    """What stops the script, for people."""


def say(text):
    print(text, file=sys.stderr, flush=True)


# The program under measurement ------------------------------------------------------------------------------------------------


class Program:
    """The binary with the options that every verb takes."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.environment = dict(os.environ, NO_COLOR="1")

    def command(self, words, on_provider):
        command = [str(self.arguments.binary), "--no-progress", *words]
        if self.arguments.threads:
            command += ["--threads", str(self.arguments.threads)]
        if self.arguments.runtime:
            command += ["--ort-lib", str(self.arguments.runtime)]
        if on_provider:
            command += ["--provider", self.arguments.provider]
            if self.arguments.cuda_libs and self.arguments.provider != "cpu":
                command += ["--cuda-libs", str(self.arguments.cuda_libs)]
            if self.arguments.provider != "cpu":
                command += ["--device-index", str(self.arguments.device)]
        return command

    def run(self, words, on_provider=False, allowed=(0,)):
        """Runs a verb; gives its standard output, its seconds, the most memory that it had on the GPU, and its exit code."""
        command = self.command(words, on_provider)
        say("$ " + " ".join(command))
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment
        )
        watch = GpuMemory(process.pid) if on_provider and self.arguments.provider != "cpu" else None
        output, errors = process.communicate()
        seconds = time.monotonic() - started
        peak = watch.stop() if watch else None
        if process.returncode not in allowed:
            raise Failed(f"exit code {process.returncode}: {' '.join(command)}\n{errors.strip()[-4000:]}")
        return output, seconds, peak, process.returncode

    def json(self, words, on_provider=False):
        output, seconds, peak, _ = self.run([*words, "--json"], on_provider)
        return json.loads(output), seconds, peak


class GpuMemory:
    """The most memory that a process has on the GPU, looked at ten times a second through nvidia-smi."""

    def __init__(self, process_id):
        self.process_id, self.peak, self.ended = process_id, None, threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def look(self):
        query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
        while not self.ended.wait(0.1):
            try:
                listing = subprocess.run(query, capture_output=True, text=True, timeout=10).stdout
            except (OSError, subprocess.TimeoutExpired):
                return
            for line in listing.splitlines():
                process_id, _, mebibytes = line.partition(",")
                if process_id.strip() == str(self.process_id) and mebibytes.strip().isdigit():
                    self.peak = max(self.peak or 0, int(mebibytes) << 20)

    def stop(self):
        self.ended.set()
        self.thread.join(timeout=15)
        return self.peak


def draw_picture(path, seed, width=640, height=480):
    """A PNG of coloured blocks."""
    generator = random.Random(seed)
    colours = [[bytes(generator.randrange(256) for _ in range(3)) for _ in range(8)] for _ in range(6)]
    rows = []
    for row in range(6):
        line = b"".join(colours[row][column] * (width // 8) for column in range(8))
        rows.append((b"\0" + line) * (height // 6))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def write_benchmark(folder, pictures, questions):
    """Questions about drawn pictures, as a benchmark of the user's own."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows = []
    for picture in range(pictures):
        draw_picture(folder / "pictures" / f"{picture}.png", picture)
        for question in range(questions):
            text = f"What is number {question} of the blocks that are in row {picture % 6 + 1}?"
            rows.append({"id": f"{picture}-{question}", "name": f"{picture}.png", "question": text, "answer": "red"})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "benchmark.toml").write_text(
        'name = "drawn"\ntitle = "Drawn blocks"\nlicence = "CC0"\nsource = "tests/gpu/measure.py"\n'
        '[[data]]\nform = "files"\nroot = "."\nformat = "table"\nfiles = ["rows.jsonl"]\nkey = "{id}"\ncluster = "{name}"\n'
        'question = "{question}"\nimages = ["pictures/{name}"]\n'
        '[data.reference]\nkind = "answers"\nanswers = "answer"\nrepeat = 10\n'
        '[prompt]\nsource = "here"\ntemplate = "{question}\\nAnswer the question using a single word or phrase."\n'
        '[generation]\nmax_new_tokens = 8\n[scorer]\nkind = "vqa"\nvariant = "official"\n'
    )
    return folder / "benchmark.toml"


def make_checkpoint(program, shape, folder, dtype):
    if not folder.exists():
        program.run(["synth", "--like", shape, "--dtype", dtype, "-o", str(folder)])
    return folder


def export(program, checkpoint, folder, compute, flavor):
    words = ["export", str(checkpoint), "-o", str(folder), "--force"]
    if compute != "none":
        words += ["--compute", compute]
    if flavor != "contrib":
        words += ["--flavor", flavor]
    _, seconds, _, _ = program.run(words)
    return folder, seconds


def rates_of_bench(result):
    """Units a second of each test of a bench result, by the name of the test without the sizes that are everywhere the same."""
    rates = {}
    for series in result["series"]:
        kind, _, size = series["test"].partition(" ")
        name = f"questions {size.split('x')[0]}" if kind == "questions" else kind
        if kind == "decode" and "x" in size:
            name = f"decode x{size.split('x')[1]}"
        rates[name] = {"test": series["test"], "per_second": series["summary"]["per_second"], **series["summary"]}
    return rates


def measure_program(program, arguments, checkpoint):
    folder, export_seconds = export(program, checkpoint, arguments.work / "package", arguments.compute, arguments.flavor)
    tests = ["img", "prefill", f"decode {arguments.decode_tokens}"]
    tests += [f"questions {count}x{arguments.new_tokens}" for count in QUESTIONS]
    words = ["bench", str(folder), "--repetitions", str(arguments.repetitions)]
    for test in tests:
        words += ["--test", test]
    result, _, peak = program.json(words, on_provider=True)
    found = {
        "export_seconds": export_seconds,
        "package_bytes": sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
        "rates": rates_of_bench(result),
        "peak_device_bytes": peak,
        "peak_host_bytes": result.get("peak_memory_bytes"),
        "onnx_runtime": result["onnx_runtime"],
        "bench": result,
    }
    benchmark = write_benchmark(arguments.work / "drawn", arguments.pictures, 6)
    runs = arguments.work / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    words = ["run", "--model", str(folder), "--benchmark", str(benchmark), "-o", str(runs), "--max-new-tokens"]
    summary, seconds, peak = program.json([*words, str(arguments.new_tokens)], on_provider=True)
    found["run"] = {
        "questions": 6 * arguments.pictures,
        "seconds_with_loading": seconds,
        "peak_device_bytes": peak,
        **engine_time(runs),
        "header": header_of(summary),
    }
    return found


def engine_time(runs):
    """Milliseconds that a run's groups took in the engine, and what that is in questions a second."""
    groups, total_ms = {}, 0.0
    for log in runs.rglob("samples.jsonl"):
        for line in log.read_text().splitlines():
            record = json.loads(line)["record"]
            groups[record["cluster"]] = record["timings"]["group"]
    questions = sum(group["questions"] for group in groups.values())
    for group in groups.values():
        total_ms += sum(group[part] for part in ("vision_ms", "projector_ms", "prefill_ms", "decode_ms"))
    return {"engine_ms": total_ms, "questions_per_second": 1e3 * questions / total_ms if total_ms else None}


def header_of(summary):
    """The header of the run: what ran it and how."""
    while isinstance(summary, list):
        summary = summary[0] if summary else {}
    for key in ("runs", "summaries"):
        if isinstance(summary.get(key), list) and summary[key]:
            return header_of(summary[key])
    return summary.get("header", summary)


def verify(program, arguments):
    """Stage by stage, the provider and precision against the processor in 32 bits."""
    shape = VERIFIED_SHAPES.get(arguments.shapes, arguments.shapes)
    checkpoint = make_checkpoint(program, shape, arguments.work / f"verified-{shape}", "fp16")
    folder, _ = export(program, checkpoint, arguments.work / f"verified-{shape}-package", arguments.compute, arguments.flavor)
    plain, _ = export(program, checkpoint, arguments.work / f"verified-{shape}-plain", "none", "contrib")
    words = ["package", "verify", str(folder), "--reference", str(plain), "--stages", "--json"]
    output, _, _, code = program.run(words, on_provider=True, allowed=(0, 101))
    return {"shape": shape, "passed": code == 0, "report": json.loads(output) if output.strip() else None}


# What the work costs ----------------------------------------------------------------------------------------------------------


def costs(checkpoint, decode_tokens, number_bytes):
    """Operations and bytes of the tests, from the configuration of a LLaVA-1.5 checkpoint: linear layers and attention; norms and
    activations are left out, so that shares are lower bounds of the truth."""
    config = json.loads((checkpoint / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    hidden, wide, layers = text["hidden_size"], text["intermediate_size"], text["num_hidden_layers"]
    heads = text["num_attention_heads"]
    key_heads = text.get("num_key_value_heads") or heads
    head = text.get("head_dim") or hidden // heads
    layer_weights = hidden * (heads + 2 * key_heads) * head + heads * head * hidden + 3 * hidden * wide
    head_weights = hidden * text["vocab_size"]
    side = vision["image_size"] // vision["patch_size"]
    rows, width = side * side + 1, vision["hidden_size"]
    used_layers = vision["num_hidden_layers"] + config.get("vision_feature_layer", -2) + 1
    vision_weights = used_layers * (4 * width * width + 2 * width * vision["intermediate_size"])
    projector_weights = width * hidden + hidden * hidden
    prompt = SYSTEM_TOKENS + side * side + QUESTION_TOKENS
    cache_bytes = 2 * layers * key_heads * head * number_bytes
    depth = prompt + (decode_tokens + 1) / 2
    return {
        "prompt_tokens": prompt,
        "image_tokens": side * side,
        "image_operations": 2 * rows * vision_weights
        + 4 * used_layers * rows * rows * width
        + 2 * 3 * vision["patch_size"] ** 2 * width * side * side
        + 2 * side * side * projector_weights,
        "prefill_operations": 2 * layers * layer_weights * prompt
        + 2 * head_weights
        + layers * 4 * heads * head * prompt * (prompt + 1) / 2,
        "decode_bytes_per_token": number_bytes * (layers * layer_weights + head_weights) + cache_bytes * depth,
    }


# transformers, in a process of its own -------------------------------------------------------------------------------------


def best_time(action, synchronise, repetitions):
    action()
    times = []
    for _ in range(repetitions):
        synchronise()
        started = time.perf_counter()
        action()
        synchronise()
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


def best_batch(rate_of, batches, out_of_memory):
    """The rate of each batch until a larger one gains nothing or does not fit, and the best of them."""
    rates = {}
    for batch in batches:
        try:
            rates[batch] = rate_of(batch)
        except out_of_memory:
            break
        if batch > 1 and rates[batch] < WORTHWHILE_GAIN * max(rate for size, rate in rates.items() if size < batch):
            break
    if not rates:
        raise Failed("not even a batch of one fits into the GPU's memory")
    best = max(rates, key=rates.get)
    return {"batch_1": rates.get(1), "best": rates[best], "best_batch": best, "all": {str(key): value for key, value in rates.items()}}


def measure_reference(arguments):
    """What transformers makes of the same checkpoint on the same device, and what the device can do."""
    import torch
    import transformers
    from transformers import LlavaForConditionalGeneration

    on_gpu = arguments.provider != "cpu"
    device = torch.device("cuda", arguments.device) if on_gpu else torch.device("cpu")
    narrow = torch.bfloat16 if arguments.compute == "bf16" else torch.float16
    dtype = narrow if on_gpu else torch.float32
    out_of_memory = torch.cuda.OutOfMemoryError if on_gpu else MemoryError
    synchronise = torch.cuda.synchronize if on_gpu else lambda: None
    repetitions = arguments.repetitions
    if not on_gpu and arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    found = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "dtype": str(dtype).removeprefix("torch."),
        "attention": "sdpa",
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor() or platform.machine(),
        "peaks": peaks(torch, device, dtype, synchronise, repetitions, on_gpu),
    }
    say("loading the checkpoint in transformers")
    model = LlavaForConditionalGeneration.from_pretrained(arguments.checkpoint, dtype=dtype, attn_implementation="sdpa")
    model = model.to(device).eval()
    config = model.config
    plan = costs(arguments.checkpoint, arguments.decode_tokens, 2 if on_gpu else 4)
    generator = torch.Generator().manual_seed(7)
    side = config.vision_config.image_size
    image_token = getattr(config, "image_token_id", None) or config.image_token_index
    vocabulary = min(config.text_config.vocab_size, image_token) - 8

    def pixels(batch):
        return torch.randn(batch, 3, side, side, generator=generator).to(device, dtype)

    def text(batch, length):
        return (torch.randint(0, vocabulary, (batch, length), generator=generator) + 3).to(device)

    def images_per_second(batch):
        picture = pixels(batch)
        return batch / best_time(lambda: model.get_image_features(pixel_values=picture), synchronise, repetitions)

    def prefill_per_second(batch):
        ids = text(batch, plan["prompt_tokens"])
        run = lambda: model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, logits_to_keep=1)
        return ids.numel() / best_time(run, synchronise, repetitions)

    def decode_per_second(batch):
        ids = text(batch, plan["prompt_tokens"])
        times = []
        for _ in range(repetitions + 1):
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, logits_to_keep=1)
            cache, token = output.past_key_values, output.logits[:, -1:].argmax(-1)
            synchronise()
            started = time.perf_counter()
            for _ in range(arguments.decode_tokens):
                output = model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)
                token = output.logits[:, -1:].argmax(-1)
            synchronise()
            times.append(time.perf_counter() - started)
        return batch * arguments.decode_tokens / sorted(times[1:])[len(times[1:]) // 2]

    def questions_per_second(batch):
        """As harnesses ask: each question with its image, whatever was asked of the image before."""
        image = torch.full((batch, plan["image_tokens"]), image_token, device=device)
        ids = torch.cat([text(batch, SYSTEM_TOKENS), image, text(batch, QUESTION_TOKENS)], dim=1)
        picture = pixels(batch)
        run = lambda: model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=picture,
            do_sample=False,
            min_new_tokens=arguments.new_tokens,
            max_new_tokens=arguments.new_tokens,
            pad_token_id=0,
        )
        return batch / best_time(run, synchronise, repetitions)

    tests = {"img": images_per_second, "prefill": prefill_per_second, "decode": decode_per_second, "questions": questions_per_second}
    batches = [batch for batch in BATCHES if batch <= arguments.largest_batch]
    found["rates"], found["peak_device_bytes"] = {}, {}
    with torch.inference_mode():
        for name, rate_of in tests.items():
            say(f"transformers: {name}")
            found["rates"][name] = best_batch(rate_of, batches, out_of_memory)
            if on_gpu:
                found["peak_device_bytes"][name] = torch.cuda.max_memory_reserved(device)
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
    return found


def peaks(torch, device, dtype, synchronise, repetitions, on_gpu):
    """Matrix products and copies at sizes that a GPU does best."""
    size = 8192 if on_gpu else 512
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = best_time(lambda: left @ right, synchronise, max(repetitions, 10))
    source = torch.empty((2 << 30) if on_gpu else (64 << 20), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_seconds = best_time(lambda: target.copy_(source), synchronise, max(repetitions, 10))
    return {
        "matmul_operations_per_second": 2 * size**3 / seconds,
        "bandwidth_bytes_per_second": 2 * source.numel() / copy_seconds,
    }


def reference_in_another_process(arguments, checkpoint):
    """So that its memory is given back, and a crash of it costs nothing else."""
    result = arguments.work / "reference.json"
    result.unlink(missing_ok=True)
    command = [str(arguments.python), str(Path(__file__).resolve()), "--reference-result", str(result), "--checkpoint", str(checkpoint)]
    for name in ("binary", "work", "provider", "shapes", "compute", "decode_tokens", "new_tokens", "repetitions", "largest_batch", "device"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    if arguments.threads:
        command += ["--threads", str(arguments.threads)]
    say("$ " + " ".join(command))
    code = subprocess.run(command).returncode
    if code != 0 or not result.is_file():
        raise Failed(f"the part with transformers ended with exit code {code}")
    return json.loads(result.read_text())


def missing_modules(python):
    """Which of the modules of the comparison this Python lacks."""
    lacks = "import importlib.util as u; print(*[n for n in ('torch', 'transformers') if u.find_spec(n) is None])"
    return subprocess.run([str(python), "-c", lacks], capture_output=True, text=True, check=True).stdout.split()


# The report -----------------------------------------------------------------------------------------------------------------------


def compare(result):
    """One line for each test: both rates, their ratio, and shares of the limits."""
    ours, reference = result["llava_gauge"]["rates"], result.get("transformers", {}).get("rates")
    limits, plan = result.get("transformers", {}).get("peaks"), result["costs"]
    tests = [
        ("img", "img", "images/s", ("image_operations", 1)),
        ("prefill", "prefill", "tokens/s", ("prefill_operations", plan["prompt_tokens"])),
        ("decode", "decode", "tokens/s", ("decode_bytes_per_token", 1)),
        *((f"questions {count}", "questions", "questions/s", None) for count in QUESTIONS),
    ]
    lines = []
    for name, other, unit, cost in tests:
        rate = ours[name]["per_second"]
        line = {"test": name, "unit": unit, "llava_gauge": rate}
        share = None
        if cost and limits:
            limit = "bandwidth_bytes_per_second" if cost[0] == "decode_bytes_per_token" else "matmul_operations_per_second"
            share = plan[cost[0]] / cost[1] / limits[limit]
            line |= {"share_of": limit.split("_")[0], "llava_gauge_share": rate * share}
        if reference:
            rates = reference[other]
            line |= {
                "transformers_batch_1": rates["batch_1"],
                "transformers_best": rates["best"],
                "best_batch": rates["best_batch"],
                "ratio_to_batch_1": rate / rates["batch_1"],
                "ratio_to_best": rate / rates["best"],
            }
            if share:
                line["transformers_batch_1_share"] = rates["batch_1"] * share
        lines.append(line)
    return lines


def number(value, digits=3):
    if value is None:
        return "–"
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"


def percent(value):
    return "–" if value is None else f"{100 * value:.0f} %"


def markdown(result):
    settings, ours = result["settings"], result["llava_gauge"]
    reference = result.get("transformers", {})
    lines = [
        f"# {settings['shape']} on {settings['provider']}",
        "",
        f"{result['machine']['device']}; llava-gauge {result['version']} with ONNX Runtime {ours['onnx_runtime']}, "
        f"{settings['flavor']} graphs, computing in {settings['compute'] if settings['compute'] != 'none' else 'fp32'}; "
        + (
            f"transformers {reference['transformers']} with PyTorch {reference['torch']}, {reference['dtype']}, {reference['attention']}."
            if "rates" in reference
            else f"transformers: {reference.get('skipped', 'skipped')}."
        ),
        "",
    ]
    if settings["provider"] == "cpu":
        lines += ["These numbers only show that the script works: random weights of a tiny shape on a processor.", ""]
    lines += [
        "| test | unit | llava-gauge | share of the limit | transformers, batch 1 | its share | transformers, best batch | ratio to batch 1 "
        "| ratio to best |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for line in result["comparison"]:
        best = f"{number(line['transformers_best'])} (batch {line['best_batch']})" if "best_batch" in line else "–"
        cells = [
            line["test"],
            line["unit"],
            number(line["llava_gauge"]),
            percent(line.get("llava_gauge_share")),
            number(line.get("transformers_batch_1")),
            percent(line.get("transformers_batch_1_share")),
            best,
            number(line.get("ratio_to_batch_1")),
            number(line.get("ratio_to_best")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    limits = reference.get("peaks")
    if limits:
        lines += [
            "",
            f"Limits, measured by PyTorch: {limits['matmul_operations_per_second'] / 1e12:.3g} TFLOP/s of matrix products, "
            f"{limits['bandwidth_bytes_per_second'] / 1e9:.4g} GB/s copied (read and written). Images and prefill are compared with the "
            "first, decoding with the second.",
        ]
    gigabytes = lambda value: "–" if value is None else f"{value / 1e9:.2f} GB"
    most = max((reference.get("peak_device_bytes") or {"": None}).values(), key=lambda value: value or 0, default=None)
    lines += [
        "",
        f"Memory at most: llava-gauge {gigabytes(ours['peak_device_bytes'])} on the device and {gigabytes(ours['peak_host_bytes'])} beside "
        f"it, transformers {gigabytes(most)} on the device. A whole run of {ours['run']['questions']} questions, six on each picture: "
        f"{number(ours['run']['questions_per_second'])} questions/s in the engine. Export {ours['export_seconds']:.1f} s.",
        "",
        "Questions of transformers carry their image each, as harnesses ask them; a batch is of different questions. Decoding by itself counts "
        "the language model alone, and with transformers the choice of a token; questions count everything on both sides.",
        "",
    ]
    verified = result["verified"]
    outcome = "passed" if verified["passed"] else "FAILED"
    lines.append(f"`package verify` of {verified['shape']} against the processor in 32 bits: {outcome}.")
    return "\n".join(lines) + "\n"


def machine(arguments):
    found = {"platform": platform.platform(), "python": platform.python_version(), "device": platform.processor() or platform.machine()}
    if arguments.provider != "cpu":
        query = ["nvidia-smi", f"--id={arguments.device}", "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit"]
        try:
            line = subprocess.run([*query, "--format=csv,noheader"], capture_output=True, text=True, timeout=30).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            line = ""
        if line:
            found["nvidia_smi"] = line
            found["device"] = line.split(",")[0].strip()
    return found


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--binary", type=Path, required=True, help="llava-gauge, built for release")
    add("--work", type=Path, required=True, help="folder for checkpoints, packages and runs; what is there already is used again")
    add("--runtime", type=Path, help="ONNX Runtime library [default: the program's own]")
    add("--cuda-libs", type=Path, help="folder with the libraries of CUDA and cuDNN")
    add("--output", type=Path, default=Path("reports/gpu"), help="folder of the results")
    add("--provider", choices=("cpu", "cuda", "tensorrt"), default="cuda")
    add("--device", type=int, default=0, help="which GPU")
    add("--shapes", default="7b", help="small, 7b, or a shape that `llava-gauge synth --list` names")
    add("--compute", choices=("fp16", "bf16", "none"), default="fp16", help="number type of activations")
    add("--flavor", choices=("contrib", "standard"), help="[default: contrib; standard for tensorrt]")
    add("--repetitions", type=int, help="of each measurement [default: 5; 1 for small]")
    add("--decode-tokens", type=int, default=32)
    add("--new-tokens", type=int, default=8)
    add("--pictures", type=int, help="pictures of the whole run, six questions each [default: 32; 2 for small]")
    add("--largest-batch", type=int, help="of transformers [default: 64; 2 for small]")
    add("--threads", type=int, help="threads of the processor")
    add("--python", type=Path, default=Path(sys.executable), help="Python with PyTorch and transformers")
    add("--skip-reference", action="store_true", help="leave transformers and the limits out")
    add("--reference-result", type=Path, help=argparse.SUPPRESS)
    add("--checkpoint", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.flavor = arguments.flavor or ("standard" if arguments.provider == "tensorrt" else "contrib")
    small = arguments.shapes == "small"
    for name, tiny, full in (("pictures", 2, 32), ("repetitions", 1, 5), ("largest_batch", 2, 64)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, tiny if small else full)
    return arguments


def main():
    arguments = read_arguments()
    if arguments.reference_result:
        arguments.reference_result.write_text(json.dumps(measure_reference(arguments)))
        return 0
    arguments.binary = arguments.binary.resolve()
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.work = arguments.work.resolve()
    program = Program(arguments)
    shape = SHAPES.get(arguments.shapes, arguments.shapes)
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    version = program.run(["--version"])[0].split()[-1]
    checkpoint = make_checkpoint(program, shape, arguments.work / f"checkpoint-{shape}", "bf16" if arguments.compute == "bf16" else "fp16")
    result = {
        "format": 1,
        "version": version,
        "started_at": started_at,
        "machine": machine(arguments),
        "settings": {
            "shape": shape,
            "provider": arguments.provider,
            "compute": arguments.compute,
            "flavor": arguments.flavor,
            "repetitions": arguments.repetitions,
            "decode_tokens": arguments.decode_tokens,
            "new_tokens": arguments.new_tokens,
        },
        "costs": costs(checkpoint, arguments.decode_tokens, 4 if arguments.compute == "none" else 2),
        "verified": verify(program, arguments),
        "llava_gauge": measure_program(program, arguments, checkpoint),
    }
    lacking = [] if arguments.skip_reference else missing_modules(arguments.python)
    if arguments.skip_reference:
        result["transformers"] = {"skipped": "left out as asked"}
    elif lacking:
        result["transformers"] = {"skipped": f"skipped, as this Python has no {' and no '.join(lacking)}"}
    else:
        result["transformers"] = reference_in_another_process(arguments, checkpoint)
    if "skipped" in result["transformers"]:
        say(f"transformers: {result['transformers']['skipped']}")
    result["comparison"] = compare(result)
    arguments.output.mkdir(parents=True, exist_ok=True)
    name = f"{shape}-{arguments.provider}-{arguments.compute if arguments.compute != 'none' else 'fp32'}"
    (arguments.output / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    table = markdown(result)
    (arguments.output / f"{name}.md").write_text(table)
    print(table, end="")
    return 0 if result["verified"]["passed"] else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(1)
