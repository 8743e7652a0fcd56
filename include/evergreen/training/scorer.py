"""Scores feature rows with a stored model through ONNX Runtime. Knows nothing of torch.

B rows, N numeric features, C categorical features.
The graph takes `numeric` float32 [B, N] (NaN: missing) and `categorical` string [B, C] ("": missing), and
gives `score` float32 [B], a calibrated probability; encoders are inside. An input of width 0 is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import polars as pl
from pydantic import BaseModel, ConfigDict

from evergreen.errors import IntegrityError
from evergreen.lake.lake import Lake
from evergreen.training.model_files import read_manifest, read_model_file


class Signature(BaseModel):
    """Names and order of a model's inputs, as in signature.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]


@dataclass(frozen=True)
class Scorer:
    """A loaded model."""

    signature: Signature
    session: ort.InferenceSession

    @classmethod
    def load(cls, lake: Lake, uri: str, digest: str, *, threads: int = 1) -> Scorer:
        """The model stored at `uri`, every byte checked against `digest`; IntegrityError otherwise."""
        manifest = read_manifest(lake, uri, digest)
        signature = Signature.model_validate_json(read_model_file(lake, uri, "signature.json", manifest))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        graph = read_model_file(lake, uri, "model.onnx", manifest)
        try:
            session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many unrelated classes for a graph it cannot load
            raise IntegrityError(
                f"{uri}/model.onnx",
                found=str(error).splitlines()[0],
                wanted="a graph ONNX Runtime can load",
                remedy="Train the model again.",
            ) from error
        return cls(signature, session)

    def score(self, features: pl.DataFrame) -> npt.NDArray[np.float32]:
        """float32 [B]: probability of the label for each row of `features`, in row order."""
        (scores,) = self.session.run(["score"], self._inputs(features))
        return np.asarray(scores, np.float32).reshape(-1)

    def _inputs(self, features: pl.DataFrame) -> dict[str, npt.NDArray[np.generic]]:
        inputs: dict[str, npt.NDArray[np.generic]] = {}
        if self.signature.numeric:
            inputs["numeric"] = numeric_matrix(features, self.signature.numeric)
        if self.signature.categorical:
            inputs["categorical"] = categorical_matrix(features, self.signature.categorical)
        return inputs


def numeric_matrix(features: pl.DataFrame, names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """float32 [B, N] of the named columns, NaN where missing."""
    columns = features.select(pl.col(names).cast(pl.Float32).fill_null(float("nan")))
    return np.ascontiguousarray(columns.to_numpy()).reshape(features.height, len(names))


def categorical_matrix(features: pl.DataFrame, names: tuple[str, ...]) -> npt.NDArray[np.object_]:
    """String [B, C] of the named columns, "" where missing."""
    columns = features.select(pl.col(names).cast(pl.String).fill_null(""))
    return columns.to_numpy().astype(object).reshape(features.height, len(names))
