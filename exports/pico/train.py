"""Trains the pico LLaVA checkpoints from nothing, with LLaVA's own recipe.

Stages: `tower` (contrastive CLIP with dense patch labels), `text` (text-only pretraining of the language
model), `llava` (stage 1: projector only; stage 2: projector and language model), `v1` (both stages for the
linear projector of the original format), and the later members of the family, `next`, `med` and `clip` (versions.py).
`--stage all` runs them in turn and writes the checkpoints; a finished stage is skipped and an interrupted one continues
from its last checkpoint.

A stage ends after its steps or its minutes, whichever comes first, and the learning rate follows whichever is
further along. The log records how many steps were really taken.
"""

import argparse
import functools
import json
import math
import multiprocessing
import os
import random
import time
from pathlib import Path

import numpy
import torch
import torch.nn.functional as functional
from torch import nn
from transformers import CLIPConfig, CLIPModel, LlamaConfig, LlamaForCausalLM, LlamaTokenizer

import scenes

SEED = 20
BATCH = 16  # sequences a step and process; `--batch` changes it
SYSTEM = {
    "vicuna_v1": "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    "llava_v1": "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions.",
}
PIXEL_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
PIXEL_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
DENSE_SIZES = [len(scenes.SHAPE_NAMES), len(scenes.COLOR_NAMES), 1 + len(scenes.SIGN_CHARACTERS), 9, 9, 9, 9, 2]


# -------------------------------------------------------------------------------------------------- logging


class Log:
    """One JSON line per event, and a readable line beside it."""

    def __init__(self, folder):
        self.json_path, self.text_path = folder / "training_log.jsonl", folder / "train.log"

    def write(self, stage, **values):
        values = {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}
        with open(self.json_path, "a") as file:
            file.write(json.dumps({"stage": stage, **values}) + "\n")
        line = f"{time.strftime('%H:%M:%S')} {stage} " + " ".join(f"{k}={v}" for k, v in values.items())
        with open(self.text_path, "a") as file:
            file.write(line + "\n")
        print(line, flush=True)


class Team:
    """One or two processes that train together: gradients are averaged, the first one keeps the time and writes."""

    def __init__(self, rank=0, size=1, meeting=None):
        self.rank, self.size = rank, size
        if size > 1:
            torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)

    def average(self, parameters):
        if self.size > 1:
            flat = torch.cat([p.grad.flatten() for p in parameters])
            torch.distributed.all_reduce(flat)
            flat /= self.size
            at = 0
            for p in parameters:
                p.grad.copy_(flat[at:at + p.numel()].view_as(p))
                at += p.numel()

    def agree(self, value):
        """The first process's value, for all."""
        if self.size > 1:
            shared = torch.tensor([value], dtype=torch.float64)
            torch.distributed.broadcast(shared, 0)
            return shared.item()
        return value

    def wait(self):
        if self.size > 1:
            torch.distributed.barrier()


