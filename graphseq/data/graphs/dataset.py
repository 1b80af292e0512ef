"""Sessions as a PyG dataset of session graphs; samples are built on access."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch, Dataset

from graphseq.arguments import flag, whole
from graphseq.data.graphs.augment import Augmentation, RaggedClicks
from graphseq.data.graphs.session_graph import (
    SessionGraph,
    assemble_session_graphs,
    build_session_graphs,
    first_of_group,
    first_transitions,
)
from graphseq.data.graphs.transforms import Transform, transformed
from graphseq.data.sessions.sessions import Sessions, only_sessions
from graphseq.ragged import ptr_of
from graphseq.random import substreams, words_of

UNKNOWN_TARGET = -1
"""``y`` of a target outside the catalog: ignored in training, a miss in evaluation."""

NO_TARGET = -100
"""``y`` of a click without a target: ``ignore_index`` of torch's losses."""

INDEXED_CLICKS = 1 << 24
"""Up to this many clicks a dataset keeps an index of repetitions, with 8 bytes per click and some
seconds, and of each prefix's session, with 4 bytes."""

Samples = Literal["prefixes", "sessions"]


class SessionGraphDataset(Dataset):
    r"""Session graphs with targets, as PyG :class:`~torch_geometric.data.Data` objects.

    With ``samples="prefixes"``, there is one graph for each target: the clicks before it, and
    ``y`` [1]. With ``samples="sessions"``, one graph per session: its clicks but the last, and
    ``y`` [num_clicks], the next click of each. A click outside the vocabulary is skipped; as a
    target it is ``y = -1``. ``y = -100`` marks clicks whose next click is before ``first_target``.

    Indexing with an integer builds one graph; :meth:`batch` builds many at once. Only a few numbers
    per session are held besides the clicks themselves.

    Args:
        sessions: A part of a split, or any sessions.
        samples: ``"prefixes"`` or ``"sessions"``.
        max_length: Number of newest clicks that a prefix keeps, for models with a limited length;
            ``None``: all.
        transform: A PyG transform, applied to every graph when it is read.
        target_fields: Fields of the targets' clicks that graphs hold: ``"time"`` and click
            features, as ``y_time`` and ``y_<feature>``, one for each of ``y``. No model may read
            them.
        request_time: Whether graphs hold the time of their (last) target as ``request_time`` [1].
            Predicting the next item with a known time is a different task.

    Raises:
        ValueError: If ``samples`` is neither, or ``max_length`` is not positive or cuts sessions.
            Also if no session has a target with a known click before it, a target field does not
            exist, or ``request_time`` is set for sessions without times.
    """

    def __init__(
        self,
        sessions: Sessions,
        samples: Samples = "prefixes",
        transform: Transform | None = None,
        *,
        max_length: int | None = None,
        target_fields: Sequence[str] = (),
        request_time: bool = False,
    ) -> None:
        only_sessions("sessions", sessions)
        if samples not in ("prefixes", "sessions"):
            raise ValueError(f"samples is 'prefixes' or 'sessions', got {samples!r}.")
        if max_length is not None:
            max_length = whole("max_length", max_length)
            if samples != "prefixes":
                raise ValueError(
                    f"max_length cuts prefixes alone, got {max_length} with samples={samples!r}."
                )
        if transform is not None and not callable(transform):
            raise ValueError(
                f"transform is a PyG transform or a function of a graph, got {transform!r}: "
                "several go into torch_geometric.transforms.Compose([...])."
            )
        super().__init__(None, transform)
        self.sessions = sessions
        self.samples = samples
        self.max_length = max_length
        self.target_fields = tuple(target_fields)
        known_fields = [name.removeprefix("click_") for name in self._click_fields]
        for name in self.target_fields:
            if name not in known_fields:
                raise ValueError(
                    f"target_fields are of {', '.join(known_fields) or 'none'} in these sessions, "
                    f"got {name!r}."
                )
        self.request_time = flag("request_time", request_time)
        if request_time and sessions.time is None:
            raise ValueError(
                "request_time=True gives when targets were clicked, and these sessions have no "
                "times: read the log with time=, or leave it out."
            )
        self._chosen: tuple[Any, NDArray[np.int64]] | None = None
        lengths = sessions.lengths
        first_target: int | NDArray[np.int64] = 1
        if sessions.first_target is not None:
            first_target = np.maximum(sessions.first_target, 1)

        # If all clicks are known, position and known position are equal, and no copy is made.
        self._known_ptr: NDArray[np.int64] | None = None
        self._known_click: NDArray[np.int64] | None = None
        if np.min(sessions.items, initial=0) < 0:
            known = np.asarray(sessions.items) >= 0
            self._known_click = np.flatnonzero(known)
            self._known_ptr = ptr_of(known)
            before = self._known_ptr[sessions.ptr]
            click = np.append(self._known_click, sessions.num_clicks)[before[:-1]]
            first_known = np.minimum(click - sessions.ptr[:-1], lengths)
            first = np.minimum(np.maximum(first_target, first_known + 1), lengths)
            wanted = int(np.maximum(lengths - first_target, 0).sum())
        else:
            first, wanted = np.minimum(first_target, lengths), None
        self._first = first.astype(np.int32)
        targets = np.subtract(lengths, self._first, out=lengths)  # for a large log, memory is time
        del first
        self._num_samples = int(targets.sum())
        self.num_without_history = 0 if wanted is None else wanted - self._num_samples
        """Targets with no known click before them: no graph can be built for them."""

        self._sample_session: NDArray[np.int32] | None = None
        if samples == "prefixes":
            # Number of samples before each session, searched for the session of a sample if there
            # are many.
            self._before = np.zeros(len(targets) + 1, dtype=np.int64)
            np.cumsum(targets, out=self._before[1:])
            if self._num_samples <= INDEXED_CLICKS:
                self._sample_session = np.repeat(
                    np.arange(sessions.num_sessions, dtype=np.int32), targets
                )
        else:
            self._sample_session = np.flatnonzero(targets > 0).astype(np.int32)
            self._num_samples = len(self._sample_session)
        if self._num_samples == 0:
            raise ValueError(
                "No session has a target with a known click before it: sessions need two clicks, "
                "and first_target must lie within them."
            )

        # For a larger log, each batch sorts its own clicks.
        indexed = max_length is None and sessions.num_clicks <= INDEXED_CLICKS
        self._repetitions = self._find_repetitions() if indexed else None

    def _find_repetitions(self) -> tuple[NDArray[np.int32], ...]:
        """For every known click, the position in its session of the first click on the same item,
        and of the first click that ends the same transition: int32 [num_known] each.

        Both are the same in every prefix that holds the click, so no prefix needs to be sorted.
        """
        items = torch.from_numpy(np.array(self.sessions.items, dtype=np.int64))
        ptr = np.asarray(self.sessions.ptr)
        if self._known_click is not None and self._known_ptr is not None:
            items, ptr = items[torch.from_numpy(self._known_click)], self._known_ptr[ptr]
        lengths = np.diff(ptr)
        some = torch.from_numpy(np.append(ptr[:-1][lengths > 0], ptr[-1]))
        session = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
        first = first_of_group(session * max(self.sessions.num_items, 1) + items)
        transition = first_transitions(first, some)
        start = np.repeat(ptr[:-1], lengths)
        places = (each.numpy() - start for each in (first, transition))
        return tuple(place.astype(np.int32) for place in places)

    def len(self) -> int:
        return self._num_samples

    def get(self, idx: int) -> SessionGraph:
        graph: SessionGraph = self._build(np.array([idx])).get_example(0)
        return graph

    def __getitem__(self, idx: Any) -> Any:
        """The graph of one sample; for a slice, a mask or a list, the dataset of these samples."""
        if isinstance(idx, (int, np.integer)) or (isinstance(idx, Tensor) and idx.dim() == 0):
            return self._as_read(self.get(int(self.indices()[int(idx)])))
        return self.index_select(idx)

    def _as_read(self, graphs: Batch) -> Batch:
        return graphs if self.transform is None else transformed(self.transform, graphs)

    @property
    def num_classes(self) -> int:
        """The number of items; no sample is read."""
        return self.sessions.num_items

    @property
    def num_node_features(self) -> int:
        """Always 1: a node is an item, ``x`` [num_nodes]."""
        return 1

    def batch(self, index: Tensor | Sequence[int] | NDArray[Any]) -> Batch:
        """The batch of these samples, equal to ``Batch.from_data_list([self[i] for i in index])``.

        Args:
            index: Numbers of samples, int [n].

        Raises:
            IndexError: If there is no such sample.
            ValueError: If these are no numbers, as a mask.
        """
        graphs = self._build(self._numbers(index))
        return self._as_read(graphs)

    def augmented_batch(
        self,
        index: Tensor | Sequence[int] | NDArray[Any],
        augmentation: Augmentation,
        *,
        seed: int = 0,
        epoch: int = 0,
    ) -> Batch:
        """The batch of these samples, with clicks changed by an augmentation.

        The history of a sample is changed together with the (last) target, which stays its last
        click; in a cropped sample the target is the last remaining click. With
        ``samples="sessions"`` each click's target is the new next click. Features move with their
        clicks; the times of a session stay in order.

        Args:
            index: Numbers of samples, int [n].
            augmentation: The augmentation; see :mod:`graphseq.data.graphs.augment`.
            seed, epoch: The changes of a sample depend on these and on its number.

        Raises:
            IndexError: If there is no such sample.
        """
        sessions, number = self.sessions, self._numbers(index)
        session, target, ptr, _, clicks = self._places(number)
        end = sessions.ptr.take(session) + target
        if self._known_click is not None:
            clicks = self._known_click[clicks]
        together = np.insert(clicks, ptr[1:], end)  # each history, then its target
        one_each = np.arange(len(number) + 1)
        changed = augmentation(
            RaggedClicks(
                items=np.take(sessions.items, together).astype(np.int64),
                ptr=ptr + one_each,
                origin=together,
                streams=substreams(words_of("augmentation", seed, epoch), number),
                tail=1,
            )
        )
        is_history = np.ones(len(changed.items), dtype=bool)
        is_history[changed.ptr[1:] - 1] = False
        history = np.flatnonzero(is_history)
        following = history + 1 if self.samples == "sessions" else changed.ptr[1:] - 1
        targets = changed.origin[following]  # where they were clicked
        first = sessions.ptr.take(session) + self._first.take(session)  # that is a target
        if self.samples == "sessions":
            first = np.repeat(first, changed.lengths - 1)
        y = np.where(targets < first, NO_TARGET, changed.items[following])
        pointer = torch.from_numpy(changed.ptr - one_each)
        fields = self._fields(y, pointer, changed.origin[history], session, targets)
        if sessions.time is not None:
            times = sessions.time.take(changed.in_order)
            fields["click_fields"]["click_time"] = torch.from_numpy(times[history])
            if self.request_time:
                asked = torch.from_numpy(times[changed.ptr[1:] - 1])
                fields["session_fields"]["request_time"] = asked
            if "time" in self.target_fields:
                of_targets = "session_fields" if self.samples == "prefixes" else "click_fields"
                fields[of_targets]["y_time"] = torch.from_numpy(times[following])
        graphs = build_session_graphs(torch.from_numpy(changed.items[history]), pointer, **fields)
        return self._as_read(graphs)

    def click_views(
        self,
        index: Tensor | Sequence[int] | NDArray[Any],
        position: NDArray[np.int64],
        session_fields: dict[str, Tensor] | None = None,
    ) -> Batch:
        """A single click of each of these sessions, with its target: graphs of one node.

        Args:
            index: Numbers of samples, int [n], with ``samples="sessions"``.
            position: Which of its :meth:`num_clicks` known clicks, from 0, int [n].
            session_fields: Further fields, one value per view, [n].

        Raises:
            ValueError: If samples are prefixes.
            IndexError: If there is no such sample.
        """
        if self.samples != "sessions":
            raise ValueError(
                f"Click by click means samples='sessions', this dataset has {self.samples!r}."
            )
        graphs = self._build(self._numbers(index), position, session_fields)
        return self._as_read(graphs)

    def _numbers(self, index: Tensor | Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
        """Numbers in the whole dataset of these samples of a selected part."""
        given = np.asarray(index)
        if given.size and given.dtype.kind not in "iu":  # a mask would name samples 0 and 1
            raise ValueError(
                f"Samples are asked for by their numbers, int [n], got {given.dtype} "
                f"{list(given.shape)}: np.flatnonzero makes numbers of a mask."
            )
        chosen = given.astype(np.int64, copy=False)
        lowest, highest = (chosen.min(), chosen.max()) if chosen.size else (0, 0)
        if lowest < -len(self) or highest >= len(self):
            raise IndexError(f"Samples are 0..{len(self) - 1}, got {lowest}..{highest}.")
        if lowest < 0:
            chosen = np.where(chosen < 0, chosen + len(self), chosen)
        if self._indices is not None:
            if self._chosen is None or self._chosen[0] is not self._indices:
                # PyG selects samples by a list, too slow to turn into an array batch by batch.
                self._chosen = self._indices, np.asarray(self._indices, dtype=np.int64)
            chosen = self._chosen[1].take(chosen)
        return chosen

    def num_clicks(self, index: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Known clicks in the graph of each sample, int64 [len].

        Args:
            index: Only these samples, int [n].
        """
        every = np.arange(len(self)) if index is None else index
        session, target = self._samples(self._numbers(every))
        start = self.sessions.ptr[session]
        if self._known_ptr is not None:
            target = self._known_ptr[start + target] - self._known_ptr[start]
        return target if self.max_length is None else np.minimum(target, self.max_length)

    def targets(self) -> NDArray[np.int64]:
        """The (last) target of each sample, int64 [len]; -1: unknown."""
        session, target = self._samples(np.asarray(self.indices(), dtype=np.int64))
        return self.sessions.items[self.sessions.ptr[session] + target].astype(np.int64)

    def arrays(self) -> list[NDArray[Any]]:
        """All arrays of the dataset besides the sessions themselves."""
        held = [self._sample_session, self._first, self._known_ptr, self._known_click]
        if self.samples == "prefixes":
            held.append(self._before)
        return [a for a in (*held, *(self._repetitions or ())) if a is not None]

    def _samples(self, index: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Session and (last) target's position of samples, integers [n] each."""
        session: NDArray[Any]
        if self._sample_session is None:
            session = np.searchsorted(self._before, index, side="right") - 1
        else:
            session = self._sample_session.take(index)
        if self.samples == "prefixes":
            return session, index - self._before.take(session) + self._first.take(session)
        return session, self.sessions.ptr[session + 1] - self.sessions.ptr[session] - 1

    def _build(
        self,
        index: NDArray[np.int64],
        position: NDArray[np.int64] | None = None,
        further: dict[str, Tensor] | None = None,
    ) -> Batch:
        """Graphs of these samples, or with ``position`` of one click of each."""
        sessions = self.sessions
        session, target, ptr, row, known_clicks = self._places(index, position)
        begin, clicks = sessions.ptr.take(session), known_clicks
        if self._known_click is not None:
            clicks = self._known_click[clicks]

        targets = begin + target if self.samples == "prefixes" else clicks + 1
        y = sessions.items.take(targets)
        if self.samples == "sessions":
            first = np.repeat(begin + self._first[session], ptr[1:] - ptr[:-1])
            y = np.where(targets < first, NO_TARGET, y)
        pointer = torch.from_numpy(ptr)
        fields = self._fields(y, pointer, clicks, session, targets, further)
        items = torch.from_numpy(np.take(sessions.items, clicks).astype(np.int64))
        if position is not None:  # nothing is repeated
            alone = torch.arange(len(index))
            return assemble_session_graphs(items, pointer, alone, alone, alone, **fields)
        if self._repetitions is None:
            return build_session_graphs(items, pointer, **fields)
        offset = ptr.take(row)
        repetitions = [
            torch.from_numpy(places.take(known_clicks) + offset) for places in self._repetitions
        ]
        return assemble_session_graphs(
            items, pointer, torch.from_numpy(row), *repetitions, **fields
        )

    def _places(
        self, index: NDArray[np.int64], position: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[Any], ...]:
        """The places of samples: session and (last) target's position [n], pointer [n + 1], and for
        each click its row and its number among all known clicks [num_clicks]."""
        session, target = self._samples(index)
        start = self.sessions.ptr.take(session)
        stop = start + target
        if self._known_ptr is not None:
            start, stop = self._known_ptr[start], self._known_ptr[stop]
        if self.max_length is not None:
            start = np.maximum(start, stop - self.max_length)
        if position is not None:
            start = start + position
            stop = start + 1
        lengths = stop - start
        ptr = ptr_of(lengths)
        row = np.repeat(np.arange(len(index)), lengths)  # [num_clicks]
        clicks = (start - ptr[:-1]).take(row)
        clicks += np.arange(ptr[-1])
        return session, target, ptr, row, clicks

    def _fields(
        self,
        y: NDArray[Any],
        pointer: Tensor,
        clicks: NDArray[np.int64],
        session: NDArray[Any],
        targets: NDArray[np.int64],
        further: dict[str, Tensor] | None = None,
    ) -> dict[str, Any]:
        """Fields of graphs besides items: targets, and fields of these clicks, sessions and
        targets."""
        session_fields = dict(further or {})
        click_fields = {name: _rows(v, clicks) for name, v in self._click_fields.items()}
        of_targets = session_fields if self.samples == "prefixes" else click_fields
        for name in self.target_fields:
            of_targets[f"y_{name}"] = _rows(self._click_fields[f"click_{name}"], targets)
        if self.request_time:
            last = targets if self.samples == "prefixes" else targets[pointer[1:].numpy() - 1]
            assert self.sessions.time is not None
            session_fields["request_time"] = _rows(self.sessions.time, last)
        if self.sessions.users is not None:
            session_fields["user"] = _rows(self.sessions.users, session).long()
        return {
            "y": torch.from_numpy(y.astype(np.int64, copy=False)),
            "y_ptr": None if self.samples == "prefixes" else pointer,
            "click_fields": click_fields,
            "session_fields": session_fields,
        }

    @property
    def _click_fields(self) -> dict[str, NDArray[Any]]:
        fields = {f"click_{name}": values for name, values in self.sessions.click_features.items()}
        if self.sessions.time is not None:
            fields["click_time"] = self.sessions.time
        return fields

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)}, samples={self.samples!r})"


def _rows(values: NDArray[Any], index: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.asarray(values[index]))
