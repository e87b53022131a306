"""Pico data in the formats of MME, MMBench (TSV and parquet), COCO captions and NLVR2.

Each set has a generator of its own, so that one can change without the others. Images are rendered without noise, which keeps them
at about a kilobyte.
"""

import base64
import io
import json
import random

import pyarrow
import pyarrow.parquet
from PIL import Image

import scenes

CIRCULAR_STEP = 1_000_000
SPLIT = "dev"


def held_out_scenes(rng, count, fits):
    """So many different held-out scenes that fit."""
    found, seen = [], set()
    while len(found) < count:
        scene = scenes.sample_scene(rng, held_out=True)
        if scene.signature() not in seen and fits(scene):
            seen.add(scene.signature())
            found.append(scene)
    return found


def png(scene):
    """The picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(scenes.render(scene, noise=False)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------------ MME

MME_SUFFIX = " Please answer yes or no."


def existence(scene, rng):
    return [(scenes.presence(scene, rng, wanted=wanted)[0], wanted) for wanted in ("yes", "no")]


def color(scene, rng):
    shapes = [item.shape for item in scene.items]
    item = rng.choice([item for item in scene.items if shapes.count(item.shape) == 1])
    other = rng.choice([name for name in scenes.COLORS if name != item.color])
    return [(f"Is the {item.shape} {item.color}?", "yes"), (f"Is the {item.shape} {other}?", "no")]


def count(scene, rng):
    shape = rng.choice([item.shape for item in scene.items])
    number = sum(item.shape == shape for item in scene.items)
    wrong = rng.choice([other for other in range(1, 6) if other != number])
    asked = [(number, "yes"), (wrong, "no")]
    return [(f"{'Is' if n == 1 else 'Are'} there {scenes.count_noun(n, shape)} in the image?", answer) for n, answer in asked]


def position(scene, rng):
    first, second = rng.sample(scenes.unique_items(scene), 2)
    across = abs(first.center[0] - second.center[0]) >= abs(first.center[1] - second.center[1])
    axis = 0 if across else 1
    right, wrong = ("left of", "right of") if across else ("above", "below")
    if first.center[axis] > second.center[axis]:
        right, wrong = wrong, right
    return [(f"Is the {first.name} {right} the {second.name}?", "yes"), (f"Is the {first.name} {wrong} the {second.name}?", "no")]


def reading(scene, rng):
    word = scene.sign.word
    index = rng.randrange(len(word))
    wrong = word[:index] + rng.choice([c for c in scenes.SIGN_CHARACTERS if c != word[index]]) + word[index + 1:]
    return [(f"Is the word on the sign \"{word}\"?", "yes"), (f"Is the word on the sign \"{wrong}\"?", "no")]


def calculation(scene, rng):
    number = len(scene.items)
    added = rng.randrange(1, 5)
    wrong = number + added + rng.choice([-1, 1, 2])
    question = "If {} more shapes were drawn, would there be {} shapes in the image?"
    return [(question.format(added, number + added), "yes"), (question.format(added, wrong), "no")]


def far_apart(scene):
    """Whether two unique items lie clearly beside or above each other."""
    unique = scenes.unique_items(scene)
    return len(unique) == 2 and max(abs(unique[0].center[axis] - unique[1].center[axis]) for axis in (0, 1)) >= 2


# Five of MME's fourteen categories by perception, one by cognition, with what a scene needs for them.
MME_CATEGORIES = {
    "existence": (existence, lambda scene: len(scene.items) >= 2),
    "count": (count, lambda scene: len(scene.items) >= 2),
    "position": (position, far_apart),
    "color": (color, lambda scene: len({item.shape for item in scene.items}) == len(scene.items)),
    "OCR": (reading, lambda scene: scene.sign is not None),
    "numerical_calculation": (calculation, lambda scene: len(scene.items) >= 2),
}


def make_mme(folder, rng, per_category):
    """`CATEGORY/NAME.png` and `CATEGORY/NAME.txt` with two lines `question<TAB>answer`, as MME is released."""
    rows = 0
    for category, (ask, fits) in MME_CATEGORIES.items():
        (folder / "mme" / category).mkdir(parents=True, exist_ok=True)
        for number, scene in enumerate(held_out_scenes(rng, per_category, fits), 1):
            name = f"pico_{number:04d}"
            (folder / "mme" / category / f"{name}.png").write_bytes(png(scene))
            lines = [f"{question}{MME_SUFFIX}\t{answer.capitalize()}\n" for question, answer in ask(scene, rng)]
            (folder / "mme" / category / f"{name}.txt").write_text("".join(lines))
            rows += len(lines)
    return rows


# -------------------------------------------------------------------------------------------------- MMBench

WRONG_ANSWERS = {
    "attribute_recognition": list(scenes.COLORS) + list(scenes.BACKGROUNDS),
    "object_localization": ["top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"],
    "shape_recognition": scenes.SHAPES,
    "object_counting": [str(number) for number in range(6)],
}
KINDS = {"color": "attribute_recognition", "location": "object_localization", "shape": "shape_recognition", "count shape": "object_counting"}
GROUPS = {"attribute_recognition": "finegrained_perception (instance-level)", "object_localization": "finegrained_perception (instance-level)",
          "shape_recognition": "coarse_perception", "object_counting": "logic_reasoning"}


def make_mmbench(folder, rng, count):
    """Questions with two to four options and their circular rotations, as TSV and as parquet with the same rows."""
    rows, pictures, asked = [], {}, []
    for kind in KINDS:
        drawn = held_out_scenes(rng, count // len(KINDS), lambda scene: len(scene.items) >= 2 and scenes.vqa(scene, rng, kind=kind))
        asked += [(scene, kind) for scene in drawn]
    rng.shuffle(asked)
    for number, (scene, kind) in enumerate(asked):
        question, answer, _, _ = scenes.vqa(scene, rng, kind=kind)
        category = KINDS[kind]
        others = rng.sample([text for text in WRONG_ANSWERS[category] if text != answer], rng.choice([1, 2, 3, 3, 3, 3]))
        options = others[:]
        options.insert(rng.randrange(len(options) + 1), answer)
        pictures[number] = png(scene)
        hint = f"The background is {scene.background}." if rng.random() < 0.3 else None
        for rotation in range(len(options)):
            turned = options[rotation:] + options[:rotation]
            row = {"index": number + rotation * CIRCULAR_STEP, "question": question, "hint": hint}
            row |= {letter: turned[place] if place < len(turned) else None for place, letter in enumerate("ABCD")}
            row |= {"answer": "ABCD"[turned.index(answer)], "category": category, "source": "pico", "l2-category": GROUPS[category],
                    "comment": None, "split": SPLIT}
            rows.append(row)
    write_tsv(folder / "mmbench_pico.tsv", rows, pictures)
    write_parquet(folder / "mmbench_pico.parquet", rows, pictures)
    return len(rows)


def write_tsv(path, rows, pictures):
    """VLMEvalKit's form: base64 images; a cell that is short is the index of the row that holds the image."""
    columns = [*rows[0], "image"]
    lines = ["\t".join(columns)]
    for row in rows:
        number = row["index"] % CIRCULAR_STEP
        image = base64.b64encode(pictures[number]).decode() if row["index"] == number else str(number)
        lines.append("\t".join("" if value is None else str(value) for value in [*row.values(), image]))
    path.write_text("\n".join(lines) + "\n")


