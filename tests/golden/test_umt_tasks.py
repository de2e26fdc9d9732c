"""A whole task on a fixture: pre-training with text."""

import jax
import numpy as np

from fluxjax.config.keys import base_config
from fluxjax.convert.load import load_torch, to_torch
from fluxjax.tasks import create_task, pretrain_umt, umt_terms, unmasked_teacher
from fluxjax.tasks.umt_losses import Negatives
from tests.golden import fixture


def task_of(name, case, student, teacher, hidden):
    """The task of a fixture's student and teacher, given as (model, variables) each."""
    config = base_config(name, "pretrain_umt")
    config.grids.frames, config.grids.resolutions, config.eval.grids = (2,), (16,), ("2x16",)
    config.pretrain_umt.teacher_model = "clip_ti8"
    config.pretrain_umt.hidden = hidden
    task = create_task(config)
    (task.model, variables), (task.teacher.model, taught) = student, teacher
    return task, variables | {"teacher": taught["params"]}


def test_a_step_with_text(monkeypatch):
    """The four losses and their gradients, with the fixture's draws in the place of the task's."""
    case = fixture("vidtldr", "vidtldr_umt_pretrain")
    prefix, inputs = "clip_teacher.", case.inputs
    heads = {
        "num_heads": case.meta["vision"]["encoder_num_heads"],
        "text_heads": case.meta["bert"]["num_attention_heads"],
    }
    state = {n.removeprefix(prefix): v for n, v in case.params.items() if n.startswith(prefix)}
    teacher = load_torch("clip", state, num_heads=case.meta["teacher"]["heads"], gelu="quick")
    student = load_torch("umt", case.params, text_dropout=0.0, **heads)
    task, variables = task_of("umt_ti8", case, student, teacher, case.meta["mask_ratio"])
    found = np.ones(len(inputs["vision_neg_idx"]), bool)
    negatives = Negatives(inputs["vision_neg_idx"], inputs["text_neg_idx"], found)
    words = inputs["mlm_input_ids"], inputs["mlm_labels"]
    monkeypatch.setattr(umt_terms, "hard_negatives", lambda *given: negatives)
    monkeypatch.setattr(pretrain_umt, "mask_words", lambda *given: words)
    order = lambda attention, draws, count: inputs["importance"][:, :count]  # noqa: E731
    monkeypatch.setattr(unmasked_teacher, "race", order)
    batch = {
        "video": np.ascontiguousarray(inputs["video"].transpose(0, 1, 3, 4, 2)),
        "text": inputs["input_ids"], "text_length": inputs["attention_mask"].sum(axis=1),
        "group": inputs["idx"], "draw": inputs["idx"],
    }  # fmt: skip

    @jax.jit
    def losses(params):
        def total(params):
            out = task.loss(variables | {"params": params}, batch, jax.random.key(0), None)
            return out.total, out.terms

        return jax.value_and_grad(total, has_aux=True)(params)

    (total, terms), gradients = losses(variables["params"])
    case.check("total", total, "losses")
    for name, (value, weight) in terms.items():
        case.check(f"loss_{name}", value, "losses")
        assert weight == 1.0
    gradients = to_torch(task.model, {"params": gradients})
    for name in (n for n in case.outputs if n.startswith("grad/")):
        case.check(name, gradients[name.removeprefix("grad/")], "grads")
