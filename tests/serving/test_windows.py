import numpy as np
import pytest

from fluxjax.serving.windows import plot_scores, windows


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, 10, 4, 3), [(0, 4), (3, 7), (6, 10)]),
        ((0, 10, 4, 4), [(0, 4), (4, 8), (6, 10)]),  # the last one ends with the video
        ((2, 10, 2, 4), [(2, 4), (6, 8), (8, 10)]),
        ((0, 3, 4, 1), [(0, 3)]),
        ((0, 0.3, 0.1, 0.1), [(0, 0.1), (0.1, 0.2), (0.2, 0.3)]),
    ],
)
def test_windows(arguments, expected):
    found = windows(*arguments)
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("arguments", [(0, 5, 0, 1), (0, 5, 1, -1), (3, 3, 1, 1)])
def test_lengths_must_be_positive(arguments):
    with pytest.raises(ValueError, match="must be positive"):
        windows(*arguments)


def test_the_picture_is_a_png(tmp_path):
    plot_scores(tmp_path / "p.png", windows(0, 4, 1, 1), np.eye(4, dtype=np.float32), None)
    assert (tmp_path / "p.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
