"""Random-weight CLIP checkpoints against transformers, and the parity fixture of a CLIP package.

    python tests/parity/clip_parity.py --program target/debug/llava-gauge     # compares all configurations
    python tests/parity/clip_parity.py --record tests/parity/recorded-clip    # checkpoints and fixtures for `cargo test`
    python tests/parity/clip_parity.py --dump CHECKPOINT --images FILE... --texts FILE.txt -o PACKAGE/parity.safetensors

The reference is `CLIPModel` of transformers in fp32 with eager attention on the weights as stored, images through the Pillow
processor, each text tokenised alone (padding behind a text changes nothing under a causal mask; `compare` checks that
too). `dump_parity` writes what `llava-gauge package verify` replays; its tensors are described in src/run/verify_clip.rs.

A configuration passes if token ids are equal, images and texts rank each other as the reference does, no logit
differs by more than LIMIT, and `classify` gives the reference's probabilities. Logits are cosines times e^logit_scale, at most
100: fp32 rounding of a cosine, about 1e-6, becomes 1e-4; a wrong row, mask or weight moves logits by whole numbers.

Needs torch, transformers, tokenizers, safetensors, pillow, numpy.
"""

import argparse
import dataclasses
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

LIMIT = 1e-3
PROBABILITY_LIMIT = 1e-3
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MERGES = "t h|th e</w>|p h|ph o|pho t|phot o</w>|o f</w>|r e|re d</w>|c i|ci r|cir c|circ l|circl e</w>|c a|ca t</w>"
TEXTS = [
    "a photo of a cat",
    "A PHOTO of the red Circle!",
    "it's 1 of 2024's best -- isn't it?",
    "naïve café, ÉCLAIR",
    "日本語 and emoji 🙂",
    "  tabs\tand\n newlines  ",
    "x",
    "the end <|endoftext|> goes on",
    "word " * 60,
]


@dataclasses.dataclass
class Configuration:
    """One checkpoint; every field has the value of a plain small model unless said."""

    name: str
    dtype: str = "fp32"
    vision_hidden: int = 24
    vision_heads: int = 3
    vision_layers: int = 2
    vision_activation: str = "quick_gelu"
    image_size: int = 32
    patch_size: int = 8
    text_hidden: int = 16
    text_heads: int = 2
    text_layers: int = 2
    text_activation: str = "quick_gelu"
    maximum_tokens: int = 77
    legacy_eos: bool = False  # eos_token_id = 2, as in configurations before it was corrected
    projection: int = 12
    logit_scale: float = 2.6592
    tokenizer: str = "json"  # json, files (vocab.json and merges.txt only), pad (a pad token of its own)
    config_dicts: bool = False  # text_config_dict and vision_config_dict beside wrong text_config and vision_config
    position_ids: bool = False  # with the buffers that old versions saved
    seed: int = 0


CONFIGURATIONS = [
    Configuration("plain"),
    Configuration("legacy-eos", legacy_eos=True, tokenizer="files", position_ids=True, seed=1),
    Configuration("gelu-fp16", dtype="fp16", vision_activation="gelu", text_activation="gelu", projection=20, seed=2),
    Configuration("bf16", dtype="bf16", text_hidden=32, text_heads=4, text_layers=3, logit_scale=4.6052, seed=3),
    Configuration("one-head", vision_heads=1, text_heads=1, vision_layers=1, text_layers=1, image_size=30, seed=4),
    Configuration("wide", vision_hidden=64, vision_heads=8, text_hidden=48, text_heads=6, projection=64, image_size=48, seed=5),
    Configuration("short-texts", maximum_tokens=16, patch_size=16, legacy_eos=True, tokenizer="pad", seed=6),
    Configuration("old-config", config_dicts=True, position_ids=True, text_hidden=24, text_heads=3, seed=7),
    Configuration("legacy-fp16", dtype="fp16", legacy_eos=True, tokenizer="files", vision_activation="gelu", seed=8),
]


