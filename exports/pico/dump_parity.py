"""Writes `parity.safetensors` into a checkpoint folder: reference activations of every stage for a few awkward images.

The reference is transformers in fp32 with eager attention, greedy decoding and Pillow preprocessing. The metadata key
`parity` describes the cases; see `exports/README.md` for the tensors.
"""

import argparse
import io
import json
import random
from pathlib import Path

import numpy
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

import models
import scenes


def picture(seed, size, mode):
    """A held-out scene without noise, resized to an awkward size, as an encoded file and a short name."""
    scene = scenes.sample_scene(random.Random(seed), held_out=True)
    while not scene.sign or len(scene.items) < 3:
        seed += 1000
        scene = scenes.sample_scene(random.Random(seed), held_out=True)
    image = Image.fromarray(scenes.render(scene, noise=False)).resize(size, Image.BILINEAR)
    buffer = io.BytesIO()
    if mode == "JPEG":
        image.save(buffer, "JPEG", quality=95)
    else:
        if mode == "RGBA":
            alpha = Image.linear_gradient("L").resize(size)
            image.putalpha(alpha)
        elif mode == "P":
            image = image.quantize(32)
        elif mode == "L":
            image = image.convert("L")
        image.save(buffer, "PNG", optimize=True)
    return scene, buffer.getvalue()


def cases():
    """(name, encoded image, question, max_new_tokens)"""
    plan = [
        ("rgb_127x93", (127, 93), "RGB", "What color is the background?" + scenes.SHORT_ANSWER, 4),
        ("rgb_61x140", (61, 140), "RGB", "How many shapes are in the image?" + scenes.SHORT_ANSWER, 4),
        ("rgb_200x200", (200, 200), "RGB", "Describe the image.", 16),
        ("rgba_96x128", (96, 128), "RGBA", "What does the sign say?" + scenes.SHORT_ANSWER, 8),
        ("grey_128x96", (128, 96), "L", "Is there a sign in the image?" + scenes.SHORT_ANSWER, 4),
        ("palette_129x64", (129, 64), "P", "What is the first character on the sign?" + scenes.SHORT_ANSWER, 4),
        ("jpeg_128x128", (128, 128), "JPEG", None, 14),
    ]
    for seed, (name, size, mode, question, limit) in enumerate(plan):
        scene, data = picture(500 + seed, size, mode)
        yield name, data, question or scenes.GROUNDING + f"the {scene.items[0].name}", limit


@torch.no_grad()
def reference(llava, image, prompt, max_new_tokens):
    """Activations, logits of every step and greedy tokens."""
    pixel_values = llava.pixel_values(image)
    features = llava.features(pixel_values)
    image_embeds = llava.image_embeds(features, image)
    input_ids = llava.input_ids(prompt, image_embeds.shape[1])
    values, past, logits, tokens = models.embeds(llava, input_ids, image_embeds)[None], None, [], []
    while len(tokens) < max_new_tokens:
        output = llava.language_model(inputs_embeds=values, past_key_values=past, use_cache=True)
        past = output.past_key_values
        logits.append(llava.head(output.last_hidden_state[0, -1]))
        tokens.append(int(logits[-1].argmax()))
        if tokens[-1] == 2:
            break
        values = llava.language_model.embed_tokens(torch.tensor([[tokens[-1]]]))
    return {"pixel_values": pixel_values, "features": features, "image_embeds": image_embeds, "input_ids": input_ids,
            "logits": torch.stack(logits), "token_ids": torch.tensor(tokens)}


@torch.no_grad()
def check_stock_path(llava, image, prompt, tokens):
    """The stock processor and `generate` must give the same tokens (Hugging Face format only)."""
    if isinstance(llava, models.HuggingFaceLlava):
        inputs = llava.processor(images=image.convert("RGB"), text=prompt, return_tensors="pt")
        out = llava.model.generate(**inputs, max_new_tokens=len(tokens), do_sample=False)
        stock = out[0, inputs["input_ids"].shape[1]:].tolist()
        assert stock == tokens, (stock, tokens)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", help="only these cases, by name")
    arguments = parser.parse_args()
    folder = arguments.checkpoint
    torch.set_num_threads(1)
    llava = models.load(folder)
    tensors, described = {}, []
    chosen = [case for case in cases() if not arguments.cases or case[0] in arguments.cases]
    for index, (name, data, question, limit) in enumerate(chosen):
        image, prompt = Image.open(io.BytesIO(data)), llava.render(question)
        values = reference(llava, image, prompt, limit)
        check_stock_path(llava, image, prompt, values["token_ids"].tolist())
        described.append({"name": name, "prompt": prompt, "max_new_tokens": limit, "images": 1})
        tensors[f"case.{index}.image_file.0"] = torch.from_numpy(numpy.frombuffer(data, dtype=numpy.uint8).copy())
        for key, value in values.items():
            tensors[f"case.{index}.{key}"] = value.contiguous()
        margins = values["logits"].topk(2).values
        print(name, len(data), "bytes,", repr(llava.tokenizer.decode(values["token_ids"])),
              "smallest margin %.3f" % float((margins[:, 0] - margins[:, 1]).min()))
    source = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, fp32, eager"
    header = {"parity": json.dumps({"format": 1, "reference": source, "cases": described})}
    save_file(tensors, folder / "parity.safetensors", metadata=header)
    (folder / "parity.safetensors").chmod(0o644)
    print((folder / "parity.safetensors").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
