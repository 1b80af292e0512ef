"""A model as an ONNX file: clicks go in, the best items and their scores come out."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from graphseq.arguments import check_choice, whole
from graphseq.data.sessions.features import Feature
from graphseq.evaluation.inputs import require_model
from graphseq.models.base import SessionModel
from graphseq.ragged import ptr_of
from graphseq.serving.extras import need
from graphseq.serving.item_vectors import model_version
from graphseq.serving.onnx.families import REFUSED, open_form
from graphseq.serving.onnx.graphs import newest, open_graphs
from graphseq.serving.onnx.operators import translations
from graphseq.serving.onnx.tracing import OpenSizes

NOISY = ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")
"""Loggers of the exporter."""

EXAMPLE = [[2, 0, 1, 0, 1], [1], [0, 0, 2], [2, 1]]
"""Sessions with which a model is walked through, as numbers of items; all sizes stay open."""


def export_onnx(
    model: SessionModel,
    path: str | PathLike[str],
    *,
    k: int = 20,
    precision: Literal["float32", "int8"] = "float32",
) -> Path:
    """Writes a model to one ONNX file that takes clicks and gives the ``k`` best items.

    The file builds session graphs itself. Inputs: ``items``, the codes of all clicks, int64
    [num_clicks], session after session, and ``ptr``, the first click of each session and the end,
    int64 [num_sessions + 1]; and where the model reads them, ``user``, int64 [num_sessions], and
    fields of clicks, ``click_time`` and ``click_<feature>``, [num_clicks]. Outputs: ``top_items``,
    codes, int64 [num_sessions, k], and ``scores``, float32 [num_sessions, k], best first. Any
    number of sessions of any length fits; no session may be empty.

    Args:
        model: A model that learns by gradients.
        path: The file to write.
        k: Items per session; all of them where there are fewer.
        precision: ``"float32"``: equal to torch but for rounding. ``"int8"``: weights have eight
            bits, and what they are multiplied by is scaled to eight at run time.

    Returns:
        The path.

    Raises:
        ValueError: If a library is missing, or the family cannot be exported; it says why.
    """
    require_model(model)
    k = min(whole("k", k), model.num_items)
    check_choice("precision", precision, ("float32", "int8"))
    need("onnx", "export_onnx", extra="onnx")
    check_exportable(model)
    table = translations()
    path = Path(path)
    whole_model = FromClicks(model, k)
    example = whole_model.example()
    with torch.no_grad(), _quiet():
        try:
            exported = torch.export.export(
                whole_model,
                (example,),
                dynamic_shapes=({name: {0: torch.export.Dim.DYNAMIC} for name in example},),
                strict=False,
            )
            program = torch.onnx.export(
                exported,
                dynamo=True,
                input_names=list(example),
                output_names=["top_items", "scores"],
                custom_translation_table=table,
                verbose=False,
            )
        except Exception as error:  # torch has many kinds; a model of your own may do anything
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"{type(model).__name__} cannot be exported to ONNX: {reason} All sizes must "
                "follow from those of the inputs, and every operation must be one of torch's."
            ) from error
    assert program is not None
    program.model.metadata_props.update(
        family=type(model).__name__,
        model_version=model_version(model),
        num_items=str(model.num_items),
        k=str(k),
    )
    if precision == "float32":
        program.save(str(path))
    else:
        _save_quantized(program, path)
    return path


def _save_quantized(program: Any, path: Path) -> None:
    """Writes a model with weights of eight bits."""
    quantization = need("onnxruntime.quantization", "precision='int8'", extra="onnx")
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / "float32.onnx"
        program.save(str(exact))
        quantization.quantize_dynamic(
            exact,
            path,
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
        )


class FromClicks(torch.nn.Module):
    """A model from clicks to the best items.

    Args:
        model: The model, which is copied.
        k: Items per session.
    """

    def __init__(self, model: SessionModel, k: int) -> None:
        super().__init__()
        self.model = open_form(model)
        self.k = k

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The best items of every session and their scores, [num_sessions, k] each."""
        items, ptr = inputs["items"], inputs["ptr"]
        fields = {name: inputs[name] for name in inputs if name not in ("items", "ptr")}
        most = self.model.max_length
        with OpenSizes(most):
            if most is not None:
                items, ptr, fields = newest(items, ptr, fields, most)
            found = self.model.score(open_graphs(items, ptr, fields)).topk(self.k)
        return found.indices, found.values

    def example(self) -> dict[str, Tensor]:
        """Inputs with which the model is walked through."""
        lengths = torch.tensor([len(session) for session in EXAMPLE])
        items = torch.tensor([item for session in EXAMPLE for item in session])
        items = items.clamp(max=self.model.num_items - 1)
        inputs = {"items": items, "ptr": ptr_of(lengths)}
        return inputs | _fields(self.model, len(items), len(lengths))


def _fields(model: SessionModel, num_clicks: int, num_sessions: int) -> dict[str, Tensor]:
    """Further inputs of a model: zeros."""
    inner = getattr(model, "inner", model)
    fields: dict[str, Tensor] = {}
    timed = getattr(inner, "timed", False) or (
        getattr(inner, "time", "none") != "none" and getattr(inner, "knows_time", 0) > 0
    )
    decay = getattr(inner, "decay", None)
    if timed or (decay is not None and decay.unit == "seconds"):
        fields["click_time"] = torch.arange(num_clicks, dtype=torch.float64)
    for feature in getattr(getattr(inner, "click_embedding", None), "features", ()):
        fields[f"click_{feature.name}"] = _values(feature, num_clicks)
    users = getattr(model, "user_embedding", None)
    if users is not None and users.num_embeddings:
        fields["user"] = torch.zeros(num_sessions, dtype=torch.long)
    return fields


def _values(feature: Feature, num_clicks: int) -> Tensor:
    if feature.kind == "categorical":
        return torch.zeros(num_clicks, dtype=torch.long)
    if feature.kind == "numeric":
        return torch.zeros(num_clicks, dtype=torch.float64)
    return torch.zeros(num_clicks, feature.num_codes)


def check_exportable(model: SessionModel) -> None:
    """Refuses a model that no ONNX file can hold.

    Raises:
        ValueError: If it is one; the reason is named.
    """
    name = type(model).__name__
    if model.samples == "counts":
        raise ValueError(
            f"{name} counts clicks and looks them up in lists of any length: it has no network "
            "that ONNX could hold. Distill it into one that has, or serve it by Recommender."
        )
    for module in model.modules():
        for family, reason in REFUSED.items():
            if isinstance(module, family):
                raise ValueError(
                    f"{family.__name__} cannot be exported to ONNX: {reason}. Serve it by a "
                    "Recommender."
                )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of its own works."""
    loggers = [logging.getLogger(name) for name in NOISY]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
