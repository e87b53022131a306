"""Small LLaVA-1.5 checkpoints with random weights, in every layout that the exporter reads.

Used by random_configurations.py and by tests/fixtures/export/make_checkpoints.py. Needs torch, transformers, tokenizers,
safetensors, pillow.
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# The template of llava-hf/llava-1.5-7b-hf in its essentials: role, image marks, text.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)

SENTENCES = [
    "A chat between a curious user and an artificial intelligence assistant.",
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    "USER: What is in the image? ASSISTANT: Is there a red circle in the picture? yes no",
    "Answer the question using a single word or phrase.",
    "How many blue squares are there? one two three four five six seven eight nine ten",
    "Please provide the bounding box coordinate of the region this sentence describes: the green triangle.",
]


@dataclasses.dataclass
class Configuration:
    """One checkpoint; every field has the value of a plain small model unless said."""

    name: str
    family: str = "hf"  # hf, original
    scheme: str = "transformers5"  # transformers5, transformers4, nested (key names of HF checkpoints)
    dtype: str = "fp32"
    shard_bytes: int | None = None
    image_size: int = 32
    patch_size: int = 8
    vision_hidden: int = 48
    vision_layers: int = 3
    vision_heads: int = 4
    vision_activation: str = "quick_gelu"
    feature_layer: int = -2
    strategy: str = "default"
    hidden: int = 64
    intermediate: int = 96
    layers: int = 2
    heads: int = 4
    key_value_heads: int = 4
    head_dim: int | None = None
    vocabulary_padding: int = 64
    words: int = 480  # size of the vocabulary before padding; below 259 a few whole words, without merges or bytes
    tied: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    rope: dict = dataclasses.field(default_factory=lambda: {"rope_type": "default", "rope_theta": 10000.0})
    projector: str = "mlp2x_gelu"  # linear only for the original family
    projector_bias: bool = True
    pad: bool = False
    tower: str = "separate"  # separate, inside, beside: where an original checkpoint has its vision tower
    seed: int = 0


def make_word_tokenizer(image_token):
    """A few kilobytes smaller than any tokenizer that can spell: for tests that never decode."""
    words = ["<unk>", "<s>", "</s>", "user", ":", "what", "is", "in", "the", "image", "assistant", "yes", "no"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return finish_tokenizer(tokenizer, image_token)


def make_tokenizer(words, image_token):
    if words < 259:
        return make_word_tokenizer(image_token)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=words, special_tokens=special, show_progress=False)
    # Training sees words apart, as the vocabularies of LLaMA do; the tokenizer itself has no pre-tokenizer.
    text = ["▁" + word for sentence in SENTENCES * 3 for word in sentence.split(" ")]
    plain = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    plain.train_from_iterator(text, trainer)
    model = json.loads(plain.to_str())["model"]
    state = json.loads(tokenizer.to_str())
    state["model"] = model
    return finish_tokenizer(Tokenizer.from_str(json.dumps(state)), image_token)


def finish_tokenizer(tokenizer, image_token):
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    if image_token:
        tokenizer.add_special_tokens(["<image>", "<pad>"])
    return tokenizer


def make_model(config, tokenizer):
    """The model in fp32 with weights that survive a round trip through the stored number type."""
    torch.manual_seed(config.seed)
    size = tokenizer.get_vocab_size()
    vocabulary = -(-size // config.vocabulary_padding) * config.vocabulary_padding
    image_token = tokenizer.token_to_id("<image>")
    side = config.image_size // config.patch_size
    llava = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=config.vision_hidden,
            intermediate_size=2 * config.vision_hidden,
            num_hidden_layers=config.vision_layers,
            num_attention_heads=config.vision_heads,
            image_size=config.image_size,
            patch_size=config.patch_size,
            hidden_act=config.vision_activation,
            projection_dim=16,
        ),
        text_config=LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=config.hidden,
            intermediate_size=config.intermediate,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_value_heads,
            head_dim=config.head_dim,
            max_position_embeddings=512,
            rms_norm_eps=1e-5,
            rope_parameters=dict(config.rope),
            attention_bias=config.attention_bias,
            mlp_bias=config.mlp_bias,
            tie_word_embeddings=config.tied,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=tokenizer.token_to_id("<pad>"),
        ),
        # An original checkpoint has no such token; one outside its vocabulary marks the rows for the reference.
        image_token_index=vocabulary - 1 if image_token is None else image_token,
        vision_feature_layer=config.feature_layer,
        vision_feature_select_strategy=config.strategy,
        multimodal_projector_bias=config.projector_bias,
        image_seq_length=side * side + (config.strategy == "full"),
        tie_word_embeddings=config.tied,
        attn_implementation="eager",
    )
    model = LlavaForConditionalGeneration(llava).float().eval()
    if config.projector == "linear":
        model.model.multi_modal_projector = LinearProjector(config.vision_hidden, config.hidden)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("lm_head.weight") or (config.tied and "embed_tokens" in name):
                weight.normal_(0, 3 / weight.shape[-1] ** 0.5)
            elif "embed" in name and weight.dim() == 2:
                weight.normal_(0, 1)
            elif "patch_embedding" in name:
                weight.normal_(0, 2 / weight[0].numel() ** 0.5)
            elif weight.dim() == 2:
                weight.normal_(0, 1.6 / weight.shape[-1] ** 0.5)
            elif "norm" in name and name.endswith("weight"):
                weight.uniform_(0.7, 1.3)
            else:
                weight.normal_(0, 0.1)
            weight.copy_(weight.to(DTYPES[config.dtype]).float())
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=llava.text_config.pad_token_id)
    return model


class LinearProjector(torch.nn.Module):
    """The projector of LLaVA v1, which transformers does not have."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear_1 = torch.nn.Linear(inputs, outputs)

    def forward(self, features):
        return self.linear_1(features)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_weights(folder, tensors, shard_bytes):
    """One file, or shards of about this size with an index, as save_pretrained writes them."""
    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    if shard_bytes is None:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    shards, size = [{}], 0
    for name, tensor in tensors.items():
        bytes_ = tensor.numel() * tensor.element_size()
        if size and size + bytes_ > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += bytes_
    index = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        index.update({name: file for name in shard})
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})


