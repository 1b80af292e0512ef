"""BST as in its paper: a click-through model that re-ranks the candidates of a retrieval model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Embedding, LeakyReLU, Linear, Sequential
from torch.nn.functional import linear
from torch_geometric.data import Batch

from graphseq.arguments import check_precise
from graphseq.data.sessions.features import Spec
from graphseq.deprecation import renamed
from graphseq.models.base import Traits
from graphseq.models.features.behavior import BehaviorModel
from graphseq.models.registry import register
from graphseq.nn.attention import TransformerBlock
from graphseq.nn.features import FeatureEmbedding
from graphseq.nn.positions import time_bucket
from graphseq.nn.ragged import DenseView, ragged_range, size_of
from graphseq.nn.target_attention import history_keys, target_states

MOST_NUMBERS = 2**24
"""Maximum size of hidden layers without gradients: candidates are processed in chunks."""


@register("bst_ranker")
class BSTRanker(BehaviorModel):
    r"""Scores of BST (Chen et al., DLP-KDD 2019) for pairs of session and candidate.

    .. math::
        E = [x_1; \dots; x_L; x_c], \quad H = B_N(\dots B_1(E)), \quad
        \hat r_c = \mathrm{MLP}([H_c ; u ; o])

    The candidate is part of the sequence: :math:`x = W_x [v ; g] + p` with the position
    :math:`pos(v_i) = t(v_c) - t(v_i)` in buckets, bidirectional post-norm blocks with a LeakyReLU.
    The output for the candidate, user :math:`u` and request :math:`o` go through layers of 1024,
    512 and 256 to one logit, whose sigmoid is the probability of a click. Trained on pairs:
    ``fit(loss=SampledLoss("bce", num_negatives=4))``.

    With one block, which is best in the paper, the last layer needs only the candidate's row. Keys
    and values of the history do not depend on it and are computed once for all candidates. With
    more blocks the history attends to the candidate, and all blocks except the last run again for
    each candidate.

    :math:`t(v_c)` is ``batch.request_time`` if the batch has it, else the time of the last click.
    Features of the candidate's own click are unknown and count as missing.

    Different from the paper: embeddings are projected to one width; ``positions="end"`` counts
    clicks back from the candidate, for logs without times.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width ``d`` of embeddings and states.
        num_layers: Number of blocks.
        heads: Attention heads of a block.
        max_length: Number of newest clicks that are used.
        dropout: Dropout rate of inputs, attention and each branch's output.
        positions: ``"end"``: clicks back from the candidate; ``"time"``: time to the request.
        time_buckets: Number of buckets of the time to the request, two per doubling of the log's
            unit.
        click_features, item_features: Specs, as in :class:`~graphseq.models.BST`.
        context_features: Specs of the features of the request; the batch's fields
            ``context_<name>``, one value per session.
        feature_channels: Width of the embedding of each feature.
        num_users: Number of users of the training log; ``None``: no user embeddings.
        mlp_channels: Widths of the layers before the logit.

    Raises:
        ValueError: If a size is not positive, ``heads`` does not divide the width, ``dropout`` lies
            outside [0, 1), ``positions`` is unknown, or a feature's spec is wrong.
    """

    traits = Traits(
        architecture="self-attention over clicks and the candidate, MLP",
        parallel=False,
        reach="newest max_length clicks",
        side_features=True,
        best_for="re-ranking the candidates of a retrieval model with rich features",
    )
    samples = "pairs"

    num_roundings = 16

    positions: Embedding

    @renamed(values={"positions": {"order": "end"}})
    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 64,
        num_layers: int = 1,
        *,
        heads: int = 8,
        max_length: int = 20,
        dropout: float = 0.2,
        positions: Literal["end", "time"] = "end",
        time_buckets: int = 64,
        click_features: Sequence[Spec] | None = None,
        item_features: Sequence[Spec] | None = None,
        context_features: Sequence[Spec] | None = None,
        feature_channels: int = 16,
        num_users: int | None = None,
        mlp_channels: Sequence[int] = (1024, 512, 256),
    ) -> None:
        super().__init__(
            num_items,
            hidden_channels,
            num_layers,
            heads=heads,
            max_length=max_length,
            dropout=dropout,
            positions=positions,
            time_buckets=time_buckets,
            click_features=click_features,
            item_features=item_features,
            feature_channels=feature_channels,
            num_users=num_users,
            causal=False,
        )
        if min(mlp_channels, default=1) < 1:
            raise ValueError(f"mlp_channels must be at least 1 each, got {list(mlp_channels)}.")
        num_positions = time_buckets if positions == "time" else max_length + 1
        self.positions = Embedding(num_positions, hidden_channels)  # p
        self.time_buckets = time_buckets
        self.mlp_channels = mlp_channels
        self.context_embedding = FeatureEmbedding(context_features or [], feature_channels)  # o
        width = hidden_channels + self.context_embedding.out_channels
        width += 0 if num_users is None else hidden_channels
        first, *rest = pairwise((width, *mlp_channels, 1))
        self.lin_first = Linear(*first)
        self.mlp = Sequential(*(part for size in rest for part in (LeakyReLU(), Linear(*size))))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.context_embedding.reset_parameters()
        # A candidate learns about the history only through attention, so it is initialized with a
        # larger scale. In the next-item form the last click is the most informative, so it is
        # initialized with a small scale, as in SASRec.
        for part in self.blocks.modules():
            if isinstance(part, Linear):
                torch.nn.init.normal_(part.weight, std=part.in_features**-0.5)
        for layer in (self.lin_first, *self.mlp):
            if isinstance(layer, Linear):
                torch.nn.init.kaiming_uniform_(layer.weight, a=0.01)
                torch.nn.init.zeros_(layer.bias)

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """Logits of candidates, in chunks of candidates.

        Args:
            batch: Session graphs.
            items: ``None``: all items; else candidates, [C] the same for all, or [num_sessions, C].

        Returns:
            [num_sessions, num_items] or [num_sessions, C].
        """
        if items is None:
            items = torch.arange(self.num_items, device=self.device)
        x, ptr = self._history(batch)
        view, num_sessions = DenseView(ptr), ptr.numel() - 1
        about = self._about(batch)
        top = self.blocks[-1]
        assert isinstance(top, TransformerBlock)
        at_once = items.size(-1)
        if not torch.compiler.is_exporting():  # sizes are symbols then
            widest = 2 * top.attention.heads * (view.width + 1) + max(
                (*self.mlp_channels, 8 * x.size(1))
            )
            widest *= 1 if len(self.blocks) == 1 else view.width + 1
            at_once = max(1, MOST_NUMBERS // (widest * max(1, num_sessions)))
        keys = history_keys(top, x, view) if len(self.blocks) == 1 else None
        parts = [x.new_empty(num_sessions, 0)]
        for chunk in items.split(at_once, dim=-1) if items.size(-1) else ():
            targets = self._targets(chunk).expand(num_sessions, -1, -1)  # [num_sessions, C, d]
            if keys is not None:
                h = target_states(top, targets, keys)
            else:
                h = self._deep_states(x, ptr, targets)
            parts.append(self._logits(h, about))
        return torch.cat(parts, dim=1)

    def states_in_rows(self, batch: Batch, items: Tensor) -> Tensor:
        """The states that :meth:`score` reads, with candidates in separate rows.

        Slower, since the history is not shared: every block gets history and candidate as one row,
        with the candidate last, so that its attention can be read.

        Args:
            batch: Session graphs.
            items: Candidates, [C] the same for all, or [num_sessions, C].

        Returns:
            [num_sessions, C, d].
        """
        x, ptr = self._history(batch)
        return self._deep_states(x, ptr, self._targets(items).expand(ptr.numel() - 1, -1, -1))

    def score_candidates(self, batch: Batch, candidates: Tensor) -> Tensor:
        """Logits of each session's candidates from a retrieval model.

        Args:
            batch: Session graphs.
            candidates: int64 [num_sessions, C].

        Returns:
            [num_sessions, C].

        Raises:
            ValueError: If there is not one row of candidates a session.
        """
        if candidates.dim() != 2 or candidates.size(0) != batch.num_graphs:
            raise ValueError(
                f"candidates must be [{batch.num_graphs}, C], one row per session, got "
                f"{list(candidates.shape)}."
            )
        return self.score(batch, candidates)

    def _history(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The newest clicks with their positions, [n, d], and the pointer of the sessions."""
        ptr = batch.click_ptr
        click, ptr = ragged_range(torch.maximum(ptr[:-1], ptr[1:] - self.max_length), ptr[1:])
        return self.drop(
            self.clicks(batch)[click] + self._positions(batch, click, DenseView(ptr))
        ), ptr

    def _positions(self, batch: Batch, click: Tensor, view: DenseView) -> Tensor:
        """The position vectors of the clicks of histories, [n, d]; the candidate's is number 0."""
        lengths = torch.bincount(view.batch, minlength=view.num_rows)
        place = lengths[view.batch] - view.position  # clicks back from the candidate, 1 to L
        time = self.click_time(batch)
        if time is not None:
            now = time[batch.click_ptr[1:] - 1]
            if "request_time" in batch:
                now = batch.request_time
                check_precise("request_time", now)
            place = time_bucket(now[view.batch] - time[click], self.time_buckets)
        p: Tensor = self.positions(place)
        return p

    def _targets(self, items: Tensor) -> Tensor:
        """Candidates as clicks without features at position 0, [C, d] or [num_sessions, C, d]."""
        v = self.items.rows(items)
        # Missing features are zero: their columns of W_x have nothing to add.
        x = linear(v, self.lin_click.weight[:, : v.size(-1)], self.lin_click.bias)
        return self.drop(x + self.positions.weight[0])

    def _deep_states(self, x: Tensor, ptr: Tensor, targets: Tensor) -> Tensor:
        """The candidates' states after several blocks: each candidate has a separate row, at its
        end."""
        num_sessions, num_candidates, d = targets.shape
        start = ptr[:-1].repeat_interleave(num_candidates)
        stop = ptr[1:].repeat_interleave(num_candidates)
        click, row_ptr = ragged_range(start, stop)
        view = DenseView(row_ptr)
        ends = row_ptr + torch.arange(row_ptr.numel(), device=ptr.device)  # with one target per row
        place = torch.arange(click.numel(), device=ptr.device) + view.batch
        last = ends[1:] - 1
        h = x.new_empty(size_of(ends[-1]), d).index_copy(0, place, x[click])
        h = h.index_copy(0, last, targets.reshape(-1, d))
        whole = DenseView(ends)
        *blocks, top = self.blocks
        for block in blocks:
            h = block(h, whole)
        h = top(h, whole, None, last)
        return h.view(num_sessions, num_candidates, d)

    def _about(self, batch: Batch) -> Tensor | None:
        """User and request, [num_sessions, k], the further inputs of the MLP."""
        parts = []
        users = self.user_vectors(batch)
        if users is not None:
            parts.append(users)
        if self.context_embedding.features:
            parts.append(self.context_embedding(self._values(batch, "context")))
        return torch.cat(parts, dim=1) if parts else None

    def _logits(self, h: Tensor, about: Tensor | None) -> Tensor:
        weight, d = self.lin_first.weight, h.size(-1)
        z = linear(h, weight[:, :d], self.lin_first.bias)
        if about is not None:  # the same for all candidates of a session
            z = z + linear(about, weight[:, d:]).unsqueeze(1)
        logits: Tensor = self.mlp(z).squeeze(-1)
        return logits
