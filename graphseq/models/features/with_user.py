"""A learned vector of the user, added to the session vector of any family with an item table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import Embedding
from torch_geometric.data import Batch

from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.sessions import Sessions
from graphseq.deprecation import old_classmethod
from graphseq.models.base import SessionModel, Traits
from graphseq.models.features.around import AroundBase, base_of
from graphseq.models.reading import TrainingRows
from graphseq.models.registry import register

logger = logging.getLogger(__name__)


@register("with_user")
class WithUser(AroundBase):
    r"""Scores of another family plus a long-term preference of the user:

    .. math::
        \hat r_{u,j} = w_j^\top (s + p_u) + b_j

    with :math:`s` the base's session vector or click state, :math:`w` and :math:`b` its item table
    and bias, and :math:`p_u` the user's vector. Since :math:`w_j^\top p_u` is the score of matrix
    factorization (Koren et al., Computer, 2009), this is the sum of a user-based and a
    session-based recommender with shared items. Unknown users and batches without ``user`` add
    nothing.

    User vectors are initialized with zero: the model starts like its base, and a user with little
    training data stays close to it.

    Args:
        num_items: Items of the catalog.
        num_users: Number of users in the training data; ``None``: taken from the catalog by
            :meth:`attach`, which ``fit`` calls.
        base: Name of a family in :data:`graphseq.models.MODELS` that scores by an item table and is
            trained by gradients.
        arguments: Arguments of the base, besides ``num_items``.

    Raises:
        ValueError: If a size is not positive, ``base`` is no such family, or its own arguments are
            wrong.
    """

    traits = Traits(
        architecture="another family, plus a vector of the user",
        parallel=True,
        reach="that of its base, and the user",
        side_features=False,
        best_for="users who come back, with tastes that last",
    )

    def __init__(
        self,
        num_items: int,
        num_users: int | None = None,
        base: str = "sasrec",
        *,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(num_items, base, arguments)
        if num_users is not None and num_users < 1:
            raise ValueError(f"num_users must be at least 1, got {num_users}.")
        self.num_users = num_users
        self.user_embedding = Embedding(num_users or 0, self.inner.items.channels)  # p
        self.reset_parameters()

    def reset_parameters(self) -> None:
        inner: Any = self.inner  # each family has this method, but not their base class
        inner.reset_parameters()
        torch.nn.init.zeros_(self.user_embedding.weight)

    @classmethod
    def from_model(cls, model: SessionModel, num_users: int | None = None) -> Self:
        """Builds this model around a copy of an existing base, which may be trained.

        Args:
            model: A model of a family in :data:`graphseq.models.MODELS`.
            num_users: As above.

        Raises:
            ValueError: If the model has another class, or its family supports no user.
        """
        name, arguments = base_of(model, "with_user")
        made = cls(model.num_items, num_users, name, arguments=arguments)
        return made.taking_over(model)

    of = old_classmethod("WithUser.of", "from_model")

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, with the number of users that :meth:`attach` found."""
        return {**super().settings, "num_users": self.num_users}

    def attach(self, catalog: Catalog | None, sessions: Sessions | None = None) -> None:
        """Attaches the training data to model and base.

        Raises:
            ValueError: If the catalog has another number of items, or of users.
        """
        super().attach(catalog, sessions)
        if catalog is None:
            return
        if catalog.users is None:
            logger.warning("These sessions name no users: with_user learns what its base learns.")
            return
        num_users = len(catalog.users)
        if self.num_users is None:
            self.num_users = num_users
            weight = self.user_embedding.weight
            self.user_embedding = Embedding(num_users, weight.size(1)).to(weight)
            torch.nn.init.zeros_(self.user_embedding.weight)
        if self.num_users != num_users:
            raise ValueError(
                f"The model has {self.num_users} users, the catalog {num_users}: build it with "
                "num_users=None, or the number of users in the training data."
            )

    def forward(self, batch: Batch) -> Tensor:
        """Session vectors plus user vectors, ``s + p_u``, [num_sessions, d]."""
        vectors: Tensor = self.inner(batch)
        user = self._user(batch)
        return vectors if user is None else vectors + user

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click plus its user's vector, [num_clicks, d]."""
        states = self.inner.click_states(batch)
        user = self._user(batch)
        return states if user is None else states + user[batch.click_batch]

    def training_rows(self, batch: Batch, generator: torch.Generator) -> TrainingRows:
        """The training rows of the base, each vector plus the vector of its user."""
        vectors, targets, session = self.inner.training_rows(batch, generator)
        user = self._user(batch)
        vectors = vectors if user is None else vectors + user[session]
        return TrainingRows(vectors, targets, session)

    def _user(self, batch: Batch) -> Tensor | None:
        """``p_u`` of every session, zero if unknown, [num_sessions, d]; ``None``: no users."""
        user: Tensor | None = batch.get("user")
        if user is None or self.user_embedding.num_embeddings == 0:
            return None
        known = (user >= 0).unsqueeze(1)
        vectors: Tensor = self.user_embedding(user.clamp(min=0)) * known
        return vectors

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_users} users, {self.inner!r})"