def hf_key(name, scheme):
    """A key of the model in memory as a version of transformers wrote it."""
    language, vision = "model.language_model.", "model.vision_tower."
    if scheme == "nested":
        return vision + "vision_model." + name[len(vision) :] if name.startswith(vision) else name
    if name == "lm_head.weight":
        return "language_model.lm_head.weight"
    if name.startswith(language):
        return "language_model.model." + name[len(language) :]
    if name.startswith(vision):
        return "vision_tower." + ("vision_model." if scheme == "transformers4" else "") + name[len(vision) :]
    return name.removeprefix("model.")


def image_processor(config):
    size = config.image_size
    return {
        "crop_size": {"height": size, "width": size},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": size},
    }


def write_tokenizer(folder, tokenizer, image_token):
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "model_max_length": 512}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if image_token:
        settings["pad_token"] = "<pad>"
    write_json(folder / "tokenizer_config.json", settings)


def write_hf(folder, config, model, tokenizer):
    tensors = {
        hf_key(name, config.scheme): weight.detach().to(DTYPES[config.dtype])
        for name, weight in model.named_parameters()
        if not (config.tied and name == "lm_head.weight")
    }
    write_weights(folder, tensors, config.shard_bytes)
    settings = json.loads(model.config.to_json_string())
    processor = {"processor_class": "LlavaProcessor", "patch_size": config.patch_size, "image_token": "<image>"}
    processor |= {"num_additional_image_tokens": 1, "vision_feature_select_strategy": config.strategy}
    pixels = image_processor(config)
    if config.pad:
        pixels |= {"do_pad": True, "image_processor_type": "LlavaImageProcessor"}
    else:
        pixels |= {"image_processor_type": "CLIPImageProcessor"}
    if config.scheme == "transformers5":
        write_json(folder / "processor_config.json", processor | {"image_processor": pixels})
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    else:
        write_json(folder / "processor_config.json", processor)
        write_json(folder / "preprocessor_config.json", pixels)
        write_json(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
        settings = as_transformers4(settings)
    write_json(folder / "config.json", settings)
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    write_tokenizer(folder, tokenizer, True)


def as_transformers4(settings):
    """config.json as llava-hf's own checkpoints have it: rotary keys apart, and nothing that is a default."""
    text = settings["text_config"]
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type", "default")
    if kind != "default":
        text["rope_scaling"] = {"type": kind, **rope}
    for nested, kind in [("text_config", LlamaConfig()), ("vision_config", CLIPVisionConfig())]:
        defaults = json.loads(kind.to_json_string(use_diff=False))
        kept = {key: value for key, value in settings[nested].items() if key not in defaults or value != defaults[key]}
        settings[nested] = kept | {"model_type": kind.model_type}
    settings["torch_dtype"] = settings.pop("dtype", "float32")
    return settings


def write_original(folder, config, model, tokenizer):
    dtype, tensors, tower = DTYPES[config.dtype], {}, {}
    for name, weight in model.named_parameters():
        weight = weight.detach().to(dtype)
        if name.startswith("model.vision_tower."):
            tower["vision_model." + name.removeprefix("model.vision_tower.")] = weight
        elif name.startswith("model.language_model."):
            tensors["model." + name.removeprefix("model.language_model.")] = weight
        elif name.startswith("model.multi_modal_projector."):
            layer, part = name.removeprefix("model.multi_modal_projector.").split(".")
            index = "" if config.projector == "linear" else {"linear_1": "0.", "linear_2": "2."}[layer]
            tensors[f"model.mm_projector.{index}{part}"] = weight
        elif not config.tied:
            tensors[name] = weight
    text = json.loads(model.config.text_config.to_json_string())
    theta = text.pop("rope_parameters")["rope_theta"]
    settings = {key: text[key] for key in text if key not in ("model_type", "architectures", "dtype", "head_dim", "pad_token_id")}
    settings |= {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava" if config.projector == "linear" else "llava_llama",
        "rope_theta": theta,
        "mm_hidden_size": config.vision_hidden,
        "mm_vision_tower": "vision-tower" if config.tower != "separate" else "somewhere/clip",
        "mm_vision_select_layer": config.feature_layer,
        "mm_vision_select_feature": "cls_patch" if config.strategy == "full" else "patch",
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "tokenizer_model_max_length": 384,
    }
    if config.projector != "linear":
        settings["mm_projector_type"] = config.projector
    if config.pad:
        settings["image_aspect_ratio"] = "pad"
    vision = json.loads(model.config.vision_config.to_json_string())
    if config.tower == "inside":
        tensors |= {"model.vision_tower.vision_tower." + name: weight for name, weight in tower.items()}
    tower_folder = folder.with_name(folder.name + "-tower") if config.tower == "separate" else folder / "vision-tower"
    tower_folder.mkdir(parents=True, exist_ok=True)
    if config.tower != "inside":
        # A whole CLIP checkpoint has a text tower beside the vision tower.
        tower["text_model.final_layer_norm.weight"] = torch.ones(8, dtype=dtype)
        tower["logit_scale"] = torch.tensor(2.6)
        write_weights(tower_folder, tower, None)
    write_json(tower_folder / "config.json", {"model_type": "clip", "vision_config": vision, "projection_dim": 16})
    write_json(tower_folder / "preprocessor_config.json", image_processor(config) | {"size": config.image_size})
    write_weights(folder, tensors, config.shard_bytes)
    write_json(folder / "config.json", settings)
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    write_tokenizer(folder, tokenizer, False)
    return tower_folder if config.tower == "separate" else None


def write_checkpoint(folder, config):
    """Writes the checkpoint and gives the model in memory, its tokenizer and the folder of a separate vision tower."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer(config.words, config.family == "hf")
    model = make_model(config, tokenizer)
    tower = None
    if config.family == "hf":
        write_hf(folder, config, model, tokenizer)
    else:
        tower = write_original(folder, config, model, tokenizer)
    for path in folder.rglob("*.safetensors"):
        os.chmod(path, 0o644)
    return model, tokenizer, tower
