"""EVL against the official code: cross-attention, decoder, whole model, gradients, AdamW steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fluxjax
from fluxjax.models.clip import LayerFeatures
from fluxjax.models.temporal_attention import TemporalCrossAttention, mean_head_attention
from fluxjax.tasks.base import ParamGroup
from fluxjax.training.optimizers import make_optimizer
from fluxjax.training.schedules import warmup_cosine
from tests import tiny
from tests.golden import fixture, traced

CROSS = fixture("evl", "evl_temporal")
DECODER = fixture("evl", "evl_decoder")
FULL = fixture("evl", "evl_full_forward")
MODULES = ("temporal_conv", "temporal_pos_embed", "temporal_cross_attention")


def cross_attention(places=None):
    """The module's gradient function of its fixture; `places` tells the order of the tokens."""
    grid = tuple(CROSS.meta["config"]["spatial_size"])
    module = TemporalCrossAttention(CROSS.meta["config"]["feature_dim"], grid)

    @jax.jit
    def run(tables, q, k, cotangent):
        spans = tuple(2 * side - 1 for side in grid)

        def apply(tables, q, k):
            params = {name: table.reshape(*spans, -1) for name, table in tables.items()}
            return module.apply({"params": params}, q, k, grid, places)

        out, pull = jax.vjp(apply, tables, q, k)
        return out, pull(cotangent)

    return run


def test_temporal_cross_attention_and_its_gradients():
    run = cross_attention()
    out, (tables, q, k) = run(CROSS.params, *(CROSS.inputs[n] for n in ("q", "k", "cotangent")))
    CROSS.check("out", out)
    for name, value in (("w1", tables["w1"]), ("w2", tables["w2"]), ("q", q), ("k", k)):
        CROSS.check(f"grad_{name}", value)


def test_parts_of_the_cross_attention():
    q, k = CROSS.inputs["q"][:, :, 1:], CROSS.inputs["k"][:, :, 1:]
    CROSS.check("attn_prev", jax.jit(mean_head_attention)(q[:, 1:], k[:, :-1]))
    one = [CROSS.inputs[name][:, :1] for name in ("q", "k", "cotangent")]
    out, _ = cross_attention()(CROSS.params, *one)
    CROSS.check("out_T1", out)
    out, _ = cross_attention()(
        CROSS.params | {"w2": np.zeros_like(CROSS.params["w2"])}, q=CROSS.inputs["q"],
        k=CROSS.inputs["k"], cotangent=CROSS.inputs["cotangent"],
    )  # fmt: skip
    CROSS.check("w1_term", out[:, 1:, 1:])


@pytest.mark.slow
def test_selected_places_get_the_sums_over_selected_places():
    """With every place kept, and in another order, as without selection."""
    rng = np.random.default_rng(0)
    order = np.stack([rng.permutation(12) for _ in range(2)])

    def shuffled(x):
        rows = np.take_along_axis(x[:, :, 1:], order.reshape(2, 1, 12, *[1] * (x.ndim - 3)), 2)
        return np.concatenate([x[:, :, :1], rows], axis=2)

    inputs = [shuffled(CROSS.inputs[name]) for name in ("q", "k", "cotangent")]
    run = cross_attention(jnp.asarray(order, jnp.int32))
    out, (tables, _, _) = run(CROSS.params, *inputs)
    bound = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(out, shuffled(CROSS.outputs["out"]), **bound)
    np.testing.assert_allclose(tables["w1"], CROSS.outputs["grad_w1"], **bound)
    # With a few places kept, the others neither ask nor answer.
    few = jnp.asarray(np.sort(order[:, :5], axis=1), jnp.int32)
    kept = [np.take_along_axis(CROSS.inputs[n], np.pad(np.asarray(few) + 1, ((0, 0), (1, 0)))
                               .reshape(2, 1, 6, 1, 1), 2) for n in ("q", "k")]  # fmt: skip
    out, _ = cross_attention(few)(CROSS.params, *kept, np.zeros((2, 4, 6, 20), np.float32))
    weights = np.asarray(mean_head_attention(kept[0][:, 1:, 1:], kept[1][:, :-1, 1:]))
    after = np.asarray(mean_head_attention(kept[0][:, :-1, 1:], kept[1][:, 1:, 1:]))
    table = CROSS.outputs["idx"]
    expected = np.zeros((2, 4, 6, 20))
    for b in range(2):
        index = table[np.ix_(few[b], few[b])]
        expected[b, 1:, 1:] += np.einsum("tqk,qkc->tqc", weights[b], CROSS.params["w1"][index])
        expected[b, :-1, 1:] += np.einsum("tqk,qkc->tqc", after[b], CROSS.params["w2"][index])
    np.testing.assert_allclose(out, expected, **bound)


