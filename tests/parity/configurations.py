"""The random checkpoints that are compared, by family. Names are the evidence that `llava-gauge` gives for what it runs."""

from configuration import Configuration

LINEAR_ROPE = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
    "rope_theta": 10000.0,
}
YARN_ROPE = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0}
YARN_FREE_ROPE = YARN_ROPE | {"truncate": False, "beta_fast": 8.0, "beta_slow": 0.5, "mscale": 0.8, "mscale_all_dim": 1.2}
LONG_ROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.6, 2.0, 2.5, 3.1, 3.8],
    "long_factor": [2.0, 2.2, 2.6, 3.2, 4.0, 5.0, 6.2, 7.6],
    "original_max_position_embeddings": 512,
    "rope_theta": 10000.0,
}
YI_ROPE = {"rope_type": "default", "rope_theta": 5e6}
QWEN_ROPE = {"rope_type": "default", "rope_theta": 1e6}

LLAVA_1_5 = [
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
    Configuration("hf-several-images", images=2, key_value_heads=2),
]

ROPE = [
    Configuration("hf-yarn", rope=YARN_ROPE, layers=3),
    Configuration("hf4-yarn-free", rope=YARN_FREE_ROPE, scheme="transformers4", key_value_heads=2),
    Configuration("hf-longrope", rope=LONG_ROPE, positions=2048, layers=3),
    Configuration("original-yarn", family="original", rope=YARN_ROPE, positions=256, conversation="vicuna_v1"),
]

LLAMA3 = {"tokenizer": "llama3", "style": "llama3", "rope": LLAMA3_ROPE, "key_value_heads": 2}
MISTRAL = {"language": "mistral", "style": "mistral", "key_value_heads": 2}
QWEN2 = {"language": "qwen2", "tokenizer": "qwen", "style": "qwen", "key_value_heads": 2, "rope": QWEN_ROPE}
YI = {"rope": YI_ROPE, "key_value_heads": 1, "heads": 4, "layers": 3, "tokenizer": "qwen", "style": "chatml"}

LANGUAGE_MODELS = [
    Configuration("hf-mistral", **MISTRAL),
    Configuration("hf-mistral-window", sliding_window=13, layers=3, **MISTRAL),
    Configuration("hf4-mistral-window", sliding_window=20, scheme="transformers4", head_dim=32, dtype="bf16", **MISTRAL),
    Configuration("hf-qwen2", **QWEN2),
    Configuration("hf-qwen2-tied-window", tied=True, sliding_window=17, **QWEN2),
    Configuration("hf-llama3", dtype="bf16", **LLAMA3),
    Configuration("hf-yi", **YI),
]

SIGLIP = {"tower_kind": "siglip", "vision_activation": "gelu_pytorch_tanh", "strategy": "full", "feature_layer": -1}
INTERLEAVE = [
    Configuration("interleave-qwen2", **SIGLIP, **QWEN2),
    Configuration("interleave-two-images", images=2, tied=True, scheme="nested", **SIGLIP, **QWEN2),
    Configuration("interleave-three-images", images=3, scheme="transformers4", dtype="bf16", image_size=24, **SIGLIP, **QWEN2),
    Configuration("interleave-layer-2", image_size=30, images=2, **SIGLIP | {"feature_layer": -2}, **QWEN2),
    Configuration("siglip-llama-sharded", shard_bytes=60_000, vision_heads=3, **SIGLIP),
    Configuration("siglip-mistral-gelu", images=2, **SIGLIP | {"vision_activation": "gelu"}, **MISTRAL),
]

TILE = 24
STANDARD = [[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]]


def tiles(counts, tile=TILE):
    return [[rows * tile, columns * tile] for rows, columns in counts]


ALL_TO_3 = [[rows, columns] for rows in (1, 2, 3) for columns in (1, 2, 3)]
ALL_TO_6 = [[rows, columns] for rows in range(1, 7) for columns in range(1, 7)]
NEXT_BASE = {"model": "next", "image_size": TILE, "pinpoints": tiles(STANDARD), "positions": 1024}
NEXT = [
    Configuration("next-vicuna", **NEXT_BASE),
    Configuration("next4-mistral", scheme="transformers4", **NEXT_BASE, **MISTRAL),
    Configuration("next-mistral-window", sliding_window=40, scheme="nested", dtype="bf16", **NEXT_BASE, **MISTRAL),
    Configuration("next-yi", **NEXT_BASE, **YI),
    Configuration("next-llama3", dtype="fp16", shard_bytes=60_000, **NEXT_BASE, **LLAMA3),
    Configuration("next-qwen2", **NEXT_BASE, **QWEN2),
    Configuration("next-two-images", images=2, key_value_heads=2, **NEXT_BASE),
    Configuration("next-three-images", images=3, **NEXT_BASE, **MISTRAL),
    Configuration("next-wide-pinpoints", **NEXT_BASE | {"pinpoints": tiles([[1, 1], [1, 2], [1, 4], [2, 4], [1, 6]])}),
    Configuration("next-tall-pinpoints", **NEXT_BASE | {"pinpoints": tiles([[1, 1], [2, 1], [4, 1], [4, 2], [5, 1]])}, **MISTRAL),
    Configuration("next-one-pinpoint", **NEXT_BASE | {"pinpoints": tiles([[1, 1]])}),
    Configuration("next-3-by-3", **NEXT_BASE | {"pinpoints": tiles(ALL_TO_3)}, projector_bias=False),
    Configuration("next-reversed-pinpoints", **NEXT_BASE | {"pinpoints": tiles(ALL_TO_3[::-1])}, **QWEN2),
    Configuration("next-odd-tile", **NEXT_BASE | {"image_size": 28, "pinpoints": tiles(STANDARD, 28)}, vision_activation="gelu"),
    Configuration("next-siglip", **NEXT_BASE, **SIGLIP, **QWEN2),
    Configuration("next-last-layer", **NEXT_BASE | {"image_size": 32, "pinpoints": tiles(STANDARD, 32)}, feature_layer=-1),
]

