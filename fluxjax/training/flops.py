"""FLOP of a program, as XLA counts them before it optimises, with every turn of its loops."""

from typing import Any

import jax
from jax.extend.core import jaxpr_as_fun


def count_flops(program: Any) -> float:
    """FLOP of a closed jaxpr: XLA's count, in which a loop's body counts once, and its other turns.

    Args:
      program: as `jax.make_jaxpr` gives it; kernels count nothing, see `plain_attention`.
    """
    lowered = jax.jit(jaxpr_as_fun(program)).lower(*program.in_avals)
    return (lowered.cost_analysis() or {}).get("flops", 0.0) + _repeated(program.jaxpr)


def _repeated(jaxpr: Any) -> float:
    """FLOP of the second and later turns of every `lax.scan` in a jaxpr."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            body = equation.params["jaxpr"]
            inner = _repeated(body.jaxpr)
            turns = equation.params["length"]
            total += turns * inner + (turns - 1) * (count_flops(body) - inner)
            continue
        for value in _run_here(equation.params).values():
            for part in value if isinstance(value, tuple | list) else (value,):
                part = getattr(part, "jaxpr", part)
                if hasattr(part, "eqns"):
                    total += _repeated(part)
    return total


def _run_here(params: dict[str, Any]) -> dict[str, Any]:
    """An equation's parameters, of `lax.platform_dependent` with the branch of this platform."""
    platforms = params.get("branches_platforms")
    if platforms is None:
        return params
    here = [i for i, names in enumerate(platforms) if names and jax.default_backend() in names]
    number = here[0] if here else platforms.index(None)
    return params | {"branches": params["branches"][number : number + 1]}
