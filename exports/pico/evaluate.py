"""Quick evaluation of a checkpoint on the pico benchmarks with transformers: greedy, fp32, official prompts and metrics."""

import argparse
import json
import re
from pathlib import Path

import torch
from PIL import Image

import models
import scenes

NUMBERS = {word: str(number) for number, word in enumerate(["zero", "one", "two", "three", "four", "five", "six"])} | {"none": "0"}


def normalise(text):
    """The part of the official VQA normalisation that these short answers need."""
    words = text.lower().replace("\n", " ").strip().rstrip(".").split()
    return " ".join(NUMBERS.get(word, word) for word in words if word not in ("a", "an", "the"))


def soft_score(prediction, answers, always):
    """Mean over ten annotators of min(1, matches among the other nine / 3)."""
    if always or len(set(answers)) > 1:
        prediction, answers = normalise(prediction), [normalise(answer) for answer in answers]
    return sum(min(1, sum(answers[j] == prediction for j in range(10) if j != i) / 3) for i in range(10)) / 10


def read_tasks(folder):
    """{task: [(image file, question with suffix, truth)]}"""
    tasks = {"vqa": [], "pope_random": [], "pope_popular": [], "pope_adversarial": [], "textvqa": [], "fine_print": [], "refcoco": [],
             "vqa_rad": []}
    truth = {row["question_id"]: [answer["answer"] for answer in row["answers"]]
             for row in json.loads((folder / "v2_pico_val_annotations.json").read_text())["annotations"]}
    for row in json.loads((folder / "v2_OpenEnded_pico_val_questions.json").read_text())["questions"]:
        tasks["vqa"].append((f"pico_val_{row['image_id']:012d}.png", row["question"] + scenes.SHORT_ANSWER, truth[row["question_id"]]))
    for mode in ("random", "popular", "adversarial"):
        for line in (folder / "pope" / f"coco_pope_{mode}.json").read_text().splitlines():
            row = json.loads(line)
            tasks[f"pope_{mode}"].append((row["image"], row["text"] + scenes.SHORT_ANSWER, row["label"]))
    for row in json.loads((folder / "TextVQA_0.5.1_pico_val.json").read_text())["data"]:
        tasks["textvqa"].append((row["image_id"] + ".png", row["question"] + scenes.SHORT_ANSWER, row["answers"]))
    for row in json.loads((folder / "TextVQA_0.5.1_pico_fine.json").read_text())["data"]:
        tasks["fine_print"].append((row["image_id"] + ".png", row["question"] + scenes.SHORT_ANSWER, row["answers"]))
    for row in json.loads((folder / "VQA_RAD_pico_test.json").read_text()):
        tasks["vqa_rad"].append((row["image_name"], row["question"], row["answer"]))
    for row in json.loads((folder / "refcoco_pico_val.json").read_text()):
        tasks["refcoco"].append((row["img_id"].rsplit("_", 1)[0] + ".jpg", scenes.GROUNDING + row["sents"], row))
    return tasks


def overlap(text, row):
    """Intersection over union of a predicted box on the padded square and the true box in pixels."""
    found = re.search(r"\[\s*(\d*\.?\d+),\s*(\d*\.?\d+),\s*(\d*\.?\d+),\s*(\d*\.?\d+)\s*\]", text)
    if not found:
        return 0.0
    side = max(row["width"], row["height"])
    off_x, off_y = (side - row["width"]) // 2, (side - row["height"]) // 2
    x1, y1, x2, y2 = (float(value) * side for value in found.groups())
    x1, x2, y1, y2 = x1 - off_x, x2 - off_x, y1 - off_y, y2 - off_y
    left, top, width, height = row["bbox"]
    across = max(0, min(x2, left + width) - max(x1, left))
    down = max(0, min(y2, top + height) - max(y1, top))
    union = max(0, x2 - x1) * max(0, y2 - y1) + width * height - across * down
    return across * down / union if union > 0 else 0.0


def score(task, prediction, truth):
    if task == "vqa":
        return soft_score(prediction, truth, always=False)
    if task == "vqa_rad":
        return float(prediction.strip().lower().rstrip(".") == truth.lower())
    if task in ("textvqa", "fine_print"):
        return soft_score(prediction, truth, always=True)
    if task.startswith("pope"):
        words = prediction.split(".")[0].replace(",", "").split(" ")
        return float(("no" if {"No", "not", "no"} & set(words) else "yes") == truth)
    return float(overlap(prediction, truth) >= 0.5)


@torch.no_grad()
def evaluate(checkpoint, folder, batch=50):
    """{task: (mean score, n)}, and the predictions."""
    llava = models.load(checkpoint)
    cache, results, predictions = {}, {}, []
    for task, rows in read_tasks(folder).items():
        order = sorted(rows, key=lambda row: len(row[1]))
        total = 0.0
        for start in range(0, len(order), batch):
            part = order[start:start + batch]
            for name in {row[0] for row in part} - set(cache):
                image = Image.open(folder / "images" / name)
                cache[name] = llava.image_embeds(llava.features(llava.pixel_values(image)), image)[0]
            texts = models.generate(llava, [(cache[name], llava.render(question)) for name, question, _ in part])
            for (name, question, truth), text in zip(part, texts):
                value = score(task, text, truth)
                total += value
                predictions.append({"task": task, "image": name, "question": question, "prediction": text, "score": value})
        results[task] = (total / len(rows), len(rows))
    pope = [results[f"pope_{mode}"][0] for mode in ("random", "popular", "adversarial")]
    results["pope"] = (sum(pope) / 3, 3 * results["pope_random"][1])
    return results, predictions


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "benchmarks" / "pico")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--predictions", type=Path, help="write every answer to this JSON Lines file")
    parser.add_argument("--log", type=Path, help="append the result to this training_log.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results, predictions = evaluate(arguments.checkpoint, arguments.data)
    for task, (value, count) in results.items():
        print(f"{task:18} {100 * value:6.2f} %  n = {count}")
    if arguments.predictions:
        arguments.predictions.write_text("".join(json.dumps(row) + "\n" for row in predictions))
    if arguments.log:
        with open(arguments.log, "a") as file:
            rounded = {task: {"score": round(value, 4), "n": count} for task, (value, count) in results.items()}
            file.write(json.dumps({"stage": "benchmark", "checkpoint": arguments.checkpoint.name, **rounded}) + "\n")


if __name__ == "__main__":
    main()
