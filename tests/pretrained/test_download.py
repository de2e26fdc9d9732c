"""Files from a server on loopback: resumed, checked, kept; and one line for what goes wrong."""

import hashlib
import threading

import numpy as np
import pytest

from fluxjax.pretrained import download as downloads
from fluxjax.pretrained.sources import CACHE, cache_folder, fetch
from fluxjax.weight_files.errors import WeightsError
from tests.pretrained.file_server import serving

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()
OTHER = CONTENT[::-1]
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    with serving({"/a/w.pth": CONTENT, "/b/w.pth": OTHER}) as running:
        yield running


def gets(server):
    return [wanted for _, _, wanted in server.asked]


def test_a_file_is_fetched_once(server, tmp_path):
    source = f"{server.url}/a/w.pth#sha256={SUM.upper()}"
    path = fetch(source)
    assert path.read_bytes() == CONTENT and path.name == "w.pth"
    assert path.is_relative_to(tmp_path / "cache")
    assert fetch(source) == path and len(server.asked) == 1
    other = fetch(f"{server.url}/b/w.pth#sha256={hashlib.sha256(OTHER).hexdigest()}")
    assert other.read_bytes() == OTHER and other != path
    assert sorted(file.name for file in path.parent.iterdir()) == ["w.pth", "w.pth.lock"]


def test_a_connection_that_breaks_off_goes_on_where_it_was(server):
    server.breaks = [100_000, 50_000]
    path = fetch(f"{server.url}/a/w.pth#sha256={SUM}")
    assert path.read_bytes() == CONTENT
    assert gets(server) == [None, "bytes=100000-", "bytes=150000-"]


def test_another_call_goes_on_where_the_first_gave_up(server):
    server.breaks = [10_000] * downloads.TRIES
    source = f"{server.url}/a/w.pth#sha256={SUM}"
    with pytest.raises(
        ConnectionError, match="broke off after 30000 of 300000.*the same call goes on"
    ):
        fetch(source)
    server.asked.clear()
    assert fetch(source).read_bytes() == CONTENT
    assert gets(server) == ["bytes=30000-"]


@pytest.mark.parametrize("change", ["content", "no ranges", "no version", "weak version"])
def test_what_cannot_go_on_begins_again(server, change):
    server.breaks = [10_000] * downloads.TRIES
    if change == "weak version":
        server.version = 'W/"1"'
    with pytest.raises(ConnectionError):
        fetch(f"{server.url}/a/w.pth#sha256={SUM}")
    wanted, total = CONTENT, SUM
    if change == "content":
        server.files["/a/w.pth"] = wanted = OTHER
        total = hashlib.sha256(OTHER).hexdigest()
    elif change == "no ranges":
        server.ranges = False
    elif change == "no version":
        part = next(cache_folder().rglob("*.part"))
        part.with_name(part.name + ".version").unlink()
    assert fetch(f"{server.url}/a/w.pth#sha256={total}").read_bytes() == wanted


def test_a_part_that_is_longer_than_the_file_begins_again(server, tmp_path):
    target = tmp_path / "w.pth"
    target.with_name("w.pth.part").write_bytes(CONTENT + b"more")
    target.with_name("w.pth.part.version").write_text(f'"{SUM}"')
    downloads.download(f"{server.url}/a/w.pth", target, SUM)
    assert target.read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_removed(server):
    source = f"{server.url}/a/w.pth#sha256={'0' * 64}"
    for _ in range(2):
        with pytest.raises(WeightsError, match=f"has sha256 {SUM}, not 0000.*, and was removed"):
            fetch(source)
        assert not list(cache_folder().rglob("*.pth"))
    path = fetch(f"{server.url}/a/w.pth#sha256={SUM}")
    path.write_bytes(OTHER)  # damaged in the cache
    with pytest.raises(WeightsError, match="and was removed"):
        fetch(f"{server.url}/a/w.pth#sha256={SUM}")
    assert not path.exists()


def test_a_file_of_ones_own_is_checked_and_never_removed(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(CONTENT)
    assert fetch(path) == path and fetch(f"{path}#sha256={SUM}") == path
    with pytest.raises(WeightsError, match="has sha256"):
        fetch(f"{path}#sha256={'1' * 64}")
    assert path.exists()


def test_processes_that_want_the_same_file_fetch_it_once(server):
    threads = [
        threading.Thread(target=fetch, args=(f"{server.url}/a/w.pth#sha256={SUM}",))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gets(server) == [None]


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("{url}/gone.pth#sha256=" + SUM, FileNotFoundError, "gone.pth: HTTP 404 Not Found"),
        ("http://127.0.0.1:9/w.pth#sha256=" + SUM, ConnectionError, "cannot be fetched.*refused"),
        ("https://no.such.host.invalid/w.pth", ConnectionError, "give the path of a file"),
        ("{url}/a/w.pth", ValueError, "is not encrypted: use https, or add #sha256="),
        ("{url}/#sha256=" + SUM, ValueError, "names no file"),
        ("https://host/w.pth#sha256=12", ValueError, "64 hexadecimal digits"),
        ("gs://bucket/w.pth", ValueError, "gs:// is not read here; weights come from a file"),
        ("ftp://host/w.pth", ValueError, "ftp:// is not read here"),
        ("/no/such/file.pth", FileNotFoundError, "there is no /no/such/file.pth; weights come"),
    ],
)
def test_what_goes_wrong_is_one_line(server, source, kind, message):
    with pytest.raises(kind, match=message) as error:
        fetch(source.replace("{url}", server.url))
    assert "\n" not in str(error.value)
