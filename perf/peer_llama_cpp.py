"""llama.cpp as a peer: its build, the conversion of the language model to GGUF, and llama-bench.

Only the language model is measured: the vision tower is not converted. What is chosen for llama.cpp, and why:
perf/README.md.
"""

import json
import shutil
import sys
import tarfile
from pathlib import Path

import numpy
from safetensors import safe_open

from common import Failed, call, say

PINNED = "llama-cpp-python==0.3.36"
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0"]


def build(work: Path) -> Path:
    """Builds llama-bench and the library for this processor, once (about 5 minutes on two cores). Returns its folder.

    The source is the one that llama-cpp-python's source distribution carries, because that can be had from the package
    index by a pinned name.
    """
    folder = work / "llama.cpp"
    binaries = folder / "build" / "bin"
    if (binaries / "llama-bench").exists():
        return binaries
    for tool in ["cmake", "ninja"]:
        if shutil.which(tool) is None:
            raise Failed(f"llama.cpp is not built: {tool} is not on PATH (`pip install cmake ninja`)")
    sources = next(folder.glob("llama_cpp_python-*/vendor/llama.cpp"), None)
    if sources is None:
        say(f"fetching the source of {PINNED}")
        folder.mkdir(parents=True, exist_ok=True)
        call([
            sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python", "--no-build-isolation",
            "-d", folder, PINNED,
        ])
        archive = next(folder.glob("llama_cpp_python-*.tar.gz"))
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        sources = next(folder.glob("llama_cpp_python-*/vendor/llama.cpp"))
    say("building llama.cpp for this processor")
    call([
        "cmake", "-S", sources, "-B", folder / "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON",
        "-DBUILD_SHARED_LIBS=ON", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF",
        "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_OPENSSL=OFF",
    ])
    call(["cmake", "--build", folder / "build", "--target", "llama-bench"])
    return binaries


