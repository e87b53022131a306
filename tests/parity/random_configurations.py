"""Exports random-weight LLaVA checkpoints of many shapes and layouts, and compares answers with transformers.

    python tests/parity/random_configurations.py --program target/release/llava-gauge
    python tests/parity/random_configurations.py --program ... --graphs-only     # onnxruntime instead of `ask`
    python tests/parity/random_configurations.py --record tests/fixtures/parity   # expected answers for `cargo test`

For each configuration the program is called as

    PROGRAM export CHECKPOINT -o PACKAGE [--vision-tower DIR]
    PROGRAM ask PACKAGE --image FILE --prompt TEXT --raw-prompt --max-new-tokens N --json

and must print a JSON object with prompt_token_ids, token_ids and logprobs. The reference is transformers in fp32 with eager
attention on the weights as stored, greedy. Prompts whose two best logits come closer than MARGIN at some step are not
used, as rounding could decide there. Prints a table; exits 1 on any difference.

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
from PIL import Image, ImageDraw
from transformers import CLIPImageProcessorPil, LlavaForConditionalGeneration, LlavaImageProcessorPil, PreTrainedTokenizerFast
from transformers.models.llava.processing_llava import LlavaProcessor

from llava_checkpoints import Configuration, write_checkpoint, write_json

MARGIN = 0.05
PROMPTS = 8
NEW_TOKENS = 12
LOGPROB_TOLERANCE = 2e-3  # rounding of a few dozen fp32 sums; a wrong weight, position or pixel moves logits by tenths

LINEAR_ROPE = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
    "rope_theta": 10000.0,
}

CONFIGURATIONS = [
    Configuration("hf-fp32"),
    Configuration("hf4-fp32", scheme="transformers4", heads=8, key_value_heads=2, hidden=128),
    Configuration("hf-nested-bf16", scheme="nested", dtype="bf16", key_value_heads=2, image_size=48, pad=True),
    Configuration("hf-fp16-sharded", dtype="fp16", shard_bytes=60_000, patch_size=16, image_size=64, key_value_heads=1),
    Configuration("hf-bf16-sharded-tied", dtype="bf16", shard_bytes=60_000, tied=True, layers=3),
    Configuration("hf-fp32-tied", scheme="transformers4", tied=True, image_size=28, patch_size=14, vision_hidden=64),
    Configuration("hf-last-layer", feature_layer=-1, image_size=30, patch_size=8, vision_activation="gelu"),
    Configuration("hf-layer-1-full", feature_layer=1, strategy="full", vision_heads=2, dtype="fp16"),
    Configuration("hf-layer-2", feature_layer=2, vision_layers=4, vocabulary_padding=1, words=420),
    Configuration("hf-biases", attention_bias=True, mlp_bias=True, projector_bias=False, scheme="transformers4"),
    Configuration("hf-head-dim-32", head_dim=32, heads=3, key_value_heads=3, hidden=48, rope=LINEAR_ROPE, scheme="nested"),
    Configuration("hf-llama3-rope", rope=LLAMA3_ROPE, heads=4, key_value_heads=2, layers=4, dtype="bf16"),
    Configuration("original-linear", family="original", projector="linear", vision_heads=3),
    Configuration("original-mlp-pad", family="original", pad=True, dtype="bf16", shard_bytes=60_000, key_value_heads=2),
    Configuration("original-inside", family="original", tower="inside", dtype="fp16", feature_layer=-1, strategy="full"),
    Configuration("original-beside", family="original", tower="beside", tied=True, vision_activation="gelu", pad=True),
]

# Two small ones for the repository.
RECORDED = [
    Configuration(
        "recorded-hf", dtype="bf16", shard_bytes=40_000, words=300, vocabulary_padding=8, hidden=32, heads=2, key_value_heads=1,
        intermediate=48, vision_hidden=32, vision_heads=2, patch_size=8, image_size=24, seed=1,
    ),
    Configuration(
        "recorded-original", family="original", projector="linear", tower="inside", dtype="bf16", words=300, hidden=32, heads=2,
        vocabulary_padding=8, key_value_heads=2, intermediate=48, vision_hidden=32, vision_heads=2, image_size=24, pad=True, seed=2,
    ),
]  # fmt: skip

SUBJECTS = ["red circle", "blue square", "green triangle", "picture", "image", "person", "region", "user", "number 7", "émile?"]
QUESTIONS = [
    "Is there a {} in the image? Answer the question using a single word or phrase.",
    "How many {}s are there?",
    "What color is the {}?",
    "Describe the {}.",
    "Please provide the bounding box coordinate of the region this sentence describes: the {}.",
]


def make_images(folder):
    """Three images of odd sizes: wide, tall, square."""
    paths = []
    for index, (width, height) in enumerate([(61, 34), (29, 50), (40, 40)]):
        generator = random.Random(index)
        image = Image.new("RGB", (width, height), tuple(generator.randrange(256) for _ in range(3)))
        draw = ImageDraw.Draw(image)
        for _ in range(6):
            x, y = generator.randrange(width - 8), generator.randrange(height - 8)
            box = (x, y, x + generator.randrange(6, 20), y + generator.randrange(6, 20))
            shape = draw.ellipse if generator.random() < 0.5 else draw.rectangle
            shape(box, fill=tuple(generator.randrange(256) for _ in range(3)))
        path = Path(folder) / f"image-{index}.png"
        image.save(path)
        paths.append(path)
    return paths


class Reference:
    """transformers on the weights as stored, computed in fp32."""

    def __init__(self, config, folder, model, tower):
        self.config, self.model = config, model
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        if config.family == "hf":
            # The checkpoint itself, so that its layout is known to be one that transformers reads.
            options = {"dtype": torch.float32, "attn_implementation": "eager", "output_loading_info": True}
            self.model, info = LlavaForConditionalGeneration.from_pretrained(folder, **options)
            assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
            self.model.eval()
            source = LlavaImageProcessorPil if config.pad else CLIPImageProcessorPil
            self.pixels = source.from_pretrained(folder)
            settings = json.loads((folder / "processor_config.json").read_text())
            self.processor = LlavaProcessor(
                image_processor=self.pixels,
                tokenizer=self.tokenizer,
                **{key: settings[key] for key in ("patch_size", "num_additional_image_tokens", "vision_feature_select_strategy")},
            )
        else:
            self.pixels = CLIPImageProcessorPil.from_pretrained(tower or folder / "vision-tower")

    def inputs(self, prompt, image):
        """Token ids with the image's rows (-200 in the original format), and pixels."""
        if self.config.family == "hf":
            batch = self.processor(text=prompt, images=image, return_tensors="pt")
            return batch["input_ids"][0].tolist(), batch["pixel_values"]
        # tokenizer_image_token and process_images of the original repository.
        chunks = [self.tokenizer(chunk).input_ids for chunk in prompt.split("<image>")]
        rows = self.model.config.image_seq_length
        ids = chunks[0] + [id for chunk in chunks[1:] for id in [-200] * rows + chunk[1:]]
        if self.config.pad:
            side = max(image.size)
            background = tuple(int(value * 255) for value in self.pixels.image_mean)
            square = Image.new("RGB", (side, side), background)
            square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
            image = square
        return ids, self.pixels(image, return_tensors="pt")["pixel_values"]

    @torch.no_grad()
    def answer(self, prompt, image):
        ids, pixels = self.inputs(prompt, image)
        token = self.model.config.image_token_id
        input_ids = torch.tensor([[token if id == -200 else id for id in ids]])
        output = self.model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            pixel_values=pixels,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
        tokens = output.sequences[0, input_ids.shape[1] :].tolist()
        logits = torch.stack([step[0] for step in output.logits])
        best = logits.topk(2).values
        logprobs = torch.log_softmax(logits, -1).gather(1, torch.tensor(tokens)[:, None])[:, 0].tolist()
        if tokens and tokens[-1] == 2:
            tokens.pop()
        return {
            "prompt_token_ids": ids,
            "token_ids": tokens,
            "logprobs": logprobs[: len(tokens)],
            "margin": float((best[:, 0] - best[:, 1]).min()),
        }