ONEVISION_BASE = {"model": "onevision", "image_size": TILE, "pinpoints": tiles(ALL_TO_6), "positions": 1024} | SIGLIP | QWEN2
ONEVISION = [
    Configuration("onevision", **ONEVISION_BASE),
    Configuration("onevision4-tied", scheme="transformers4", tied=True, **ONEVISION_BASE),
    Configuration("onevision-nested-bf16", scheme="nested", dtype="bf16", **ONEVISION_BASE),
    Configuration("onevision-two-images", images=2, tied=True, **ONEVISION_BASE),
    Configuration("onevision-three-images", images=3, dtype="fp16", shard_bytes=60_000, **ONEVISION_BASE),
    Configuration("onevision-max-4", ratio="anyres_max_4", **ONEVISION_BASE),
    Configuration("onevision-max-2-odd", ratio="anyres_max_2", **ONEVISION_BASE | {"image_size": 28, "pinpoints": tiles(ALL_TO_6, 28)}),
    Configuration("onevision-clip", **ONEVISION_BASE | {"tower_kind": "clip", "strategy": "default", "vision_activation": "quick_gelu"}),
]

ORIGINAL = [
    Configuration("original-linear", family="original", projector="linear", vision_heads=3, conversation="llava_v1"),
    Configuration("original-mlp-pad", family="original", pad=True, dtype="bf16", shard_bytes=60_000, key_value_heads=2, conversation="vicuna_v1"),
    Configuration("original-inside", family="original", tower="inside", dtype="fp16", feature_layer=-1, strategy="full"),
    Configuration("original-beside", family="original", tower="beside", tied=True, vision_activation="gelu", pad=True),
    Configuration("original-v0", family="original", projector="linear", start_end=True, style="v0", conversation="simple"),
    Configuration(
        "original-med-v1.0", family="original", projector="linear", start_end=True, style="v0", loaded_from="llava-med-7b-delta",
        conversation="llava_med_simple", feature_layer=-1,
    ),
    Configuration(
        "original-med-v1.5", family="original", pad=True, loaded_from="microsoft/llava-med-v1.5-mistral-7b", **MISTRAL,
        conversation="mistral_instruct",
    ),
    Configuration("original-llama-2", family="original", loaded_from="./llava-llama-2-7b", conversation="llava_llama_2"),
    Configuration("original-mlp1x", family="original", projector="mlp1x_gelu", pad=True),
    Configuration("original-mlp3x", family="original", projector="mlp3x_gelu", pad=True, tower="beside"),
    Configuration("original-identity", family="original", projector="identity", vision_hidden=64),
    Configuration("original-mistral", family="original", sliding_window=16, conversation="mistral_instruct", **MISTRAL),
    Configuration("original-several-images", family="original", pad=True, images=2, tower="inside"),
    Configuration("original-siglip-qwen2", family="original", pad=True, **SIGLIP, **QWEN2, conversation="qwen_1_5"),
    Configuration("original-siglip-inside", family="original", tower="inside", images=2, pad=True, **SIGLIP, **QWEN2 | {"tied": True}),
]  # fmt: skip

