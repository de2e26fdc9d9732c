"""UMT with text: BERT and fusion, matching, losses and gradients, ranking of answers."""

import functools

import jax
import numpy as np
import pytest

from fluxjax.convert.load import load_torch, to_torch
from fluxjax.models.clip_teacher import teach
from fluxjax.models.internvideo2 import return_layers
from fluxjax.tasks.answer_ranking import rank_answers
from fluxjax.tasks.umt_losses import Negatives, negative_weights
from fluxjax.tasks.umt_terms import Applied, Masked, Texts, answer_terms, pretraining_terms, scores
from fluxjax.tokens.attention_masking import hidden_mask, visible_tokens
from tests.golden import fixture

TEACHER = "clip_teacher."


@functools.cache
def loaded(case):
    """The model and its variables, whose way back to torch's names is exact."""
    case = fixture("vidtldr", case)
    heads = {
        "num_heads": case.meta["vision"]["encoder_num_heads"],
        "text_heads": case.meta["bert"]["num_attention_heads"],
    }
    model, variables = load_torch("umt", case.params, **heads)
    state = to_torch(model, variables)
    assert set(state) == {name for name in case.params if not name.startswith(TEACHER)}
    for name, value in state.items():
        np.testing.assert_array_equal(value, case.params[name], strict=True, err_msg=name)
    return model, variables


def frames_first(video):
    """[B, T, 3, H, W] -> [B, T, H, W, 3]."""
    return np.ascontiguousarray(video.transpose(0, 1, 3, 4, 2))


@pytest.mark.parametrize("name", ["merged", "plain"])
def test_retrieval(name):
    (model, variables), case = loaded("vidtldr_retrieval"), fixture("vidtldr", "vidtldr_retrieval")
    merge = tuple(case.meta["vidTLDR_r"]) if name == "merged" else ()
    ids, mask = case.inputs["input_ids"], case.inputs["attention_mask"]

    @jax.jit
    def run(variables, video):
        get = lambda method, *x, **o: model.apply(variables, *x, **o, method=method)  # noqa: E731
        tokens, pooled = get("encode_video", video, merge=merge)
        text = get("encode_text", ids, mask)
        videos, texts = tokens.shape[0], text.shape[0]
        first = tokens[:1].repeat(texts, axis=0)
        every = [tokens.repeat(texts, axis=0), *(x[None].repeat(videos, 0) for x in (text, mask))]
        pairs = get("match", *(x.reshape(-1, *x.shape[2:]) for x in every[1:]), every[0])
        return {
            "vision_embeds": tokens,
            "vision_pooled": pooled[:, None],
            "text_embeds": text,
            "vision": get("project_video", pooled),
            "text": get("project_text", text),
            "fusion_hidden_video0": get("fuse", text, mask, first),
            "itm_logits": pairs.reshape(videos, texts, 2),
        }

    found = run(variables, frames_first(case.inputs["video"]))
    case.check("text_embeds", found["text_embeds"])
    for key in ("vision_embeds", "vision_pooled", "fusion_hidden_video0", "itm_logits"):
        case.check(f"{name}/{key}", found[key])
    case.check(f"{name}/sim_v2t", found["vision"] @ found["text"].T)
    matching = found["itm_logits"][..., 1]  # what re-ranking sorts by
    case.check(f"{name}/k128/i2t_x", matching)
    case.check(f"{name}/k128/t2i_x", matching.T)


@functools.cache
def teacher_of_pretraining():
    """Of the clips: its features of all tokens, and attention."""
    case = fixture("vidtldr", "vidtldr_umt_pretrain")
    state = {n.removeprefix(TEACHER): v for n, v in case.params.items() if n.startswith(TEACHER)}
    config = case.meta["teacher"]
    model, variables = load_torch("clip", state, num_heads=config["heads"], gelu="quick")
    layers = return_layers(config["layers"], config["return_layer"])
    run = jax.jit(lambda v, x: model.apply(v, x, layers, method=teach))
    return run(variables, frames_first(case.inputs["video"]))


def visible_of_pretraining():
    case = fixture("vidtldr", "vidtldr_umt_pretrain")
    importance = case.inputs["importance"]
    area, frames = importance.shape[1], case.meta["vision"]["num_frames"]
    count = area - int(area * case.meta["mask_ratio"])
    return np.asarray(visible_tokens(importance[:, :count], frames, area))