def choose_prompts(reference, images):
    """The first prompts of a fixed list whose answers are far from ties."""
    generator = random.Random(7)
    candidates = [(question.format(subject), index) for question in QUESTIONS for subject in SUBJECTS for index in range(len(images))]
    generator.shuffle(candidates)
    chosen = []
    for question, index in candidates:
        prompt = f"USER: <image>\n{question} ASSISTANT:"
        expected = reference.answer(prompt, Image.open(images[index]).convert("RGB"))
        if expected["margin"] >= MARGIN and expected["token_ids"]:
            chosen.append({"prompt": prompt, "image": index, **expected})
        if len(chosen) == PROMPTS:
            return chosen
    sys.exit(f"{reference.config.name}: only {len(chosen)} prompts have margins of {MARGIN}")


def image_sensitivity(reference, images, cases):
    """Share of prompts whose answer changes with another image: an answer that ignores it would prove little."""
    changed = 0
    for case in cases:
        other = Image.open(images[(case["image"] + 1) % len(images)]).convert("RGB")
        changed += reference.answer(case["prompt"], other)["token_ids"] != case["token_ids"]
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
        options = ["--image", images[case["image"]], "--prompt", case["prompt"], "--raw-prompt"]
        found = json.loads(call(program, "ask", package, *options, "--max-new-tokens", NEW_TOKENS, "--json"))
        prompts += found["prompt_token_ids"] == case["prompt_token_ids"]
        if found["token_ids"] == case["token_ids"]:
            answers += 1
            worst = max([worst] + [abs(a - b) for a, b in zip(found["logprobs"], case["logprobs"], strict=True)])
    return answers, prompts, worst


