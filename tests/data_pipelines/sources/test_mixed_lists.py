"""Lists of several data sets, six fields a line."""

import numpy as np
import pytest

from data_pipelines.clips.joint import Augmentation, Draws, joint_clips
from data_pipelines.sources.catalog import open_catalog
from data_pipelines.sources.records import NO_LABEL
from fluxjax.tokens.examples import ClipSpec
from fluxjax.tokens.grids import Grid
from tests.data_pipelines import video_files

LINES = """k710,a.mp4,10.0,-1,-1,7
ssv2,b, c.mp4,-1,-1,-1,3

# a comment
mit,d.mp4,12.5,2.5,10,0
"""


def opened(folder, lines=LINES, query="", **options):
    path = folder / "mix.csv"
    path.write_text(lines)
    return open_catalog(f"mix:{path}{query}", split="train", root=str(folder), **options)


def test_records(tmp_path):
    catalog = opened(tmp_path)
    records = [catalog[i] for i in range(len(catalog))]
    assert [r.origin for r in records] == ["k710", "ssv2", "mit"]
    assert [r.name for r in records] == [f"{tmp_path}/{x}" for x in ("a.mp4", "b, c.mp4", "d.mp4")]
    assert [(r.start, r.end) for r in records] == [(None, None), (None, None), (2.5, 10.0)]
    assert {r.label for r in records} == {NO_LABEL} and catalog.num_classes == 0
    assert catalog.weights() is None


def test_weights_of_sources(tmp_path):
    catalog = opened(tmp_path, query="?ssv2=2&mit=0.5")
    np.testing.assert_array_equal(catalog.weights(), [1.0, 2.0, 0.5])


@pytest.mark.parametrize(
    ("lines", "query", "message"),
    [
        ("k710,a.mp4,3\n", "", "line 1.*fields in 'k710,a.mp4,3'"),
        ("k710,a.mp4,10,x,5,0\n", "", "times '10', 'x', '5' of 'a.mp4' are no numbers"),
        ("k710,a.mp4,10,5,2,0\n", "", "span 5 to 2 s of 'a.mp4', which lasts 10 s"),
        ("k710,a.mp4,10,5,12,0\n", "", "span 5 to 12 s"),
        (LINES, "?hacs=2", "has no videos of hacs; its sources: "),
        (LINES, "?ssv2=no", "weight 'no' of source 'ssv2' must be a positive number"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, lines, query, message):
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, lines, query)


def test_only_other_sources_are_mirrored(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        video_files.write_video(tmp_path / name, frames=4)
    catalog = opened(tmp_path, "k710,a.mp4,-1,-1,-1,0\nssv2,b.mp4,-1,-1,-1,0\n")
    clip = (ClipSpec((Grid(2, 28),)),)

    def clips(record, **options):
        """Of sixteen examples, always the whole picture."""
        augmentation = Augmentation((1.0, 1.0), (1.0, 1.0), **options)
        draws = (Draws((0, 0, i), (Grid(2, 28),)) for i in range(16))
        return [joint_clips(record, clip, d, augmentation, "sparse")[0][0] for d in draws]

    for record, mirrored in zip((catalog[0], catalog[1]), (True, False), strict=True):
        plain = clips(record, flip=False)
        drawn = clips(record, flip=True, unflipped=("ssv2",))
        differ = [not np.array_equal(a, b) for a, b in zip(plain, drawn, strict=True)]
        assert any(differ) == mirrored and not all(differ)
        for before, after, differs in zip(plain, drawn, differ, strict=True):
            if differs:
                np.testing.assert_allclose(before[:, :, ::-1], after, atol=2)