def write_tokenizer(folder, config):
    """A byte-level vocabulary with a few merges; returns the id of the end-of-sequence token, the largest."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = MERGES.split("|")
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + [merge.replace(" ", "") for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": config.maximum_tokens}
    if config.tokenizer == "pad":
        settings["pad_token"] = "!"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if config.tokenizer != "files":
        CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
        (folder / "vocab.json").unlink(missing_ok=True)
        (folder / "merges.txt").unlink(missing_ok=True)
    return len(tokens) - 1


def write_checkpoint(folder, config):
    """A CLIPModel with random weights of a liveliness that makes embeddings differ between inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    eos = write_tokenizer(folder, config)
    torch.manual_seed(config.seed)
    text = {
        "vocab_size": eos + 1,
        "hidden_size": config.text_hidden,
        "intermediate_size": 2 * config.text_hidden,
        "num_hidden_layers": config.text_layers,
        "num_attention_heads": config.text_heads,
        "max_position_embeddings": config.maximum_tokens,
        "hidden_act": config.text_activation,
        "projection_dim": config.projection,
        "bos_token_id": eos - 1,
        "eos_token_id": 2 if config.legacy_eos else eos,
    }
    vision = {
        "hidden_size": config.vision_hidden,
        "intermediate_size": 2 * config.vision_hidden,
        "num_hidden_layers": config.vision_layers,
        "num_attention_heads": config.vision_heads,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "hidden_act": config.vision_activation,
        "projection_dim": config.projection,
    }
    model = CLIPModel(
        CLIPConfig(
            text_config=text,
            vision_config=vision,
            projection_dim=config.projection,
            logit_scale_init_value=config.logit_scale,
        )
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "logit_scale":
                continue
            if "norm" in name or "layrnorm" in name:
                parameter.normal_(0, 0.1)
                parameter += 1.0 if name.endswith("weight") else 0.0
            elif "embedding" in name and "patch" not in name:
                parameter.normal_(0, 0.6)
            elif parameter.dim() > 1:
                parameter.normal_(0, 1.3 / parameter[0].numel() ** 0.5)
            else:
                parameter.normal_(0, 0.1)
    model.to(DTYPES[config.dtype]).save_pretrained(folder)
    if config.position_ids:
        tensors = load_file(folder / "model.safetensors")
        tensors["text_model.embeddings.position_ids"] = torch.arange(config.maximum_tokens).unsqueeze(0)
        patches = (config.image_size // config.patch_size) ** 2
        tensors["vision_model.embeddings.position_ids"] = torch.arange(patches + 1).unsqueeze(0)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if config.config_dicts:
        path = folder / "config.json"
        settings = json.loads(path.read_text())
        settings["text_config_dict"], settings["vision_config_dict"] = text, vision
        settings["text_config"]["num_attention_heads"] = 1
        settings["vision_config"]["hidden_act"] = "gelu"
        path.write_text(json.dumps(settings, indent=2))
    size = config.image_size
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def pictures(count=6):
    """Encoded image files of odd sizes and modes."""
    files = []
    for index, (width, height) in enumerate([(40, 28), (33, 65), (64, 64), (96, 31), (30, 30), (50, 47)][:count]):
        image = Image.new("RGB", (width, height), (37 * index % 256, 200 - 31 * index, 90 + 23 * index))
        draw = ImageDraw.Draw(image)
        draw.ellipse((3, 2, width * 2 // 3, height * 2 // 3), fill=(255 - 40 * index, 30 * index, 60))
        draw.rectangle((width // 2, height // 2, width - 2, height - 3), fill=(20, 60 + 30 * index, 255 - 25 * index))
        if index == 2:
            image = image.convert("L")
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        files.append(buffer.getvalue())
    return files


class Reference:
    """transformers' own model, tokenizer and image processor of a checkpoint."""

    def __init__(self, checkpoint):
        self.model = CLIPModel.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(checkpoint)
        self.processor = CLIPImageProcessorPil.from_pretrained(checkpoint)
        self.maximum_tokens = self.model.config.text_config.max_position_embeddings

    @torch.no_grad()
    def run(self, files, texts):
        images = [Image.open(io.BytesIO(data)).convert("RGB") for data in files]
        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"].float()
        ids = [self.tokenizer(text, truncation=True, max_length=self.maximum_tokens)["input_ids"] for text in texts]
        image_embeds = self.model.get_image_features(pixel_values=pixels).pooler_output
        one = [self.model.get_text_features(input_ids=torch.tensor([row])).pooler_output for row in ids]
        text_embeds = torch.cat(one)
        unit = lambda rows: rows / rows.norm(dim=-1, keepdim=True)
        logits = unit(image_embeds) @ unit(text_embeds).t() * self.model.logit_scale.exp()
        return pixels, image_embeds, ids, text_embeds, logits

    @torch.no_grad()
    def batched_logits(self, files, texts):
        """`CLIPModel.forward` on the whole padded batch, as its documentation shows."""
        images = [Image.open(io.BytesIO(data)).convert("RGB") for data in files]
        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"].float()
        batch = self.tokenizer(texts, truncation=True, max_length=self.maximum_tokens, padding=True, return_tensors="pt")
        return self.model(pixel_values=pixels, **batch).logits_per_image


def dump_parity(checkpoint, files, texts, path):
    """Writes `parity.safetensors` for the package of `checkpoint`: image files as bytes, texts, and what transformers makes of
    them. Returns the logits."""
    reference = Reference(checkpoint)
    pixels, image_embeds, ids, text_embeds, logits = reference.run(files, texts)
    tensors = {
        "pixel_values": pixels.contiguous(),
        "image_embeds": image_embeds.contiguous(),
        "text_embeds": text_embeds.contiguous(),
        "logits_per_image": logits.contiguous(),
    }
    for index, data in enumerate(files):
        tensors[f"image_file.{index}"] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    for index, row in enumerate(ids):
        tensors[f"input_ids.{index}"] = torch.tensor(row, dtype=torch.int64)
    described = f"transformers {transformers.__version__}, fp32, eager attention"
    header = {"format": 1, "kind": "clip", "reference": described, "texts": texts}
    save_file(tensors, path, metadata={"parity": json.dumps(header, ensure_ascii=False)})
    return logits


def call(program, *arguments):
    result = subprocess.run([program, "--no-progress", *map(str, arguments)], capture_output=True, text=True, check=False)
    return result.returncode, result.stdout, result.stderr


def compare_one(program, folder, config):
    """None, or what differs; and a line for the table."""
    checkpoint, package = folder / "checkpoint", folder / "package"
    write_checkpoint(checkpoint, config)
    code, _, error = call(program, "export", checkpoint, "-o", package)
    if code:
        return f"export failed: {error}", ""
    files = pictures()
    logits = dump_parity(checkpoint, files, TEXTS, package / "parity.safetensors")
    padded = (Reference(checkpoint).batched_logits(files, TEXTS) - logits).abs().max().item()
    code, output, error = call(program, "package", "verify", package, "--json")
    if not output:
        return f"verify failed: {error}", ""
    report = json.loads(output)
    paths = []
    for index, data in enumerate(files):
        paths.append(folder / f"{index}.png")
        paths[-1].write_bytes(data)
    labels = TEXTS[:6]
    images = [argument for path in paths for argument in ("--image", path)]
    code, output, error = call(program, "classify", package, *images, "--label", *labels, "--json")
    if code:
        return f"classify failed: {error}", ""
    worst = 0.0
    for row, image in zip(logits[:, : len(labels)].softmax(-1), json.loads(output)["images"]):
        lines = [" ".join(label.split()) for label in labels]
        own = {entry["label"]: entry["probability"] for entry in image["labels"]}
        worst = max(worst, max(abs(own[line] - value) for line, value in zip(lines, row.tolist())))
    spread = np.ptp(logits.numpy(), axis=1).min()
    line = (
        f"{config.name:14} image {report['image_embeds']['max_absolute']:.1e}  text {report['text_embeds']['max_absolute']:.1e}"
        f"  logits {report['logits']['max_absolute']:.1e}  tokens {report['texts_with_equal_tokens']}/{report['texts']}"
        f"  ranks {report['ranks_equal']}/{report['ranks']}  probability {worst:.1e}  padded batch {padded:.1e}"
        f"  spread of logits {spread:.1f}"
    )
    wrong = [] if report["passed"] else ["verify"]
    if report["logits"]["max_absolute"] >= LIMIT:
        wrong.append("logits")
    if worst >= PROBABILITY_LIMIT:
        wrong.append("probabilities")
    # An id above the end-of-sequence token's would be pooled in a padded text under the old rule; none of these has one.
    if padded >= LIMIT:
        wrong.append("padding")
    return ", ".join(wrong) or None, line


def compare(program):
    failed = 0
    for config in CONFIGURATIONS:
        with tempfile.TemporaryDirectory() as folder:
            wrong, line = compare_one(program, Path(folder), config)
        print(f"{line}{'' if wrong is None else '  FAILED: ' + wrong}", flush=True)
        failed += wrong is not None
    print(f"{len(CONFIGURATIONS) - failed} of {len(CONFIGURATIONS)} configurations agree")
    return 1 if failed else 0


def record(folder):
    """Two small checkpoints with their fixtures: both ways of pooling, both kinds of tokenizer files, fp32 and fp16."""
    for name in ["plain", "legacy-fp16"]:
        config = next(config for config in CONFIGURATIONS if config.name == name)
        write_checkpoint(folder / name, config)
        dump_parity(folder / name, pictures(4), TEXTS, folder / name / "parity.safetensors")
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--dump", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--images", type=Path, nargs="+")
    parser.add_argument("--texts", type=Path, help="one text a line")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    if arguments.dump:
        texts = arguments.texts.read_text().splitlines()
        dump_parity(arguments.dump, [path.read_bytes() for path in arguments.images], texts, arguments.output)
        return 0
    if arguments.record:
        return record(arguments.record)
    return compare(arguments.program)


if __name__ == "__main__":
    sys.exit(main())