def test_pretraining_losses_and_gradients():
    (model, variables), case = (
        loaded("vidtldr_umt_pretrain"),
        fixture("vidtldr", "vidtldr_umt_pretrain"),
    )
    inputs, visible = case.inputs, visible_of_pretraining()
    np.testing.assert_array_equal(hidden_mask(visible, 32), case.outputs["mask"] > 0)
    taught = teacher_of_pretraining()
    case.check("teacher_all", taught.features, "features")
    case.check("teacher_cls_attn", taught.attention, "features")
    targets = np.take_along_axis(np.asarray(taught.features), visible[None, ..., None], axis=2)
    masked = Masked(visible, targets, inputs["mlm_input_ids"], inputs["mlm_labels"])
    texts = Texts(inputs["input_ids"], inputs["attention_mask"])
    found = np.ones(len(visible), bool)
    negatives = Negatives(inputs["vision_neg_idx"], inputs["text_neg_idx"], found)
    video = frames_first(inputs["video"])

    @jax.jit
    def losses(variables):
        def total(variables):
            terms = pretraining_terms(
                Applied(model, variables), video, texts, inputs["idx"], masked, negatives
            )
            return sum(terms.values()), terms

        return jax.value_and_grad(total, has_aux=True)(variables)

    (total, terms), gradients = losses(variables)
    case.check("total", total, "losses")
    for name in ("uta", "vtc", "vtm", "mlm"):
        case.check(f"loss_{name}", terms[name], "losses")
    gradients = to_torch(model, gradients)
    for name in (n for n in case.outputs if n.startswith("grad/")):
        case.check(name, gradients[name.removeprefix("grad/")], "grads")


def test_features_of_pretraining_and_weights_of_negatives():
    (model, variables), case = (
        loaded("vidtldr_umt_pretrain"),
        fixture("vidtldr", "vidtldr_umt_pretrain"),
    )

    visible = visible_of_pretraining()

    @jax.jit
    def run(variables, video):
        student = model.apply(variables, video, visible, method="student")
        texts = case.inputs["input_ids"], case.inputs["attention_mask"]
        text = model.apply(variables, *texts, method="encode_text")
        return student, text, scores(model, variables, student.pooled, text)

    student, text, similar = run(variables, frames_first(case.inputs["video"]))
    case.check("student", student.decoded, "features")
    case.check("vision_embeds", student.layers[-1], "features")
    case.check("vision_pooled", student.pooled[:, None], "features")
    case.check("text_embeds", text, "features")
    group = case.inputs["idx"]
    case.check("vtm_weights_v2t", negative_weights(similar, group), "features")
    case.check("vtm_weights_t2v", negative_weights(similar.T, group), "features")


def test_question_answering():
    (model, variables), case = loaded("vidtldr_qa"), fixture("vidtldr", "vidtldr_qa")
    inputs = case.inputs
    questions = Texts(inputs["question_ids"], inputs["question_mask"])
    answers = Texts(inputs["answer_ids"], inputs["answer_mask"])
    merge = tuple(case.meta["vidTLDR_r"])
    counts = case.meta["answers_per_question"]
    asked = np.repeat(np.arange(len(counts)), counts)

    @jax.jit
    def run(variables, video):
        tokens, _ = model.apply(variables, video, merge=merge, method="encode_video")
        states = model.apply(variables, *questions, tokens, method="encode_question")
        ranked = rank_answers(model, variables, states, questions.mask, *answers, case.meta["k"])
        start = np.repeat(answers.ids[:1, :1], len(states), axis=0)
        logits = model.apply(
            variables, start, np.ones_like(start), states, questions.mask, method="answer_logits"
        )
        first = Texts(answers.ids[: len(asked)], answers.mask[: len(asked)])
        terms = answer_terms(
            Applied(model, variables), video, questions, first, asked,
            inputs["train_weights"], merge,
        )  # fmt: skip
        return tokens, states, logits[:, 0], ranked, terms["answer"]

    tokens, states, logits, ranked, loss = run(variables, frames_first(inputs["video"]))
    case.check("vision_embeds", tokens, "probs")
    case.check("question_states", states, "probs")
    case.check("start_logits", logits, "probs")
    case.check("topk_probs", ranked.probabilities, "probs")
    np.testing.assert_array_equal(ranked.ids, whole(case, "topk_ids"))
    case.check("train_loss", loss, "loss")


def whole(case, name):
    assert name not in case.meta.get("thinned", {})
    return case.outputs[name]
