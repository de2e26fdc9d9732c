"""Questions in annotation files, as UMT's of MSRVTT-QA, MSVD-QA, ANet-QA and MSRVTT-MC are."""

from typing import Any


def answers_of(row: dict[str, Any]) -> tuple[str, ...] | int:
    """Answers to an entry's question, () without one, or the number of the right option.

    Raises:
      ValueError: saying what is wrong with the entry.
    """
    given, question = row.get("answer"), row.get("question")
    if isinstance(given, int) and not isinstance(given, bool) and question is None:
        return given
    if (given is None) != (question is None):
        raise ValueError(
            f"question={question!r} and answer={given!r}: both or neither; the answer to captions "
            "is the number of the right one"
        )
    if given is None:
        return ()
    answers = given if isinstance(given, list) else [given]
    if not answers or not all(isinstance(answer, str) and answer.strip() for answer in answers):
        raise ValueError(f"answer={given!r} must be a text, or a list of them")
    if not isinstance(question, str):
        raise ValueError(f"question={question!r} must be a text")
    return tuple(answer.strip() for answer in answers)


def options_of(row: dict[str, Any], answer: int) -> tuple[str, ...]:
    """The captions of an entry as they stand, of which the one numbered `answer` is right.

    Raises:
      ValueError: saying what is wrong with the entry.
    """
    said = row.get("caption", row.get("captions"))
    if not isinstance(said, list) or len(said) < 2 or not all(isinstance(x, str) for x in said):
        raise ValueError(f"answer={answer} needs two captions or more to choose from, not {said!r}")
    if not 0 <= answer < len(said):
        raise ValueError(f"answer={answer} is none of the {len(said)} captions, counted from 0")
    if row.get("label") is not None:
        raise ValueError(f"both answer={answer} and label={row['label']!r} are given; keep one")
    return tuple(said)
