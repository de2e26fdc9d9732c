"""Files of a list, written on the spot."""

import pytest


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="train.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return str(path)

    return write_file
