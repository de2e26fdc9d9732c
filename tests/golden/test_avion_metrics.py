"""EK100's retrieval and action metrics against AVION's code: fixtures v09 and v10."""

import json

import numpy as np
import pytest

from fluxjax.evaluation import action_metrics, multi_instance
from tests.golden import fixture


def mir():
    """The fixture, and (videos [N, E], sentences [S, E]) as its description has them."""
    case = fixture("avion", "v09")
    config, ranks = case.meta["config"], case.inputs
    count, world = config["n_video"], config["world_size"]
    videos, texts = (
        np.stack([ranks[name][i % world, i // world] for i in range(count)])
        for name in ("rank_video_embed", "rank_text_embed")
    )
    columns = [config["video_ids"].index(name) for name in config["sentence_ids"]]
    np.testing.assert_array_equal(columns, case.outputs["column_indexes"])
    return case, videos, texts[columns]


def close(case, name, actual):
    np.testing.assert_allclose(actual, case.outputs[name], rtol=0, atol=1e-6, err_msg=name)


def test_multi_instance_retrieval():
    case, videos, sentences = mir()
    relevancy = case.inputs["relevancy"]
    close(case, "similarity", (videos @ sentences.T + 1) / 2)
    forward = multi_instance.score(videos, sentences, relevancy, chunk=7)
    back = multi_instance.score(sentences, videos, relevancy.T, chunk=5)
    for way, found in (("v2t", forward), ("t2v", back)):
        close(case, f"per_query_ap_{way}", found.precision)
        close(case, f"per_query_ndcg_{way}", found.gain)
    for side, found in (("vis", forward), ("txt", back)):
        close(case, f"{side}_map", found.precision.mean())
        close(case, f"{side}_ndcg", found.gain.mean())
    close(case, "avg_map", (forward.precision.mean() + back.precision.mean()) / 2)
    close(case, "avg_ndcg", (forward.gain.mean() + back.gain.mean()) / 2)


def test_ties_go_to_the_lower_candidate_for_map_and_to_the_higher_for_ndcg():
    similarity, relevancy = np.zeros((1, 3)), np.array([[1.0, 0.0, 0.5]])
    assert multi_instance.average_precision(similarity, relevancy) == [1.0]
    ideal = 1 + 0.5 / np.log2(3)
    np.testing.assert_allclose(multi_instance.ndcg(similarity, relevancy), 0.5 / ideal)


def test_queries_without_a_relevant_candidate_have_no_score():
    similarity, relevancy = np.zeros((2, 3)), np.array([[0.5, 0.2, 0.0], [0.0, 0.0, 0.0]])
    assert np.isnan(multi_instance.average_precision(similarity, relevancy)).tolist() == [True] * 2
    assert np.isnan(multi_instance.ndcg(similarity, relevancy)).tolist() == [False, True]


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("way", ["avg_logits", "avg_probs"])
def test_actions_verbs_and_nouns(way):
    case = fixture("avion", "v10")
    names = case.meta["action_vocabulary"]
    logits, labels = case.inputs["logits"], case.inputs["targets"]
    probs = softmax(logits.mean(axis=1)) if way == "avg_logits" else softmax(logits).mean(axis=1)
    verbs, nouns = action_metrics.parse_actions(names)
    np.testing.assert_array_equal(verbs, case.outputs["act2verb"])
    np.testing.assert_array_equal(nouns, case.outputs["act2noun"])
    close(case, f"{way}/probs", probs)
    percent = {
        "action_top1": action_metrics.top_k_hits(probs, labels, 1).mean(),
        "action_top5": action_metrics.top_k_hits(probs, labels, 5).mean(),
        "mean_class_acc": action_metrics.mean_class_accuracy(probs.argmax(axis=1), labels),
    }
    for part, of_action in (("verb", verbs), ("noun", nouns)):
        scores = action_metrics.marginal(probs, of_action)
        expected = case.outputs[f"{way}/{part}_scores"]
        there = np.isin(np.arange(scores.shape[1]), of_action)
        np.testing.assert_allclose(scores[:, there], expected[:, there], rtol=0, atol=1e-6)
        # The reference gives those that no action has the probability of action 0; here it is 0.
        assert not there.all() and not scores[:, ~there].any()
        percent[f"{part}_top1"] = action_metrics.top_k_hits(scores, of_action[labels], 1).mean()
    for name, share in percent.items():
        np.testing.assert_allclose(
            100 * share, case.outputs[f"{way}/{name}"], rtol=0, atol=1e-3, err_msg=name
        )


def test_actions_are_named_by_two_numbers():
    for name in ("open:door", "3", "1:2:3", "3:"):
        with pytest.raises(ValueError, match=f"{json.dumps(name)[1:-1]}.* is no action VERB:NOUN"):
            action_metrics.parse_actions(["0:1", name])