def write_parquet(path, rows, pictures):
    """The form of a Hugging Face data set: images as a struct of bytes and path."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["image"] = [{"bytes": pictures[row["index"] % CIRCULAR_STEP], "path": f"{row['index'] % CIRCULAR_STEP}.png"} for row in rows]
    fields = [pyarrow.field(name, pyarrow.int64() if name == "index" else pyarrow.string()) for name in rows[0]]
    fields.append(pyarrow.field("image", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])))
    table = pyarrow.table(columns, schema=pyarrow.schema(fields))
    pyarrow.parquet.write_table(table, path, compression="snappy", row_group_size=50)


# ----------------------------------------------------------------------------------------------- captions


def told(scene, rng):
    """A caption in other words than the model's."""
    items = scene.items[:]
    rng.shuffle(items)
    names = [scenes.with_article(item.name) for item in items]
    listing = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    opening = rng.choice(["A picture of {}", "There is {} in the picture", "{} can be seen", "We see {}", "An image with {}"])
    text = opening.format(listing)
    text = text[0].upper() + text[1:] + rng.choice([f" on a {scene.background} background.", f" against {scene.background}.", "."])
    return text + (f" A sign says \"{scene.sign.word}\"." if scene.sign and rng.random() < 0.6 else "")


def make_captions(folder, pictures, file_name, rng):
    """Five captions an image in the form of `captions_val2014.json`; the first is worded as the model was taught."""
    images, annotations = [], []
    for image_id, scene in pictures.items():
        images.append({"id": image_id, "file_name": file_name(image_id), "width": scene.width, "height": scene.height, "license": 1})
        for text in [scenes.caption(scene)] + [told(scene, rng) for _ in range(4)]:
            annotations.append({"image_id": image_id, "id": len(annotations) + 1, "caption": text})
    info = {"description": "Pico scenes in the format of COCO captions.", "version": "1.0", "year": 2026}
    licenses = [{"id": 1, "name": "the licence of this repository", "url": ""}]
    value = {"info": info, "images": images, "licenses": licenses, "annotations": annotations}
    (folder / "captions_pico_val.json").write_text(json.dumps(value, separators=(",", ":")) + "\n")
    return len(annotations)