@functools.cache
def decoder(modules=MODULES):
    """The fixture's decoder with some temporal modules on, in a model around it."""
    unused = {"temporal_conv": "temporal_conv.", "temporal_pos_embed": "temporal_pos_embed.",
              "temporal_cross_attention": "cross_attention."}  # fmt: skip
    left_out = tuple(prefix for name, prefix in unused.items() if name not in modules)
    state = {
        f"decoder.{name}": value
        for name, value in DECODER.params.items()
        if not name.startswith(left_out or "-")
    }
    width, (h, w) = 24, DECODER.meta["config"]["spatial_size"]
    rng = np.random.default_rng(0)
    # Nothing of the tower and the head is run.
    tower = {"cls_token": (width,), "pos_embed": (1 + h * w, width),
             "patch_embed.proj.weight": (width, 12)}  # fmt: skip
    for i in range(2):
        for part in ("q", "k", "v", "out"):
            tower[f"blocks.{i}.attn.{part}_proj.weight"] = (width, width)
            tower[f"blocks.{i}.attn.{part}_proj.bias"] = (width,)
        for norm in ("norm1", "norm2"):
            tower |= {f"blocks.{i}.{norm}.{leaf}": (width,) for leaf in ("weight", "bias")}
        tower |= {f"blocks.{i}.mlp.fc1.weight": (96, width), f"blocks.{i}.mlp.fc1.bias": (96,)}
        tower |= {f"blocks.{i}.mlp.fc2.weight": (width, 96), f"blocks.{i}.mlp.fc2.bias": (width,)}
    head = {"proj.0.weight": (width,), "proj.0.bias": (width,),
            "proj.2.weight": (5, width), "proj.2.bias": (5,)}  # fmt: skip
    for name, shape in {**{f"backbone.{n}": s for n, s in tower.items()}, **head}.items():
        state[name] = rng.standard_normal(shape, np.float32)
    return fluxjax.load_torch(
        "evl", state, num_heads=3, decoder_heads=4, image_size=(2 * h, 2 * w), num_frames=4
    )


def features():
    inputs = DECODER.inputs
    layers = [
        LayerFeatures(*(jnp.asarray(inputs[f"layer{i}/{x}"]) for x in ("out", "q", "k")))
        for i in range(2)
    ]
    return layers, tuple(DECODER.meta["config"]["spatial_size"])


def test_decoder_and_what_it_attends_to():
    model, variables = decoder()
    layers, grid = features()
    before = jax.device_get(layers)
    out, calls = traced(model, variables, method=lambda m: m.decoder(layers, grid))
    DECODER.check("x", out[:, None])
    for i in range(2):
        seen = calls[f"decoder/layers_{i}/temporal"][1]
        DECODER.check(f"layer{i}/frame_features_after", seen)
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(layers))


@pytest.mark.slow
@pytest.mark.parametrize("only", [*MODULES, None])
def test_each_temporal_module_alone(only):
    model, variables = decoder((only,) if only else ())
    layers, grid = features()
    apply = jax.jit(lambda v: model.apply(v, method=lambda m: m.decoder(layers, grid)))
    DECODER.check(f"x_only_{only}" if only else "x_plain", apply(variables)[:, None])


def full(**options):
    return fluxjax.load_torch("evl", FULL.params, num_heads=4, decoder_heads=3, **options)


def loss_of(model, variables):
    logits = model.apply(variables, FULL.video("x"))
    labels = FULL.inputs["labels"]
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(loss), logits