def run(arguments, work):
    images, failures = make_images(work), 0
    if arguments.graphs_only:
        from graphs import compare_model
    header = "vision    projector prefill   chunks    tree" if arguments.graphs_only else "answers prompts logprob"
    print(f"{'configuration':22} {'margin':>6} {'distinct':>8} {'image':>5}  {header}", flush=True)
    for config in CONFIGURATIONS:
        if arguments.only and config.name not in arguments.only:
            continue
        folder, package = work / config.name, work / f"{config.name}-package"
        model, _, tower = write_checkpoint(folder, config)
        reference = Reference(config, folder, model, tower)
        cases = choose_prompts(reference, images)
        distinct = len({token for case in cases for token in case["token_ids"]})
        sensitivity = image_sensitivity(reference, images, cases)
        line = f"{config.name:22} {min(case['margin'] for case in cases):6.3f} {distinct:8} {sensitivity:5.0%}"
        if not arguments.program:
            print(line, flush=True)
            continue
        call(arguments.program, "export", folder, "-o", package, *(["--vision-tower", tower] if tower else []))
        if arguments.graphs_only:
            differences = compare_model(reference.model, package)
            failures += max(differences.values()) > 1e-4
            print(line, "", " ".join(f"{value:.3e}" for value in differences.values()), flush=True)
        else:
            answers, prompts, worst = check_answers(arguments.program, package, images, cases)
            failures += answers < PROMPTS or prompts < PROMPTS or worst > LOGPROB_TOLERANCE
            print(f"{line}  {answers:5}/{PROMPTS} {prompts:5}/{PROMPTS} {worst:.1e}", flush=True)
    print(f"{failures} configurations differ" if failures else "all equal")
    return failures


def record(folder):
    """Checkpoints, images and expected answers small enough for the repository."""
    folder.mkdir(parents=True, exist_ok=True)
    images = make_images(folder)
    for config in RECORDED:
        model, _, tower = write_checkpoint(folder / config.name, config)
        assert tower is None
        cases = choose_prompts(Reference(config, folder / config.name, model, tower), images)
        for case in cases:
            case["image"] = images[case["image"]].name
            case["logprobs"] = [round(value, 5) for value in case["logprobs"]]
            case["margin"] = round(case["margin"], 4)
        write_json(folder / f"{config.name}.json", {"max_new_tokens": NEW_TOKENS, "cases": cases})
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size} bytes")
    return size > 300_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", help="the llava-gauge program; without it only the references are made")
    parser.add_argument("--graphs-only", action="store_true", help="run the exported graphs with onnxruntime instead of `ask`")
    parser.add_argument("--record", type=Path, help="write the recorded subset here and stop")
    parser.add_argument("--work", type=Path, help="keep checkpoints and packages in this folder")
    parser.add_argument("--only", nargs="*", help="names of configurations")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    np.random.seed(0)
    if arguments.record:
        sys.exit(record(arguments.record))
    if arguments.work:
        arguments.work.mkdir(parents=True, exist_ok=True)
        sys.exit(bool(run(arguments, arguments.work)))
    with tempfile.TemporaryDirectory() as work:
        sys.exit(bool(run(arguments, Path(work))))


if __name__ == "__main__":
    main()
