"""onnxruntime-genai as a peer: its own builder makes the language model's graph, its own loop runs it.

Only the language model is measured: its builder has no LLaVA. What is chosen for it, and why: perf/README.md.
"""

import json
import shutil
import sys
import time
from pathlib import Path

from common import Failed, call, say

# Name -> precision of its builder, and the builder's extra options. The head runs for the last token only, as ours does.
BUILDS = {
    "fp32": ("fp32", ["prune_lm_head=true"]),
    "int8 b128": ("int8", ["prune_lm_head=true", "block_size=128", "accuracy_level=4"]),
    "int4 b32": ("int4", ["prune_lm_head=true", "block_size=32", "accuracy_level=4"]),
    "int4 b128": ("int4", ["prune_lm_head=true", "block_size=128", "accuracy_level=4"]),
}


def build(work: Path, text: Path, name: str, threads: int) -> Path:
    """Runs the builder, once for each precision. Returns the folder with genai_config.json."""
    folder = work / "genai" / f"{text.name}-{name.replace(' ', '-')}"
    if not (folder / "genai_config.json").exists():
        try:
            import onnxruntime_genai
        except ImportError as error:
            raise Failed(f"onnxruntime-genai is not installed: {error}") from error
        say(f"onnxruntime-genai's builder makes {name}")
        precision, options = BUILDS[name]
        unfinished = folder.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        # The builder imports its neighbours by bare names, so its folder must lead the path.
        script = Path(onnxruntime_genai.__file__).parent / "models" / "builder.py"
        call([
            sys.executable, script, "-i", text, "-o", unfinished, "-p", precision, "-e", "cpu", "-c", work / "genai" / "cache",
            "--extra_options", *options, "hf_token=false",
        ])
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    set_threads(folder, threads)
    return folder


def set_threads(folder: Path, threads: int) -> None:
    """Its default leaves the choice to the runtime under `intra_op_num_threads` unset, which has been seen to mean one thread
    on two cores; a comparison sets it to the same as everybody's."""
    file = folder / "genai_config.json"
    config = json.loads(file.read_text())
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    file.write_text(json.dumps(config, indent=4))


def language_model(folder: Path, prompt: int, depth: int, steps: int, repetitions: int) -> dict:
    """Prefill of `prompt` tokens and decode steps from `depth` on, in seconds."""
    import numpy
    import onnxruntime_genai

    model = onnxruntime_genai.Model(str(folder))
    vocabulary = json.loads((folder / "genai_config.json").read_text())["model"]["vocab_size"]
    ids = numpy.random.default_rng(0).integers(3, vocabulary - 64, depth).astype(numpy.int32)
    prefill = []
    for repetition in range(repetitions + 1):
        generator = new_generator(onnxruntime_genai, model, depth + steps + 8, prompt + 1)
        started = time.perf_counter()
        generator.append_tokens(ids[:prompt])
        if repetition > 0:
            prefill.append(time.perf_counter() - started)
        del generator
    generator = new_generator(onnxruntime_genai, model, depth + steps + 8, depth + steps + 4)
    generator.append_tokens(ids)
    generator.generate_next_token()  # samples from the prompt's logits; the model runs from the next call on
    generator.generate_next_token()
    decode = []
    for _ in range(steps):
        started = time.perf_counter()
        generator.generate_next_token()
        decode.append(time.perf_counter() - started)
    return {"prefill_tokens": prompt, "prefill_seconds": prefill, "decode_seconds": decode}


def new_generator(genai, model, longest: int, shortest: int):
    """Greedy, with the cache as one shared buffer of the needed length (its default where the length is known)."""
    parameters = genai.GeneratorParams(model)
    # min_length forbids the end of the sequence before it, so that every run has the same length.
    parameters.set_search_options(do_sample=False, max_length=longest, min_length=shortest, batch_size=1)
    return genai.Generator(model, parameters)


def greedy(folder: Path, prompt: list[int], count: int) -> list[int]:
    """What a build goes on with."""
    import numpy
    import onnxruntime_genai

    generator = new_generator(onnxruntime_genai, onnxruntime_genai.Model(str(folder)), len(prompt) + count + 4, 0)
    generator.append_tokens(numpy.array(prompt, numpy.int32))
    for _ in range(count):
        generator.generate_next_token()
    return [int(token) for token in generator.get_sequence(0)[len(prompt):]]


def main() -> int:
    """Measures in a process of its own, so that every peer of a round starts afresh."""
    settings = json.loads(sys.argv[1])
    folder = Path(settings.pop("folder"))
    print(json.dumps(greedy(folder, **settings) if "count" in settings else language_model(folder, **settings)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
