"""Tables that tie the tensors of an official checkpoint to our parameters, one row a tensor.

A family lists its rows once; reading, writing and checking names and shapes all follow from them.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fluxjax.weight_files.errors import WeightsError

_LISTED = 50  # names of one kind shown in an error


class Layout(NamedTuple):
    """How one stored tensor becomes arrays of ours, and back."""

    split: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    join: Callable[[Sequence[np.ndarray], tuple[int, ...]], np.ndarray]


def _flat_patch(kernel: np.ndarray) -> tuple[np.ndarray]:
    """Conv3d kernel [C, 3, 1, p, p] -> matrix [p*p*3, C]; our patches have channels fastest."""
    return (kernel[:, :, 0].transpose(2, 3, 1, 0).reshape(-1, kernel.shape[0]),)


def _conv_patch(arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    width, channels, _, rows, cols = shape
    kernel = arrays[0].reshape(rows, cols, channels, width).transpose(3, 2, 0, 1)
    return kernel[:, :, None]


def tubelet_kernel(tubelet: int, patch: int) -> Layout:
    """Conv3d kernel [C, 3, t, p, p] <-> matrix [t*p*p*3, C]; our tokens have channels fastest."""

    def join(arrays, shape):
        blocks = arrays[0].reshape(tubelet, patch, patch, 3, shape[0])
        return blocks.transpose(4, 3, 0, 1, 2)

    return Layout(lambda x: (x.transpose(2, 3, 4, 1, 0).reshape(-1, x.shape[0]),), join)


AS_IS = Layout(lambda x: (x,), lambda arrays, shape: arrays[0])
TRANSPOSED = Layout(lambda x: (x.T,), lambda arrays, shape: arrays[0].T)
VECTOR = Layout(lambda x: (x.reshape(-1),), lambda arrays, shape: arrays[0].reshape(shape))
PATCH_KERNEL = Layout(_flat_patch, _conv_patch)


def folded(*inner: int) -> Layout:
    """Stored [1, prod(inner), C] <-> ours [*inner, C]."""
    return Layout(
        lambda x: (x.reshape(*inner, x.shape[-1]),), lambda arrays, shape: arrays[0].reshape(shape)
    )


def cls_and_table(grid: tuple[int, int, int], stacked: bool = True) -> Layout:
    """Stored positions <-> the cls token's row [C] and a table [T, H, W, C].

    They are stored as [1, 1+T*H*W, C] if `stacked`, else as [1+T*H*W, C].
    """

    def split(x):
        x = x[0] if stacked else x
        return x[0], x[1:].reshape(*grid, x.shape[-1])

    def join(arrays, shape):
        rows = np.concatenate([np.reshape(a, (-1, shape[-1])) for a in arrays])
        return rows[None] if stacked else rows

    return Layout(split, join)


def patch_matrix(patch: int) -> Layout:
    """Stored [C, 3, p, p] or [C, 3*p*p] <-> matrix [p*p*3, C]; our patches have channels last."""

    def split(x):
        return (x.reshape(-1, 3, patch, patch).transpose(2, 3, 1, 0).reshape(-1, x.shape[0]),)

    def join(arrays, shape):
        blocks = arrays[0].reshape(patch, patch, 3, shape[0])
        return blocks.transpose(3, 2, 0, 1).reshape(shape)

    return Layout(split, join)


@dataclasses.dataclass(frozen=True)
class Row:
    """One tensor of the checkpoint.

    Attributes:
      name: in the torch state dict.
      shape: in the torch state dict.
      paths: of our parameters, parts joined by "/".
      layout: between the two.
      collection: of our variables that holds them.
    """

    name: str
    shape: tuple[int, ...]
    paths: tuple[str, ...]
    layout: Layout = AS_IS
    collection: str = "params"

    @property
    def keys(self) -> list[tuple[str, ...]]:
        """Of our variables: collection and path of each."""
        return [(self.collection, *path.split("/")) for path in self.paths]

    def within(self, prefix: str) -> "Row":
        """The same tensor with `prefix` before its name."""
        return dataclasses.replace(self, name=prefix + self.name)

    def without(self, prefix: str) -> "Row":
        """The same tensor without the `prefix` of its name."""
        return dataclasses.replace(self, name=self.name.removeprefix(prefix))


def vector(name: str, path: str, size: int, stored: tuple[int, ...] | None = None) -> Row:
    """A vector [size], stored in another shape if `stored` says so."""
    return Row(name, stored or (size,), (path,), VECTOR)


def kernel(name: str, path: str, size_in: int, size_out: int) -> Row:
    """The weight of a torch Linear [out, in] and of a flax Dense [in, out]."""
    return Row(name, (size_out, size_in), (f"{path}/kernel",), TRANSPOSED)


def dense(name: str, path: str, size_in: int, size_out: int) -> list[Row]:
    """A linear map with bias."""
    weight = kernel(f"{name}.weight", path, size_in, size_out)
    return [weight, vector(f"{name}.bias", f"{path}/bias", size_out)]


def layer_norm(name: str, path: str, size: int) -> list[Row]:
    """A LayerNorm of ours (see `fluxjax.models.layers`): weight and bias."""
    inner = f"{path}/LayerNorm_0"
    return [
        vector(f"{name}.weight", f"{inner}/scale", size),
        vector(f"{name}.bias", f"{inner}/bias", size),
    ]


def tubelet_rows(name: str, path: str, width: int, tubelet: int, patch: int) -> list[Row]:
    """A patch embedding whose convolution [C, 3, t, p, p] covers t frames, and its bias."""
    shape = (width, 3, tubelet, patch, patch)
    weight = Row(f"{name}.weight", shape, (f"{path}/kernel",), tubelet_kernel(tubelet, patch))
    return [weight, vector(f"{name}.bias", f"{path}/bias", width)]


def to_variables(
    state: Mapping[str, Any], rows: Iterable[Row], what: str, drawn: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Checks a state dict against a table and converts it.

    Args:
      state: torch name -> array; bfloat16 and half precision become float32.
      rows: the table; every row must be in `state`, and nothing else.
      what: the model, for the error message.
      drawn: paths of parameters that the state does not give -> their values.

    Returns:
      {"params": nested dictionary of float32 arrays}, and other collections that rows name.

    Raises:
      WeightsError: listing all missing, unexpected and misshaped names.
    """
    rows = list(rows)
    check(state, rows, what)
    flat = {("params", *path.split("/")): jnp.asarray(v) for path, v in (drawn or {}).items()}
    for row in rows:
        parts = row.layout.split(as_float32(state[row.name]))
        flat |= {key: jnp.asarray(part) for key, part in zip(row.keys, parts, strict=True)}
    return unflatten_dict(flat)


