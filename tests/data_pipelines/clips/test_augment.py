import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from data_pipelines.clips import augment
from data_pipelines.clips.augment import RandAugment

RECIPE = "rand-m7-n4-mstd0.5-inc1"
GREY = 128


@pytest.fixture(scope="module")
def clip():
    return np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3), np.uint8)


def one(clip, name, value):
    return augment.apply(clip, [(name, value)])


def per_frame(clip, function):
    return np.stack([np.asarray(function(Image.fromarray(frame))) for frame in clip])


# What the recipe's formulas give at magnitudes 7 and 10, for the positive sign.
SCALES = {
    "AutoContrast": (None, None),
    "Equalize": (None, None),
    "Invert": (None, None),
    "Rotate": (21.0, 30.0),
    "Posterize": (2, 0),
    "Solarize": (77, 0),
    "SolarizeAdd": (77, 110),
    "Color": (1.63, 1.9),
    "Contrast": (1.63, 1.9),
    "Brightness": (1.63, 1.9),
    "Sharpness": (1.63, 1.9),
    "ShearX": (0.21, 0.3),
    "ShearY": (0.21, 0.3),
    "TranslateX": (0.315, 0.45),
    "TranslateY": (0.315, 0.45),
}


def test_there_are_fifteen_operations():
    assert set(augment.NAMES) == SCALES.keys() and len(augment.NAMES) == 15


@pytest.mark.parametrize("name", SCALES)
def test_strengths_are_the_recipes(name):
    seven, ten = SCALES[name]
    got = augment.argument(name, 7.0), augment.argument(name, 10.0)
    assert got == ((None, None) if seven is None else pytest.approx((seven, ten)))
    zero, negative = augment.argument(name, 0.0), augment.argument(name, 7.0, sign=-1)
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        assert zero == 1 and negative == pytest.approx(0.37)
    elif name in ("Posterize", "Solarize", "SolarizeAdd"):
        assert zero == {"Posterize": 4, "Solarize": 256, "SolarizeAdd": 0}[name]
        assert negative == seven
    elif seven is not None:
        assert zero == 0 and negative == pytest.approx(-seven)


def test_strengths_that_do_not_increase():
    argument = lambda name, magnitude: augment.argument(name, magnitude, -1, False)  # noqa: E731
    assert (argument("Posterize", 7.0), argument("Solarize", 7.0)) == (2, 179)
    assert (argument("Posterize", 10.0), argument("Solarize", 10.0)) == (4, 256)
    assert argument("Color", 0.0) == pytest.approx(0.1)
    assert argument("Sharpness", 10.0) == pytest.approx(1.9)
    assert argument("Rotate", 7.0) == pytest.approx(-21.0)


def test_point_operations_by_hand(clip):
    x = clip.astype(int)
    expected = {
        ("Invert", None): 255 - x,
        ("Posterize", 2): x & 0b11000000,
        ("Posterize", 0): 0 * x,
        ("Solarize", 77): np.where(x < 77, x, 255 - x),
        ("SolarizeAdd", 110): np.where(x < 128, np.minimum(x + 110, 255), x),
        ("Brightness", 1.63): np.minimum(x * 1.63, 255).astype(int),
        ("Brightness", 0.5): x // 2,
    }
    for operation, frames in expected.items():
        np.testing.assert_array_equal(one(clip, *operation), frames, err_msg=str(operation))


def test_colour_and_contrast_blend_with_grey(clip):
    luma = clip @ np.array([0.299, 0.587, 0.114])
    x = clip.astype(float)
    colour = np.clip(luma[..., None] + 1.5 * (x - luma[..., None]), 0, 255)
    np.testing.assert_allclose(one(clip, "Color", 1.5), colour, atol=1.5)
    mean = luma.mean(axis=(1, 2)).round().reshape(-1, 1, 1, 1)  # of each frame
    contrast = np.clip(mean + 1.5 * (x - mean), 0, 255)
    np.testing.assert_allclose(one(clip, "Contrast", 1.5), contrast, atol=1.5)


