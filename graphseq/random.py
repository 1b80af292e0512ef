"""Random numbers that are functions of a key and a counter, whatever was drawn before or beside.

What happens to a session then depends on its own number, never on its neighbours in a batch, on the
order of batches or on the process that builds them; and any part of a draw can be had alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Words = NDArray[np.uint64]

GAMMA = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class StepGenerator(torch.Generator):
    """The random numbers of one training step, for a share of its sessions.

    Attributes:
        first_session: Sessions of the step that other processes have before these.
    """

    first_session = 0


def session_streams_of(generator: torch.Generator, session: ArrayLike) -> Words:
    """A stream of its own for every session of a training step, whichever process has it.

    Args:
        generator: That of the step; it is asked for one number.
        session: Numbers of sessions in this batch, integers [n].

    Returns:
        uint64 [n].
    """
    key = int(torch.randint(2**62, (), generator=generator))
    first = getattr(generator, "first_session", 0)
    return substreams(stream(key), np.asarray(session) + first)


def stream(*key: int) -> Words:
    """The stream of random numbers of a key.

    Args:
        *key: Seed, epoch, and what else tells the stream from others; from 0.

    Returns:
        uint64 [], for :func:`substreams` and :func:`uniform`.
    """
    # Numpy takes (1, 2) and (1, 2, 0) for the same.
    sequence = np.random.SeedSequence((len(key), *key))
    return np.asarray(sequence.generate_state(1, np.uint64)[0])


def substreams(streams: Words, number: ArrayLike) -> Words:
    """A stream of its own for every number.

    Args:
        streams: uint64 [] or [n].
        number: From 0, integers [n].

    Returns:
        uint64 [n].
    """
    return _mixed(streams, number) ^ FIRST


def uniform(streams: Words, counter: ArrayLike) -> NDArray[np.float64]:
    """The random number at a place of a stream (SplitMix64: Steele et al., OOPSLA 2014).

    Args:
        streams: uint64 [] or [n].
        counter: The place, from 0, integers of any shape that fits.

    Returns:
        In [0, 1), float64, the shape of both together.
    """
    return (_mixed(streams, counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(streams: Words, counter: ArrayLike, size: ArrayLike) -> NDArray[np.int64]:
    """The integer of ``0 .. size - 1`` at a place of a stream.

    Args:
        streams, counter: As in :func:`uniform`.
        size: At least 1, integers below 2^53.
    """
    return (uniform(streams, counter) * np.asarray(size)).astype(np.int64)


def _mixed(streams: Words, counter: ArrayLike) -> Words:
    with np.errstate(over="ignore"):  # arithmetic is modulo 2^64 on purpose
        z: Words = streams + (np.asarray(counter).astype(np.uint64) + np.uint64(1)) * GAMMA
        z = (z ^ (z >> np.uint64(30))) * FIRST
        z = (z ^ (z >> np.uint64(27))) * SECOND
    return z ^ (z >> np.uint64(31))