class Schedule:
    """Warm-up and cosine on whichever of steps and minutes is further along."""

    def __init__(self, optimizer, rate, max_steps, max_minutes, warmup=0.04, team=None):
        self.team = team or Team()
        self.optimizer, self.rate, self.warmup = optimizer, rate, warmup
        self.max_steps, self.max_seconds = max_steps, max_minutes * 60
        self.step, self.elapsed, self.mark = 0, 0.0, time.time()

    def progress(self):
        now = time.time()
        self.elapsed, self.mark = self.elapsed + now - self.mark, now
        return max(self.step / self.max_steps, self.elapsed / self.max_seconds)

    def advance(self):
        """Sets the learning rate of the coming step; False once the stage is over."""
        done = self.team.agree(self.progress())
        if done >= 1:
            return False
        factor = min(1, done / self.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * max(factor, 1e-3) * group.get("scale", 1.0)
        self.step += 1
        return True

    def state(self):
        return {"step": self.step, "elapsed": self.elapsed}

    def restore(self, state):
        self.step, self.elapsed, self.mark = state["step"], state["elapsed"], time.time()


def save_atomically(value, path):
    torch.save(value, str(path) + ".part")
    os.replace(str(path) + ".part", path)


# ------------------------------------------------------------------------------------------------ tokenizer


def build_tokenizer():
    """A LLaMA-type BPE with byte fallback; (vocabulary, merges) of the base without `<image>` and `<pad>`."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    rng = random.Random(SEED)
    corpus = []
    for _ in range(6000):
        scene = scenes.sample_scene(rng)
        scene.sign = None
        corpus += [scenes.caption(scene), scenes.scene_as_text(scene, rng)]
        for question, answer, _ in scenes.instructions(scene, rng):
            corpus += ["." + line for line in question.split("\n")] + [answer]
        corpus += [q.format(scene.items[0].name) for q in ("Where is the {}?", "Is the {} small or large?")]
    corpus += (scenes.SIGN_QUESTIONS + ["What is the first character on the sign?", "What is the last character on the sign?"]) * 500
    corpus += ["The sign at the left says", "sign at the top says", "yes", "no", "small", "large"] * 300
    corpus += [text for text in SYSTEM.values()] * 500
    pieces = pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=True),
        pre_tokenizers.Split(Regex(r"▁?\d\.\d\d|▁?\[|[^\w▁]"), "isolated"),
    ])
    learner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    learner.pre_tokenizer = pieces
    alphabet = sorted(set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,:?![]'▁"))
    learner.train_from_iterator(
        corpus,
        trainers.BpeTrainer(vocab_size=480, min_frequency=20, initial_alphabet=alphabet, special_tokens=["<unk>"], show_progress=False),
    )
    learned = json.loads(learner.to_str())["model"]
    # The two role words, merged first and only through letters that no sign uses.
    roles = [("A", "S"), ("S", "I"), ("S", "T"), ("A", "N"), ("AS", "SI"), ("ST", "AN"), ("STAN", "T"), ("ASSI", "STANT"),
             ("▁", "ASSISTANT"), ("U", "S"), ("US", "E"), ("USE", "R"), ("▁", "USER")]
    merges = roles + [tuple(pair) for pair in learned["merges"] if tuple(pair) not in roles]
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = 3 + byte
    ordered = sorted(learned["vocab"], key=learned["vocab"].get)
    for token in ordered + [left + right for left, right in roles]:
        vocabulary.setdefault(token, len(vocabulary))
    return vocabulary, merges


@functools.lru_cache(maxsize=2)
def load_tokenizer(kind):
    """`hf` with `<image>` and `<pad>` added, `original` with `<pad>` only."""
    path = Path(__file__).parent / "vocabulary.json"
    if not path.exists():
        vocabulary, merges = build_tokenizer()
        path.write_text(json.dumps({"vocabulary": vocabulary, "merges": [list(pair) for pair in merges]}, ensure_ascii=False))
    stored = json.loads(path.read_text())
    tokenizer = LlamaTokenizer(
        vocab=stored["vocabulary"], merges=[tuple(pair) for pair in stored["merges"]], legacy=False, add_bos_token=True,
        model_max_length=2048, padding_side="left" if kind == "hf" else "right",
    )
    if kind == "hf":
        tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    return tokenizer


# ---------------------------------------------------------------------------------------------------- data


def _make_one(seed):
    scene = scenes.sample_scene(random.Random(seed), held_out=seed < 0)
    pixels = scenes.render(scene)
    same = scene.width == scene.height
    padded, labels = scenes.preprocess_pad(pixels), scenes.dense_labels(scene, "pad")
    cropped = padded if same else scenes.preprocess_crop(pixels)
    crop_labels = labels if same else scenes.dense_labels(scene, "crop")
    return scene, padded, labels, cropped, crop_labels


def make_data(work, count, held_out_count=400):
    """Renders training scenes (seeds 0, 1, ...) and validation scenes (negative seeds)."""
    path = work / "data.pt"
    if path.exists():
        return torch.load(path, weights_only=False)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        rows = pool.map(_make_one, list(range(count)) + [-1 - i for i in range(held_out_count)], chunksize=200)
    data = {"scenes": [row[0] for row in rows], "train": count}
    for index, name in enumerate(["pad", "pad_labels", "crop", "crop_labels"], 1):
        data[name] = torch.from_numpy(numpy.stack([row[index] for row in rows]))
    save_atomically(data, path)
    return data


def to_pixel_values(pixels):
    return (pixels.permute(0, 3, 1, 2).float() / 255 - PIXEL_MEAN) / PIXEL_STD


# --------------------------------------------------------------------------------------------------- tower


def build_clip(vocabulary_size):
    config = CLIPConfig(
        text_config=dict(vocab_size=vocabulary_size, hidden_size=96, intermediate_size=192, num_hidden_layers=2,
                         num_attention_heads=4, max_position_embeddings=40, hidden_act="quick_gelu", projection_dim=64,
                         bos_token_id=1, eos_token_id=vocabulary_size - 1, pad_token_id=vocabulary_size - 1),
        vision_config=dict(hidden_size=96, intermediate_size=384, num_hidden_layers=5, num_attention_heads=4, image_size=64,
                           patch_size=8, hidden_act="quick_gelu", projection_dim=64),
        projection_dim=64,
    )
    config._attn_implementation = "sdpa"
    return CLIPModel(config)


def train_tower(work, log, arguments, data):
    """CLIP loss on (image, caption) pairs plus cross-entropies on what every patch of hidden_states[-2] shows."""
    final = work / "tower.pt"
    if final.exists():
        return
    torch.manual_seed(SEED)
    tokenizer = load_tokenizer("hf")
    pad = len(tokenizer) - 1
    model = build_clip(len(tokenizer))
    heads = nn.ModuleList([nn.Linear(96, size) for size in DENSE_SIZES])
    parameters = list(model.parameters()) + list(heads.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = Schedule(optimizer, arguments.tower_rate, arguments.tower_steps, arguments.tower_minutes)
    partial = work / "tower.partial.pt"
    if partial.exists():
        state = torch.load(partial)
        model.load_state_dict(state["model"]), heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"]), schedule.restore(state["schedule"])
    batch, saved = 128, time.time()
    while schedule.advance():
        rng = random.Random(SEED * 1000003 + schedule.step)
        rows = torch.tensor([rng.randrange(data["train"]) for _ in range(batch)])
        use_crop = torch.tensor([rng.random() < 0.25 for _ in range(batch)])
        pixels = torch.where(use_crop.view(-1, 1, 1, 1), data["crop"][rows], data["pad"][rows])
        labels = torch.where(use_crop.view(-1, 1, 1), data["crop_labels"][rows], data["pad_labels"][rows]).long()
        texts = [tokenizer.encode(scenes.short_caption(data["scenes"][row], rng))[:39] + [pad] for row in rows.tolist()]
        length = max(map(len, texts))
        input_ids = torch.tensor([text + [pad] * (length - len(text)) for text in texts])
        vision = model.vision_model(pixel_values=to_pixel_values(pixels), output_hidden_states=True)
        text = model.text_model(input_ids=input_ids)
        image_embeds = functional.normalize(model.visual_projection(vision.pooler_output), dim=-1)
        text_embeds = functional.normalize(model.text_projection(text.pooler_output), dim=-1)
        logits = model.logit_scale.clamp(max=4.6).exp() * image_embeds @ text_embeds.T
        target = torch.arange(batch)
        contrastive = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
        patches = vision.hidden_states[-2][:, 1:]
        something = labels[..., 0] > 0
        dense, right = 0, []
        for index, head in enumerate(heads):
            chosen, answer = patches, labels[..., index]
            if index == 2:
                where = labels[..., 0] == scenes.SHAPE_NAMES.index("sign")
                chosen, answer = patches[where], answer[where]
            elif index >= 3:
                chosen, answer = patches[something], answer[something]
            scores = head(chosen).flatten(0, -2)
            loss = functional.cross_entropy(scores, answer.flatten())
            dense = dense + loss * (2.0 if index in (0, 1) else 1.0)
            right.append((scores.argmax(-1) == answer.flatten()).float().mean().item())
        loss = 0.3 * contrastive + dense
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if schedule.step % 50 == 0 or schedule.step == 5:
            matched = (logits.argmax(-1) == target).float().mean().item()
            log.write("tower", step=schedule.step, minutes=schedule.elapsed / 60, contrastive=contrastive.item(), dense=dense.item(),
                      matched=matched, shape=right[0], color=right[1], character=right[2], edges=sum(right[3:7]) / 4, anchor=right[7])
        if time.time() - saved > 60:
            saved = time.time()
            save_atomically({"model": model.state_dict(), "heads": heads.state_dict(), "optimizer": optimizer.state_dict(),
                             "schedule": schedule.state()}, partial)
    log.write("tower", event="end", steps=schedule.step, minutes=schedule.elapsed / 60)
    save_atomically(model.state_dict(), final)


# ------------------------------------------------------------------------------------------- language model


def build_language_model(vocabulary_size=768):
    config = LlamaConfig(
        vocab_size=vocabulary_size, hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, rms_norm_eps=1e-5, tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=2, pad_token_id=None, attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def build_projector(kind):
    if kind == "linear":
        return nn.Linear(96, 128)
    return nn.Sequential(nn.Linear(96, 128), nn.GELU(), nn.Linear(128, 128))


class Format:
    """Token sequences exactly as inference makes them: `hf` tokenises one string, `original` splits at the image."""

    def __init__(self, kind):
        self.kind = kind
        self.tokenizer = load_tokenizer(kind)
        self.system = SYSTEM["vicuna_v1" if kind == "hf" else "llava_v1"]
        self.head = self.tokenizer.encode(self.system + " USER: ")
        self._branch = functools.lru_cache(maxsize=400000)(self._encode_branch)

    def _encode_branch(self, text):
        if self.kind == "hf":
            return self.tokenizer.encode("<image>" + text, add_special_tokens=False)[1:]
        return self.tokenizer.encode(text, add_special_tokens=False)

    def branch(self, question, answer):
        """(tokens up to `ASSISTANT:`, answer tokens with `</s>`)"""
        before = self._branch("\n" + question + " ASSISTANT:")
        whole = self._branch("\n" + question + " ASSISTANT: " + answer)
        assert whole[:len(before)] == before
        return before, whole[len(before):] + [2]

    def text_prefix(self, text):
        """The prefix of the text-only pretraining: a textual scene where the image would be."""
        return self.tokenizer.encode(self.system + " USER: " + text)

    def image_prefix(self):
        return self.head + [0] * 64


# Weight of an early answer, as a share of the real one's.
EARLY_ANSWER_WEIGHT = 0.2


@functools.cache
def naming_tokens():
    """Tokens that name what a question is about: shapes, their plurals, colours, `sign`."""
    words = [*scenes.SHAPES, *(scenes.plural(shape) for shape in scenes.SHAPES), *scenes.COLORS, "sign"]
    tokenizer = load_tokenizer("hf")
    return frozenset(ids[-1] for ids in (tokenizer.encode("the " + word, add_special_tokens=False) for word in words))


def early_answer_positions(question, answer):
    """Positions in a question with a one-word answer from which that answer is already determined: from the last word
    that names something on, the final position excepted.

    The answer must be looked up in the image by that word and then carried to the end of the question. Training both at
    once is slow, as neither helps without the other; a loss at these positions trains the look-up alone. Their
    predictions are never used in generation, where the question is given.
    """
    if len(answer) != 2:
        return []
    naming = [index for index, token in enumerate(question) if token in naming_tokens()]
    return list(range(naming[-1], len(question) - 1)) if naming else []


class Pack:
    """One batch: each row is a prefix and independent question branches behind it."""

    def __init__(self, rows, prefix_weight=0.0):
        length = max(len(prefix) + sum(len(q) + len(a) for q, a, _ in branches) for prefix, branches in rows)
        shape = (len(rows), length)
        self.input_ids = numpy.zeros(shape, dtype=numpy.int64)
        self.position_ids = numpy.zeros(shape, dtype=numpy.int64)
        segments = numpy.full(shape, -1, dtype=numpy.int64)
        sources, targets, weights, groups = [], [], [], []
        group = 0
        for row, (prefix, branches) in enumerate(rows):
            at = len(prefix)
            self.input_ids[row, :at], self.position_ids[row, :at], segments[row, :at] = prefix, range(at), 0
            if prefix_weight:
                sources += [row * length + index for index in range(at - 1)]
                targets += prefix[1:]
                weights += [prefix_weight] * (at - 1)
                groups += [-1] * (at - 1)
            for index, (question, answer, weight) in enumerate(branches, 1):
                tokens = question + answer
                end = at + len(tokens)
                self.input_ids[row, at:end] = tokens
                self.position_ids[row, at:end] = range(len(prefix), len(prefix) + len(tokens))
                segments[row, at:end] = index
                first = row * length + at + len(question) - 1
                sources += range(first, first + len(answer))
                targets += answer
                weights += [weight] * len(answer)
                groups += [group] * len(answer)
                early = early_answer_positions(question, answer)
                sources += [row * length + at + position for position in early]
                targets += [answer[0]] * len(early)
                weights += [EARLY_ANSWER_WEIGHT * weight] * len(early)
                groups += [-1] * len(early)
                group += 1
                at = end
        self.input_ids, self.position_ids = torch.from_numpy(self.input_ids), torch.from_numpy(self.position_ids)
        segments = torch.from_numpy(segments)
        allowed = (segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None])
        allowed &= torch.ones(length, length, dtype=torch.bool).tril()
        self.mask = torch.zeros(allowed.shape).masked_fill_(~allowed, torch.finfo(torch.float32).min)[:, None]
        self.sources, self.targets = torch.tensor(sources), torch.tensor(targets)
        self.weights, self.groups, self.group_count = torch.tensor(weights), torch.tensor(groups), group
        self.plan = self._plan(rows, length) if len({len(prefix) for prefix, _ in rows}) == 1 else None

    def _plan(self, rows, length):
        """Index tables for `hidden`: all real tokens in one line, the prefixes, and the branches in buckets of like length."""
        start, tokens, branches = len(rows[0][0]), [], []
        for row, (prefix, questions) in enumerate(rows):
            at = row * length + len(prefix)
            tokens += range(row * length, at)
            for question, answer, _ in questions:
                end = at + len(question) + len(answer)
                branches.append((row, at, end))
                tokens += range(at, end)
                at = end
        line = numpy.zeros(len(rows) * length, dtype=numpy.int64)
        line[tokens] = numpy.arange(len(tokens))
        prefixes = numpy.stack([line[row * length:row * length + start] for row in range(len(rows))])
        branches.sort(key=lambda branch: branch[2] - branch[1])
        where = numpy.zeros(len(tokens), dtype=numpy.int64)
        where[prefixes.flatten()] = numpy.arange(prefixes.size)
        offset, buckets, size = prefixes.size, [], (len(branches) + 3) // 4
        for first in range(0, len(branches), size):
            part = branches[first:first + size]
            longest = part[-1][2] - part[-1][1]
            index = numpy.zeros((len(part), longest), dtype=numpy.int64)
            for number, (_, begin, end) in enumerate(part):
                index[number, :end - begin] = line[begin:end]
                where[line[begin:end]] = offset + number * longest + numpy.arange(end - begin)
            offset += index.size
            mask = torch.ones(longest, start + longest, dtype=torch.bool).tril(start)
            owners = torch.from_numpy(prefixes[[row for row, _, _ in part]].flatten())
            buckets.append((torch.from_numpy(index.flatten()), owners, len(part), longest, mask))
        return {"tokens": torch.tensor(tokens), "prefixes": torch.from_numpy(prefixes.flatten()), "rows": len(rows), "start": start,
                "buckets": buckets, "where": torch.from_numpy(where), "sources": torch.from_numpy(line[self.sources.numpy()])}

    def hidden(self, model, embeds):
        """The language model of transformers, layer by layer, without the attention that the block mask would discard.

        Same numbers as `model.model` with the 4D mask, in about two thirds of the time.
        """
        plan, config = self.plan, model.config
        heads, groups, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        states = embeds.flatten(0, 1).index_select(0, plan["tokens"])
        cos, sin = model.model.rotary_emb(states[None], self.position_ids.flatten()[plan["tokens"]][None])
        cos, sin = cos[0, :, None], sin[0, :, None]

        def rotate(values):
            first, second = values.chunk(2, -1)
            return values * cos + torch.cat([-second, first], -1) * sin

        def pick(values, index, count, length):
            return values.index_select(0, index).view(count, length, -1, width).transpose(1, 2)

        def attend(query, key, value, **options):
            key, value = (x.repeat_interleave(heads // groups, 1) for x in (key, value))
            out = functional.scaled_dot_product_attention(query, key, value, **options)
            return out.transpose(1, 2).reshape(-1, heads * width)

        for layer in model.model.layers:
            normed, block = layer.input_layernorm(states), layer.self_attn
            query = rotate(block.q_proj(normed).view(-1, heads, width)).flatten(1)
            key = rotate(block.k_proj(normed).view(-1, groups, width)).flatten(1)
            value = block.v_proj(normed)
            shape = (plan["rows"], plan["start"])
            outputs = [attend(*(pick(x, plan["prefixes"], *shape) for x in (query, key, value)), is_causal=True)]
            for index, owners, count, length, mask in plan["buckets"]:
                before = [pick(x, owners, count, plan["start"]) for x in (key, value)]
                own = [pick(x, index, count, length) for x in (key, value)]
                both = [torch.cat(pair, 2) for pair in zip(before, own)]
                outputs.append(attend(pick(query, index, count, length), *both, attn_mask=mask))
            where = plan["where"]
            if layer is model.model.layers[-1]:
                states, where = states.index_select(0, plan["sources"]), where.index_select(0, plan["sources"])
            states = states + block.o_proj(torch.cat(outputs).index_select(0, where))
            states = states + layer.mlp(layer.post_attention_layernorm(states))
        return model.model.norm(states)

    def logits(self, model, image_embeds=None, image_start=None):
        """Scores at the positions that predict answer tokens."""
        embeds = model.model.embed_tokens(self.input_ids)
        if image_embeds is not None:
            embeds = torch.cat([embeds[:, :image_start], image_embeds, embeds[:, image_start + image_embeds.shape[1]:]], 1)
        if self.plan:
            return model.lm_head(self.hidden(model, embeds))
        hidden = model.model(inputs_embeds=embeds, attention_mask=self.mask, position_ids=self.position_ids, use_cache=False)
        return model.lm_head(hidden.last_hidden_state.flatten(0, 1)[self.sources])

    def loss(self, logits):
        losses = functional.cross_entropy(logits, self.targets, reduction="none")
        return (losses * self.weights).sum() / self.weights.sum()

    def exact(self, logits):
        """For every branch: would greedy decoding give exactly this answer?"""
        wrong = (logits.argmax(-1) != self.targets) & (self.groups >= 0)
        count = torch.zeros(self.group_count).index_add_(0, self.groups.clamp(min=0), wrong.float())
        return count == 0


def question_kind(question):
    if question.startswith(scenes.GROUNDING):
        return "grounding"
    if " on the sign" in question or "the sign say" in question:
        return "reading"
    if question in scenes.DESCRIPTION_QUESTIONS:
        return "description"
    if question.startswith("Is there a"):
        return "pope"
    return "reasoning" if question.startswith(("How many more", "Which ")) else "vqa"


@torch.no_grad()
def validate(model, projector, form, data, features, count=200):
    """Teacher-forced exact match on held-out scenes, which equals greedy exact match, per kind of question."""
    right, total = {}, {}
    for start in range(0, count, 25):
        rng = random.Random(7000 + start)
        rows, kinds = [], []
        for index in range(data["train"] + start, data["train"] + start + 25):
            chosen = scenes.instructions(data["scenes"][index], rng)
            kinds += [question_kind(question) for question, _, _ in chosen]
            rows.append((form.image_prefix(), [(*form.branch(q, a), w) for q, a, w in chosen]))
        pack = Pack(rows)
        embeds = projector(features[data["train"] + start:data["train"] + start + 25].float())
        exact = pack.exact(pack.logits(model, embeds, len(form.head))).tolist()
        for kind, good in zip(kinds, exact):
            right[kind], total[kind] = right.get(kind, 0) + good, total.get(kind, 0) + 1
    return {kind: right[kind] / total[kind] for kind in sorted(total)}


@torch.no_grad()
def tower_features(work, data, recipe):
    """hidden_states[-2] without CLS of every scene, computed once and kept as float16."""
    path = work / f"features_{recipe}.pt"
    if path.exists():
        return torch.load(path)
    model = build_clip(len(load_tokenizer("hf")))
    model.load_state_dict(torch.load(work / "tower.pt"))
    vision = model.vision_model.eval()
    features, missing = torch.empty(len(data[recipe]), 64, 96, dtype=torch.float16), torch.arange(len(data[recipe]))
    if recipe == "crop" and (work / "features_pad.pt").exists():
        features = torch.load(work / "features_pad.pt")
        missing = torch.tensor([index for index, scene in enumerate(data["scenes"]) if scene.width != scene.height])
    for rows in missing.split(256):
        pixels = to_pixel_values(data[recipe][rows])
        features[rows] = vision(pixel_values=pixels, output_hidden_states=True).hidden_states[-2][:, 1:].half()
    save_atomically(features, path)
    return features


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix updates are orthogonalised (Newton-Schulz, fp32): fewer steps than AdamW for hidden matrices."""

    def __init__(self, parameters, lr, momentum=0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = []
                for parameter in parameters:
                    state = self.state[parameter]
                    buffer = state.setdefault("momentum", torch.zeros_like(parameter))
                    buffer.lerp_(parameter.grad, 1 - group["momentum"])
                    updates.append(parameter.grad.lerp(buffer, group["momentum"]))
                values = torch.stack(updates)
                values = values.transpose(1, 2) if shape[0] > shape[1] else values
                values = values / (values.norm(dim=(1, 2), keepdim=True) + 1e-7)
                for _ in range(5):
                    square = values @ values.transpose(1, 2)
                    values = 3.4445 * values + (-4.7750 * square + 2.0315 * square @ square) @ values
                values = values.transpose(1, 2) if shape[0] > shape[1] else values
                scale = max(1, shape[0] / shape[1]) ** 0.5
                for parameter, value in zip(parameters, values):
                    parameter.add_(value, alpha=-group["lr"] * scale)


class Optimizers:
    """Muon for the hidden matrices, AdamW for embeddings, head, biases and norms, behind the face of one optimizer."""

    def __init__(self, modules, rate):
        hidden, matrices, vectors = [], [], []
        for module in modules:
            for name, parameter in module.named_parameters():
                if parameter.ndim <= 1:
                    vectors.append(parameter)
                elif "embed_tokens" in name or "lm_head" in name:
                    matrices.append(parameter)
                else:
                    hidden.append(parameter)
        self.parts = [Muon([{"params": hidden, "scale": 10.0}], lr=rate)]
        groups = [{"params": group, "weight_decay": decay} for group, decay in ((matrices, 0.05), (vectors, 0.0)) if group]
        self.parts += [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))]
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none=True):
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def step(self):
        for part in self.parts:
            part.step()

    def state_dict(self):
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states):
        for part, state in zip(self.parts, states):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def run_stage(name, work, log, modules, trainable, make_batch, rate, steps, minutes, check=None, check_every=200, seed=0, team=None):
    """The training loop that the text stage, stage 1 and stage 2 share."""
    final, partial = work / f"{name}.pt", work / f"{name}.partial.pt"
    if final.exists():
        for module, state in zip(modules, torch.load(final)["modules"]):
            module.load_state_dict(state)
        return
    for module in modules:
        module.requires_grad_(module in trainable)
    parameters = [p for module in trainable for p in module.parameters()]
    optimizer = Optimizers(trainable, rate)
    team = team or Team()
    schedule = Schedule(optimizer, rate, steps, minutes, team=team)
    if partial.exists():
        state = torch.load(partial)
        for module, values in zip(modules, state["modules"]):
            module.load_state_dict(values)
        optimizer.load_state_dict(state["optimizer"]), schedule.restore(state["schedule"])
    elif (work / f"{name}.start.pt").exists():
        for module, values in zip(modules, torch.load(work / f"{name}.start.pt")["modules"]):
            module.load_state_dict(values)
    saved, losses, exacts = time.time(), [], []
    while schedule.advance():
        logits, pack = make_batch(random.Random((SEED + seed) * 1000003 + schedule.step + team.rank * 500009))
        loss = pack.loss(logits)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        team.average(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
        exacts.append(pack.exact(logits.detach()).float().mean().item())
        if team.rank:
            continue
        if schedule.step % 25 == 0 or schedule.step == 3:
            log.write(name, step=schedule.step, minutes=schedule.elapsed / 60, loss=sum(losses) / len(losses), exact=sum(exacts) / len(exacts))
            losses, exacts = [], []
        if check and schedule.step % check_every == 0:
            log.write(name, step=schedule.step, event="validation", **check())
        if time.time() - saved > 60:
            saved = time.time()
            save_atomically({"modules": [m.state_dict() for m in modules], "optimizer": optimizer.state_dict(),
                             "schedule": schedule.state()}, partial)
    if not team.rank:
        save_atomically({"modules": [m.state_dict() for m in modules]}, final)
        log.write(name, event="end", steps=schedule.step, minutes=schedule.elapsed / 60, **(check() if check else {}))
    team.wait()


def train_text(work, log, arguments, data, model):
    """The language model reads textual scenes and answers the questions that images will be asked later."""
    forms = [Format("hf"), Format("original")]

    def make_batch(rng):
        rows = []
        for _ in range(arguments.batch):
            form = forms[rng.random() < 0.3]
            scene = data["scenes"][rng.randrange(data["train"])]
            chosen = scenes.instructions(scene, rng)
            if rng.random() < 0.3:
                chosen.append((*scenes.description(scene, rng), 0.2))
            rows.append((form.text_prefix(scenes.scene_as_text(scene, rng)), [(*form.branch(q, a), w) for q, a, w in chosen]))
        pack = Pack(rows, prefix_weight=0.03)
        return pack.logits(model), pack

    run_stage("text", work, log, [model], [model], make_batch, arguments.text_rate, arguments.text_steps, arguments.text_minutes, seed=1,
              team=arguments.team)


def train_llava(prefix, work, log, arguments, data, model, projector, form, recipe, minutes, steps, stage, seed):
    """Stage 1 (captions, projector only) or stage 2 (instructions, projector and language model)."""
    features = tower_features(work, data, recipe)

    def make_batch(rng):
        rows, indices = [], []
        for _ in range(arguments.batch):
            index = rng.randrange(data["train"])
            scene = data["scenes"][index]
            chosen = [(*scenes.description(scene, rng), 1.0)] if stage == 1 else scenes.instructions(scene, rng)
            rows.append((form.image_prefix(), [(*form.branch(q, a), w) for q, a, w in chosen]))
            indices.append(index)
        pack = Pack(rows)
        return pack.logits(model, projector(features[indices].float()), len(form.head)), pack

    name = f"{prefix}stage{stage}"
    trainable = [projector] if stage == 1 else [projector, model]
    rate = arguments.stage1_rate if stage == 1 else arguments.stage2_rate
    check = functools.partial(validate, model, projector, form, data, features)
    run_stage(name, work, log, [projector, model], trainable, make_batch, rate, steps, minutes, check, 200, seed, arguments.team)


def train_version(stage, *arguments):
    """A later member of the family, by its stage's name."""
    import versions

    {"next": versions.train_next, "med": versions.train_med, "clip": versions.train_clip}[stage](*arguments)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", default="all", choices=["all", "tower", "text", "llava", "v1", "next", "med", "clip"])
    parser.add_argument("--work", type=Path, default=Path("/tmp/pico"), help="checkpoints and caches")
    parser.add_argument("--log", type=Path, default=Path(__file__).parent, help="folder of training_log.jsonl and train.log")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1], help="folder of the checkpoint folders")
    parser.add_argument("--start-from", type=Path, help="folder of the shipped checkpoints: stage 2 goes on from their weights")
    parser.add_argument("--scenes", type=int, default=40000)
    parser.add_argument("--batch", type=int, default=BATCH, help="sequences a step and process, about nine questions each")
    parser.add_argument("--rank", type=int, default=0, help="number of this process where two train together")
    parser.add_argument("--size", type=int, default=1, help="how many processes train together (not in the tower stage)")
    parser.add_argument("--threads", type=int, default=2, help="on a machine that others use too, 1 is faster than 2")
    defaults = {"tower": (1800, 12, 2e-3), "text": (900, 5, 2e-3), "stage1": (900, 3, 3e-3), "stage2": (3500, 26, 2e-3)}
    for name, (steps, minutes, rate) in defaults.items():
        parser.add_argument(f"--{name}-steps", type=int, default=steps)
        parser.add_argument(f"--{name}-minutes", type=float, default=minutes)
        parser.add_argument(f"--{name}-rate", type=float, default=rate)
    parser.add_argument("--v1-stage1-minutes", type=float, default=1)
    parser.add_argument("--v1-stage2-minutes", type=float, default=3)
    for name, minutes, rate, pictures, what in (("next", 25, 1.5e-3, 12000, "scenes"), ("med", 10, 1.5e-3, 12000, "scans"),
                                                ("clip", 8, 1.5e-3, 40000, "scenes")):
        parser.add_argument(f"--{name}-minutes", type=float, default=minutes)
        parser.add_argument(f"--{name}-rate", type=float, default=rate)
        parser.add_argument(f"--{name}-{what}", type=int, default=pictures)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    work, stage = arguments.work, arguments.stage
    work.mkdir(parents=True, exist_ok=True)
    log = Log(arguments.log)
    arguments.team = Team(arguments.rank, arguments.size, work / f"meeting_{stage}")
    if arguments.start_from and not arguments.rank:
        import checkpoints

        checkpoints.restore(arguments.start_from, work)
    if stage in ("next", "med"):
        train_version(stage, work, log, arguments)
        return
    data = make_data(work, arguments.scenes)
    if stage == "clip":
        train_version(stage, work, log, arguments, data)
        return
    if stage in ("all", "tower"):
        train_tower(work, log, arguments, data)
    if stage == "tower":
        return
    torch.manual_seed(SEED + 1)
    model = build_language_model()
    train_text(work, log, arguments, data, model)
    if stage in ("all", "llava"):
        torch.manual_seed(SEED + 2)
        projector, form = build_projector("mlp2x_gelu"), Format("hf")
        for number, steps, minutes in ((1, arguments.stage1_steps, arguments.stage1_minutes),
                                       (2, arguments.stage2_steps, arguments.stage2_minutes)):
            train_llava("", work, log, arguments, data, model, projector, form, "pad", minutes, steps, number, seed=10 + number)
    if stage in ("all", "v1"):
        # Like the first LLaVA, which began with an instruction-tuned model: the linear projector starts from nothing, the language
        # model from the other checkpoint's stage 2.
        torch.manual_seed(SEED + 3)
        model.load_state_dict(torch.load(work / "stage2.pt")["modules"][1])
        projector, form = build_projector("linear"), Format("original")
        for number, minutes in ((1, arguments.v1_stage1_minutes), (2, arguments.v1_stage2_minutes)):
            train_llava("v1_", work, log, arguments, data, model, projector, form, "crop", minutes,
                        arguments.stage2_steps, number, seed=20 + number)
    if stage == "all" and not arguments.rank:
        import checkpoints

        for name in ("next", "med"):
            train_version(name, work, log, arguments)
        train_version("clip", work, log, arguments, data)

        checkpoints.export_all(work, arguments.output)


if __name__ == "__main__":
    main()
