"""What a random checkpoint is like."""

import dataclasses


@dataclasses.dataclass
class Configuration:
    """One checkpoint; every field has the value of a plain small model unless said."""

    name: str
    family: str = "hf"  # hf, original
    model: str = "llava"  # llava, next, onevision: class of the checkpoint, or of the modules that stand for an original one
    language: str = "llama"  # llama, mistral, qwen2
    tower_kind: str = "clip"  # clip, siglip
    tokenizer: str = "llama"  # llama, qwen, llama3
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
    sliding_window: int | None = None  # mistral; qwen2 in all layers
    positions: int = 512
    mlp_bias: bool = False
    rope: dict = dataclasses.field(default_factory=lambda: {"rope_type": "default", "rope_theta": 10000.0})
    projector: str = "mlp2x_gelu"  # others only for the original family
    projector_bias: bool = True
    pad: bool = False
    pinpoints: list | str | None = None  # [height, width] in Hugging Face checkpoints, [width, height] in original ones
    ratio: str | None = None  # image_aspect_ratio of original checkpoints, vision_aspect_ratio of OneVision
    merge: str | None = None  # mm_patch_merge_type
    images: int = 1  # in each prompt
    start_end: bool = False  # mm_use_im_start_end
    loaded_from: str | None = None  # _name_or_path of original checkpoints
    style: str = "vicuna"  # how prompts look: a key of STYLES
    conversation: str | None = None  # the template that the export must choose
    tower: str = "separate"  # separate, inside, beside: where an original checkpoint has its vision tower
    seed: int = 0

    @property
    def tiled(self):
        return self.model != "llava" or (self.ratio or "").startswith("anyres")
