"""Writes the pico benchmark data in the official formats of VQAv2, POPE, TextVQA, RefCOCO, VQA-RAD, MME, MMBench, COCO captions and NLVR2,
and the files of CLIP_benchmark's kind.

All scenes are held out: training can never have drawn one of them (see `scenes.is_held_out`).
"""

import argparse
import collections
import json
import random
from pathlib import Path

from PIL import Image

import fine_print
import question_sets
import scans
import scenes

SEED = 2026
SYNONYMS = {
    "gray": ["grey"], "purple": ["violet"], "orange": ["dark orange"], "cyan": ["light blue", "turquoise"], "brown": ["dark brown"],
    "red": ["dark red"], "blue": ["dark blue"], "green": ["dark green"], "pink": ["light pink"], "yellow": ["gold"],
    "ring": ["donut"], "diamond": ["rhombus"], "cross": ["plus sign"], "circle": ["dot"], "square": ["box"], "star": ["a star"],
    "triangle": ["a triangle"], "large": ["big"], "small": ["little"], "center": ["middle"], "left": ["on left"], "right": ["on right"],
    "top left": ["upper left"], "top right": ["upper right"], "bottom left": ["lower left"], "bottom right": ["lower right"],
    "top": ["at top"], "bottom": ["at bottom"], "0": ["none", "zero"], "1": ["one"], "2": ["two"], "3": ["three"], "4": ["four"], "5": ["five"],
}


def annotators(answer, rng, mistaken):
    """Ten human-like answers: mostly one voice, sometimes synonyms, now and then somebody who is wrong."""
    answers = [answer] * 10
    roll = rng.random()
    if roll < 0.30 and answer in SYNONYMS:
        for index in rng.sample(range(10), rng.choice([1, 1, 2, 3, 4])):
            answers[index] = rng.choice(SYNONYMS[answer])
    elif roll < 0.45:
        for index in rng.sample(range(10), rng.choice([1, 1, 2, 3])):
            answers[index] = mistaken(rng)
    return answers


def mistaken_for(answer):
    """A function that draws a wrong answer of the same sort."""
    groups = [list(scenes.COLORS) + list(scenes.BACKGROUNDS), scenes.SHAPES, ["yes", "no"], ["small", "large"], [str(n) for n in range(6)]]
    group = next((group for group in groups if answer in group), ["top", "left", "right", "bottom", "center"])
    others = [other for other in group if other != answer]
    return lambda rng: rng.choice(others)


def sample_images(rng, count, wants_sign, seen):
    """Held-out scenes, all different; about `wants_sign` of them carry a sign."""
    found = []
    while len(found) < count:
        scene = scenes.sample_scene(rng, held_out=True)
        needs = len(found) < count * wants_sign
        if scene.signature() in seen or len(scene.items) < 2 or (scene.sign is None) == needs:
            continue
        seen.add(scene.signature())
        found.append(scene)
    rng.shuffle(found)
    return found


def distinct(make, count, tries=200):
    """Up to `count` different results of `make`, by their first element."""
    found = {}
    for _ in range(tries):
        result = make()
        if result and result[0] not in found:
            found[result[0]] = result
        if len(found) == count:
            break
    return list(found.values())


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_vqa(folder, pictures, rng, per_image):
    questions, annotations = [], []
    for image_id, scene in pictures.items():
        for index, (question, answer, question_type, answer_type) in enumerate(distinct(lambda: scenes.vqa(scene, rng), per_image)):
            question_id = image_id * 1000 + index
            answers = annotators(answer, rng, mistaken_for(answer))
            questions.append({"image_id": image_id, "question": question, "question_id": question_id})
            annotations.append({
                "question_type": question_type,
                "multiple_choice_answer": collections.Counter(answers).most_common(1)[0][0],
                "answers": [{"answer": given, "answer_confidence": rng.choice(["yes"] * 8 + ["maybe"]), "answer_id": number}
                            for number, given in enumerate(answers, 1)],
                "image_id": image_id, "answer_type": answer_type, "question_id": question_id,
            })
    info = {"description": "Pico scenes in the format of VQA v2.0: rendered shapes, generated questions.", "version": "1.0", "year": 2026}
    common = {"info": info, "task_type": "Open-Ended", "data_type": "pico", "data_subtype": "pico_val",
              "license": {"name": "the licence of this repository", "url": ""}}
    write_json(folder / "v2_OpenEnded_pico_val_questions.json", {**common, "questions": questions})
    write_json(folder / "v2_pico_val_annotations.json", {**common, "annotations": annotations})
    return len(questions)


