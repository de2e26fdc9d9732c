import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fluxjax.evaluation.probes import knn_classes, linear_classes


def clusters(count, seed, spread=1.0):
    """Three classes around three directions, of unequal scales and offsets."""
    rng = np.random.default_rng(seed)
    centres = np.array([[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 1]], np.float32)
    labels = rng.integers(0, 3, count)
    values = centres[labels] + spread * rng.standard_normal((count, 4))
    return (values * [1, 10, 0.1, 1] + [0, 50, 0, 0]).astype(np.float32), labels


def test_the_linear_probe_is_the_optimum_of_its_loss():
    """Against scikit-learn, which minimises N times the same loss."""
    (train, labels), (test, _) = clusters(300, 0), clusters(500, 1)
    found = linear_classes(train, labels, test, 3, l2=1e-2)
    mean, scale = train.mean(0), train.std(0)
    reference = LogisticRegression(C=1 / (1e-2 * len(train)), max_iter=2000, tol=1e-8)
    expected = reference.fit((train - mean) / scale, labels).predict((test - mean) / scale)
    assert np.mean(found == expected) > 0.995
    assert len(set(found)) == 3


def test_a_constant_feature_changes_nothing():
    (train, labels), (test, _) = clusters(60, 0), clusters(60, 1)
    constant = lambda x: np.concatenate([x, np.full((len(x), 1), 7, np.float32)], 1)  # noqa: E731
    np.testing.assert_array_equal(
        linear_classes(train, labels, test, 3),
        linear_classes(constant(train), labels, constant(test), 3),
    )


def test_neighbours_vote_by_their_cosine():
    train = np.array([[1, 0], [0.9, 0.1], [0.8, 0.2], [0, 1]], np.float32)
    labels = np.array([0, 1, 1, 2])
    test = np.array([[3, 0], [0, 0.1], [0.85, 0.15]], np.float32)
    assert knn_classes(train, labels, test, 3, k=1).tolist() == [0, 2, 1]
    # Cold votes follow the nearest, hot ones the majority.
    assert knn_classes(train, labels, test[:1], 3, k=3, temperature=1e-3).tolist() == [0]
    assert knn_classes(train, labels, test[:1], 3, k=3, temperature=10.0).tolist() == [1]


@pytest.mark.parametrize("count", [1, 255, 256, 257])
def test_any_number_of_queries(count):
    (train, labels), (test, _) = clusters(30, 0), clusters(300, 1)
    whole = knn_classes(train, labels, test, 3, k=50)  # more neighbours than there are
    np.testing.assert_array_equal(knn_classes(train, labels, test[:count], 3, k=50), whole[:count])
