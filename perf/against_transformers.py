#!/usr/bin/env python3
"""Measures llava-gauge against transformers on one machine, in one run, on one random LLaVA-shaped checkpoint.

Workload: 8 JPEG images of 640x480, 6 questions each, 8 new tokens greedy, fp32. The checkpoint is CLIP ViT-L/14-336,
an mlp2x_gelu projector and a LLaMA-type model of 0.5 B parameters (hidden 896, 24 layers, 14 query and 2 key-value
heads). The prompt is 35 system + 576 image + 25 question tokens. transformers answers one question at a time and
encodes the image for each, as the common evaluation harnesses do.

Both sides start from the same JPEG files and end with token ids; loading is not counted on either side. The tokens of
both must be equal, or the figures mean nothing: the script then ends with code 1.

    pip install -r perf/requirements.txt
    cargo build --release
    python3 perf/against_transformers.py --program target/release/llava-gauge
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

IMAGE_TOKEN = 32000
SYSTEM_TOKENS, IMAGE_TOKENS, QUESTION_TOKENS = 35, 576, 25


def make_checkpoint(folder: Path) -> None:
    """Writes the random checkpoint, with weights scaled so that activations and logits have realistic sizes."""
    vision = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
        image_size=336, patch_size=14, projection_dim=768,
    )
    text = LlamaConfig(
        vocab_size=32064, hidden_size=896, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
        intermediate_size=4864, max_position_embeddings=4096, rms_norm_eps=1e-5, tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE_TOKEN, projector_hidden_act="gelu",
        vision_feature_layer=-2, vision_feature_select_strategy="default", tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config).float().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                is_scale = "norm" in name and name.endswith("weight")
                parameter.copy_(1 + 0.1 * noise if is_scale else 0.02 * noise)
            elif "embed_tokens" in name:
                parameter.copy_(0.5 * noise)
            elif "projector" in name:
                parameter.copy_(noise / parameter.shape[1] ** 0.5)
            elif parameter.dim() == 2 and "embedding" not in name:
                parameter.copy_(0.7 * noise / parameter.shape[1] ** 0.5)
    model.generation_config.eos_token_id = 2
    model.save_pretrained(folder)

    words = {f"w{index}": index for index in range(32000)}
    for index, special in enumerate(["<unk>", "<s>", "</s>"]):
        del words[f"w{index}"]
        words[special] = index
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ["<unk>", "<s>", "</s>", "<image>"]])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
    )
    fast.save_pretrained(folder)
    assert fast.convert_tokens_to_ids("<image>") == IMAGE_TOKEN
    system = " ".join(f"w{index}" for index in numpy.random.default_rng(7).integers(3, 32000, SYSTEM_TOKENS - 1))
    template = system + " {% for message in messages %}{% for part in message['content'] %}" \
        "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    processor.save_pretrained(folder)


def make_benchmark(folder: Path, images: int, questions: int) -> Path:
    """Writes the images and questions in VQAv2's format, with made-up answers, and a benchmark file for them."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng(0)
    asked, answered = [], []
    for image in range(images):
        noise = random.integers(0, 256, (15, 20, 3), dtype=numpy.uint8)
        picture = Image.fromarray(noise).resize((640, 480), Image.BICUBIC)
        picture.save(folder / "images" / f"{image:012d}.jpg", "JPEG", quality=90)
        for question in range(questions):
            key = image * 100 + question
            text = " ".join(f"w{index}" for index in random.integers(3, 32000, QUESTION_TOKENS))
            asked.append({"question_id": key, "image_id": image, "question": text})
            answers = [{"answer": "w3", "answer_confidence": "yes", "answer_id": index + 1} for index in range(10)]
            answered.append({
                "question_id": key, "image_id": image, "question_type": "what", "answer_type": "other",
                "multiple_choice_answer": "w3", "answers": answers,
            })
    (folder / "questions.json").write_text(json.dumps({"questions": asked}))
    (folder / "annotations.json").write_text(json.dumps({"annotations": answered}))
    benchmark = folder / "workload.toml"
    benchmark.write_text(BENCHMARK_TOML)
    return benchmark


BENCHMARK_TOML = """\
name = "workload"
title = "Random workload for timing"
licence = "made by perf/against_transformers.py"
source = "perf/against_transformers.py"

[data]
format = "vqav2"
root = "."
questions = "questions.json"
annotations = "annotations.json"
image = "images/{image_id:012}.jpg"

[prompt]
template = "{question}"
source = "perf/against_transformers.py"

[generation]
max_new_tokens = 8

[scorer]
kind = "vqa"
variant = "official"
primary_metric = "vqa_accuracy"
"""


