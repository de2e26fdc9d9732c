"""Options are spelled with dashes in every command; with underscores, as they were, they work."""

import pytest

import fluxjax.budgets.__main__ as budgets
import fluxjax.convert.__main__ as convert
from fluxjax import evaluate, predict
from fluxjax.export import __main__ as export
from fluxjax.options import OptionParser

COMMANDS = {m.__name__: m.parser for m in (budgets, convert, evaluate, predict, export)}


@pytest.mark.parametrize("name", COMMANDS)
def test_options_have_dashes_only(name):
    options = [text for action in COMMANDS[name]()._actions for text in action.option_strings]
    assert options and not [text for text in options if "_" in text]


def test_the_spelling_of_earlier_versions():
    given = ["--family=fluxvit", "--source", "a_b.pth", "--target", "t", "--num_heads=6"]
    options = convert.parser().parse_args([*given, "--pool_num_heads", "16"])
    assert (options.num_heads, options.pool_num_heads, options.source) == (6, 16, "a_b.pth")
    options = evaluate.parser().parse_args(
        ["--checkpoint=r", "--num_processes=2", "--process_id=1"]
    )
    assert (options.num_processes, options.process_id) == (2, 1)
    assert "num_heads" not in convert.parser().format_help()
    parser = OptionParser()
    parser.add_argument("--a-b")
    parser.add_argument("rest", nargs="*")
    parsed = parser.parse_args(["--a_b=x_y", "--", "--c_d"])
    assert (parsed.a_b, parsed.rest) == ("x_y", ["--c_d"])