# Sizes are (width, height) here.
ORIGINAL_NEXT_BASE = {
    "family": "original", "image_size": TILE, "ratio": "anyres", "merge": "spatial_unpad", "positions": 1024,
    "pinpoints": tiles(STANDARD),
}  # fmt: skip
ORIGINAL_NEXT = [
    Configuration("original-next-vicuna", **ORIGINAL_NEXT_BASE, conversation="vicuna_v1"),
    Configuration("original-next-mistral", **ORIGINAL_NEXT_BASE, **MISTRAL, tower="inside", conversation="mistral_instruct"),
    Configuration("original-next-yi", **ORIGINAL_NEXT_BASE, **YI, conversation="chatml_direct"),
    Configuration("original-next-llama3", **ORIGINAL_NEXT_BASE, **LLAMA3, conversation="llava_llama_3"),
    Configuration("original-next-two-images", **ORIGINAL_NEXT_BASE, images=2, dtype="bf16"),
    Configuration("original-next-text-pinpoints", **ORIGINAL_NEXT_BASE | {"pinpoints": "[(24, 48), (48, 24), (48, 48), (96, 24)]"}),
    Configuration("original-next-flat", **ORIGINAL_NEXT_BASE | {"merge": "flat"}),
    Configuration("original-next-spatial", **ORIGINAL_NEXT_BASE | {"merge": "spatial", "pinpoints": "(1x1),...,(3x3)"}),
    Configuration("original-next-nobase", **ORIGINAL_NEXT_BASE | {"merge": "spatial_unpad_nobase"}),
    Configuration("original-next-maxpool", **ORIGINAL_NEXT_BASE | {"merge": "spatial_maxpool2x2"}),
    Configuration(
        "original-onevision", **ORIGINAL_NEXT_BASE | {"ratio": "anyres_max_9", "pinpoints": "(1x1),...,(6x6)"}, **SIGLIP, **QWEN2,
        tower="inside", conversation="qwen_1_5",
    ),
    Configuration(
        "original-onevision-max-3", **ORIGINAL_NEXT_BASE | {"ratio": "anyres_max_3", "pinpoints": "(1x1),...,(6x6)"}, **SIGLIP, **QWEN2,
    ),
    Configuration(
        "original-onevision-two-images", **ORIGINAL_NEXT_BASE | {"ratio": "anyres_max_9", "pinpoints": "(1x1),...,(6x6)"}, **SIGLIP,
        **QWEN2 | {"tied": True}, images=2,
    ),
]  # fmt: skip

CONFIGURATIONS = LLAVA_1_5 + ROPE + LANGUAGE_MODELS + INTERLEAVE + NEXT + ONEVISION + ORIGINAL + ORIGINAL_NEXT

SMALL = {
    "words": 300, "vocabulary_padding": 8, "hidden": 32, "heads": 2, "intermediate": 48, "vision_hidden": 24, "vision_heads": 2,
    "dtype": "bf16",
}  # fmt: skip
SMALL_TILES = {"image_size": 16, "pinpoints": tiles(STANDARD, 16), "positions": 512}
# Small ones for the repository.
RECORDED = [
    Configuration("recorded-hf", shard_bytes=40_000, key_value_heads=1, patch_size=8, image_size=24, seed=1, **SMALL),
    Configuration(
        "recorded-original", family="original", projector="linear", tower="inside", key_value_heads=2, image_size=24, pad=True,
        seed=2, **SMALL,
    ),
    Configuration("recorded-mistral-window", sliding_window=13, seed=3, image_size=24, **SMALL, **MISTRAL | {"key_value_heads": 1}),
    Configuration("recorded-interleave", images=2, seed=4, image_size=24, **SMALL, **SIGLIP, **QWEN2 | {"key_value_heads": 1, "tied": True}),
    Configuration("recorded-yarn", rope=YARN_ROPE, seed=5, image_size=24, key_value_heads=1, **SMALL),
    Configuration("recorded-next", model="next", seed=6, **SMALL, **SMALL_TILES, **MISTRAL | {"key_value_heads": 1}),
    Configuration(
        "recorded-onevision", model="onevision", seed=7, **SMALL, **SIGLIP, **QWEN2 | {"key_value_heads": 1, "tied": True},
        **SMALL_TILES | {"pinpoints": tiles(ALL_TO_6, 16)},
    ),
    Configuration(
        "recorded-onevision-images", model="onevision", images=2, seed=8, **SMALL, **SIGLIP, **QWEN2 | {"key_value_heads": 1, "tied": True},
        **SMALL_TILES | {"pinpoints": tiles(ALL_TO_6, 16)},
    ),
    Configuration(
        "recorded-original-next", family="original", ratio="anyres", merge="spatial_unpad", tower="inside", seed=9, key_value_heads=1,
        **SMALL, **SMALL_TILES | {"pinpoints": "[(16, 32), (32, 16), (32, 32), (48, 16), (16, 48)]"},
    ),
    Configuration(
        "recorded-original-onevision", family="original", ratio="anyres_max_9", merge="spatial_unpad", tower="inside", seed=10, **SMALL,
        **SIGLIP, **QWEN2 | {"key_value_heads": 1, "tied": True}, **SMALL_TILES | {"pinpoints": "(1x1),...,(6x6)"},
    ),
    Configuration(
        "recorded-original-v0", family="original", projector="linear", start_end=True, style="v0", tower="inside", seed=11,
        image_size=24, key_value_heads=2, **SMALL,
    ),
]  # fmt: skip
