"""The later members of the pico family: `next` (any-res), `med` (grey scans) and `clip` (zero-shot).

`next` and `med` go on from stage 2 of pico-llava-1.5 with other pictures, the tower frozen. `clip` trains a text tower,
the tower's last layer and both projections against the frozen layers below, whose output LLaVA uses: the features that LLaVA
sees are the same in all checkpoints.
"""

import functools
import json
import random
from pathlib import Path

import numpy
import torch
import torch.nn.functional as functional
from torch import nn

import fine_print
import scans
import scenes
import train


def picture_features(work, name, pictures):
    """`hidden_states[-2]` without CLS of uint8 pictures (n, views, 64, 64, 3) as float16 (n, views, 64, 96), kept in a file."""
    path = work / f"features_{name}.pt"
    if path.exists():
        return torch.load(path)
    model = train.build_clip(len(train.load_tokenizer("hf")))
    model.load_state_dict(torch.load(work / "tower.pt"))
    vision, flat = model.vision_model.eval(), pictures.flatten(0, 1)
    features = torch.empty(len(flat), 64, 96, dtype=torch.float16)
    with torch.no_grad():
        for rows in torch.arange(len(flat)).split(256):
            pixels = train.to_pixel_values(flat[rows])
            features[rows] = vision(pixel_values=pixels, output_hidden_states=True).hidden_states[-2][:, 1:].half()
    features = features.view(*pictures.shape[:2], 64, 96)
    train.save_atomically(features, path)
    return features


def samples(work, name, make, count, held_out):
    """`make(seed)` gives a scene and its views; training ones first, then those held out (negative seeds)."""
    path = work / f"data_{name}.pt"
    if path.exists():
        return torch.load(path, weights_only=False)
    rows = [make(seed) for seed in [*range(count), *(-1 - index for index in range(held_out))]]
    data = {"scenes": [row[0] for row in rows], "train": count, "views": torch.from_numpy(numpy.stack([row[1] for row in rows]))}
    train.save_atomically(data, path)
    return data


class Newline(nn.Module):
    """The learned row that ends each line of the any-res grid."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width) / width ** 0.5)


def start_modules(work):
    """Projector and language model after stage 2."""
    projector, model = train.build_projector("mlp2x_gelu"), train.build_language_model()
    for module, state in zip((projector, model), torch.load(work / "stage2.pt")["modules"]):
        module.load_state_dict(state)
    return projector, model


@torch.no_grad()
def exact_by_kind(data, make_pack, kinds_of, count=150):
    """Teacher-forced exact match on held-out scenes by kind of question."""
    right, total = {}, {}
    for start in range(0, count, 25):
        for indices, rows, pack, logits in make_pack(range(data["train"] + start, data["train"] + start + 25), random.Random(start)):
            kinds = [kind for chosen in rows for kind in kinds_of(chosen)]
            for kind, good in zip(kinds, pack.exact(logits).tolist()):
                right[kind], total[kind] = right.get(kind, 0) + good, total.get(kind, 0) + 1
    return {kind: right[kind] / total[kind] for kind in sorted(total)}


def train_next(work, log, arguments):
    """Stage 2 goes on with any-res pictures: projector, language model and newline."""

    def make(seed):
        scene = fine_print.sample(random.Random(seed * 7 + 3), held_out=seed < 0)
        return scene, fine_print.views(fine_print.render(scene))

    data = samples(work, "next", make, arguments.next_scenes, 150)
    features = picture_features(work, "next", data["views"])
    torch.manual_seed(train.SEED + 4)
    (projector, model), newline, form = start_modules(work), Newline(128), train.Format("hf")
    by_size = {}
    for index in range(data["train"]):
        by_size.setdefault(fine_print.grid_size(data["scenes"][index]), []).append(index)
    sizes = list(by_size)

    def pack_of(size, indices, chosen):
        rows = fine_print.merge(projector(features[indices].float()), newline.weight, *size)
        prefix = form.head + [0] * rows.shape[1]
        pack = train.Pack([(prefix, [(*form.branch(q, a), w) for q, a, w in row]) for row in chosen])
        return pack, pack.logits(model, rows, len(form.head))

    def make_batch(rng):
        # Sequences of one batch share the length of their pictures, which the fast attention plan needs.
        size = rng.choices(sizes, [len(by_size[size]) for size in sizes])[0]
        indices = [rng.choice(by_size[size]) for _ in range(arguments.batch)]
        pack, logits = pack_of(size, indices, [fine_print.instructions(data["scenes"][index], rng) for index in indices])
        return logits, pack

    def held_out_packs(indices, rng):
        groups = {}
        for index in indices:
            groups.setdefault(fine_print.grid_size(data["scenes"][index]), []).append(index)
        for size, group in groups.items():
            chosen = [fine_print.instructions(data["scenes"][index], rng) for index in group]
            yield (group, chosen, *pack_of(size, group, chosen))

    check = functools.partial(exact_by_kind, data, held_out_packs, lambda chosen: [train.question_kind(q) for q, _, _ in chosen])
    modules = [projector, model, newline]
    train.run_stage("next", work, log, modules, modules, make_batch, arguments.next_rate, 100000, arguments.next_minutes, check, 100, 30)


class MedFormat(train.Format):
    """LLaVA-Med v1.5's `mistral_instruct` prompts."""

    def __init__(self):
        super().__init__("original")
        self.head = self.tokenizer.encode("[INST] ")
        self._branch = functools.lru_cache(maxsize=100000)(self._encode_branch)

    def branch(self, question, answer):
        before = self._branch("\n" + question + " [/INST]")
        whole = self._branch("\n" + question + " [/INST] " + answer)
        assert whole[:len(before)] == before
        return before, whole[len(before):] + [2]


