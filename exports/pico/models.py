"""Loads a pico checkpoint, Hugging Face or original format, behind one small reference interface.

All classes offer: `render(question)` (raw prompt with `<image>` once), `pixel_values(image)` [tiles, 3, 64, 64], `features`
[tiles, 64, 96], `image_embeds(features, image)` (the image's rows of the language model, [1, rows, 128]), `input_ids(prompt, rows)`
(image positions repeated once per row) and `embeds(input_ids, image_embeds)`.
"""

import json
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import (AutoProcessor, AutoTokenizer, CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, LlamaConfig,
                          LlamaForCausalLM, LlavaForConditionalGeneration, LlavaNextForConditionalGeneration)


class HuggingFaceLlava:
    """A checkpoint of `LlavaForConditionalGeneration` through the stock classes."""

    model_class = LlavaForConditionalGeneration

    def __init__(self, folder):
        self.processor = AutoProcessor.from_pretrained(folder, backend="pil")
        self.model = self.model_class.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
        self.tokenizer, self.language_model = self.processor.tokenizer, self.model.model.language_model
        self.image_token = self.model.config.image_token_index

    def render(self, question):
        message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        return self.processor.apply_chat_template(message, add_generation_prompt=True)

    def pixel_values(self, image):
        return self.processor.image_processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]

    def features(self, pixel_values):
        return self.model.model.vision_tower(pixel_values, output_hidden_states=True).hidden_states[-2][:, 1:]

    def image_embeds(self, features, image):
        return self.model.model.multi_modal_projector(features)

    def input_ids(self, prompt, rows):
        return torch.tensor(self.tokenizer.encode(prompt.replace("<image>", "<image>" * rows)))

    def head(self, hidden):
        return self.model.lm_head(hidden)


class HuggingFaceLlavaNext(HuggingFaceLlava):
    """A checkpoint of `LlavaNextForConditionalGeneration` through the stock classes: one image becomes several tiles."""

    model_class = LlavaNextForConditionalGeneration

    def pixel_values(self, image):
        return super().pixel_values(image)[0]

    def image_embeds(self, features, image):
        model, sizes = self.model.model, torch.tensor([[image.height, image.width]])
        rows, _ = model.pack_image_features([model.multi_modal_projector(features)], sizes, "default", model.image_newline)
        return rows[0][None]


class OriginalLlava:
    """A checkpoint in the original format, assembled from stock CLIP, its projector and stock LLaMA (which Mistral equals where it
    has no sliding window)."""

    image_token = -200

    def __init__(self, folder):
        folder = Path(folder)
        config = json.loads((folder / "config.json").read_text())
        tower = folder / config["mm_vision_tower"]
        tensors = load_file(folder / "model.safetensors")
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.image_processor = CLIPImageProcessorPil.from_pretrained(tower)
        vision_config = CLIPVisionConfig.from_pretrained(tower)
        vision_config._attn_implementation = "eager"
        self.vision = CLIPVisionModel(vision_config).eval()
        start = "model.vision_tower.vision_tower.vision_model."
        self.vision.load_state_dict({key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)})
        sizes = config["mm_hidden_size"], config["hidden_size"]
        self.medical, self.pads = config["model_type"] == "llava_mistral", config["image_aspect_ratio"] == "pad"
        if config["mm_projector_type"] == "linear":
            self.projector = nn.Linear(*sizes)
        else:
            self.projector = nn.Sequential(nn.Linear(*sizes), nn.GELU(), nn.Linear(sizes[1], sizes[1]))
        self.projector.load_state_dict({name: tensors[f"model.mm_projector.{name}"] for name in self.projector.state_dict()})
        fields = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                  "max_position_embeddings", "rms_norm_eps", "rope_theta", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
        self.model = LlamaForCausalLM(LlamaConfig(**{key: config[key] for key in fields}, attn_implementation="eager")).eval()
        kept = {k: v for k, v in tensors.items() if "vision_tower" not in k and "mm_projector" not in k}
        self.model.load_state_dict(kept)
        self.language_model = self.model.model

    def render(self, question):
        if self.medical:
            return f"[INST] <image>\n{question} [/INST]"
        return ("A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and "
                f"polite answers to the human's questions. USER: <image>\n{question} ASSISTANT:")

    def pixel_values(self, image):
        image = image.convert("RGB")
        if self.pads and image.width != image.height:
            side = max(image.size)
            square = Image.new("RGB", (side, side), tuple(int(value * 255) for value in self.image_processor.image_mean))
            square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
            image = square
        return self.image_processor(images=image, return_tensors="pt")["pixel_values"]

    def features(self, pixel_values):
        return self.vision(pixel_values, output_hidden_states=True).hidden_states[-2][:, 1:]

    def image_embeds(self, features, image):
        return self.projector(features)

    def input_ids(self, prompt, rows):
        """Chunks around `<image>` are tokenised apart, each with BOS, and only the first BOS is kept."""
        before, after = (self.tokenizer.encode(chunk) for chunk in prompt.split("<image>"))
        return torch.tensor(before + [self.image_token] * rows + after[1:])

    def head(self, hidden):
        return self.model.lm_head(hidden)


def load(folder):
    """The right class for a checkpoint folder."""
    config = json.loads((Path(folder) / "config.json").read_text())
    kinds = {"LlavaForConditionalGeneration": HuggingFaceLlava, "LlavaNextForConditionalGeneration": HuggingFaceLlavaNext}
    return kinds.get(config["architectures"][0], OriginalLlava)(folder)


def embeds(llava, input_ids, image_embeds):
    """Text embeddings with the projected image in the image positions."""
    image = input_ids == llava.image_token
    values = llava.language_model.embed_tokens(input_ids.masked_fill(image, 0))
    values[image] = image_embeds.reshape(-1, image_embeds.shape[-1])
    return values


@torch.no_grad()
def generate(llava, items, max_new_tokens=40):
    """Greedy answers for (image embeddings [rows, H], prompt) pairs in one left-padded batch; stops at EOS."""
    rows = [llava.input_ids(prompt, len(image)) for image, prompt in items]
    length = max(map(len, rows))
    values = torch.stack([
        nn.functional.pad(embeds(llava, row, image), (0, 0, length - len(row), 0)) for (image, _), row in zip(items, rows)])
    mask = torch.stack([nn.functional.pad(torch.ones(len(row), dtype=torch.long), (length - len(row), 0)) for row in rows])
    model = llava.model
    if isinstance(llava, HuggingFaceLlava):
        tokens = model.generate(inputs_embeds=values, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False)
    else:
        tokens = model.generate(inputs_embeds=values, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False,
                                pad_token_id=llava.tokenizer.pad_token_id, eos_token_id=2)
    return [text.strip() for text in llava.tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def open_image(path):
    return Image.open(path)
