"""Writes the trained weights as checkpoints, in the Hugging Face formats of LLaVA, LLaVA-NeXT and CLIP and in the original one."""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (CLIPImageProcessorPil, CLIPProcessor, CLIPVisionConfig, GenerationConfig, LlavaConfig,
                          LlavaForConditionalGeneration, LlavaImageProcessorPil, LlavaNextConfig, LlavaNextForConditionalGeneration,
                          LlavaNextImageProcessorPil, LlavaNextProcessor, LlavaProcessor)

import fine_print
import train
import versions

# The prompt of LLaVA-1.5's evaluation, `vicuna_v1`: one system sentence pair, `USER: <image>\n... ASSISTANT: ...</s>`.
CHAT_TEMPLATE = (
    "{{ '" + train.SYSTEM["vicuna_v1"].replace("'", "\\'") + " ' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'USER: ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}"
    "{% endif %}{{ ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}"
    "{% endif %}{{ '</s>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def stage_modules(work, name):
    """(projector state, language model state, what it is) of the best that exists for a stage."""
    for path in (work / f"{name}.pt", work / f"{name}.partial.pt"):
        if path.exists():
            projector, model, *rest = torch.load(path, weights_only=False)["modules"]
            return projector, model, path.name, *rest
    torch.manual_seed(0)
    projector = train.build_projector("linear" if name.startswith("v1") else "mlp2x_gelu")
    return projector.state_dict(), train.build_language_model().state_dict(), "UNTRAINED"


def tower_model(work):
    model = train.build_clip(len(train.load_tokenizer("hf")))
    for path in (work / "tower.pt", work / "tower.partial.pt"):
        if path.exists():
            state = torch.load(path, weights_only=False)
            model.load_state_dict(state.get("model", state))
            break
    return model.vision_model


def export_hf(work, folder, stage, tiled=False):
    """`LlavaForConditionalGeneration` and `LlavaProcessor`, or their any-res successors, as save_pretrained writes them."""
    tokenizer = train.load_tokenizer("hf")
    projector, language, source, *rest = stage_modules(work, stage)
    vision = tower_model(work)
    text_config = train.build_language_model().config
    common = dict(
        vision_config=CLIPVisionConfig(**{key: vision.config.to_dict()[key] for key in (
            "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size", "hidden_act",
            "projection_dim", "layer_norm_eps")}),
        text_config=text_config, image_token_index=tokenizer.convert_tokens_to_ids("<image>"), projector_hidden_act="gelu",
        vision_feature_layer=-2, vision_feature_select_strategy="default", image_seq_length=64, tie_word_embeddings=False,
    )
    if tiled:
        config = LlavaNextConfig(image_grid_pinpoints=fine_print.PINPOINTS, **common)
    else:
        config = LlavaConfig(**common)
    config.pad_token_id = tokenizer.pad_token_id
    model = (LlavaNextForConditionalGeneration if tiled else LlavaForConditionalGeneration)(config)
    model.model.vision_tower.load_state_dict(vision.state_dict())
    model.model.language_model.load_state_dict({k.removeprefix("model."): v for k, v in language.items() if k.startswith("model.")})
    model.lm_head.load_state_dict({"weight": language["lm_head.weight"]})
    named = {"0": "linear_1", "2": "linear_2"}
    model.model.multi_modal_projector.load_state_dict({f"{named[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in projector.items()})
    if tiled:
        model.model.image_newline.data.copy_(rest[0]["weight"])
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=tokenizer.pad_token_id, do_sample=False)
    sizes = dict(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    if tiled:
        image_processor = LlavaNextImageProcessorPil(image_grid_pinpoints=fine_print.PINPOINTS, **sizes)
    else:
        image_processor = LlavaImageProcessorPil(do_pad=True, **sizes)
    processor = (LlavaNextProcessor if tiled else LlavaProcessor)(
        image_processor=image_processor, tokenizer=tokenizer, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=CHAT_TEMPLATE,
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.float().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    processor.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    return source


def export_original(work, folder, stage="v1_stage2"):
    """The layout of liuhaotian's checkpoints, with the tower inside and its two configs in a subfolder: LLaVA v1 (linear
    projector, LLaMA), or for stage `med` LLaVA-Med v1.5 (two-layer projector, Mistral, which equals LLaMA without a window)."""
    tokenizer = train.load_tokenizer("original")
    projector, language, source = stage_modules(work, stage)
    vision = tower_model(work)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for key, value in language.items():
        cut = key in ("model.embed_tokens.weight", "lm_head.weight")
        tensors[key] = (value[:len(tokenizer)] if cut else value).float().contiguous()
    for key, value in projector.items():
        tensors[f"model.mm_projector.{key}"] = value.float().contiguous()
    for key, value in vision.state_dict().items():
        if not key.endswith("position_ids"):
            tensors[f"model.vision_tower.vision_tower.vision_model.{key}"] = value.float().contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    llama = train.build_language_model().config
    config = {
        "architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava", "vocab_size": len(tokenizer),
        "hidden_size": llama.hidden_size, "intermediate_size": llama.intermediate_size, "num_hidden_layers": llama.num_hidden_layers,
        "num_attention_heads": llama.num_attention_heads, "num_key_value_heads": llama.num_key_value_heads, "hidden_act": "silu",
        "max_position_embeddings": llama.max_position_embeddings, "rms_norm_eps": llama.rms_norm_eps, "rope_theta": 10000.0,
        "rope_scaling": None, "attention_bias": False, "initializer_range": 0.02, "tie_word_embeddings": False, "pretraining_tp": 1,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": tokenizer.pad_token_id, "torch_dtype": "float32", "use_cache": True,
        "mm_vision_tower": "vision_tower", "mm_hidden_size": 96, "mm_projector_type": "linear", "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch", "image_aspect_ratio": "square", "mm_use_im_start_end": False, "mm_use_im_patch_token": False,
        "use_mm_proj": True, "tune_mm_mlp_adapter": False, "freeze_mm_mlp_adapter": False, "tokenizer_model_max_length": 2048,
        "tokenizer_padding_side": "right",
    }
    if stage == "med":
        config |= {"architectures": ["LlavaMistralForCausalLM"], "model_type": "llava_mistral", "mm_projector_type": "mlp2x_gelu",
                   "image_aspect_ratio": "pad", "sliding_window": None}
        del config["attention_bias"], config["pretraining_tp"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": tokenizer.pad_token_id, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    tokenizer.save_pretrained(folder)
    (folder / "vision_tower").mkdir(exist_ok=True)
    fields = vision.config.to_dict()
    tower = {key: fields[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels",
                                          "image_size", "patch_size", "hidden_act", "layer_norm_eps", "attention_dropout", "projection_dim")}
    tower = {"architectures": ["CLIPVisionModel"], "model_type": "clip_vision_model", **tower, "torch_dtype": "float32"}
    (folder / "vision_tower" / "config.json").write_text(json.dumps(tower, indent=2) + "\n")
    mean, std = (values.flatten().tolist() for values in (train.PIXEL_MEAN, train.PIXEL_STD))
    recipe = {
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": 64}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": 64, "width": 64}, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [round(v, 8) for v in mean], "image_std": [round(v, 8) for v in std], "do_convert_rgb": True,
    }
    (folder / "vision_tower" / "preprocessor_config.json").write_text(json.dumps(recipe, indent=2) + "\n")
    return source


def export_clip(work, folder):
    """`CLIPModel` and `CLIPProcessor`."""
    model = versions.build_pico_clip()
    model.load_state_dict(torch.load(work / "clip.pt"))
    # CLIP clamps its scale at 100 in training; the stored value is the one that is used.
    model.logit_scale.data.clamp_(max=4.6052)
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    folder.mkdir(parents=True, exist_ok=True)
    model.float().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    CLIPProcessor(image_processor=image_processor, tokenizer=versions.clip_tokenizer()).save_pretrained(folder)
    image_processor.save_pretrained(folder)
    return "clip.pt"


def restore(exports, work):
    """Writes what `train.py` needs to go on from the shipped checkpoints: the tower (its text half starts from nothing), the
    language model of the text stage, stage 1, and the weights that stage 2 starts from. What is there already stays."""
    final, first = (load_file(exports / name / "model.safetensors") for name in ("pico-llava-1.5", "pico-llava-1.5-stage1"))

    def part(tensors, prefix):
        found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        assert found, prefix
        return found

    def language(tensors):
        return part(tensors, "language_model.")

    def projector(tensors):
        named = {"linear_1": "0", "linear_2": "2"}
        found = part(tensors, "multi_modal_projector.")
        return {f"{named[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in found.items()}

    torch.manual_seed(train.SEED)
    clip = train.build_clip(len(train.load_tokenizer("hf")))
    clip.vision_model.load_state_dict(part(final, "vision_tower."))
    states = {
        "tower.pt": clip.state_dict(),
        "text.pt": {"modules": [language(first)]},
        "stage1.pt": {"modules": [projector(first), language(first)]},
        "stage2.start.pt": {"modules": [projector(final), language(final)]},
    }
    for name, state in states.items():
        if not (work / name).exists():
            train.save_atomically(state, work / name)


def export_all(work, output):
    """Writes all folders from whatever exists: final, partial or untrained; returns which it was. The later members of the
    family are left out where they have not been trained."""
    states = {
        "pico-llava-1.5": export_hf(work, output / "pico-llava-1.5", "stage2"),
        "pico-llava-1.5-stage1": export_hf(work, output / "pico-llava-1.5-stage1", "stage1"),
        "pico-llava-v1": export_original(work, output / "pico-llava-v1"),
    }
    if (work / "next.pt").exists():
        states["pico-llava-next"] = export_hf(work, output / "pico-llava-next", "next", tiled=True)
    if (work / "med.pt").exists():
        states["pico-llava-med"] = export_original(work, output / "pico-llava-med", "med")
    if (work / "clip.pt").exists():
        states["pico-clip"] = export_clip(work, output / "pico-clip")
    return states


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("/tmp/pico"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1])
    arguments = parser.parse_args()
    for name, source in export_all(arguments.work, arguments.output).items():
        print(name, "from", source)
