"""The answers that an export must give: transformers for its own classes, LLaVA's arithmetic for the original formats."""

import json

import torch
from llava_arithmetic import merge, pixels_of, siglip_pixels
from tiny_models import MODELS
from transformers import CLIPImageProcessorPil, LlavaImageProcessorPil, PreTrainedTokenizerFast
from transformers.models.llava.processing_llava import LlavaProcessor
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

NEW_TOKENS = 12
IMAGE_TOKEN_INDEX = -200  # what the original repositories put for each image


class ReferenceFails(Exception):
    """The reference itself cannot take this input."""


class ImagesOnly(LlavaOnevisionProcessor):
    """Without the part for videos, which needs torchvision."""

    def check_argument_for_proper_class(self, name, argument):
        return None if argument is None else super().check_argument_for_proper_class(name, argument)


def judged(ids, logits, tokens, end):
    """One case: what was generated, and how far the best logits were from the next best."""
    best = logits.topk(2).values
    logprobs = torch.log_softmax(logits, -1).gather(1, torch.tensor(tokens)[:, None])[:, 0].tolist()
    tokens = tokens[:-1] if tokens and tokens[-1] == end else tokens
    return {
        "prompt_token_ids": ids,
        "token_ids": tokens,
        "logprobs": logprobs[: len(tokens)],
        "margin": float((best[:, 0] - best[:, 1]).min()),
    }


class HuggingFace:
    """The checkpoint itself, read by transformers, so that its layout is known to be one that transformers reads."""

    def __init__(self, config, folder):
        self.config = config
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        options = {"dtype": torch.float32, "attn_implementation": "eager", "output_loading_info": True}
        self.model, info = MODELS[config.model][1].from_pretrained(folder, **options)
        assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
        self.model.eval()
        settings = json.loads((folder / "processor_config.json").read_text())
        keys = ("patch_size", "num_additional_image_tokens", "vision_feature_select_strategy")
        if config.model == "onevision":
            keys, source, kind = keys[2:] + ("num_image_tokens", "vision_aspect_ratio"), LlavaOnevisionImageProcessorPil, ImagesOnly
        elif config.model == "next":
            source, kind = LlavaNextImageProcessorPil, LlavaNextProcessor
        else:
            kind = LlavaProcessor
            source = {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil}[config.tower_kind]
            source = LlavaImageProcessorPil if config.pad else source
        self.pixels = source.from_pretrained(folder)
        self.processor = kind(image_processor=self.pixels, tokenizer=self.tokenizer, **{key: settings[key] for key in keys})

    @torch.no_grad()
    def answer(self, prompt, images):
        try:
            batch = self.processor(text=[prompt], images=[images], return_tensors="pt")
        except ValueError as error:  # a grid of which nothing is left
            raise ReferenceFails from error
        inputs = {key: value for key, value in batch.items() if key != "token_type_ids"}
        output = self.model.generate(
            **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
        ids = batch["input_ids"][0].tolist()
        tokens = output.sequences[0, len(ids) :].tolist()
        logits = torch.stack([step[0] for step in output.logits])
        return judged(ids, logits, tokens, self.model.generation_config.eos_token_id)


class Original:
    """LLaVA's own arithmetic over modules of transformers that hold the same tensors."""

    def __init__(self, config, folder, model, tower):
        self.config, self.model = config, model
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.mean = (0.5, 0.5, 0.5)
        if config.tower_kind == "clip":
            processor = CLIPImageProcessorPil.from_pretrained(tower or folder / "vision-tower")
            self.mean = processor.image_mean
            self.preprocess = lambda image: processor(image, return_tensors="pt")["pixel_values"][0]
        else:
            self.preprocess = lambda image: siglip_pixels(image, config.image_size)

    def rows(self, image, tiled):
        """Rows of one image."""
        model, llava = self.model.model, self.model.config
        pixels = pixels_of(image, self.config, self.preprocess, self.mean, tiled)
        states = model.vision_tower(pixels, output_hidden_states=True).hidden_states[llava.vision_feature_layer]
        states = states[:, 1:] if llava.vision_feature_select_strategy == "default" else states
        features = model.multi_modal_projector(states)
        if not self.config.tiled:
            return features[0]
        return merge(features, image.size, self.config, getattr(model, "image_newline", None))

    @torch.no_grad()
    def answer(self, prompt, images):
        # `tokenizer_image_token`: chunks apart, their beginning-of-sequence token once.
        chunks = [self.tokenizer(chunk).input_ids for chunk in prompt.split("<image>")]
        begin = self.tokenizer.bos_token_id
        repeated = int(bool(chunks[0]) and begin is not None and chunks[0][0] == begin)
        single = len(images) == 1 or not (self.config.ratio or "").startswith("anyres_max")
        table, ids, parts = self.model.get_input_embeddings(), [], []
        for index, chunk in enumerate(chunks):
            if index > 0:
                rows = self.rows(images[index - 1], self.config.tiled and single)
                if len(rows) == 0:
                    raise ReferenceFails
                ids += [IMAGE_TOKEN_INDEX] * len(rows)
                parts.append(rows)
            chunk = chunk[repeated if index > 0 else 0 :]
            ids += chunk
            parts.append(table(torch.tensor(chunk, dtype=torch.long)))
        embeds, tokens, logits = torch.cat(parts), [], []
        end = self.model.generation_config.eos_token_id
        # The whole sequence anew for each token: no cache whose rules could hide a mistake.
        while len(tokens) < NEW_TOKENS and (not tokens or tokens[-1] != end):
            hidden = self.model.model.language_model(inputs_embeds=embeds[None], use_cache=False).last_hidden_state
            logits.append(self.model.lm_head(hidden[0, -1]))
            tokens.append(int(logits[-1].argmax()))
            embeds = torch.cat((embeds, table(torch.tensor(tokens[-1:]))))
        return judged(ids, torch.stack(logits), tokens, end)


def reference(config, folder, model, tower):
    return HuggingFace(config, folder) if config.family == "hf" else Original(config, folder, model, tower)
