#!/usr/bin/env python3
"""Measures what this machine can do at all: dense products by torch and by ONNX Runtime at the shapes of M1, and memory
bandwidth. A check on `llava-gauge bench --roofline`, made with other tools.

    python3 perf/limits.py
"""

import sys
import time

import numpy
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

import common
from common import Failed, load_average, machine, say, store, table

# Rows × inputs × outputs: vision attention and feed-forward, prefill, packed questions, six and one rows of decoding, head.
SHAPES = [(577, 1024, 1024), (577, 1024, 4096), (577, 4096, 1024), (636, 896, 4864), (636, 4864, 896), (150, 896, 4864),
          (6, 896, 4864), (1, 896, 4864), (1, 896, 32064)]
SMOKE_SHAPES = [(7, 64, 64), (1, 64, 256)]


def fastest(run, seconds: float) -> float:
    """The least seconds of a call, over calls that together take about `seconds`: a limit is what nothing disturbed."""
    run()
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begun)
    return best


def torch_product(rows: int, inputs: int, outputs: int, kind: torch.dtype):
    activation, weight = torch.randn(rows, inputs).to(kind), torch.randn(outputs, inputs).to(kind)
    return lambda: torch.nn.functional.linear(activation, weight)


def runtime_product(rows: int, inputs: int, outputs: int, scheme: str, threads: int):
    """One product in ONNX Runtime with the nodes that llava-gauge's graphs have for it."""
    random = numpy.random.default_rng(0)
    nodes, initialisers = [], []

    def constant(name: str, values: numpy.ndarray) -> str:
        initialisers.append(numpy_helper.from_array(values, name))
        return name

    weight = random.standard_normal((outputs, inputs), dtype=numpy.float32)
    if scheme == "fp32":
        nodes.append(helper.make_node("Gemm", ["x", constant("w", weight)], ["y"], transB=1))
    elif scheme == "int8":
        # One scale for each row; the integer product is what the limit is about.
        whole = random.integers(0, 256, (inputs, outputs), dtype=numpy.uint8)
        nodes += [
            helper.make_node("Abs", ["x"], ["absolute"]),
            helper.make_node("ReduceMax", ["absolute", constant("axis", numpy.array([1]))], ["largest"], keepdims=0),
            helper.make_node("Mul", ["largest", constant("part", numpy.float32(1 / 127))], ["scale"]),
            helper.make_node("QuantizeLinear", ["x", "scale", "zeros"], ["q"], axis=0),
            helper.make_node("MatMulInteger", ["q", constant("w", whole), "zero", constant("wz", numpy.uint8(128))], ["i"]),
            helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
        ]
        constant("zeros", numpy.full(rows, 128, numpy.uint8))
        constant("zero", numpy.uint8(128))
    else:
        bits, block = {"int8-weights": (8, 128), "int4": (4, 32)}[scheme]
        blocks = inputs // block
        nodes.append(helper.make_node(
            "MatMulNBits", ["x", constant("w", random.integers(0, 256, (outputs, blocks, block * bits // 8), dtype=numpy.uint8)),
                            constant("s", numpy.ones(outputs * blocks, numpy.float32))], ["y"], domain="com.microsoft",
            K=inputs, N=outputs, bits=bits, block_size=block, accuracy_level=4))
    graph = helper.make_graph(
        nodes, scheme, [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, outputs])], initialisers)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = {"x": random.standard_normal((rows, inputs), dtype=numpy.float32)}
    return lambda: session.run(["y"], values)


def products(shapes: list, threads: int, seconds: float) -> dict:
    """Billions of operations a second by shape and by way; None where a way has no kernel for the shape."""
    ways = {
        "torch fp32": lambda *shape: torch_product(*shape, torch.float32),
        "torch bf16": lambda *shape: torch_product(*shape, torch.bfloat16),
        **{f"ONNX Runtime {scheme}": lambda *shape, scheme=scheme: runtime_product(*shape, scheme, threads)
           for scheme in ["fp32", "int8", "int8-weights", "int4"]},
    }
    figures = {}
    for shape in shapes:
        rows, inputs, outputs = shape
        row = {}
        for way, make in ways.items():
            try:
                row[way] = 2 * rows * inputs * outputs / fastest(make(*shape), seconds) / 1e9
            except Exception as failure:  # a missing kernel has a different exception in each library
                say(f"{way} at {shape}: {type(failure).__name__}: {str(failure).splitlines()[0]}")
                row[way] = None
        figures["x".join(map(str, shape))] = row
        say(f"{shape}: " + ", ".join(f"{way} {value:.0f}" for way, value in row.items() if value))
    return figures


def bandwidth(threads: int, gibibytes: float, seconds: float) -> dict:
    """GB/s of reading much more than any cache holds: by a sum in torch, and by ONNX Runtime as one row times a large matrix."""
    floats = int(gibibytes * 2**30 / 4)
    values = torch.ones(floats)
    copy = torch.empty_like(values)
    columns = 4096
    read = runtime_product(1, columns, floats // columns, "fp32", threads)
    size = floats * 4 / 1e9
    return {
        "torch sum": size / fastest(lambda: values.sum(), seconds),
        "torch copy, read and written": 2 * size / fastest(lambda: copy.copy_(values), seconds),
        "ONNX Runtime, 1 row": size / fastest(read, seconds),
    }


def report(figures: dict) -> str:
    ways = list(next(iter(figures["products"].values())))
    rows = [[shape, *["-" if row[way] is None else f"{row[way]:.0f}" for way in ways]]
            for shape, row in figures["products"].items()]
    reads = [[way, f"{value:.1f}"] for way, value in figures["bandwidth"].items()]
    loads = figures["load_average"]
    return "### limits of the machine\n\n" + "\n\n".join([
        table(["rows x inputs x outputs, G(FL)OP/s", *ways], rows), table(["memory", "GB/s"], reads),
        f"* load average {loads['before']:.1f} before, {loads['after']:.1f} after",
    ])


def main() -> int:
    parser = common.parser(__doc__, program=False)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    before = load_average()
    shapes, seconds, gibibytes = (SMOKE_SHAPES, 0.02, 0.01) if arguments.smoke else (SHAPES, 0.3, 1.0)
    figures = {
        "machine": machine(), "threads": arguments.threads,
        "products": products(shapes, arguments.threads, seconds),
        "bandwidth": bandwidth(arguments.threads, gibibytes, seconds * 4),
    }
    figures["load_average"] = {"before": before, "after": load_average()}
    store(arguments.work, "limits", figures)
    print(report(figures))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