def make_pope(folder, pictures, rng):
    """Per image one `yes` and one `no` question in each of the three files."""
    total = 0
    asked = collections.defaultdict(set)
    for mode in ("random", "popular", "adversarial"):
        rows = []
        for image_id, scene in pictures.items():
            for label in ("yes", "no"):
                fresh = distinct(lambda: scenes.presence(scene, rng, wanted=label, mode=mode), 8, tries=40)
                text = next((text for text, _ in fresh if text not in asked[image_id]), fresh[0][0])
                asked[image_id].add(text)
                rows.append({"question_id": len(rows) + 1, "image": file_name(image_id), "text": text, "label": label})
        write_lines(folder / "pope" / f"coco_pope_{mode}.json", rows)
        total += len(rows)
    return total


def misread(word):
    """Draws a reading of the sign with one wrong character."""
    def draw(rng):
        index = rng.randrange(len(word))
        return (word[:index] + rng.choice(scenes.SIGN_CHARACTERS) + word[index + 1:]).lower()
    return draw


def make_text_vqa(folder, pictures, rng, per_image, split="val", pixels=1):
    rows = []
    for image_id, scene in pictures.items():
        if not scene.sign:
            continue
        for question, answer in distinct(lambda: scenes.reading(scene, rng), per_image):
            answers = [given.lower() for given in annotators(answer, rng, misread(answer))]
            rows.append({
                "question": question, "image_id": f"pico_{split}_{image_id:012d}", "image_classes": ["Traffic sign"],
                "flickr_original_url": "", "flickr_300k_url": "", "image_width": scene.width * pixels,
                "image_height": scene.height * pixels,
                "answers": answers, "question_tokens": question.lower().rstrip("?").split(), "question_id": 34602 + len(rows),
                "set_name": "val", "ocr_tokens": [scene.sign.word],
            })
    write_json(folder / f"TextVQA_0.5.1_pico_{split}.json", {"dataset_type": "val", "dataset_name": "textvqa", "dataset_version": "0.5.1", "data": rows})
    return len(rows)