def convert(work: Path, text: Path, kind: str) -> Path:
    """Writes the language model as GGUF, once for each type. Matrices get the type; norms stay F32, as llama.cpp wants them."""
    import gguf

    file = work / "gguf" / f"{text.name}-{kind}.gguf"
    if file.exists():
        return file
    say(f"writing {file.name}")
    file.parent.mkdir(parents=True, exist_ok=True)
    config = json.loads((text / "config.json").read_text())
    heads, key_value_heads = config["num_attention_heads"], config["num_key_value_heads"]
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise Failed(f"{text}/config.json: rope_type is {rope['rope_type']}; only the default is converted")
    unfinished = file.with_suffix(".new")
    writer = gguf.GGUFWriter(unfinished, "llama")
    writer.add_name(text.name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_value_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"] if config.get("head_dim") else config["hidden_size"] // heads)
    writer.add_rope_freq_base(rope.get("rope_theta", config.get("rope_theta", 10000.0)))
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type({"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "BF16": 32}[kind])
    # No vocabulary: token ids in, logits out.
    writer.add_tokenizer_model("none")
    quantised = gguf.GGMLQuantizationType[kind]
    with safe_open(text / "model.safetensors", "numpy") as tensors:
        for name in tensors.keys():
            tensor = tensors.get_tensor(name).astype(numpy.float32)
            renamed = gguf_name(name)
            if renamed.endswith("attn_q.weight"):
                tensor = interleave(tensor, heads)
            if renamed.endswith("attn_k.weight"):
                tensor = interleave(tensor, key_value_heads)
            if tensor.ndim == 1 or kind == "F32":
                writer.add_tensor(renamed, tensor)
            else:
                block = gguf.GGML_QUANT_SIZES[quantised][0]
                if tensor.shape[1] % block:
                    raise Failed(f"{name} has {tensor.shape[1]} columns; {kind} needs a multiple of {block}")
                writer.add_tensor(renamed, gguf.quants.quantize(tensor, quantised), raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(file)
    return file


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor of LlamaForCausalLM."""
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    if name in whole:
        return whole[name]
    parts = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }
    _, _, layer, rest = name.split(".", 3)
    part = parts.get(rest.removesuffix(".weight"))
    if part is None or not rest.endswith(".weight"):
        raise Failed(f"{name}: a tensor that this conversion does not know")
    return f"blk.{layer}.{part}.weight"


def interleave(weight: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Rows of a query or key projection from halves, as transformers turns them, to pairs, as llama.cpp does."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).copy()


def language_model(binaries: Path, file: Path, threads: int, attention: dict, prompt: int, depth: int, steps: int,
                   repetitions: int) -> dict:
    """llama-bench. `attention` is filled in the first round, which measures prefill and decode with and without flash
    attention; that round and all later ones count what was faster there, so that llama.cpp has its best of both."""
    def fastest(name: str, tokens: int, test: list) -> list[float]:
        command = [
            binaries / "llama-bench", "-m", file, "-t", threads, "-ngl", 0, "-b", 2048, "-ub", max(1024, prompt), "-o", "json",
            "-r", repetitions, "-fa", attention.get(name, "0,1"), *test,
        ]
        best = max(json.loads(call(command)[0]), key=lambda result: result["avg_ts"])
        attention[name] = str(best["flash_attn"]).lower().replace("true", "1").replace("false", "0")
        return [nanoseconds / 1e9 / tokens for nanoseconds in best["samples_ns"]]

    return {
        "prefill_tokens": prompt,
        "prefill_seconds": fastest("prefill", 1, ["-p", prompt, "-n", 0]),
        "decode_seconds": fastest("decode", steps, ["-p", 0, "-n", steps, "-d", depth]),
        "flash_attention": dict(attention),
    }


def greedy(binaries: Path, file: Path, prompt: list[int], count: int, threads: int) -> list[int]:
    """What a GGUF file goes on with, through the Python bindings of the same source. Run in a process of its own."""
    package = next(binaries.parent.parent.glob("llama_cpp_python-*"), None)
    if package is None:
        raise Failed(f"{binaries}: the Python bindings of its source are not beside it, so the conversion cannot be checked")
    command = [sys.executable, __file__, json.dumps({
        "bindings": str(package), "file": str(file), "prompt": prompt, "count": count, "threads": threads,
    })]
    return json.loads(call(command, {"LLAMA_CPP_LIB_PATH": str(binaries)})[0].splitlines()[-1])


def main() -> int:
    """Greedy tokens with the key-value cache in F32, so that they can be held against transformers' in fp32."""
    settings = json.loads(sys.argv[1])
    sys.path.insert(0, settings["bindings"])
    from llama_cpp import llama_cpp as bindings

    bindings.llama_backend_init()
    model_settings = bindings.llama_model_default_params()
    model = bindings.llama_model_load_from_file(settings["file"].encode(), model_settings)
    context_settings = bindings.llama_context_default_params()
    context_settings.n_ctx, context_settings.n_batch = 512, 512
    context_settings.n_threads = context_settings.n_threads_batch = settings["threads"]
    context_settings.type_k = context_settings.type_v = 0  # GGML_TYPE_F32
    context = bindings.llama_init_from_model(model, context_settings)
    vocabulary = bindings.llama_vocab_n_tokens(bindings.llama_model_get_vocab(model))
    ids, tokens = settings["prompt"], []
    for _ in range(settings["count"]):
        buffer = (bindings.llama_token * len(ids))(*ids)
        if bindings.llama_decode(context, bindings.llama_batch_get_one(buffer, len(ids))) != 0:
            raise Failed("llama_decode failed")
        logits = numpy.ctypeslib.as_array(bindings.llama_get_logits_ith(context, -1), shape=(vocabulary,))
        tokens.append(int(logits.argmax()))
        ids = [tokens[-1]]
    print(json.dumps(tokens))
    return 0


if __name__ == "__main__":
    sys.exit(main())