def train_med(work, log, arguments):
    """Stage 2 goes on with grey scans: projector and language model."""

    def make(seed):
        scan = scans.sample(random.Random(seed * 11 + 5), held_out=seed < 0)
        pixels = numpy.repeat(scans.render(scan)[:, :, None], 3, 2)
        return scan, scenes.preprocess_pad(pixels)[None]

    data = samples(work, "med", make, arguments.med_scans, 150)
    features = picture_features(work, "med", data["views"])[:, 0]
    torch.manual_seed(train.SEED + 5)
    (projector, model), form = start_modules(work), MedFormat()

    def instructions(scan, rng):
        return [(q + (scenes.SHORT_ANSWER if rng.random() < 0.2 else ""), a, 1.0, kind) for q, a, kind, _ in scans.questions(scan, rng)]

    def pack_of(indices, chosen):
        pack = train.Pack([(form.image_prefix(), [(*form.branch(q, a), w) for q, a, w, _ in row]) for row in chosen])
        return pack, pack.logits(model, projector(features[indices].float()), len(form.head))

    def make_batch(rng):
        indices = [rng.randrange(data["train"]) for _ in range(arguments.batch)]
        pack, logits = pack_of(indices, [instructions(data["scenes"][index], rng) for index in indices])
        return logits, pack

    def held_out_packs(indices, rng):
        group = list(indices)
        chosen = [instructions(data["scenes"][index], rng) for index in group]
        yield (group, chosen, *pack_of(group, chosen))

    check = functools.partial(exact_by_kind, data, held_out_packs, lambda chosen: [kind for _, _, _, kind in chosen])
    modules = [projector, model]
    train.run_stage("med", work, log, modules, modules, make_batch, arguments.med_rate, 100000, arguments.med_minutes, check, 100, 40)


# --------------------------------------------------------------------------------------------------------- clip

CLIP_TEMPLATES = ["{}", "an image of {}", "a picture of {}", "there is {} in the picture", "a scene with {}"]