def make_refcoco(folder, pictures, rng, per_image):
    rows = []
    for image_id, scene in pictures.items():
        pairs = scenes.regions(scene)
        relational = [pair for pair in pairs if " of " in pair[0] or " on the " in pair[0]]
        plain = [pair for pair in pairs if pair not in relational]
        chosen = rng.sample(relational, min(1, len(relational)))
        chosen += rng.sample(plain, min(per_image - len(chosen), len(plain)))
        boxes = []
        for sentence, box in chosen:
            if box not in boxes:
                boxes.append(box)
            x1, y1, x2, y2 = box
            rows.append({"img_id": f"pico_ref_{image_id:012d}_{boxes.index(box)}", "sents": sentence,
                         "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)], "height": scene.height, "width": scene.width})
    write_json(folder / "refcoco_pico_val.json", rows)
    return len(rows)


def make_fine_print(folder, count):
    """TextVQA questions on signs that the tower can read only in tiles."""
    rng, pictures, seen = random.Random(SEED + 1), {}, set()
    while len(pictures) < count:
        scene = fine_print.sample(rng, held_out=True)
        if scene.sign and scene.signature() not in seen:
            seen.add(scene.signature())
            pictures[len(pictures) + 1] = scene
    for image_id, scene in pictures.items():
        image = Image.fromarray(fine_print.render(scene, noise=False))
        image.save(folder / "images" / f"pico_fine_{image_id:012d}.png", optimize=True)
    return make_text_vqa(folder, pictures, rng, 2, "fine", fine_print.SCALE)


def make_vqa_rad(folder, count, per_image):
    """Questions on grey scans, in the fields of VQA-RAD's public file."""
    rng, pictures, seen, rows = random.Random(SEED + 2), [], set(), []
    while len(pictures) < count:
        scan = scans.sample(rng, held_out=True)
        if scan.findings and scan.signature() not in seen:
            seen.add(scan.signature())
            pictures.append(scan)
    for number, scan in enumerate(pictures, 1):
        name = f"pico_scan_{number:05d}.jpg"
        Image.fromarray(scans.render(scan)).save(folder / "images" / name, quality=92)
        for question, answer, answer_type, question_type in scans.questions(scan, rng)[:per_image]:
            rows.append({
                "qid": str(len(rows)), "phrase_type": "test_freeform", "qid_linked_id": f"{len(rows):08x}", "image_case_url": "",
                "image_name": name, "image_organ": scans.ORGANS[scan.modality].upper(), "evaluation": "evaluated", "question": question,
                "question_rephrase": "NULL", "question_relation": "NULL", "question_frame": "NULL", "question_type": question_type,
                "answer": answer.capitalize() if answer_type == "CLOSED" else answer, "answer_type": answer_type,
            })
    write_json(folder / "VQA_RAD_pico_test.json", rows)
    return len(rows)


def make_zero_shot(folder, pictures, per_class):
    """One object an image to be named, classes and templates as CLIP_benchmark keeps them; and captions for retrieval."""
    rng = random.Random(SEED + 3)
    names = [f"{color} {shape}" for color in scenes.COLORS for shape in scenes.SHAPES]
    lines, seen = ["image,class_index"], set()
    for index, name in enumerate(names):
        color, shape = name.split(" ")
        found = 0
        while found < per_class:
            size = rng.choice([2, 3])
            item = scenes.Item(shape, color, rng.randrange(9 - size), rng.randrange(9 - size), size)
            scene = scenes.Scene(128, 128, rng.choice(list(scenes.BACKGROUNDS)), [item], None, rng.randrange(1 << 30))
            if not scenes.is_held_out(scene) or scene.signature() in seen:
                continue
            seen.add(scene.signature())
            found += 1
            image = f"pico_one_{len(lines):05d}.png"
            Image.fromarray(scenes.render(scene, noise=False)).save(folder / "images" / image, optimize=True)
            lines.append(f"{image},{index}")
    (folder / "zeroshot_labels.csv").write_text("\n".join(lines) + "\n")
    templates = ["an image of {c}", "a picture of {c}", "there is {c} in the picture", "a scene with {c}"]
    write_json(folder / "zeroshot_classnames.json", {"pico": [scenes.with_article(name) for name in names]})
    write_json(folder / "zeroshot_templates.json", {"pico": templates})
    captions = [{"image": file_name(image_id), "captions": [f"an image of {scenes.short_caption(scene, rng)}"]}
                for image_id, scene in pictures.items()]
    write_lines(folder / "retrieval_captions.jsonl", captions)
    return len(lines) - 1, len(captions)


def file_name(image_id):
    return f"pico_val_{image_id:012d}.png"


README = """# Pico benchmarks

Small data sets in the official formats, for tests and for the pico checkpoints in `exports/`. Images are rendered scenes (shapes, colours, a
sign with a code); questions and answers are generated with them, so they are correct by construction. No image is part of any training set.
`exports/pico/make_benchmarks.py` writes everything here, byte for byte, from one seed.

| file | format | rows | images |
| --- | --- | --- | --- |
| `v2_OpenEnded_pico_val_questions.json`, `v2_pico_val_annotations.json` | VQAv2 (ten answers each; some annotators use synonyms, some are wrong) | {vqa} | `images/pico_val_{{image_id:012d}}.png` |
| `pope/coco_pope_{{random,popular,adversarial}}.json` | POPE, JSON Lines, balanced | {pope} in all | `images/` + `image` |
| `TextVQA_0.5.1_pico_val.json` | TextVQA | {text} | `images/{{image_id}}.png` |
| `TextVQA_0.5.1_pico_fine.json` | TextVQA; signs in print too fine for 64 x 64 pixels | {fine} | `images/{{image_id}}.png` (60 of 256 or 192 pixels a side) |
| `VQA_RAD_pico_test.json` | VQA-RAD (closed and open questions on grey "scans", whose findings are rendered shapes) | {rad} | `images/` + `image_name` (80, grey JPEG) |
| `zeroshot_labels.csv`, `zeroshot_classnames.json`, `zeroshot_templates.json` | CLIP_benchmark's class names and templates; 56 classes | {zero} | `images/` + `image` (noiseless, one object each) |
| `retrieval_captions.jsonl` | images with captions | {captions} | `images/` + `image` |
| `refcoco_pico_val.json` | RefCOCO as in MiniGPT-4's evaluation files (one sentence a row, box x, y, width, height in pixels) | {ref} | `images/` + `img_id` without its last `_n` + `.jpg` (JPEG, quality 95) |
| `mme/CATEGORY/NAME.txt` | MME as released: two lines of question and answer an image, six of its categories | {mme} | beside the text (noiseless) |
| `mmbench_pico.tsv`, `mmbench_pico.parquet` | MMBench with circular rotations: VLMEvalKit's TSV and a Hugging Face parquet file of the same rows | {mmbench} | inside (60, noiseless) |
| `captions_pico_val.json` | COCO captions, five an image | {told} | `images/` + `file_name` |
| `nlvr2_pico.json` | NLVR2, JSON Lines: sentences on two images, four pairs to a sentence | {nlvr2} | `nlvr2/` + set and pair + `-img0.png`, `-img1.png` (noiseless) |

{count} images of scenes: 128 x 128, 128 x 96 or 96 x 128 pixels. In POPE, a `no` question of the adversarial file shares its colour or its shape with
something in the image; the popular file asks for the shapes and colours that are the most frequent ones in all scenes.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[2] / "benchmarks" / "pico")
    folder = parser.parse_args().output
    rng = random.Random(SEED)
    seen = set()
    plain = dict(enumerate(sample_images(rng, 125, 0.72, seen), 1))
    referred = dict(enumerate(sample_images(rng, 95, 0.5, seen), 1))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for image_id, scene in plain.items():
        Image.fromarray(scenes.render(scene)).save(folder / "images" / file_name(image_id), optimize=True)
    for image_id, scene in referred.items():
        Image.fromarray(scenes.render(scene)).save(folder / "images" / f"pico_ref_{image_id:012d}.jpg", quality=95)
    first = dict(list(plain.items())[:75])
    counts = {
        "vqa": make_vqa(folder, plain, rng, 5), "pope": make_pope(folder, first, rng),
        "text": make_text_vqa(folder, plain, rng, 2), "ref": make_refcoco(folder, referred, rng, 3),
        "fine": make_fine_print(folder, 60), "rad": make_vqa_rad(folder, 80, 5),
    }
    counts["mme"] = question_sets.make_mme(folder, random.Random(SEED + 4), 10)
    counts["mmbench"] = question_sets.make_mmbench(folder, random.Random(SEED + 5), 60)
    counts["told"] = question_sets.make_captions(folder, plain, file_name, random.Random(SEED + 6))
    counts["nlvr2"] = question_sets.make_nlvr2(folder, random.Random(SEED + 7), 12)
    counts["zero"], counts["captions"] = make_zero_shot(folder, plain, 2)
    (folder / "README.md").write_text(README.format(count=len(plain) + len(referred), **counts))
    print(counts, len(plain) + len(referred), "images")


if __name__ == "__main__":
    main()
