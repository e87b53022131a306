"""transformers as a peer: LLaVA as a whole in several configurations, and its language model alone.

What is chosen for it, and why: perf/README.md.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPImageProcessorPil,
    CompileConfig,
    DynamicCache,
    LlavaForConditionalGeneration,
)

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Configuration:
    """One way to use transformers."""

    name: str
    precision: str
    batched: bool
    """All questions of an image in one call of `generate`; otherwise one question a call."""
    shared_prefix: bool = False
    """The image and the rows in front of the question run once for an image: not a setting but code of one's own."""
    compiled: bool = False
    """A static cache and decoding steps compiled by torch."""


CONFIGURATIONS = [
    Configuration("fp32, batch 1", "fp32", False),
    Configuration("fp32, batched", "fp32", True),
    Configuration("bf16, batch 1", "bf16", False),
    Configuration("bf16, batched", "bf16", True),
    Configuration("fp32, batched, prefix shared by hand", "fp32", True, shared_prefix=True),
    Configuration("fp32, batch 1, compiled", "fp32", False, compiled=True),
]


class Transformers:
    """The checkpoint in transformers. Models are loaded when first asked for and stay."""

    def __init__(self, folder: Path, data: Path, threads: int):
        torch.set_num_threads(threads)
        self.folder, self.data = folder, data
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.processor = CLIPImageProcessorPil.from_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        self.image_token = config.get("image_token_index", config.get("image_token_id"))
        ends = json.loads((folder / "generation_config.json").read_text()).get("eos_token_id", [])
        self.ends = ends if isinstance(ends, list) else [ends]
        self.image_tokens = (config["vision_config"]["image_size"] // config["vision_config"]["patch_size"]) ** 2
        self.questions = json.loads((data / "questions.json").read_text())["questions"]
        self.models = {}
        # On a CPU generate compiles only where it is told to; one graph serves all lengths.
        settings = CompileConfig(mode="default", fullgraph=False, dynamic=True)
        settings._compile_all_devices = True
        self.compilation = {"cache_implementation": "static", "compile_config": settings}

    def model(self, precision: str) -> LlavaForConditionalGeneration:
        if precision not in self.models:
            self.models[precision] = LlavaForConditionalGeneration.from_pretrained(
                self.folder, dtype=TYPES[precision], attn_implementation="sdpa").eval()
        return self.models[precision]

    def prompt(self, question: dict) -> list[int]:
        """Token ids with the image token repeated for each image row."""
        parts = [{"type": "image"}, {"type": "text", "text": question["question"]}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False)
        ids = []
        for token in self.tokenizer(text)["input_ids"]:
            ids += [token] * (self.image_tokens if token == self.image_token else 1)
        return ids

    def pixels(self, question: dict, precision: str) -> torch.Tensor:
        picture = Image.open(self.data / "images" / f"{question['image_id']:012d}.jpg").convert("RGB")
        return self.processor(picture, return_tensors="pt")["pixel_values"].to(TYPES[precision])

    @torch.inference_mode()
    def answer(self, configuration: Configuration, questions: list[dict], new_tokens: int) -> tuple[dict, dict, float]:
        """Answers questions of one image. Returns token ids and summed log-probabilities by question, and seconds from the
        JPEG file to token ids. What the log-probabilities need is kept in the time and evaluated outside it."""
        model, outputs = self.model(configuration.precision), []
        started = time.perf_counter()
        for batch in [questions] if configuration.batched else [[question] for question in questions]:
            ids = torch.tensor([self.prompt(question) for question in batch])
            more = dict(self.compilation) if configuration.compiled else {}
            if configuration.shared_prefix:
                more["past_key_values"] = self._prefix(model, batch, ids)
            else:
                # A batch has one picture a row: transformers encodes it as often as it is asked about.
                more["pixel_values"] = torch.cat([self.pixels(question, configuration.precision) for question in batch])
            generated = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False, pad_token_id=0,
                return_dict_in_generate=True, output_logits=True, **more,
            )
            outputs.append((batch, generated.sequences[:, ids.shape[1]:], generated.logits))
        seconds = time.perf_counter() - started
        tokens, log_probabilities = {}, {}
        for batch, rows, logits in outputs:
            sums = torch.zeros(len(batch), dtype=torch.float64)
            for step, values in enumerate(logits):
                sums += torch.log_softmax(values.double(), -1).gather(-1, rows[:, step:step + 1])[:, 0]
            for row, question in enumerate(batch):
                answer = rows[row].tolist()
                ends = [place for place, token in enumerate(answer) if token in self.ends]
                tokens[str(question["question_id"])] = answer[:ends[0]] if ends else answer
                log_probabilities[str(question["question_id"])] = sums[row].item()
        return tokens, log_probabilities, seconds

    def _prefix(self, model: LlavaForConditionalGeneration, batch: list[dict], ids: torch.Tensor) -> DynamicCache:
        """The keys and values of what all prompts of one image begin with, repeated for each question."""
        common = int((ids == ids[0]).all(0).int().cumprod(0).sum())
        cache = DynamicCache(config=model.config.get_text_config())
        model(
            input_ids=ids[:1, :common], attention_mask=torch.ones(1, common, dtype=torch.long),
            pixel_values=self.pixels(batch[0], "fp32"), past_key_values=cache, use_cache=True, logits_to_keep=1,
        )
        cache.batch_repeat_interleave(len(batch))
        return cache

    def warm_up(self, configuration: Configuration) -> float:
        """One question with two tokens, not counted. Returns its seconds: a configuration without kernels shows here."""
        if configuration.compiled:
            for tokens in [4, 6]:  # the second length makes the compiled graph one for all lengths
                self.answer(configuration, self.questions[:1], tokens)
        return self.answer(configuration, self.questions[:1], 2)[2]


@torch.inference_mode()
def language_model(folder: Path, precision: str, prompt: int, depth: int, steps: int, repetitions: int) -> dict:
    """Prefill of `prompt` tokens and decode steps from `depth` on, in seconds."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=TYPES[precision], attn_implementation="sdpa").eval()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, model.config.vocab_size - 64, (1, depth + 1), generator=generator)
    prefill, decode = [], []
    for repetition in range(repetitions + 1):
        started = time.perf_counter()
        model(input_ids=ids[:, :prompt], past_key_values=DynamicCache(config=model.config), logits_to_keep=1)
        if repetition > 0:
            prefill.append(time.perf_counter() - started)
    cache = DynamicCache(config=model.config)
    model(input_ids=ids[:, :depth], past_key_values=cache, logits_to_keep=1)
    for step in range(steps + 1):
        started = time.perf_counter()
        model(input_ids=ids[:, -1:], past_key_values=cache, logits_to_keep=1)
        if step > 0:
            decode.append(time.perf_counter() - started)
    return {"prefill_tokens": prompt, "prefill_seconds": prefill, "decode_seconds": decode}


@torch.inference_mode()
def greedy(folder: Path, prompt: list[int], count: int) -> list[int]:
    """What the language model alone goes on with: shows that the peers' conversions are the same model."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    ids = torch.tensor([prompt])
    return model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=0,
    )[0, len(prompt):].tolist()


def main() -> int:
    """Measures the language model in a process of its own, so that every peer of a round starts afresh."""
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings.pop("threads"))
    folder = Path(settings.pop("folder"))
    print(json.dumps(greedy(folder, **settings) if "count" in settings else language_model(folder, **settings)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
