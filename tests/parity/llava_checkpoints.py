"""Small LLaVA checkpoints with random weights, in every layout that the exporter reads.

Used by random_configurations.py and by tests/fixtures/export/make_checkpoints.py. Needs torch, transformers, tokenizers,
safetensors, pillow.
"""

import json
import os
import shutil
from pathlib import Path

import torch
from configuration import Configuration  # noqa: F401, for make_checkpoints.py
from safetensors.torch import save_file
from tiny_models import DTYPES, LANGUAGES, TOWERS, make_model
from tiny_tokenizers import beginning_of_sequence, end_of_sequence, make_tokenizer

# The template of llava-hf/llava-1.5-7b-hf in its essentials: role, image marks, text.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


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
    if config.tower_kind == "siglip":
        return {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"height": size, "width": size},
        }
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


def write_tokenizer(folder, tokenizer, image_token, kind="llama"):
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "model_max_length": 512}
    if kind == "qwen":
        settings = {"bos_token": None, "eos_token": "<|im_end|>", "model_max_length": 512}
    elif kind == "llama3":
        settings = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "model_max_length": 512}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if image_token and kind == "llama":
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
    names = {"llava": "LlavaProcessor", "next": "LlavaNextProcessor", "onevision": "LlavaOnevisionProcessor"}
    processor = {"processor_class": names[config.model], "patch_size": config.patch_size, "image_token": "<image>"}
    additional = 1 if config.tower_kind == "clip" else 0
    processor |= {"num_additional_image_tokens": additional, "vision_feature_select_strategy": config.strategy}
    pixels = image_processor(config)
    if config.model == "onevision":
        del processor["patch_size"], processor["num_additional_image_tokens"]
        processor |= {
            # Of which the processor takes one off with the strategy "default".
            "num_image_tokens": (config.image_size // config.patch_size) ** 2 + (config.strategy == "default"),
            "vision_aspect_ratio": config.ratio or "anyres_max_9",
        }
        pixels |= {"do_pad": True, "image_processor_type": "LlavaOnevisionImageProcessor"}
        # The class crops nothing, and takes height and width.
        for key in ("crop_size", "do_center_crop"):
            pixels.pop(key, None)
        pixels["size"] = {"height": config.image_size, "width": config.image_size}
    elif config.model == "next":
        pixels |= {"do_pad": True, "image_processor_type": "LlavaNextImageProcessor"}
        if config.tower_kind == "siglip":
            pixels["do_center_crop"] = False
            pixels["crop_size"] = pixels["size"]
    elif config.pad:
        pixels |= {"do_pad": True, "image_processor_type": "LlavaImageProcessor"}
    else:
        pixels |= {"image_processor_type": "CLIPImageProcessor" if config.tower_kind == "clip" else "SiglipImageProcessor"}
    if config.model != "llava" and config.pinpoints is not None:
        pixels["image_grid_pinpoints"] = config.pinpoints
    if config.scheme == "transformers5":
        write_json(folder / "processor_config.json", processor | {"image_processor": pixels})
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    else:
        write_json(folder / "processor_config.json", processor)
        write_json(folder / "preprocessor_config.json", pixels)
        write_json(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
        settings = as_transformers4(settings)
    write_json(folder / "config.json", settings)
    write_json(folder / "generation_config.json", generation_config(config, tokenizer))
    write_tokenizer(folder, tokenizer, True, config.tokenizer)


def generation_config(config, tokenizer):
    bos = beginning_of_sequence(tokenizer, config.tokenizer)
    return ({} if bos is None else {"bos_token_id": bos}) | {"eos_token_id": end_of_sequence(tokenizer, config.tokenizer)}


def as_transformers4(settings):
    """config.json as llava-hf's own checkpoints have it: rotary keys apart, and nothing that is a default."""
    text = settings["text_config"]
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type", "default")
    if kind != "default":
        text["rope_scaling"] = {"type": kind, **rope}
    text_kind, vision_kind = settings["text_config"]["model_type"], settings["vision_config"]["model_type"].split("_")[0]
    for nested, kind in [("text_config", LANGUAGES[text_kind]()), ("vision_config", TOWERS[vision_kind]())]:
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
            # Activations stand between the layers of a sequence.
            index = "" if config.projector == "linear" else f"{2 * int(layer.removeprefix('linear_')) - 2}."
            tensors[f"model.mm_projector.{index}{part}"] = weight
        elif name == "model.image_newline":
            tensors[name] = weight
        elif not config.tied:
            tensors[name] = weight
    text = json.loads(model.config.text_config.to_json_string())
    rope = text.pop("rope_parameters")
    theta, kind = rope.pop("rope_theta"), rope.pop("rope_type", "default")
    if kind != "default":
        text["rope_scaling"] = {"type": kind, **rope}
    settings = {key: text[key] for key in text if key not in ("model_type", "architectures", "dtype", "head_dim", "pad_token_id")}
    settings |= {
        "architectures": [{"llama": "LlavaLlamaForCausalLM", "mistral": "LlavaMistralForCausalLM", "qwen2": "LlavaQwenForCausalLM"}[config.language]],
        "model_type": {"llama": "llava" if config.projector == "linear" else "llava_llama", "mistral": "llava_mistral", "qwen2": "llava_qwen"}[config.language],
        "rope_theta": theta,
        "mm_hidden_size": config.vision_hidden,
        "mm_vision_tower": "vision-tower" if config.tower != "separate" else "somewhere/clip",
        "mm_vision_select_layer": config.feature_layer,
        "mm_vision_select_feature": "cls_patch" if config.strategy == "full" else "patch",
        "mm_use_im_start_end": config.start_end,
        "mm_use_im_patch_token": False,
        "tokenizer_model_max_length": config.positions - 128,
    }
    if config.start_end:
        # The first release, which alone marks images, has no such key.
        del settings["mm_use_im_patch_token"]
    if config.projector != "linear":
        settings["mm_projector_type"] = config.projector
    if config.loaded_from:
        settings["_name_or_path"] = config.loaded_from
    if config.pad:
        settings["image_aspect_ratio"] = "pad"
    if config.ratio:
        settings["image_aspect_ratio"] = config.ratio
    if config.merge:
        settings["mm_patch_merge_type"] = config.merge
    if config.pinpoints:
        settings["image_grid_pinpoints"] = config.pinpoints
    vision = json.loads(model.config.vision_config.to_json_string())
    if config.tower == "inside":
        tensors |= {"model.vision_tower.vision_tower." + name: weight for name, weight in tower.items()}
    tower_folder = folder.with_name(folder.name + "-tower") if config.tower == "separate" else folder / "vision-tower"
    tower_folder.mkdir(parents=True, exist_ok=True)
    if config.tower != "inside":
        # A whole checkpoint has a text tower beside the vision tower.
        tower["text_model.final_layer_norm.weight"] = torch.ones(8, dtype=dtype)
        tower["logit_scale"] = torch.tensor(2.6)
        write_weights(tower_folder, tower, None)
    whole = {"model_type": config.tower_kind, "vision_config": vision}
    if config.tower_kind == "clip":
        whole["projection_dim"] = 16
        write_json(tower_folder / "preprocessor_config.json", image_processor(config) | {"size": config.image_size})
    else:
        write_json(tower_folder / "preprocessor_config.json", image_processor(config))
    write_json(tower_folder / "config.json", whole)
    write_weights(folder, tensors, config.shard_bytes)
    write_json(folder / "config.json", settings)
    write_json(folder / "generation_config.json", generation_config(config, tokenizer))
    write_tokenizer(folder, tokenizer, False, config.tokenizer)
    return tower_folder if config.tower == "separate" else None


def write_checkpoint(folder, config):
    """Writes the checkpoint and gives the model in memory, its tokenizer and the folder of a separate vision tower."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer(config.words, config.family == "hf", config.tokenizer, config.start_end)
    model = make_model(config, tokenizer)
    tower = None
    if config.family == "hf":
        write_hf(folder, config, model, tokenizer)
    else:
        tower = write_original(folder, config, model, tokenizer)
    for path in folder.rglob("*.safetensors"):
        os.chmod(path, 0o644)
    return model, tokenizer, tower