@pytest.mark.slow
def test_logits_loss_and_gradients():
    model, variables = full()
    gradient = jax.jit(jax.value_and_grad(functools.partial(loss_of, model), has_aux=True))
    (loss, logits), gradients = gradient(variables)
    FULL.check("logits", logits)
    FULL.check("loss", loss)
    gradients = fluxjax.to_torch(model, gradients)
    names = [name for name in FULL.outputs if name.startswith("grad/")]
    assert {n.removeprefix("grad/") for n in names} == {
        n for n in FULL.params if not n.startswith("backbone.")
    }
    for name in names:
        FULL.check(name, gradients[name.removeprefix("grad/")], "grads")
    for name, value in gradients.items():  # the tower is frozen
        assert not name.startswith("backbone.") or not np.any(value), name


def test_a_tower_of_clip_is_the_same_tower():
    clip = {f"visual.{n.removeprefix('clip_visual/')}": v
            for n, v in FULL.inputs.items() if n.startswith("clip_visual/")}  # fmt: skip
    decoder_only = {n: v for n, v in FULL.params.items() if not n.startswith("backbone.")}
    with pytest.raises(ValueError, match="pass clip="):
        fluxjax.load_torch("evl", decoder_only, num_heads=4, decoder_heads=3)
    wrapped = {f"module.{name}": value for name, value in decoder_only.items()}
    model, variables = fluxjax.load_torch(
        "evl", {"model": wrapped}, clip=clip, num_heads=4, decoder_heads=3
    )
    _, expected = full()
    tower, other = (dict(v["params"].pop("tower")) for v in (variables, expected))
    assert not np.any(other["patch_embed"].pop("bias"))
    tower["patch_embed"], other["patch_embed"] = dict(tower["patch_embed"]), other["patch_embed"]
    jax.tree.map(np.testing.assert_array_equal, (tower, variables), (other, expected))


def test_round_trip():
    model, variables = full()
    state = fluxjax.to_torch(model, variables)
    assert state.keys() == FULL.params.keys()
    for name, value in FULL.params.items():
        np.testing.assert_array_equal(state[name], value, strict=True, err_msg=name)


@pytest.mark.slow
def test_half_precision_tower():
    model, variables = full(tower_dtype="float16")
    _, logits = jax.jit(functools.partial(loss_of, model))(variables)
    # The bound is the difference between half and full precision, see the fixture's description.
    np.testing.assert_allclose(logits, FULL.outputs["logits_fp16_backbone"], atol=2e-2)
    assert np.abs(logits - FULL.outputs["logits"]).max() > 1e-5


@pytest.mark.slow
def test_adamw_steps():
    """Three updates by the project's own optimizer: cosine schedule, decay on everything."""
    model, variables = full()
    train = FULL.meta["train"]
    config = tiny.get_config()
    config.optim.weight_decay = train["weight_decay"]
    params = dict(variables["params"])
    tower = params.pop("tower")
    groups = jax.tree.map(lambda _: ParamGroup(), params)
    schedule = warmup_cosine(train["lr"], 0.0, train["cosine_T_max"], 0)
    optimizer = make_optimizer(config, groups, schedule)

    @jax.jit
    def step(params, opt_state):
        loss = lambda p: loss_of(model, {"params": {**p, "tower": tower}})  # noqa: E731
        (value, logits), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value, logits

    opt_state, losses = optimizer.init(params), []
    for _ in range(train["steps"]):
        params, opt_state, value, _ = step(params, opt_state)
        losses.append(value)
    rates = [schedule(i) for i in range(train["steps"])]
    np.testing.assert_allclose(rates, FULL.outputs["train/lr"], rtol=1e-5)
    FULL.check("train/loss", np.array(losses), "loss")
    variables = {"params": {**params, "tower": tower}}
    state = fluxjax.to_torch(model, variables)
    for name in FULL.outputs:
        if name.startswith("train/after/"):
            FULL.check(name, state[name.removeprefix("train/after/")], "train/after")
    FULL.check("train/logits_after", step(params, opt_state)[3], "train/after")
