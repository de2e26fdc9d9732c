"""`hf:` sources against a hub on loopback, and without a network."""

import hashlib
import sys

import pytest

from fluxjax.pretrained.hub import parse
from fluxjax.pretrained.sources import fetch
from fluxjax.weight_files.errors import WeightsError
from tests.pretrained.file_server import hub_files, serving

constants = pytest.importorskip("huggingface_hub.constants")
REPO = "someone/fluxvit"
WEIGHTS = bytes(range(256)) * 500
SUM = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    files = {"w.pth": WEIGHTS, "sub/architecture.json": b"{}", "README.md": b"hello"}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's tries
    with serving(hub_files(REPO, files)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def downloads(server):
    return [path for method, path, _ in server.asked if method == "GET" and "/resolve/" in path]


def test_a_file(hub, tmp_path):
    path = fetch(f"hf:{REPO}/w.pth")
    assert path.read_bytes() == WEIGHTS and path.is_relative_to(tmp_path / "hub")
    assert path.resolve().name == SUM
    assert fetch(f"hf:{REPO}/w.pth#sha256={SUM}") == path
    assert fetch(f"hf:{REPO}/w.pth@main") == path
    assert len(downloads(hub)) == 1
    assert fetch(f"hf:{REPO}/sub/architecture.json").read_bytes() == b"{}"


def test_a_repository(hub):
    folder = fetch(f"hf:{REPO}")
    assert (folder / "w.pth").read_bytes() == WEIGHTS
    assert (folder / "sub/architecture.json").is_file() and (folder / "README.md").is_file()
    assert fetch(f"hf:{REPO}") == folder and len(downloads(hub)) == 3


def test_a_connection_that_breaks_off_goes_on(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # the client keeps whole ones
    hub.breaks = [50_000]
    assert fetch(f"hf:{REPO}/w.pth").read_bytes() == WEIGHTS
    assert [wanted for method, _, wanted in hub.asked if method == "GET"] == [None, "bytes=50000-"]


def test_what_the_hub_has_is_used_without_a_network(hub, monkeypatch):
    path = fetch(f"hf:{REPO}/w.pth")
    hub.shutdown()
    hub.server_close()
    assert fetch(f"hf:{REPO}/w.pth") == path
    with pytest.raises(ConnectionError, match="README.md is not in the cache, and the hub cannot"):
        fetch(f"hf:{REPO}/README.md")
    with pytest.raises(ConnectionError, match="hf:someone/other is not in the cache"):
        fetch("hf:someone/other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(f"hf:{REPO}/w.pth") == path
    with pytest.raises(ConnectionError, match="give the path of a file or folder"):
        fetch(f"hf:{REPO}/README.md")


def test_checksums_of_the_caller_and_of_the_hub(hub):
    with pytest.raises(WeightsError, match=f"w.pth has sha256 {SUM}, not 0000.*, and was removed"):
        fetch(f"hf:{REPO}/w.pth#sha256={'0' * 64}")
    path = fetch(f"hf:{REPO}/w.pth")
    path.resolve().write_bytes(WEIGHTS[:-1] + b"x")  # damaged in the cache
    with pytest.raises(WeightsError, match=f"not {SUM}, and was removed"):
        fetch(f"hf:{REPO}/w.pth")
    assert fetch(f"hf:{REPO}/w.pth").read_bytes() == WEIGHTS
    with pytest.raises(ValueError, match="a sha256 is of one file: hf:OWNER/REPO/FILE"):
        fetch(f"hf:{REPO}#sha256={SUM}")


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        (f"hf:{REPO}/gone.pth", FileNotFoundError, "the hub has no such repository, revision or"),
        ("hf:someone/else", FileNotFoundError, "hf:someone/else: the hub has no such repository"),
        ("hf:someone/else/w.pth", FileNotFoundError, "or set .HF_TOKEN"),
        (f"hf:{REPO}/w.pth@v9", FileNotFoundError, "revision or file"),
        ("hf:fluxvit", ValueError, "must be hf:OWNER/REPO"),
        ("hf:/x/y", ValueError, "must be hf:OWNER/REPO"),
        (f"hf:{REPO}@", ValueError, "must be hf:OWNER/REPO"),
        ("hf:some one/x..y", ValueError, "hf:some one/x..y: "),
    ],
)
def test_what_goes_wrong_is_one_line(hub, source, kind, message):
    with pytest.raises(kind, match=message) as error:
        fetch(source)
    assert "\n" not in str(error.value)


def test_without_the_client_there_is_one_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"needs the package huggingface_hub: .*'fluxjax\[hub\]'"):
        fetch("hf:someone/fluxvit")


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("hf:a/b", ("a/b", None, None)),
        ("hf:a/b@v1", ("a/b", None, "v1")),
        ("hf:a/b/c/d.pth@refs/pr/1", ("a/b", "c/d.pth", "refs/pr/1")),
    ],
)
def test_the_form(source, parts):
    assert parse(source) == parts