def build_clip_tokenizer():
    """CLIP's own kind of BPE: lower case, `</w>` at the end of words; (vocabulary, merges)."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    rng, corpus = random.Random(train.SEED), []
    for _ in range(3000):
        corpus.append(rng.choice(CLIP_TEMPLATES).format(scenes.short_caption(scenes.sample_scene(rng), rng)))
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    learner.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=300, end_of_word_suffix="</w>", show_progress=False))
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    # The bytes as printable characters, as GPT-2 and CLIP write them.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]
    tokens = characters + [character + "</w>" for character in characters]
    tokens += [left + right for left, right in merges if left + right not in tokens]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    for token in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[token] = len(vocabulary)
    return vocabulary, merges


@functools.cache
def clip_tokenizer():
    """The tokenizer of pico-clip, from `clip_vocabulary.json`."""
    from transformers import CLIPTokenizer

    path = Path(__file__).parent / "clip_vocabulary.json"
    if not path.exists():
        vocabulary, merges = build_clip_tokenizer()
        path.write_text(json.dumps({"vocabulary": vocabulary, "merges": [list(pair) for pair in merges]}, ensure_ascii=False) + "\n")
    stored = json.loads(path.read_text())
    return CLIPTokenizer(vocab=stored["vocabulary"], merges=[tuple(pair) for pair in stored["merges"]], model_max_length=40)


def build_pico_clip():
    """CLIP around the family's tower."""
    from transformers import CLIPConfig, CLIPModel

    tokenizer = clip_tokenizer()
    end, start = tokenizer.convert_tokens_to_ids("<|endoftext|>"), tokenizer.convert_tokens_to_ids("<|startoftext|>")
    vision = train.build_clip(1).config.vision_config.to_dict()
    text = dict(vocab_size=len(tokenizer), hidden_size=96, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4,
                max_position_embeddings=40, hidden_act="quick_gelu", projection_dim=64, bos_token_id=start, eos_token_id=end,
                pad_token_id=end)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=64)
    config._attn_implementation = "sdpa"
    return CLIPModel(config)


def train_clip(work, log, arguments, data):
    """Contrastive training on (scene, caption); pictures enter above the frozen layers."""
    final = work / "clip.pt"
    if final.exists():
        return
    torch.manual_seed(train.SEED + 6)
    model, tokenizer = build_pico_clip(), clip_tokenizer()
    tower = {key.removeprefix("vision_model."): value for key, value in torch.load(work / "tower.pt").items()
             if key.startswith("vision_model.")}
    model.vision_model.load_state_dict(tower)
    layers = model.vision_model.encoder.layers
    model.vision_model.requires_grad_(False)
    trained_vision = nn.ModuleList([layers[-1], model.vision_model.post_layernorm])
    trained_vision.requires_grad_(True)
    # All 65 rows of hidden_states[-2] for the pictures of a first part of the training scenes.
    count = min(arguments.clip_scenes, data["train"])
    states = torch.empty(count, 65, 96, dtype=torch.float16)
    with torch.no_grad():
        for rows in torch.arange(count).split(256):
            pixels = train.to_pixel_values(data["pad"][rows])
            states[rows] = model.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2].half()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = train.Schedule(optimizer, arguments.clip_rate, 100000, arguments.clip_minutes)
    batch, end = 192, tokenizer.convert_tokens_to_ids("<|endoftext|>")
    while schedule.advance():
        rng = random.Random(train.SEED * 1000003 + schedule.step)
        rows = [rng.randrange(count) for _ in range(batch)]
        texts = []
        for row in rows:
            scene = data["scenes"][row]
            # Half of the captions name everything, half one thing: zero-shot prompts do the latter.
            text = scenes.short_caption(scene, rng) if rng.random() < 0.5 else scenes.with_article(rng.choice(scene.items).name)
            texts.append(tokenizer.encode(rng.choice(CLIP_TEMPLATES).format(text))[:40])
        length = max(map(len, texts))
        input_ids = torch.tensor([text + [end] * (length - len(text)) for text in texts])
        mask = torch.tensor([[1] * len(text) + [0] * (length - len(text)) for text in texts])
        hidden = layers[-1](states[rows].float(), attention_mask=None)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        image = functional.normalize(model.visual_projection(model.vision_model.post_layernorm(hidden[:, 0])), dim=-1)
        text = model.text_model(input_ids=input_ids, attention_mask=mask).pooler_output
        text = functional.normalize(model.text_projection(text), dim=-1)
        logits = model.logit_scale.clamp(max=4.6052).exp() * image @ text.T
        target = torch.arange(batch)
        loss = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if schedule.step % 50 == 0 or schedule.step == 5:
            matched = (logits.argmax(-1) == target).float().mean().item()
            log.write("clip", step=schedule.step, minutes=schedule.elapsed / 60, loss=loss.item(), matched=matched)
    log.write("clip", event="end", steps=schedule.step, minutes=schedule.elapsed / 60)
    train.save_atomically(model.state_dict(), final)
