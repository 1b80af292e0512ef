"""Models as ONNX files, for services without torch."""

from graphseq.serving.onnx.export import export_onnx
from graphseq.serving.onnx.model import OnnxModel

__all__ = ["OnnxModel", "export_onnx"]