def run_transformers(folder: Path, data: Path, images: int, new_tokens: int) -> tuple[dict, float]:
    """Answers every question alone. Returns token ids by question and the seconds from JPEG files to tokens."""
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    template = (folder / "chat_template.jinja").read_text().split(" {%")[0]
    questions = json.loads((data / "questions.json").read_text())["questions"]
    questions = [question for question in questions if question["image_id"] < images]

    @torch.inference_mode()
    def answer(question: dict, count: int) -> list[int]:
        picture = Image.open(data / "images" / f"{question['image_id']:012d}.jpg").convert("RGB")
        pixels = processor(picture, return_tensors="pt")["pixel_values"]
        text = template + " " + "<image> " * IMAGE_TOKENS + question["question"]
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        assert ids.shape[1] == SYSTEM_TOKENS + IMAGE_TOKENS + QUESTION_TOKENS, ids.shape
        output = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels,
            max_new_tokens=count, do_sample=False, pad_token_id=0,
        )
        return output[0, ids.shape[1]:].tolist()

    answer(questions[0], 2)  # warm-up, not counted
    tokens = {}
    started = time.perf_counter()
    for question in questions:
        tokens[str(question["question_id"])] = answer(question, new_tokens)
    return tokens, time.perf_counter() - started


def run_program(program: Path, package: Path, benchmark: Path, output: Path, threads: int) -> tuple[dict, float, dict]:
    """Runs llava-gauge and returns token ids by question, seconds from JPEG files to tokens, and seconds by stage."""
    shutil.rmtree(output, ignore_errors=True)
    command = [program, "run", "--model", package, "--benchmark", benchmark, "-o", output, "--threads", str(threads)]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    log = next(output.rglob("samples.jsonl"))
    tokens, groups = {}, {}
    for line in log.read_text().splitlines():
        record = json.loads(line)["record"]
        assert record.get("failure") is None, record["failure"]
        ids = record["token_ids"] + ([2] if record["stop_reason"] == "eos" else [])
        tokens[record["key"]] = ids
        groups[record["cluster"]] = record["timings"]["group"]
    stages = {
        stage: sum(group[f"{stage}_ms"] for group in groups.values()) / 1000
        for stage in ["image", "vision", "projector", "prefill", "decode"]
    }
    return tokens, sum(stages.values()), stages


def processor_name() -> str:
    """The processor as the operating system names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, required=True, help="the llava-gauge binary, release build")
    parser.add_argument("--work", type=Path, default=Path("target/perf"), help="folder for the checkpoint (4 GB)")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--questions", type=int, default=6)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3, help="runs of llava-gauge, half before and half after transformers")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    checkpoint, package = arguments.work / "m1", arguments.work / "m1-package"
    if not (checkpoint / "config.json").exists():
        checkpoint.mkdir(parents=True, exist_ok=True)
        make_checkpoint(checkpoint)
    data = arguments.work / f"workload-{arguments.images}x{arguments.questions}"
    benchmark = make_benchmark(data, arguments.images, arguments.questions)
    export = [arguments.program, "export", checkpoint, "-o", package, "--name", "m1", "--force"]
    subprocess.run([str(part) for part in export], check=True, stdout=subprocess.DEVNULL)

    # Half of our runs before the peer and half after, so that a machine that slows down or speeds up favours nobody.
    ours, stages = [], []
    before = (arguments.repeats + 1) // 2
    def measure(times: int) -> dict:
        for _ in range(times):
            tokens, seconds, by_stage = run_program(
                arguments.program, package, benchmark, arguments.work / "runs", arguments.threads)
            ours.append(seconds)
            stages.append(by_stage)
            print(f"llava-gauge: {seconds:.1f} s", file=sys.stderr)
        return tokens
    tokens = measure(before)
    reference, theirs = run_transformers(checkpoint, data, arguments.images, 8)
    print(f"transformers: {theirs:.1f} s", file=sys.stderr)
    if arguments.repeats > before:
        measure(arguments.repeats - before)

    count = arguments.images * arguments.questions
    equal = sum(tokens.get(key) == ids for key, ids in reference.items())
    median = sorted(ours)[len(ours) // 2]
    middle = stages[ours.index(median)]
    figures = {
        "processor": processor_name(), "threads": arguments.threads, "questions": count,
        "torch": torch.__version__, "transformers": __import__("transformers").__version__,
        "transformers_seconds": theirs, "llava_gauge_seconds": ours, "llava_gauge_stages_seconds": middle,
        "ratio": theirs / median, "ratio_range": [theirs / max(ours), theirs / min(ours)], "answers_equal": equal,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"{figures['processor']}, {arguments.threads} threads, {arguments.images} images x {arguments.questions} questions x 8 tokens, fp32")
    print(f"| | s | s/question |\n| --- | ---: | ---: |")
    print(f"| transformers {figures['transformers']}, batch 1 | {theirs:.1f} | {theirs / count:.2f} |")
    print(f"| llava-gauge (median of {len(ours)}) | {median:.1f} | {median / count:.2f} |")
    print("by stage: " + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in middle.items()))
    low, high = figures["ratio_range"]
    print(f"{figures['ratio']:.2f} times faster (range {low:.2f} to {high:.2f}); {equal} of {count} answers have equal tokens")
    return 0 if equal == count else 1


if __name__ == "__main__":
    sys.exit(main())
