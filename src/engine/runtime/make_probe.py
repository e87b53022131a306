"""Writes `probe.onnx`: `y = -x` on one number, run by `doctor` to prove that an execution provider works."""

import pathlib

from onnx import TensorProto, helper

port = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", [port("x")], [port("y")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10, producer_name="llava-gauge")
pathlib.Path(__file__).with_name("probe.onnx").write_bytes(model.SerializeToString())
