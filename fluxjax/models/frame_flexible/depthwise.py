"""Depthwise convolutions, on a CPU as sums of shifted products.

XLA's program for as many groups as channels is a loop over single channels there: for UniFormer's
5x5x5 kernels two hundred times slower than this. Elsewhere it is a convolution like any other.
"""

import itertools

import jax
import jax.numpy as jnp

_FUSED = 27  # products in one loop of XLA's; with more of them it does no longer keep them together


def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B, T, H, W, C] with a kernel [t, h, w, 1, C] of odd sizes -> the same; zeros outside."""
    return jax.lax.platform_dependent(x, kernel, cpu=_shifted, default=_grouped)


def _grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1, 1), [(size // 2,) * 2 for size in kernel.shape[:3]],
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"), feature_group_count=x.shape[-1],
    )  # fmt: skip


@jax.custom_vjp
def _shifted(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _sum_of_shifts(x.astype(jnp.float32), kernel.astype(jnp.float32)).astype(x.dtype)


def _sum_of_shifts(x: jax.Array, kernel: jax.Array) -> jax.Array:
    frames = x.shape[1]
    padded = _padded(x, kernel.shape)

    def add(total, tap):
        number, plane = tap
        seen = jax.lax.dynamic_slice_in_dim(padded, number, frames, axis=1)
        for row, column in itertools.product(*map(range, plane.shape[:2])):
            total = total + _moved(seen, row, column, x.shape) * plane[row, column, 0]
        return total, None

    taps, total = kernel.shape[0], jnp.zeros_like(x)
    if taps * kernel.shape[1] * kernel.shape[2] > _FUSED:
        return jax.lax.scan(add, total, (jnp.arange(taps), kernel))[0]
    for number in range(taps):
        total, _ = add(total, (number, kernel[number]))
    return total


def _forward(x, kernel):
    return _shifted(x, kernel), (x, kernel)


def _backward(saved, cotangent):
    x, kernel = saved
    cotangent = cotangent.astype(jnp.float32)
    mirrored = jnp.flip(kernel.astype(jnp.float32), (0, 1, 2))
    of_x = _sum_of_shifts(cotangent, mirrored).astype(x.dtype)
    return of_x, _kernel_gradient(x.astype(jnp.float32), cotangent, kernel).astype(kernel.dtype)


_shifted.defvjp(_forward, _backward)


def _kernel_gradient(x: jax.Array, cotangent: jax.Array, kernel: jax.Array) -> jax.Array:
    """[t, h, w, 1, C]: a frame and a tap along time in each turn, which stay in the cache."""
    taps, rows, columns, _, channels = kernel.shape
    padded, frames = _padded(x, kernel.shape), x.shape[1]

    def of_tap(tap):
        def add(total, frame):
            seen = jax.lax.dynamic_slice_in_dim(padded, frame + tap, 1, axis=1)
            given = jax.lax.dynamic_slice_in_dim(cotangent, frame, 1, axis=1)
            sums = [
                jnp.sum((_moved(seen, i, j, x.shape) * given).reshape(-1, channels), axis=0)
                for i, j in itertools.product(range(rows), range(columns))
            ]
            return total + jnp.stack(sums), None

        zeros = jnp.zeros((rows * columns, channels), jnp.float32)
        return jax.lax.scan(add, zeros, jnp.arange(frames))[0]

    return jax.lax.map(of_tap, jnp.arange(taps)).reshape(kernel.shape)


def _padded(x: jax.Array, sizes: tuple[int, ...]) -> jax.Array:
    around = [(size // 2,) * 2 for size in sizes[:3]]
    return jnp.pad(x, [(0, 0), *around, (0, 0)])


def _moved(x: jax.Array, row: int, column: int, shape: tuple[int, ...]) -> jax.Array:
    """Rows and columns of a padded clip from `row` and `column` on, as many as `shape` has."""
    return x[:, :, row : row + shape[2], column : column + shape[3]]
