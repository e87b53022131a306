"""Exports random-weight LLaVA checkpoints of every family, shape and layout, and compares answers with their references.

    python tests/parity/random_configurations.py --program target/release/llava-gauge
    python tests/parity/random_configurations.py --program ... --flavor standard # graphs of standard operators
    python tests/parity/random_configurations.py --program ... --graphs-only     # onnxruntime instead of `ask`
    python tests/parity/random_configurations.py --record tests/parity/recorded   # expected answers for `cargo test`

For each configuration of configurations.py the program is called as

    PROGRAM export CHECKPOINT -o PACKAGE --flavor FLAVOR [--vision-tower DIR] --json
    PROGRAM ask PACKAGE --image FILE... --prompt TEXT --raw-prompt --max-new-tokens N --json

and must print a JSON object with prompt_token_ids, token_ids and logprobs. The reference (references.py) is transformers in
fp32 with eager attention on the weights as stored, greedy; for original formats LLaVA's own arithmetic over modules of
transformers with the same tensors. Prompts whose two best logits come closer than MARGIN at some step are not used, as
rounding could decide there; images of which the reference itself keeps nothing are passed over. Each configuration is asked
PROMPTS prompts over images of at least SIZES sizes. Prints a table; exits 1 on any difference.

Needs torch, transformers, tokenizers, safetensors, pillow, numpy; --graphs-only also onnxruntime.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from configurations import CONFIGURATIONS, RECORDED
from llava_checkpoints import write_checkpoint
from PIL import Image, ImageDraw
from references import NEW_TOKENS, ReferenceFails, reference

MARGIN = 0.05
PROMPTS = 10
LOGPROB_TOLERANCE = 2e-3  # rounding of a few dozen fp32 sums; a wrong weight, position or pixel moves logits by tenths

# Width and height. The first three are those of the oldest records. The others: 1.9 to 1, tall, odd, tiny, flat, large,
# one tile, and two that any-res scales down a lot.
SIZES = [
    (61, 34), (29, 50), (40, 40), (97, 51), (20, 90), (33, 47), (9, 7), (100, 13), (128, 96), (24, 24), (200, 61), (75, 149),
]  # fmt: skip

STYLES = {
    "vicuna": "USER: {}\n{} ASSISTANT:",
    "mistral": "[INST] {}\n{} [/INST]",
    "qwen": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{}\n{}<|im_end|>\n<|im_start|>assistant\n",
    "chatml": "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n{}\n{}<|im_end|><|im_start|>assistant\n",
    "llama3": "<|start_header_id|>user<|end_header_id|>\n\n{}\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    # The image after the question, between two tokens.
    "v0": "###Human: {1}\n<im_start>{0}<im_end>###",
}

SUBJECTS = ["red circle", "blue square", "green triangle", "picture", "image", "person", "region", "user", "number 7", "émile?"]
QUESTIONS = [
    "Is there a {} in the image? Answer the question using a single word or phrase.",
    "How many {}s are there?",
    "What color is the {}?",
    "Describe the {}.",
    "Please provide the bounding box coordinate of the region this sentence describes: the {}.",
]


def make_images(folder, sizes=SIZES):
    """Images of odd sizes; each is drawn from its own seed, so that more of them change none."""
    paths = []
    for index, (width, height) in enumerate(sizes):
        generator = random.Random(index)
        image = Image.new("RGB", (width, height), tuple(generator.randrange(256) for _ in range(3)))
        draw = ImageDraw.Draw(image)
        for _ in range(6):
            x, y = generator.randrange(max(width - 8, 1)), generator.randrange(max(height - 8, 1))
            box = (x, y, x + generator.randrange(6, 20), y + generator.randrange(6, 20))
            shape = draw.ellipse if generator.random() < 0.5 else draw.rectangle
            shape(box, fill=tuple(generator.randrange(256) for _ in range(3)))
        path = Path(folder) / f"image-{index}.png"
        image.save(path)
        paths.append(path)
    return paths


def open_images(paths):
    return [Image.open(path).convert("RGB") for path in paths]


def candidates(config, images):
    """Prompts in a fixed order, with the images of each. Any PROMPTS of them in a row show at least ten images where there are
    as many, as each goes on in the list where the one before stopped."""
    generator = random.Random(7)
    questions = [question.format(subject) for question in QUESTIONS for subject in SUBJECTS]
    generator.shuffle(questions)
    order = list(range(len(images)))
    generator.shuffle(order)
    at = 0
    for round_ in range(4):
        for question in questions:
            chosen = [order[(at + index) % len(order)] for index in range(config.images)]
            at += config.images
            # Marks stand together in one half of the prompts, each before its own sentence in the other.
            if at // config.images % 2 or config.images == 1:
                marks, text = "\n".join(["<image>"] * config.images), question
            else:
                marks, text = "<image>", question + "".join(f" And here? <image>\n{question}" for _ in chosen[1:])
            yield STYLES[config.style].format(marks, text), chosen


def choose_prompts(config, asked, images):
    """Prompts whose answers are far from ties, over as many images as there are."""
    cases, unused = [], set(range(len(images)))
    for tried, (prompt, chosen) in enumerate(candidates(config, images)):
        # While images are left that no prompt has shown, others wait; some may fail by themselves.
        if unused and not unused & set(chosen) and tried < 60:
            continue
        try:
            expected = asked.answer(prompt, open_images([images[index] for index in chosen]))
        except ReferenceFails:
            continue
        if expected["margin"] >= MARGIN and expected["token_ids"]:
            cases.append({"prompt": prompt, "images": chosen, **expected})
            unused -= set(chosen)
        if len(cases) == PROMPTS:
            return cases
    sys.exit(f"{config.name}: only {len(cases)} prompts have margins of {MARGIN}")


def image_sensitivity(asked, images, cases):
    """Share of prompts whose answer changes with other images: an answer that ignores them would prove little."""
    changed = 0
    for case in cases:
        others = open_images([images[(index + 1) % len(images)] for index in case["images"]])
        try:
            changed += asked.answer(case["prompt"], others)["token_ids"] != case["token_ids"]
        except ReferenceFails:
            changed += 1
    return changed / len(cases)


def call(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{program} {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr.strip()}")
    return done.stdout


def check_answers(program, package, images, cases):
    """(equal answers, equal prompts, largest difference of a log-probability)"""
    answers, prompts, worst = 0, 0, 0.0
    for case in cases:
        options = [word for index in case["images"] for word in ("--image", images[index])]
        options += ["--prompt", case["prompt"], "--raw-prompt", "--max-new-tokens", NEW_TOKENS, "--json"]
        found = json.loads(call(program, "ask", package, *options))
        prompts += found["prompt_token_ids"] == case["prompt_token_ids"]
        if found["token_ids"] == case["token_ids"]:
            answers += 1
            worst = max([worst] + [abs(a - b) for a, b in zip(found["logprobs"], case["logprobs"], strict=True)])
    return answers, prompts, worst


def run(arguments, work):
    images, failures, seen = make_images(work), 0, set()
    if arguments.graphs_only:
        from graphs import compare_model
    header = "vision    projector prefill   chunks    tree" if arguments.graphs_only else "answers prompts logprob"
    print(f"{'configuration':30} {'margin':>6} {'tokens':>6} {'images':>6} {'image':>5}  {header}", flush=True)
    for config in CONFIGURATIONS:
        if arguments.only and config.name not in arguments.only:
            continue
        folder, package = work / config.name, work / f"{config.name}-package"
        model, _, tower = write_checkpoint(folder, config)
        asked = reference(config, folder, model, tower)
        cases = choose_prompts(config, asked, images)
        distinct = len({token for case in cases for token in case["token_ids"]})
        shown = {index for case in cases for index in case["images"]}
        seen |= shown
        sensitivity = image_sensitivity(asked, images, cases)
        line = f"{config.name:30} {min(case['margin'] for case in cases):6.3f} {distinct:6} {len(shown):6} {sensitivity:5.0%}"
        if not arguments.program:
            print(line, flush=True)
            continue
        export = ["export", folder, "-o", package, "--flavor", arguments.flavor, *(["--vision-tower", tower] if tower else []), "--json"]
        try:
            manifest = json.loads(call(arguments.program, *export))
            template = manifest["prompt"]["template"].get("conversation")
            if config.conversation and template != config.conversation:
                raise RuntimeError(f"{config.name}: template {template}, expected {config.conversation}")
            if arguments.graphs_only:
                differences = compare_model(asked.model, package)
                failures += max(differences.values()) > 1e-4
                print(line, "", " ".join(f"{value:.3e}" for value in differences.values()), flush=True)
                continue
            answers, prompts, worst = check_answers(arguments.program, package, images, cases)
        except RuntimeError as error:
            failures += 1
            print(line, f" {error}", flush=True)
            continue
        failures += answers < PROMPTS or prompts < PROMPTS or worst > LOGPROB_TOLERANCE
        print(f"{line}  {answers:5}/{PROMPTS} {prompts:5}/{PROMPTS} {worst:.1e}", flush=True)
    print(f"{failures} configurations differ" if failures else f"all equal, over {len(seen)} images")
    return failures


def record(folder, only):
    """Checkpoints, images and expected answers small enough for the repository."""
    folder.mkdir(parents=True, exist_ok=True)
    images = make_images(folder)
    for config in RECORDED:
        if only and config.name not in only:
            continue
        model, _, tower = write_checkpoint(folder / config.name, config)
        assert tower is None
        cases = choose_prompts(config, reference(config, folder / config.name, model, tower), images)
        for case in cases:
            case["images"] = [images[index].name for index in case["images"]]
            case["logprobs"] = [round(value, 5) for value in case["logprobs"]]
            case["margin"] = round(case["margin"], 4)
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
        text = f'{{"max_new_tokens": {NEW_TOKENS}, "cases": [\n{lines}\n]}}\n'
        (folder / f"{config.name}.json").write_text(text, encoding="utf-8")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size} bytes")
    return size > 3_000_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", help="the llava-gauge program; without it only the references are made")
    parser.add_argument("--flavor", choices=["contrib", "standard"], default="contrib", help="operators of the exported graphs")
    parser.add_argument("--graphs-only", action="store_true", help="run the exported graphs with onnxruntime instead of `ask`")
    parser.add_argument("--record", type=Path, help="write the recorded subset here and stop")
    parser.add_argument("--work", type=Path, help="keep checkpoints and packages in this folder")
    parser.add_argument("--only", nargs="*", help="names of configurations")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    np.random.seed(0)
    if arguments.record:
        sys.exit(record(arguments.record, arguments.only))
    if arguments.work:
        arguments.work.mkdir(parents=True, exist_ok=True)
        sys.exit(bool(run(arguments, arguments.work)))
    with tempfile.TemporaryDirectory() as work:
        sys.exit(bool(run(arguments, Path(work))))


if __name__ == "__main__":
    main()