# -------------------------------------------------------------------------------------------------- NLVR2


def statement(rng):
    """A sentence on two images and whether it holds."""
    shape, color = rng.choice(scenes.SHAPES[:5]), rng.choice(list(scenes.COLORS)[:5])

    def has(scene):
        return any(item.shape == shape for item in scene.items)

    def number(scene):
        return sum(item.shape == shape for item in scene.items)

    kind = rng.randrange(4)
    if kind == 0:
        return f"There is a {shape} in both images.", lambda left, right: has(left) and has(right)
    if kind == 1:
        return f"At least one of the images has a {color} object.", lambda left, right: any(
            item.color == color for scene in (left, right) for item in scene.items)
    if kind == 2:
        total = rng.choice([1, 2, 2, 3])
        return (f"There {'is' if total == 1 else 'are'} exactly {scenes.count_noun(total, shape)} in the two images together.",
                lambda left, right: number(left) + number(right) == total)
    return (f"The left image has more {scenes.plural(shape)} than the right image.",
            lambda left, right: number(left) > number(right))


def make_nlvr2(folder, rng, sets):
    """Two sentences on each of four pairs of a set, each sentence true of two pairs; JSON Lines as NLVR2 is released."""
    (folder / "nlvr2").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(sets):
        pairs, found = [], []
        while len(found) < 2:
            scenes_drawn = held_out_scenes(rng, 8, lambda scene: len(scene.items) >= 2)
            pairs = [(scenes_drawn[2 * index], scenes_drawn[2 * index + 1]) for index in range(4)]
            found = []
            for _ in range(60):
                sentence, holds = statement(rng)
                labels = [holds(*pair) for pair in pairs]
                if sum(labels) == 2 and sentence not in [known for known, _ in found]:
                    found.append((sentence, labels))
            found = found[:2]
        for index, pair in enumerate(pairs):
            for side, scene in enumerate(pair):
                (folder / "nlvr2" / f"{SPLIT}-{number}-{index}-img{side}.png").write_bytes(png(scene))
        for which, (sentence, labels) in enumerate(found):
            for index, label in enumerate(labels):
                rows.append({
                    "identifier": f"{SPLIT}-{number}-{index}-{which}", "sentence": sentence, "label": str(label),
                    "left_url": "", "right_url": "", "writer": 0, "validation": {}, "synset": "pico", "query": "pico0", "extra_validations": {},
                })
    (folder / "nlvr2_pico.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)
