"""Randomness and example order as pure functions of a seed.

Nothing here has a state to save: a batch drawn after a resume equals the batch that an
uninterrupted run would have drawn at that step, whatever the number of hosts. NumPy keeps its
generators' streams within a release series, so a run should be resumed with the NumPy it began on.
"""

import enum
import threading
from collections import OrderedDict

import numpy as np


class Stream(enum.IntEnum):
    """What a generator is drawn for; the last part of its key.

    Each purpose has its own stream, so that one more draw for one of them (another attempt at a
    crop, say) leaves all others as they were. Numbers are part of every run's randomness: never
    renumber.
    """

    SHUFFLE = 0
    GRID = 1
    FRAMES = 2
    CROP = 3
    FLIP = 4
    AUGMENT = 5
    REPLACEMENT = 6
    CAPTION = 7
    DEVICE = 8


def rng(*key: int) -> np.random.Generator:
    """The generator of a key, usually (seed, epoch, example, stream).

    Different keys give independent generators, also where one is the other followed by zeros.

    Args:
      *key: integers in [0, 2^64).

    Raises:
      ValueError: if a part of the key is negative or has more than 64 bits.
    """
    words = [len(key)]
    for part in map(int, key):
        if not 0 <= part < 1 << 64:
            raise ValueError(f"random key {key} has the part {part}, which is not in [0, 2^64)")
        words += [part & 0xFFFFFFFF, part >> 32]
    # SeedSequence pads its entropy with zeros and cuts integers into as many 32-bit words as they
    # need, so that plain (1,) equals (1, 0) and (5, 1) equals (2^32 + 5,). A leading length and two
    # words a part make the encoding one-to-one.
    return np.random.default_rng(np.random.SeedSequence(words))


class Shuffle:
    """The order in which a training run visits its examples, epoch after epoch.

    Each epoch is a permutation of [0, size) keyed by (seed, epoch). `at` may be asked from several
    threads, for any positions in any order.
    """

    _CACHED_EPOCHS = 2  # a prefetching loader straddles the end of an epoch

    def __init__(self, seed: int, size: int):
        """Defines the order of `size` examples.

        Raises:
          ValueError: if there is no example.
        """
        if size < 1:
            raise ValueError(f"a shuffle needs at least one example, got size {size}")
        self.seed, self.size = seed, size
        self._lock = threading.Lock()
        self._permutations: OrderedDict[int, np.ndarray] = OrderedDict()

    def __reduce__(self):
        return Shuffle, (self.seed, self.size)  # locks cannot be sent to a worker process

    def at(self, position: int) -> tuple[int, int]:
        """(epoch, example) at a global position, epoch * size + place in the epoch.

        Raises:
          ValueError: if the position is negative.
        """
        if position < 0:
            raise ValueError(f"position must not be negative, got {position}")
        epoch, place = divmod(int(position), self.size)
        return epoch, int(self._permutation(epoch)[place])

    def _permutation(self, epoch: int) -> np.ndarray:
        with self._lock:  # held while permuting: other threads want the same epoch
            if epoch not in self._permutations:
                generator = rng(self.seed, epoch, Stream.SHUFFLE)
                self._permutations[epoch] = generator.permutation(self.size)
            self._permutations.move_to_end(epoch)
            if len(self._permutations) > self._CACHED_EPOCHS:
                self._permutations.popitem(last=False)
            return self._permutations[epoch]


class WeightedDraws:
    """Examples drawn with replacement, each as often as its weight says.

    For mixes of sources that count differently. Draw p is keyed by (seed, p); an epoch is as many
    draws as there are examples. `at` may be asked from several threads.
    """

    def __init__(self, seed: int, weights: np.ndarray):
        """Draws from len(weights) examples.

        Args:
          seed: of the draws.
          weights: [N] float, not negative; only their ratios matter.

        Raises:
          ValueError: if a weight is negative or not finite, or none is positive.
        """
        weights = np.asarray(weights, np.float64)
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
            raise ValueError("weights must be finite and not negative, and one must be positive")
        self.seed, self.size = seed, len(weights)
        self._cumulative = np.cumsum(weights / weights.sum())

    def at(self, position: int) -> tuple[int, int]:
        """(epoch, example) at a global position, epoch * size + place in the epoch.

        Raises:
          ValueError: if the position is negative.
        """
        if position < 0:
            raise ValueError(f"position must not be negative, got {position}")
        point = rng(self.seed, int(position), Stream.SHUFFLE).random() * self._cumulative[-1]
        example = int(np.searchsorted(self._cumulative, point, side="right"))
        return int(position) // self.size, min(example, self.size - 1)


def order(seed: int, size: int, weights: np.ndarray | None) -> Shuffle | WeightedDraws:
    """The order of training: every example once an epoch, or by weights where there are some."""
    return Shuffle(seed, size) if weights is None else WeightedDraws(seed, weights)
