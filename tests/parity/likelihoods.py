"""Records what transformers says of given answers: `tests/fixtures/likelihood/transformers.json`, which `tests/likelihood.rs`
compares the program with.

Each shipped checkpoint is read by the reference classes of `exports/pico/models.py` (stock transformers, fp32, eager attention).
A candidate is tokenised as the text that follows the prompt and a space; prompt and candidate run as one plain sequence without
a cache, and the numbers are the log-softmax at the candidate's tokens. Run from the project's root:

    python3 tests/parity/likelihoods.py
"""

import json
import sys
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "exports/pico"))
import models  # noqa: E402

PACKAGES = ["pico-llava-1.5", "pico-llava-1.5-stage1", "pico-llava-v1", "pico-llava-next", "pico-llava-med"]
IMAGES = ["pico_fine_000000000003.png", "pico_one_00007.png"]
LETTER = "\nAnswer with the option's letter from the given choices directly."
WORD = "\nAnswer the question using a single word or phrase."
# Question, candidates, and whether the end of the answer is a part of it.
QUESTIONS = [
    ("Is there a red circle in the image?" + WORD, ["Yes", "No", "yes", "no"], False),
    ("What color is the background?\nA. red\nB. blue\nC. white\nD. green" + LETTER, ["A", "B", "C", "D"], False),
    ("What color is the background?", ["red", "blue", "white", "a kind of dark green"], True),
    ("Describe the image.", ["There is a red circle above a blue square.", "two", "Nothing, 3.5 % of it — naïve!"], False),
]
END = 2


@torch.no_grad()
def log_probabilities(llava, context, candidate, image_embeds):
    ids = torch.tensor(context + candidate)
    values = models.embeds(llava, ids, image_embeds)[None]
    hidden = llava.language_model(inputs_embeds=values, use_cache=False).last_hidden_state[0]
    # The row before a token predicts it.
    logits = llava.head(hidden[len(context) - 1 : len(ids) - 1]).double()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(candidate)[:, None])[:, 0].tolist()


def main():
    torch.set_num_threads(1)
    packages = {}
    for package in PACKAGES:
        llava = models.load(ROOT / "exports" / package)
        cases = []
        for name in IMAGES:
            image = models.open_image(ROOT / "benchmarks/pico/images" / name)
            with torch.no_grad():
                image_embeds = llava.image_embeds(llava.features(llava.pixel_values(image)), image)
            for question, candidates, end in QUESTIONS:
                prompt = llava.render(question)
                context = llava.input_ids(prompt, image_embeds.shape[1]).tolist()
                answers = []
                for text in candidates:
                    whole = llava.input_ids(f"{prompt} {text}", image_embeds.shape[1]).tolist()
                    assert whole[: len(context)] == context, "the prompt is tokenised alike with an answer"
                    ids = whole[len(context) :] + [END] * end
                    numbers = log_probabilities(llava, context, ids, image_embeds)
                    numbers = [round(number, 6) for number in numbers]
                    answers.append({"text": text, "token_ids": ids, "log_probabilities": numbers})
                cases.append({"image": name, "question": question, "prompt": prompt, "end_of_sequence": end, "candidates": answers})
        packages[package] = cases
        print(package, len(cases), "questions")
    source = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, fp32, eager"
    lines = [f'{{"reference": {json.dumps(source)}, "packages": {{']
    for index, (package, cases) in enumerate(packages.items()):
        lines.append(f"{json.dumps(package)}: [")
        lines.append(",\n".join(json.dumps(case, ensure_ascii=False) for case in cases))
        lines.append("]," if index + 1 < len(packages) else "]")
    lines.append("}}")
    target = ROOT / "tests/fixtures/likelihood/transformers.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(lines) + "\n")
    json.loads(target.read_text())


if __name__ == "__main__":
    main()
