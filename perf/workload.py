"""The random LLaVA-shaped checkpoint, the pictures, the questions, and the four workloads.

The checkpoint is `llava-gauge synth --like M1`: CLIP ViT-L/14-336, an mlp2x_gelu projector and a LLaMA-type model of 0.5 B
parameters (hidden 896, 24 layers, 14 query and 2 key-value heads, untied head). The prompt is 35 system + 576 image + 25
question tokens. `--like pico` has the same parts at a size that runs in milliseconds; it serves `--smoke`.

The head's row of the end-of-sequence token is zero, so that its logit is exactly 0 and never the largest of thousands:
both sides generate exactly as many tokens as they are asked for, with nothing suppressed on either side.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers import AutoTokenizer

from common import Failed, call, say

QUESTION_TOKENS = 25


@dataclass(frozen=True)
class Workload:
    """Images × questions × new tokens, and how much of it is measured where --full does not ask for all of it."""

    name: str
    images: int
    questions: int
    new_tokens: int
    peer_images: int
    """Images on which transformers is measured in each round."""
    peer_questions: int
    """Questions of each, at batch 1."""
    rounds: int
    """Rounds at most: a long run averages over enough by itself."""
    precisions: tuple[str, ...]
    """Precisions of llava-gauge, of those asked for."""


ALL = ("fp32", "fp16", "bf16", "int8", "int8-weights", "int4")
WORKLOADS = {
    "w": Workload("w", 8, 6, 8, 1, 6, 9, ALL),
    "many": Workload("many", 2, 32, 8, 1, 3, 9, ("fp32", "int8")),
    "single": Workload("single", 6, 1, 8, 2, 1, 9, ("fp32", "int8")),
    "long": Workload("long", 16, 1, 256, 1, 1, 1, ("fp32", "int8-weights")),
}
SMOKE_WORKLOADS = {
    "w": Workload("w", 4, 3, 4, 2, 3, 9, ALL),
    "many": Workload("many", 2, 8, 4, 1, 8, 9, ALL),
    "single": Workload("single", 4, 1, 4, 2, 1, 9, ALL),
    "long": Workload("long", 4, 1, 12, 1, 1, 9, ALL),
}


def checkpoint(work: Path, given: Path | None, smoke: bool, binary: Path) -> Path:
    """The checkpoint's folder: the given one, or the random one, which `llava-gauge synth` makes once."""
    if given:
        if not (given / "config.json").exists():
            raise Failed(f"{given}: has no config.json")
        return given
    shape = "pico" if smoke else "M1"
    folder = work / shape.lower()
    if not folder.exists():
        say(f"llava-gauge makes the random checkpoint {folder}")
        unfinished = work / f"{shape.lower()}.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        call([binary, "synth", "--like", shape, "-o", unfinished])
        end = json.loads((unfinished / "generation_config.json").read_text())["eos_token_id"]
        silence(unfinished / "model.safetensors", end)
        unfinished.rename(folder)
    return folder


def silence(file: Path, token: int) -> None:
    """Makes a row of the head zero, in place: that token's logit is then exactly 0."""
    with open(file, "r+b") as opened:
        header_bytes = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(header_bytes))
        name = next((name for name in header if name.endswith("lm_head.weight")), None)
        if name is None:
            raise Failed(f"{file}: has no head (lm_head.weight)")
        first, after = header[name]["data_offsets"]
        row = (after - first) // header[name]["shape"][0]
        opened.seek(8 + header_bytes + first + token * row)
        opened.write(bytes(row))


def question_words(folder: Path) -> list[str]:
    """Words of the tokenizer that are one token each, in the order of their ids."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    words = []
    for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        word = token.lstrip("▁Ġ")
        if token not in special and word.isascii() and word.isalnum() and len(word) > 1:
            words.append(word)
    if len(words) < 2:
        raise Failed(f"{folder}: its tokenizer has no plain words to ask with")
    return words


def make_benchmark(work: Path, folder: Path, load: Workload, suffix: str = "") -> Path:
    """Writes the images and questions in VQAv2's format, with made-up answers. Returns the benchmark file."""
    words = question_words(folder)
    data = work / f"{folder.name}-{load.name}{suffix}-{load.images}x{load.questions}x{load.new_tokens}"
    (data / "images").mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng(0)
    asked, answered = [], []
    for image in range(load.images):
        noise = random.integers(0, 256, (15, 20, 3), dtype=numpy.uint8)
        picture = Image.fromarray(noise).resize((640, 480), Image.BICUBIC)
        picture.save(data / "images" / f"{image:012d}.jpg", "JPEG", quality=90)
        for question in range(load.questions):
            key = image * 100 + question
            text = " ".join(words[index] for index in random.integers(0, len(words), QUESTION_TOKENS))
            asked.append({"question_id": key, "image_id": image, "question": text})
            answers = [{"answer": "w3", "answer_confidence": "yes", "answer_id": index + 1} for index in range(10)]
            answered.append({
                "question_id": key, "image_id": image, "question_type": "what", "answer_type": "other",
                "multiple_choice_answer": "w3", "answers": answers,
            })
    (data / "questions.json").write_text(json.dumps({"questions": asked}))
    (data / "annotations.json").write_text(json.dumps({"annotations": answered}))
    benchmark = data / "workload.toml"
    benchmark.write_text(BENCHMARK_TOML.replace("NEW_TOKENS", str(load.new_tokens)).replace("NAME", load.name))
    return benchmark


BENCHMARK_TOML = """\
name = "perf-NAME"
title = "Random workload for timing"
licence = "made by perf/workload.py"
source = "perf/workload.py"

[data]
format = "vqav2"
root = "."
questions = "questions.json"
annotations = "annotations.json"
image = "images/{image_id:012}.jpg"

[prompt]
template = "{question}"
source = "perf/workload.py"

[generation]
max_new_tokens = NEW_TOKENS

[scorer]
kind = "vqa"
variant = "official"
primary_metric = "vqa_accuracy"
"""


def text_checkpoint(work: Path, folder: Path) -> Path:
    """The language model of a LLaVA checkpoint as a checkpoint of its own (LlamaForCausalLM), made once."""
    target = work / f"{folder.name}-text"
    if (target / "config.json").exists():
        return target
    say(f"writing the language model of {folder} alone")
    config = json.loads((folder / "config.json").read_text())["text_config"]
    if config.get("model_type") != "llama":
        raise Failed(f"{folder}/config.json: text_config.model_type is {config.get('model_type')}, not llama")
    target.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "numpy") as opened:
            for name in opened.keys():
                own = name.removeprefix("model.").removeprefix("language_model.").removeprefix("model.")
                if "language_model." in name or name.startswith("lm_head."):
                    tensors[own if own.startswith("lm_head.") else f"model.{own}"] = opened.get_tensor(name)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"]:
        if (folder / name).exists():
            shutil.copyfile(folder / name, target / name)
    # Last, because it says that the folder is complete.
    (target / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForCausalLM"]}, indent=2))
    return target
