"""Which stream of a container is read, when its pictures are shown, and in what shape."""

import fractions

import av
import numpy as np
import pytest

from data_pipelines.reading.mp4 import encrypted_tracks
from data_pipelines.reading.video import Box, VideoError, open_video
from tests.data_pipelines import video_files as files


def write_streams(path, *streams, seconds=3, sound=None, sound_from=0):
    """Muxes H.264 streams, a dictionary each: `start` in seconds, `height`, `width`, `first` index.

    The sound, if any, goes on until the pictures end.
    """
    with av.open(str(path), "w") as out:
        opened = []
        for options in streams:
            stream = out.add_stream("libx264", rate=25, options=files.GOP12)
            stream.height, stream.width = options.get("height", 64), options.get("width", 80)
            stream.pix_fmt, stream.codec_context.time_base = "yuv420p", fractions.Fraction(1, 25)
            if "disposition" in options:
                stream.disposition = options["disposition"]
            opened.append((stream, options))
        audio = out.add_stream(sound, rate=48000, layout="mono") if sound else None
        late = max((options.get("start", 0) for options in streams), default=0)
        for number in range(round((late + seconds) * 25)):
            if audio is not None and number >= sound_from * 25:
                tone = (np.sin(np.arange(1920) / 5) * 3000).astype(np.int16)[None]
                frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
                frame.sample_rate, frame.pts = 48000, 1920 * number
                out.mux(audio.encode(frame))
            for stream, options in opened:
                index = number - round(options.get("start", 0) * 25)
                if 0 <= index < seconds * 25:
                    image = files.picture(
                        index + options.get("first", 0), stream.height, stream.width
                    )
                    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                    frame = frame.reformat(format="yuv420p", threads=1)
                    frame.pts, frame.time_base = number, fractions.Fraction(1, 25)
                    out.mux(stream.encode(frame))
        for stream in [stream for stream, _ in opened] + [audio] * (audio is not None):
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    "name, sound",
    [
        ("a.mp4", "aac"),
        ("a.mkv", "aac"),
        ("a.mkv", "pcm_s16le"),
        ("a.mkv", "libopus"),
        ("a.ts", "aac"),
        ("a.ts", "mp2"),
        ("a.flv", "aac"),
    ],
)
@pytest.mark.parametrize("start", [2, 0.6])
def test_spans_are_on_the_players_clock(tmp_path, name, sound, start):
    """Sound from 0 s on, pictures later: frame n is shown at `start` + n / 25 s."""
    path = write_streams(tmp_path / name, {"start": start}, sound=sound)
    with open_video(path) as video:
        assert video.num_frames == 75 and video.fps == pytest.approx(25)
        assert video.times == pytest.approx(start + np.arange(75) / 25, abs=2e-3)
        assert video.duration == pytest.approx(start + 3, abs=2e-3)
        first, last = video.span(start + 1, start + 2)
        assert (first, last) == (25, 50)
        assert [files.index_in(f) for f in video.read([first, last - 1])] == [25, 49]
        assert video.span(0, start + 0.2) == (0, 5)  # before it starts, its first frame stands
        assert video.span(0, start / 2) == (0, 1)
        with pytest.raises(VideoError, match="the video ends at"):
            video.span(start + 3.1, start + 4)


@pytest.mark.parametrize("name, sound", [("a.mp4", "aac"), ("a.mkv", "libopus"), ("a.ts", "mp2")])
@pytest.mark.parametrize("sound_from", [0, 1])
def test_the_clock_begins_with_pictures_that_start_first(tmp_path, name, sound, sound_from):
    """Also if they start together: the run-in of the sound's encoder is no late start."""
    path = write_streams(tmp_path / name, {}, sound=sound, sound_from=sound_from)
    with open_video(path) as video:
        assert video.times == pytest.approx(np.arange(75) / 25, abs=2e-3)
        assert video.span(1, 2) == (25, 50)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("start", [5, -0.2])
def test_pictures_alone_begin_at_0(tmp_path, suffix, start):
    """Whatever their time stamps; what a negative one hides in MP4 is not shown."""
    whole = write_streams(tmp_path / f"whole.{suffix}", {})
    path = tmp_path / f"moved.{suffix}"
    files.cut(whole, path, earlier=-round(start * 25))
    hidden = 5 if start < 0 and suffix == "mp4" else 0
    with open_video(path) as video:
        assert video.times == pytest.approx(np.arange(75 - hidden) / 25, abs=2e-3)
        assert files.index_in(video.read([video.span(1, 2)[0]])[0]) == 25 + hidden


def test_the_best_of_several_streams_is_read(tmp_path):
    """FFmpeg's choice; the first one only if they are alike."""
    small, large = {"height": 32, "width": 64, "first": 40}, {"height": 64, "width": 96}
    for number, streams in enumerate(([small, large], [large, small])):
        path = write_streams(tmp_path / f"{number}.mkv", *streams)
        with av.open(str(path)) as container:
            best = container.streams.best("video")
            expected = (best.codec_context.height, best.codec_context.width)
        with open_video(path) as video:
            assert (video.height, video.width) == expected
    default = av.stream.Disposition.default
    path = write_streams(
        tmp_path / "default.mkv", {"first": 40, "disposition": 0}, {"disposition": default}
    )
    with open_video(path) as video:
        assert files.index_in(video.read([7])[0]) == 7, "the one marked as default"


