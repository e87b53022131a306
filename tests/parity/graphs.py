"""Runs the graphs of an exported package with onnxruntime against transformers, stage by stage.

    python tests/parity/graphs.py CHECKPOINT PACKAGE

prints the largest differences (in standard deviations of the reference, where those exceed 1) of: vision features, projected rows, logits of a whole prefill, logits of a
prefill in chunks over a shared key-value buffer, and logits of a packed tree (two suffixes side by side, kept apart by
the attention bias). Exits 1 if one of them exceeds --tolerance. Needs torch, transformers, onnxruntime, numpy.
"""

import argparse
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from transformers import AutoModelForImageTextToText

BIG = np.float32(-1e9)


class Package:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.manifest = tomllib.loads((self.folder / "package.toml").read_text())
        self.llm = self.manifest["llm"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.sessions = {
            stage: ort.InferenceSession(str(self.folder / self.manifest[stage]["graph"]), options, ["CPUExecutionProvider"])
            for stage in ("vision", "projector", "llm")
        }

    def embed(self, ids):
        place = self.llm["embedding"]
        with open(self.folder / place["file"], "rb") as file:
            file.seek(place["offset"])
            raw = file.read(place["bytes"])
        if place["dtype"] == "f32":
            table = np.frombuffer(raw, np.float32)
        elif place["dtype"] == "f16":
            table = np.frombuffer(raw, np.float16).astype(np.float32)
        else:
            table = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        return table.reshape(place["shape"])[ids]

    def cache(self, capacity):
        shape = (1, self.llm["key_value_heads"], capacity, self.llm["head_size"])
        names = [f"{i}.{part}" for i in range(self.llm["layers"]) for part in ("key", "value")]
        return {name: ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32)) for name in names}

    def run_llm(self, cache, embeds, positions, bias, total, rows):
        if window := self.llm.get("sliding_window"):
            # What a row sees is one sequence in order, so that its newest columns are the nearest positions.
            for row in bias:
                row[np.flatnonzero(row == 0)[:-window]] = BIG
        binding = self.sessions["llm"].io_binding()
        feeds = {
            "inputs_embeds": embeds.astype(np.float32),
            "position_ids": np.asarray(positions, np.int64)[None],
            "attention_bias": bias[None, None].astype(np.float32),
            "seqlens_k": np.asarray([total - 1], np.int32),
            "total_sequence_length": np.asarray(total, np.int32),
            "logit_rows": np.asarray(rows, np.int64),
        }
        values = {name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in cache.items():
            binding.bind_ortvalue_input(f"past_key_values.{name}", value)
            binding.bind_ortvalue_output(f"present.{name}", value)
        binding.bind_output("logits", "cpu")
        self.sessions["llm"].run_with_iobinding(binding)
        return binding.get_outputs()[-1].numpy()


def difference(found, reference):
    return float(np.abs(found - reference).max() / max(1.0, reference.std()))


def causal(tokens, past):
    bias = np.zeros((tokens, past + tokens), np.float32)
    for row in range(tokens):
        bias[row, past + row + 1 :] = BIG
    return bias


def compare(checkpoint, package, tokens):
    """Largest differences by name, in standard deviations of the reference where those exceed 1."""
    torch.set_num_threads(1)
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, **options).eval()
    return compare_model(model, package, tokens)


@torch.no_grad()
def compare_model(model, package, tokens=48):
    random = np.random.default_rng(0)
    pack = Package(package)
    vision, llm = pack.manifest["vision"], pack.llm
    differences = {}
    pixels = random.standard_normal((2, 3, vision["image_size"], vision["image_size"])).astype(np.float32)
    states = model.model.vision_tower(torch.from_numpy(pixels), output_hidden_states=True).hidden_states
    wanted = states[vision["feature_layer"]]
    wanted = wanted[:, 1:] if vision["feature_select"] == "patch" else wanted
    features = pack.sessions["vision"].run(None, {"pixel_values": pixels})[0]
    assert features.shape == (2, vision["tokens_per_image"], vision["hidden_size"]), features.shape
    differences["vision"] = difference(features, wanted.numpy())
    rows_wanted = model.model.multi_modal_projector(wanted).numpy()
    rows = pack.sessions["projector"].run(None, {"features": features})[0]
    differences["projector"] = difference(rows, rows_wanted)

    length = min(tokens, llm["maximum_positions"])
    ids = random.integers(3, llm["vocabulary_size"], length)
    reference = model(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0].numpy()
    embeds = pack.embed(ids)
    everything = list(range(length))
    logits = pack.run_llm(pack.cache(length), embeds, everything, causal(length, 0), length, everything)
    differences["prefill"] = difference(logits, reference)

    # The same in chunks over one buffer that is longer than needed; the first chunk asks for no logits at all.
    cache, parts, at = pack.cache(length + 7), [], 0
    for count in (length - 17, 9, 1, 1, 6):
        chosen = [] if at == 0 else list(range(count))
        part = pack.run_llm(cache, embeds[at : at + count], range(at, at + count), causal(count, at), at + count, chosen)
        assert part.shape == (len(chosen), llm["vocabulary_size"]), part.shape
        parts.append(part)
        at += count
    differences["chunks"] = difference(np.concatenate(parts), reference[length - 17 :])

    # Two suffixes after one prefix, in one row; then one more token each.
    prefix, first, second = ids[:20], ids[20:31], random.integers(3, llm["vocabulary_size"], 8)
    cache = pack.cache(64)
    pack.run_llm(cache, pack.embed(prefix), range(20), causal(20, 0), 20, [])
    bias = np.full((19, 39), BIG, np.float32)
    bias[:, :20] = 0
    bias[:11, 20:31] = causal(11, 0)
    bias[11:, 31:39] = causal(8, 0)
    positions = list(range(20, 31)) + list(range(20, 28))
    tree = pack.run_llm(cache, pack.embed(np.concatenate([first, second])), positions, bias, 39, list(range(19)))
    step = random.integers(3, llm["vocabulary_size"], 2)
    bias = np.full((2, 41), BIG, np.float32)
    bias[:, :20] = 0
    bias[0, 20:31] = bias[0, 39] = bias[1, 31:39] = bias[1, 40] = 0
    tree_step = pack.run_llm(cache, pack.embed(step), [31, 28], bias, 41, [0, 1])
    worst = 0.0
    for index, (suffix, part) in enumerate([(first, tree[:11]), (second, tree[11:])]):
        whole = np.concatenate([prefix, suffix, step[index : index + 1]])
        logits = model(input_ids=torch.from_numpy(whole)[None], use_cache=False).logits[0].numpy()
        worst = max(worst, difference(np.concatenate([part, tree_step[index : index + 1]]), logits[20:]))
    differences["tree"] = worst
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("package")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--tokens", type=int, default=48, help="length of the prompt, at least 32")
    arguments = parser.parse_args()
    differences = compare(arguments.checkpoint, arguments.package, arguments.tokens)
    for name, value in differences.items():
        print(f"{name:14} {value:.2e}")
    sys.exit(0 if max(differences.values()) <= arguments.tolerance else 1)


if __name__ == "__main__":
    main()
