"""examples/serve.py where something that it needs is missing: one line that names it."""

import json
import pathlib

import numpy as np
import pytest

from tests.export.clean_environment import clean_environment, requirements

SERVE = pathlib.Path(__file__).parents[2] / "examples" / "serve.py"


def served(tmp_path, *names, budget=8, fake_jax=None):
    """Runs serve.py on the folder tmp_path / out, with a stand-in for jax if its text is given."""
    environment = clean_environment(tmp_path / "installed", *names)
    if fake_jax is not None:
        (tmp_path / "installed" / "jax").mkdir()
        (tmp_path / "installed" / "jax" / "__init__.py").write_text(fake_jax)
        (tmp_path / "installed" / "jax" / "export.py").write_text(
            "maximum_supported_calling_convention_version = 9"
        )
    np.save(tmp_path / "clips.npy", np.zeros((1, 1, 1, 1, 3), np.uint8))
    result = environment(
        "import runpy, sys\n"
        f"sys.argv = ['serve.py', {str(tmp_path / 'out')!r}, '{budget}', "
        f"{str(tmp_path / 'clips.npy')!r}]\n"
        f"runpy.run_path({str(SERVE)!r}, run_name='__main__')"
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    return result.stderr.strip()


def write_ladder(folder, convention):
    folder.mkdir()
    ladder = {"calling_convention": convention, "jax": "9.9.9", "weights": "w"}
    ladder["rungs"] = [{"budget": 16, "program": "p"}, {"budget": 12, "program": "q"}]
    (folder / "ladder.json").write_text(json.dumps(ladder))


def test_jax_alone_lacks_flatbuffers(tmp_path):
    """If jax ever brings it: serve.py, its text and docs/serving.md need to ask for it no more."""
    assert "flatbuffers" not in requirements("jax")
    assert served(tmp_path, "jax") == "serve.py lacks flatbuffers: pip install jax flatbuffers"


def test_no_jax_at_all(tmp_path):
    found = served(tmp_path, "flatbuffers", "numpy")
    assert found == "serve.py lacks jax: pip install jax flatbuffers"


FAKE = "__version_info__ = {0}; __version__ = '.'.join(map(str, __version_info__))"


@pytest.mark.parametrize("version", [(0, 7, 2), (0, 8, 1)])
def test_a_jax_that_is_too_old(tmp_path, version):
    found = served(tmp_path, "flatbuffers", "numpy", fake_jax=FAKE.format(version))
    shown = ".".join(map(str, version))
    assert found == f"serve.py needs jax 0.8.2 or newer, this is {shown}: pip install -U jax"


def test_a_program_of_a_later_jax(tmp_path):
    write_ladder(tmp_path / "out", 10)
    found = served(tmp_path, "flatbuffers", "numpy", fake_jax=FAKE.format((0, 8, 2)))
    assert found.endswith("out was written by jax 9.9.9, this is 0.8.2: update jax")


def test_a_budget_below_the_ladder(tmp_path):
    write_ladder(tmp_path / "out", 9)
    found = served(tmp_path, "flatbuffers", "numpy", fake_jax=FAKE.format((0, 8, 2)))
    assert found == "no program keeps at most 8 tokens; the smallest keeps 12"
