"""Counts the multiply-accumulates of a program."""

import math

from jax.extend.core import jaxprs_in_params


def products(jaxpr):
    """Multiply-accumulates of the matrix products and convolutions of a jaxpr."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            features = equation.params["dimension_numbers"].rhs_spec[0]
            total += equation.outvars[0].aval.size * math.prod(kernel) // kernel[features]
        elif equation.primitive.name == "dot_general":
            ((contracted, _), _) = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += equation.outvars[0].aval.size * math.prod(left[i] for i in contracted)
        inner = jaxprs_in_params(equation.params)
        total += sum(products(getattr(x, "jaxpr", x)) for x in inner)
    return total