def test_an_attached_picture_is_never_the_video(tmp_path):
    cover = av.stream.Disposition.attached_pic
    path = tmp_path / "cover.mp4"
    with av.open(str(path), "w") as out:
        art = out.add_stream("mjpeg", rate=25)
        art.height, art.width, art.pix_fmt = 480, 640, "yuvj420p"
        art.disposition = cover
        frame = av.VideoFrame.from_ndarray(files.picture(99, 480, 640), format="rgb24")
        video = out.add_stream("libx264", rate=25, options=files.GOP12)
        video.height, video.width, video.pix_fmt = 64, 80, "yuv420p"
        out.mux([*art.encode(frame.reformat(format="yuvj420p")), *art.encode(None)])
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(files.picture(index, 64, 80), format="rgb24")
            out.mux(video.encode(frame.reformat(format="yuv420p")))
        out.mux(video.encode(None))
    with av.open(str(path)) as container:
        assert any(s.disposition & cover for s in container.streams.video)
    with open_video(path) as opened:
        assert (opened.num_frames, opened.height) == (10, 64)
        assert opened.times[0] == 0


def write_wide(path, aspect, **options):
    """64x80 coded pixels of that shape."""
    whole = files.write_video(path.with_stem("square"), 3, **options)
    with av.open(str(whole)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream("libx264", rate=25, options=files.GOP12)
        stream.height, stream.width, stream.pix_fmt = 64, 80, "yuv420p"
        stream.sample_aspect_ratio = aspect
        if "rotation" in options:
            stream.set_display_rotation(options["rotation"][0])
        for frame in old.decode(video=0):
            out = av.VideoFrame.from_ndarray(frame.to_ndarray(format="yuv420p"), "yuv420p")
            new.mux(stream.encode(out))
        new.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    "aspect, width", [((4, 3), 107), ((8, 9), 71), ((1, 1), 80), ((64, 45), 114)]
)
def test_pixels_are_made_square_where_asked(tmp_path, aspect, width):
    path = write_wide(tmp_path / "wide.mp4", fractions.Fraction(*aspect))
    with open_video(path) as video:
        assert (video.height, video.width) == (64, 80), "left alone, as most readers do"
    frame = files.decode_all(path)[1]
    with open_video(path, square_pixels=True) as video:
        assert (video.height, video.width) == (64, width)
        whole = video.read([1])[0]
        truth = files.convert([frame], [("scale", f"{width}:64:{files.SCALE}")])[0]
        assert np.array_equal(whole, truth)
        assert video.read([1], size=(32, 32)).shape == (1, 32, 32, 3)
        left, right = round(20 * 80 / width), round(70 * 80 / width)  # of 80 coded pixels
        crop = f"{right - left}:40:{left - left % 2}:8:exact=1"
        part = files.convert([frame], [("crop", crop), ("scale", f"50:40:{files.SCALE}")])
        assert np.array_equal(video.read([1], box=Box(8, 20, 40, 50)), part)
        with pytest.raises(ValueError, match="not inside"):
            video.read([1], box=Box(0, width - 9, 10, 10))


def test_square_pixels_of_a_turned_picture(tmp_path):
    path = write_wide(
        tmp_path / "turned.mp4", fractions.Fraction(3, 2), rotation=(90, False, False)
    )
    with open_video(path) as video:
        assert (video.height, video.width) == (80, 64)
    with open_video(path, square_pixels=True) as video:
        assert (video.height, video.width) == (120, 64)
        assert video.read([0], box=Box(100, 10, 20, 54)).shape == (1, 20, 54, 3)
    with pytest.raises(VideoError, match="more than max_pixels"):
        open_video(path, square_pixels=True, max_pixels=6000)


def test_encrypted_video_is_refused_by_its_sample_description(tmp_path):
    """Common encryption renames the description and keeps the codec's name inside it."""
    plain = files.write_video(tmp_path / "plain.mp4", 5, audio=True, options=files.GOP12)
    data = plain.read_bytes()
    assert encrypted_tracks(data) == encrypted_tracks(plain) == set()
    for original, name in ((b"avc1", b"encv"), (b"avc1", b"drmi")):
        at = data.index(original, data.index(b"stsd"))
        path = tmp_path / f"{name.decode()}.mp4"
        path.write_bytes(data[:at] + name + data[at + 4 :])
        for source in (path, path.read_bytes()):
            with pytest.raises(VideoError, match="encrypted"):
                open_video(source)


@pytest.mark.parametrize("flags", ["", "faststart", "frag_keyframe+empty_moov"])
@pytest.mark.parametrize("audio", [False, True])
def test_files_of_common_encryption(tmp_path, flags, audio):
    """Written by FFmpeg's own muxer, which encrypts every track."""
    key = "76a6c65c5ea762046bd749a2e632ccbb"
    muxing = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": key,
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    } | ({"movflags": flags} if flags else {})
    path = files.write_video(tmp_path / "cenc.mp4", 12, audio=audio, muxing=muxing)
    assert len(encrypted_tracks(path)) == 1
    with pytest.raises(VideoError, match="encrypted: its video needs a key"):
        open_video(path)


def test_encrypted_sound_does_not_matter(tmp_path):
    plain = files.write_video(tmp_path / "plain.mp4", 5, audio=True, options=files.GOP12)
    data = plain.read_bytes()
    at = data.index(b"mp4a", data.index(b"stsd"))
    with open_video(data[:at] + b"enca" + data[at + 4 :]) as video:
        assert files.index_in(video.read([3])[0]) == 3
