"""Verbs, nouns and actions of EPIC-KITCHENS-100 from the probabilities of actions."""

from collections.abc import Sequence

import numpy as np


def parse_actions(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Verb and noun numbers, [K] int64 each, of actions that are called "VERB:NOUN".

    Raises:
      ValueError: on another name.
    """
    pairs = [name.split(":") for name in names]
    for name, pair in zip(names, pairs, strict=True):
        if len(pair) != 2 or not all(map(str.isdecimal, pair)):
            raise ValueError(
                f"class {name!r} is no action VERB:NOUN, such as 3:12, as EK100's csv files give"
            )
    verbs, nouns = np.array(pairs, np.int64).reshape(-1, 2).T
    return verbs, nouns


def marginal(probabilities: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Probabilities of verbs (or nouns): the sum over the actions that have each.

    One that no action has gets 0. AVION's code gives it the probability of action 0, which can win
    no top-1 but takes a place among the first five.

    Args:
      probabilities: [N, K] of actions.
      part: [K] int, the verb of each action.

    Returns:
      [N, max(part) + 1].
    """
    sums = np.zeros((probabilities.shape[0], int(part.max()) + 1), probabilities.dtype)
    np.add.at(sums.T, part, probabilities.T)
    return sums


def mean_class_accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of the share of their videos that are right.

    As in AVION, a class that is only predicted, without a video of its own, counts as 0.

    Args:
      predicted, labels: [N] int; a prediction of -1 is none.
    """
    classes, videos = np.unique(labels, return_counts=True)
    right = [np.count_nonzero(predicted[labels == number] == number) for number in classes]
    return float(np.sum(right / videos) / len(np.union1d(predicted[predicted >= 0], labels)))


def top_k_hits(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """[N] bool: whether a row's label is among its k highest scores; of equal ones the lower first.

    A label of -1 never is.

    Args:
      scores: [N, K].
      labels: [N] int.
      k: how many may be named.
    """
    of_label = np.take_along_axis(scores, labels[:, None], axis=1)
    before = np.arange(scores.shape[1]) < labels[:, None]
    ahead = np.sum((scores > of_label) | ((scores == of_label) & before), axis=1)
    return (ahead < k) & (labels >= 0)
