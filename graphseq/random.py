"""Named streams of random numbers: each a function of its name, a seed and counters alone.

Whatever was drawn before or beside makes no difference, nor do the order of batches, the neighbors
of a session in its batch or the process that builds it; any part of a draw can be had alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Words = NDArray[np.uint64]

GAMMA = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

STREAMS = {
    # Of batches: seed, epoch, and the first step or the shard.
    "layout": 1,  # once for all epochs
    "order": 2,  # of samples
    "steps": 3,  # of batches within an epoch
    "shard_order": 4,
    "shard_augmentation": 5,
    "augmentation": 6,
    "workers": 7,  # of a loader
    "foreign_loader": 8,
    # Of a training step: seed, epoch, step.
    "step": 10,  # what the model itself draws
    "step_sessions": 11,  # the same for each session
    "negatives": 12,
    "negatives_of_row": 13,
    "view": 14,
    "partner": 15,
    "dropout": 16,
    "foreign_modules": 17,
    "measured_step": 18,
    # Once: seed.
    "split": 20,
    "shortlist": 21,
    "pairs": 22,
    "sign_flip": 23,
    "part_to_time": 24,
    "part_to_look_at": 25,
    "tie_hashes": 26,
    "audit_order": 27,
    "audit_sessions": 28,
    "served_cases": 29,
    "candidates": 30,
    "session_hashes": 31,
    "bootstrap": 40,
    "bootstrap_runs": 41,
    "deletion": 45,  # seed, number of the session
    "lists": 42,
    "model_checks": 32,
    "held_out_items": 50,
    "exploration": 51,
    "simulated_rewards": 52,
    "first_factors": 53,
    "relations": 54,
    "explanation": 55,
    "drawn_histories": 56,
    "fusion_cases": 60,
    "calibrated": 61,
    "reranked": 62,
    "reranked_order": 63,  # seed, epoch
    "reranked_dropout": 64,  # seed, epoch
}
"""Name -> the number that tells a stream from all others. A number is never used again."""


def sequence(name: str, *key: int) -> np.random.SeedSequence:
    """What all generators of a stream begin with.

    Args:
        name: One of :data:`STREAMS`.
        *key: The seed, then counters such as epoch and step; each at least 0.

    Raises:
        KeyError: If no stream has this name.
        ValueError: If a number is negative.
    """
    if min(key, default=0) < 0:
        raise ValueError(f"Seeds and counters must be at least 0, got {key}.")
    # Each number with its size in words: NumPy takes (1, 2) and (1, 2, 0) for the same.
    words = [STREAMS[name], len(key)]
    for number in map(int, key):
        size = max(1, -(-number.bit_length() // 32))
        words += [size, *(number >> 32 * place & 0xFFFFFFFF for place in range(size))]
    return np.random.SeedSequence(words)


def stream(name: str, *key: int) -> np.random.Generator:
    """NumPy's generator of a stream.

    Args:
        name, *key: As in :func:`sequence`.
    """
    return np.random.default_rng(sequence(name, *key))


def seed_of(name: str, *key: int) -> int:
    """The seed of torch's generators for a stream, below 2^63.

    Args:
        name, *key: As in :func:`sequence`.
    """
    return int(sequence(name, *key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def torch_stream(name: str, *key: int) -> torch.Generator:
    """torch's generator of a stream, on the CPU.

    Args:
        name, *key: As in :func:`sequence`.
    """
    return torch.Generator().manual_seed(seed_of(name, *key))


def words_of(name: str, *key: int) -> Words:
    """A stream whose numbers are had by their places, uint64 [].

    Args:
        name, *key: As in :func:`sequence`.

    Returns:
        For :func:`substreams`, :func:`uniform` and :func:`integers`.
    """
    return np.asarray(sequence(name, *key).generate_state(1, np.uint64)[0])


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
    return substreams(words_of("step_sessions", key), np.asarray(session) + first)


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