def to_state(variables: Mapping[str, Any], rows: Iterable[Row]) -> dict[str, np.ndarray]:
    """The inverse of `to_variables`: torch name -> contiguous array in torch's layout.

    Raises:
      WeightsError: if the variables are not those of the table's model.
    """
    rows = list(rows)
    collections = {"params"} | {row.collection for row in rows}
    flat = flatten_dict({name: variables.get(name, {}) for name in collections})
    keys = {key for row in rows for key in row.keys}
    if keys != set(flat):
        missing, unexpected = keys - set(flat), set(flat) - keys
        raise WeightsError(
            f"variables do not belong to this model: missing {_paths(missing)}, "
            f"unexpected {_paths(unexpected)}"
        )
    state = {}
    for row in rows:
        tensor = row.layout.join([np.asarray(flat[key]) for key in row.keys], row.shape)
        if tensor.shape != row.shape:
            raise WeightsError(
                f"{row.paths} give {row.name!r} the shape {tensor.shape}, expected {row.shape}; "
                "are the variables of another size than the model?"
            )
        state[row.name] = np.asarray(tensor, order="C")  # ascontiguousarray gives scalars an axis
    return state


def _paths(keys: Iterable[tuple[str, ...]]) -> list[str]:
    """Paths of parameters; of other collections with the collection's name."""
    return sorted("/".join(key[1:] if key[0] == "params" else key) for key in keys)


def as_float32(value: Any) -> np.ndarray:
    """An array of any float type, bfloat16 too, as float32."""
    return np.asarray(value, np.float32)


def is_count(value: Any) -> bool:
    """Whether this is one whole number, such as `n_averaged` of torch's AveragedModel."""
    return np.size(value) == 1 and np.asarray(value).dtype.kind in "iub"


def check(state: Mapping[str, Any], rows: Sequence[Row], what: str) -> None:
    """Raises one WeightsError that lists every name that is missing, unexpected or misshaped."""
    expected = {row.name: row.shape for row in rows}
    missing = [name for name in expected if name not in state]
    # A count that a wrapper keeps (`n_averaged`, ..) is no weight of any of the models.
    unexpected = [n for n, value in state.items() if n not in expected and not is_count(value)]
    misshaped = []
    for name, shape in expected.items():
        found = tuple(np.shape(state[name])) if name in state else shape
        if found != shape:
            misshaped.append(f"{name!r} is {found}, expected {shape}")
        elif name in state and not jnp.issubdtype(state[name].dtype, jnp.floating):
            misshaped.append(f"{name!r} holds {state[name].dtype}, expected floats")
    if not missing and not unexpected and not misshaped:
        return
    problems = [f"the weights do not fit {what}"]
    for kind, names in (("missing", missing), ("unexpected", unexpected)):
        others = unexpected if kind == "missing" else missing
        listed = [repr(name) + _nearest(name, others) for name in names[:_LISTED]]
        problems.extend(_listing(kind, listed, len(names)))
    problems.extend(_listing("misshaped", misshaped[:_LISTED], len(misshaped)))
    raise WeightsError("\n  ".join(problems))


def _listing(kind: str, listed: list[str], count: int) -> list[str]:
    more = f", and {count - len(listed)} more" if count > len(listed) else ""
    return [f"{kind} ({count}): {', '.join(listed)}{more}"] if count else []


def _nearest(name: str, others: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, others, n=1, cutoff=0.7)
    return f" (nearest: {near[0]!r})" if near else ""
