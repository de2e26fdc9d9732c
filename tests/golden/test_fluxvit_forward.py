"""FluxViT as a whole: its own grid (v02), selection (v03), other grids (v04), training (v07).

Every forward is run on dense clips and on packed tokens with padding.
"""

import functools

import jax
import numpy as np
import pytest

from fluxjax.convert.load import load_torch, to_torch
from fluxjax.tasks.losses import flux_multi_terms
from fluxjax.tokens.selection import group_dynamic_scores, rank_tokens, select
from tests.golden import dropmask, fixture, here, packed, traced

FULL = fixture("fluxvit", "v02")
STEP = fixture("fluxvit", "v07")
RUNS = [
    pytest.param(
        case,
        run,
        id=f"{case}-{run['name']}",
        marks=[] if run["name"] in ("r50_h1", "both6x70_sel") else pytest.mark.slow,
    )
    for case in ("v03", "v04")
    if here("fluxvit", case)
    for run in fixture("fluxvit", case).meta["runs"]
]
PATHS = pytest.mark.parametrize("path", ["dense", "packed"])


@functools.cache
def loaded(case):
    case = fixture("fluxvit", case)
    return load_torch("fluxvit", case.params, **case.loading)


def clips(case, name, model, path):
    """Input `name` of a case, dense or packed."""
    video = case.video(name)
    return video if path == "dense" else packed(video, model)


@PATHS
def test_forward_on_own_grid(path):
    model, variables = loaded("v02")

    @jax.jit
    def every_head(variables, video):
        apply = functools.partial(model.apply, variables, video, return_features=True)
        return [apply(head=head) for head in range(len(model.budgets))]

    for head, output in enumerate(every_head(variables, clips(FULL, "x", model, path))):
        FULL.check(f"logits_h{head}", output[0])
        FULL.check(f"feat_h{head}", output[1])


def test_tanh_gelu():
    model, variables = loaded("v02")
    model = model.clone(gelu="tanh")
    logits = jax.jit(model.apply)(variables, FULL.video("x"))
    FULL.check("logits_h0_gelu_tanh", logits)


def test_intermediate_tensors():
    model, variables = loaded("v02")
    _, calls = traced(model, variables, FULL.video("x"))
    tokens_in = calls["blocks_0"][0]
    embedded = calls["patch_embed"][1]
    FULL.check("patch_embed", embedded.reshape(FULL.shape("patch_embed")))
    FULL.check("tokens_in", tokens_in)
    for i in range(model.depth):
        FULL.check(f"block{i}", calls[f"blocks_{i}"][1])
    table = calls["gpe"][1].reshape(-1, model.width)
    cls = variables["params"]["cls_position"][None]
    FULL.check("pos_embed_used", np.concatenate([cls, table])[None])


@pytest.mark.parametrize(("head", "decoder"), [(0, 0), (1, 0), (2, 1)])
def test_decoders(head, decoder):
    model, variables = loaded("v02")
    features = FULL.outputs[f"feat_h{head}"]
    aligned = model.apply(variables, features, method=lambda m, f: m.decoders[decoder](f))
    FULL.check(f"proj_h{head}_p{decoder}", aligned)


@PATHS
@pytest.mark.parametrize(("case", "run"), RUNS)
def test_forward_with_selection_and_grids(case, run, path):
    model, variables = loaded(case)
    case = fixture("fluxvit", case)
    budget = None
    if run["masking_ratio"] is not None:
        budget = run["kept_per_group"] * run["groups"]

    def forward(model, video):
        logits, features = model(video, budget, run["output_head"], return_features=True)
        aligned = model.decoders[run["align_proj"]](features)
        if budget is None:
            return logits, features, aligned, None
        embedded, _ = model.embed(video)
        ranking = rank_tokens(embedded, group_dynamic_scores(embedded))
        return logits, features, aligned, select(embedded, ranking, budget)

    apply = jax.jit(functools.partial(model.apply, method=forward))
    logits, features, aligned, kept = apply(variables, clips(case, run["input"], model, path))
    name = run["name"]
    if kept is not None:
        grid = (run["T"], run["res"] // model.patch, run["res"] // model.patch)
        expected = case.outputs[f"{name}_dropmask"]
        np.testing.assert_array_equal(dropmask(kept, grid), expected)
    case.check(f"{name}_logits", logits)
    case.check(f"{name}_feat", features)
    case.check(f"{name}_proj{run['align_proj']}", aligned)


@pytest.mark.slow
@PATHS
def test_flux_multi_step(path):
    model, variables = loaded("v07")
    budgets = [m["kept_per_group"] * m["groups"] for m in STEP.meta["margins"]]

    def loss(variables, video):
        outputs = model.apply(variables, video, budgets, method="forward_budgets")
        terms = flux_multi_terms(outputs, STEP.inputs["targets"])
        total = sum(weight * value for value, weight in terms.values())
        return total, (terms, outputs)

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (total, (terms, outputs)), gradients = step(variables, clips(STEP, "x", model, path))
    STEP.check("loss", total)
    STEP.check("ce", [terms[f"ce_{i}"][0] for i in range(3)], "loss")
    STEP.check("align", [terms[f"align_{i}"][0] for i in (1, 2)], "loss")
    for i, output in enumerate(outputs):
        STEP.check(f"logits_h{i}", output.logits, "loss")  # these have no tolerance of their own
    STEP.check("feat_h0", outputs[0].features, "loss")
    for m in range(2):
        STEP.check(f"proj_h{m + 1}_p{m}", outputs[m + 1].aligned, "loss")
    gradients = to_torch(model, gradients)
    for name in STEP.outputs:
        if name.startswith("grad/"):
            key = name.removeprefix("grad/")
            STEP.check(name, gradients[key], key)
    lengths = [np.linalg.norm(gradients[key]) for key in STEP.meta["grad_l2_keys"]]
    np.testing.assert_allclose(lengths, STEP.outputs["grad_l2_all"], rtol=1e-3, atol=1e-6)