def test_sharpness_moves_away_from_the_blurred_picture(clip):
    kernel = np.ones((3, 3))
    kernel[1, 1] = 5
    windows = np.lib.stride_tricks.sliding_window_view(clip.astype(float), (3, 3), axis=(1, 2))
    blurred = (windows * kernel / 13).sum(axis=(-2, -1))
    inner = clip[:, 1:-1, 1:-1].astype(float)
    expected = np.clip(blurred + 1.63 * (inner - blurred), 0, 255)
    np.testing.assert_allclose(one(clip, "Sharpness", 1.63)[:, 1:-1, 1:-1], expected, atol=2)


def test_histograms_are_those_of_each_channel_of_a_frame():
    values = np.repeat(np.arange(64), 16).reshape(1, 32, 32, 1)
    dark = np.concatenate([values, values + 30, values + 60], axis=-1).astype(np.uint8)
    stretched = one(dark, "AutoContrast", None)
    np.testing.assert_allclose(stretched, np.repeat(values * 255 / 63, 3, axis=-1), atol=1)
    # 16 pixels a value; the step is (1024 - 16) // 255 = 3 pixels a grey level.
    equalized = np.minimum((16 * values + 1) // 3, 255)
    np.testing.assert_array_equal(one(dark, "Equalize", None), np.repeat(equalized, 3, axis=-1))


def test_whole_pixels_are_moved_exactly(clip):
    by_two = one(clip, "TranslateX", 2 / 16)
    np.testing.assert_array_equal(by_two[:, :, :-2], clip[:, :, 2:])
    assert (by_two[:, :, -2:] == GREY).all()
    by_three = one(clip, "TranslateY", -3 / 12)
    np.testing.assert_array_equal(by_three[:, 3:], clip[:, :-3])
    assert (by_three[:, :3] == GREY).all()
    square = clip[:, :12, :12]
    turned = np.rot90(square, axes=(1, 2))
    np.testing.assert_array_equal(one(square, "Rotate", 90.0), turned)


def test_shear_and_rotation_of_a_ramp():
    across = np.broadcast_to(np.arange(20, 148, 4)[:, None], (1, 32, 32, 3)).astype(np.uint8)
    down = across.transpose(0, 2, 1, 3)
    y, x = np.mgrid[:32, :32] + 0.5
    sheared = one(across, "ShearX", -0.2)[0]
    cases = {
        "ShearX": (sheared, x - 0.2 * y),
        "ShearY": (one(down, "ShearY", 0.2)[0], y + 0.2 * x),
        "Rotate": (one(down, "Rotate", 21.0)[0],
                   16 + np.cos(np.radians(21)) * (y - 16) + np.sin(np.radians(21)) * (x - 16)),
    }  # fmt: skip
    for name, (got, source) in cases.items():
        inner = (source > 3) & (source < 29)
        if name == "Rotate":
            inner &= np.hypot(x - 16, y - 16) < 12
        # Bicubic interpolation keeps straight lines straight; Pillow rounds down, twice.
        np.testing.assert_allclose(got[inner][:, 0], 18 + 4 * source[inner], atol=1.5, err_msg=name)
    assert (sheared[-1, :6] == GREY).all()


@pytest.mark.parametrize("name", augment.NAMES)
def test_every_frame_gets_what_pillow_makes_of_it(clip, name):
    value = augment.argument(name, 7.0)
    affine = {
        "ShearX": lambda v: (1, v, 0, 0, 1, 0), "ShearY": lambda v: (1, 0, 0, v, 1, 0),
        "TranslateX": lambda v: (1, 0, v * 16, 0, 1, 0),
        "TranslateY": lambda v: (1, 0, 0, 0, 1, v * 12),
    }  # fmt: skip
    bicubic, fill = Image.Resampling.BICUBIC, {"fillcolor": (GREY,) * 3}

    def pillow(image):
        if name in affine:
            return image.transform((16, 12), Image.Transform.AFFINE, affine[name](value), bicubic,
                                   **fill)  # fmt: skip
        if name == "Rotate":
            return image.rotate(value, bicubic, **fill)
        if name == "SolarizeAdd":
            return image.point([i + value if i < 128 else i for i in range(256)] * 3)
        if hasattr(ImageEnhance, name):
            return getattr(ImageEnhance, name)(image).enhance(value)
        return getattr(ImageOps, name.lower())(image, *([] if value is None else [value]))

    before = clip.copy()
    got = one(clip, name, value)
    np.testing.assert_array_equal(got, per_frame(clip, pillow))
    np.testing.assert_array_equal(clip, before)
    assert got.dtype == np.uint8 and got.flags.writeable


def test_operations_follow_each_other(clip):
    both = augment.apply(clip, [("Posterize", 2), ("Invert", None)])
    np.testing.assert_array_equal(both, 255 - (clip & 0b11000000))
    np.testing.assert_array_equal(augment.apply(clip, []), clip)


def test_all_frames_get_the_same_operations(clip):
    still = np.broadcast_to(clip[:1], (5, *clip.shape[1:]))
    policy, changed = RandAugment.parse(RECIPE), 0
    for seed in range(20):
        result = policy(still, np.random.default_rng(seed))
        assert (result == result[0]).all()
        changed += (result != still).any()
    assert changed > 10


def test_a_draw_is_a_function_of_its_generator(clip):
    policy = RandAugment.parse(RECIPE)
    draw = lambda seed: policy.draw(np.random.default_rng(seed))  # noqa: E731
    assert [draw(seed) for seed in range(9)] == [draw(seed) for seed in range(9)]
    assert draw(0) != draw(1)
    again = augment.apply(clip, draw(4))
    np.testing.assert_array_equal(policy(clip, np.random.default_rng(4)), again)


def test_draws_follow_the_probabilities():
    rng, policy = np.random.default_rng(0), RandAugment.parse(RECIPE)
    draws = [policy.draw(rng) for _ in range(4000)]
    counts = np.bincount([len(draw) for draw in draws], minlength=5) / 4000
    np.testing.assert_allclose(counts, np.array([1, 4, 6, 4, 1]) / 16, atol=0.03)
    drawn = [operation for draw in draws for operation in draw]
    shares = [sum(name == other for other, _ in drawn) / len(drawn) for name in augment.NAMES]
    np.testing.assert_allclose(shares, 1 / 15, atol=0.012)
    assert any(a[0] == b[0] for draw in draws for a, b in zip(draw, draw[1:], strict=False))
    degrees = np.array([value for name, value in drawn if name == "Rotate"])
    assert np.mean(degrees > 0) == pytest.approx(0.5, abs=0.07)
    assert np.abs(degrees).mean() == pytest.approx(21, abs=0.4)  # 3 degrees a unit
    assert np.abs(degrees).std() == pytest.approx(1.5, abs=0.25)


def test_magnitudes_are_clipped():
    policy = RandAugment(magnitude=9.5, num_ops=300, magnitude_std=3.0, prob=1.0, increasing=True)
    drawn = policy.draw(np.random.default_rng(0))
    assert len(drawn) == 300
    assert max(value for name, value in drawn if name == "Rotate") == pytest.approx(30)


def test_the_notation_is_parsed():
    assert RandAugment.parse(RECIPE) == RandAugment(7.0, 4, 0.5, 0.5, True)
    assert RandAugment.parse("rand-n2-m9.5") == RandAugment(9.5, 2, 0.0, 0.5, False)
    assert RandAugment.parse("rand-m9-n2-p1-inc0") == RandAugment(9.0, 2, 0.0, 1.0, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("augmix-m7-n4", "must begin with 'rand-'"),
        ("", "must begin with 'rand-'"),
        ("rand-m7-n4-w0", "unknown part 'w0'"),
        ("rand-m7-n4-mstd", "unknown part 'mstd'"),
        ("rand-m7-n4-", "unknown part ''"),
        ("rand-m-7-n4", "unknown part 'm'"),
        ("rand-m7-m8-n4", "gives m twice"),
        ("rand-n4", "lacks m"),
        ("rand-m7", "lacks n"),
        ("rand-m11-n4", r"m must lie in \[0, 10\], got 11"),
        ("rand-m7-n0", "n must be a whole number"),
        ("rand-m7-n2.5", "n must be a whole number"),
        ("rand-m7-n4-p1.5", r"p must lie in \[0, 1\], got 1.5"),
        ("rand-m7-n4-inc2", "inc must be 0 or 1, got 2"),
    ],
)
def test_mistakes_in_the_notation_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        RandAugment.parse(text)


def test_other_clips_are_refused(clip):
    for wrong in (clip[0], clip.astype(np.float32), clip[..., :1]):
        with pytest.raises(ValueError, match="uint8"):
            one(wrong, "Invert", None)
