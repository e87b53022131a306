"""Models of transformers with random weights, for a Configuration."""

import torch
from tiny_tokenizers import beginning_of_sequence, end_of_sequence
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    MistralConfig,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LANGUAGES = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}
TOWERS = {"clip": CLIPVisionConfig, "siglip": SiglipVisionConfig}
MODELS = {
    "llava": (LlavaConfig, LlavaForConditionalGeneration),
    "next": (LlavaNextConfig, LlavaNextForConditionalGeneration),
    "onevision": (LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration),
}


class Projector(torch.nn.Module):
    """The projectors of the original repositories that transformers does not have."""

    def __init__(self, kind, inputs, outputs):
        super().__init__()
        self.layers = {"identity": 0, "linear": 1}.get(kind) if kind in ("identity", "linear") else int(kind[3:].split("x")[0])
        for layer in range(self.layers):
            self.add_module(f"linear_{layer + 1}", torch.nn.Linear(inputs if layer == 0 else outputs, outputs))

    def forward(self, features):
        for layer in range(self.layers):
            features = torch.nn.functional.gelu(features) if layer > 0 else features
            features = getattr(self, f"linear_{layer + 1}")(features)
        return features


def language_config(config, vocabulary, tokenizer):
    settings = dict(
        vocab_size=vocabulary,
        hidden_size=config.hidden,
        intermediate_size=config.intermediate,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.key_value_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.positions,
        rms_norm_eps=1e-5,
        rope_parameters=dict(config.rope),
        tie_word_embeddings=config.tied,
        bos_token_id=beginning_of_sequence(tokenizer, config.tokenizer),
        eos_token_id=end_of_sequence(tokenizer, config.tokenizer),
        pad_token_id=tokenizer.token_to_id("<pad>"),
    )
    if config.language == "llama":
        settings |= {"attention_bias": config.attention_bias, "mlp_bias": config.mlp_bias}
    elif config.language == "mistral":
        settings["sliding_window"] = config.sliding_window
    else:
        del settings["head_dim"]
        if config.sliding_window:
            settings |= {"use_sliding_window": True, "sliding_window": config.sliding_window, "max_window_layers": 0}
    return LANGUAGES[config.language](**settings)


def vision_config(config):
    settings = dict(
        hidden_size=config.vision_hidden,
        intermediate_size=2 * config.vision_hidden,
        num_hidden_layers=config.vision_layers,
        num_attention_heads=config.vision_heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        hidden_act=config.vision_activation,
    )
    settings |= {"projection_dim": 16} if config.tower_kind == "clip" else {"vision_use_head": False}
    return TOWERS[config.tower_kind](**settings)


def make_model(config, tokenizer):
    """The model in fp32 with weights that survive a round trip through the stored number type."""
    torch.manual_seed(config.seed)
    size = tokenizer.get_vocab_size()
    vocabulary = -(-size // config.vocabulary_padding) * config.vocabulary_padding
    image_token = tokenizer.token_to_id("<image>")
    side = config.image_size // config.patch_size
    # LLaVA's own way with SigLIP is to take the output of the last layer but one.
    siglip = config.family == "original" and config.tower_kind == "siglip"
    settings = dict(
        vision_config=vision_config(config),
        text_config=language_config(config, vocabulary, tokenizer),
        # An original checkpoint has no such token; one outside its vocabulary marks the rows for the reference.
        image_token_index=vocabulary - 1 if image_token is None else image_token,
        vision_feature_layer=-2 if siglip else config.feature_layer,
        vision_feature_select_strategy="full" if siglip else config.strategy,
        multimodal_projector_bias=config.projector_bias,
        image_seq_length=side * side + (config.strategy == "full" and config.tower_kind == "clip"),
        tie_word_embeddings=config.tied,
        attn_implementation="eager",
    )
    original = config.family == "original"
    kind = "llava" if original else config.model
    if kind != "llava":
        settings["image_grid_pinpoints"] = config.pinpoints
    if kind == "onevision":
        del settings["image_seq_length"]
        settings |= {"vision_aspect_ratio": config.ratio or "anyres_max_9", "video_token_index": vocabulary}
    config_class, model_class = MODELS[kind]
    llava = config_class(**settings)
    model = model_class(llava).float().eval()
    if config.projector != "mlp2x_gelu":
        model.model.multi_modal_projector = Projector(config.projector, config.vision_hidden, config.hidden)
    if original and config.merge and "unpad" in config.merge:
        model.model.image_newline = torch.nn.Parameter(torch.empty(config.hidden))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("lm_head.weight") or (config.tied and "embed_tokens" in name):
                weight.normal_(0, 3 / weight.shape[-1] ** 0.5)
            elif ("embed" in name and weight.dim() == 2) or name.endswith("image_newline"):
                weight.normal_(0, 1)
            elif "patch_embedding" in name and weight.dim() > 1:
                weight.normal_(0, 2 / weight[0].numel() ** 0.5)
            elif weight.dim() == 2:
                weight.normal_(0, 1.6 / weight.shape[-1] ** 0.5)
            elif "norm" in name and name.endswith("weight"):
                weight.uniform_(0.7, 1.3)
            else:
                weight.normal_(0, 0.1)
            weight.copy_(weight.to(DTYPES[config.dtype]).float())
    text = llava.text_config
    model.generation_config = GenerationConfig(
        bos_token_id=text.bos_token_id, eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id
    )
    return model
