"""Exact match and token F1 as the scripts of HotpotQA, 2WikiMultihopQA and MuSiQue define them.

All three normalise as SQuAD's script does (arXiv 1606.05250): lower case, no ASCII punctuation,
no articles, single spaces. They score a submitted answer; a decoded text is submitted up to its
first line end, as lm-evaluation-harness stops a model there. The best over the answer and its
aliases counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from functools import lru_cache

from statebridge.scoring.gold import Gold

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_LINE_END = re.compile(r"[\r\n]")
_ALL_OR_NOTHING = ("yes", "no", "noanswer")


def submitted(prediction: str) -> str:
    """Return what a text submits as its answer: its first line, without white space around it.

    Examples:
        >>> submitted(" Paris\\nQ: Who wrote")
        'Paris'
    """
    return _LINE_END.split(prediction.strip(), maxsplit=1)[0].strip()


@lru_cache(maxsize=4096)
def squad_normalize(text: str) -> str:
    """Return a text in lower case, without ASCII punctuation and articles, with single spaces.

    Examples:
        >>> squad_normalize("The Hudson's  Bay.")
        'hudsons bay'
    """
    bare = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", bare).split())


def squad_exact_match(prediction: str, gold: Gold) -> bool:
    """Whether the submitted answer is the answer or an alias of it, both normalised.

    `em` of hotpot_evaluate_v1.py (arXiv 1809.09600) and 2wikimultihop_evaluate_v1.1.py
    (arXiv 2011.01060), `answer_em` of MuSiQue's evaluate_v1.0.py (arXiv 2108.00573).

    Examples:
        >>> squad_exact_match("the Pirates.", Gold("Pittsburgh Pirates", ("Pirates",)))
        True
    """
    given = squad_normalize(submitted(prediction))
    return any(given == squad_normalize(name) for name in gold.names)


def squad_f1(prediction: str, gold: Gold) -> float:
    """Return the F1 of the tokens of the submitted answer, the best over answer and aliases.

    `answer_f1` of MuSiQue's evaluate_v1.0.py, which is that of SQuAD 2.0 (arXiv 1806.03822):
    two answers without a token agree.

    Examples:
        >>> round(squad_f1("Hudson Bay in Canada", Gold("Hudson Bay")), 3)
        0.667
    """
    given = squad_normalize(submitted(prediction)).split()
    names = [squad_normalize(name).split() for name in gold.names]
    return max(1.0 if given == name == [] else _f1(given, name) for name in names)


def hotpotqa_f1(prediction: str, gold: Gold) -> float:
    """Return the same F1, but where either side is `yes`, `no` or `noanswer`: all or nothing.

    `f1` of hotpot_evaluate_v1.py and of 2wikimultihop_evaluate_v1.1.py. Two answers without a
    token do not agree.

    Examples:
        >>> hotpotqa_f1("no doubt", Gold("no")), squad_f1("no doubt", Gold("no"))
        (0.0, 0.6666666666666666)
    """
    given = squad_normalize(submitted(prediction))
    return max(_all_or_nothing(given, squad_normalize(name)) for name in gold.names)


def _all_or_nothing(given: str, name: str) -> float:
    if given != name and (given in _ALL_OR_NOTHING or name in _ALL_OR_NOTHING):
        return 0.0
    return _f1(given.split(), name.split())


def _f1(given: list[str], name: list[str]) -> float:
    shared = (Counter(given) & Counter(name)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(given), shared / len(name)
    return 2 * precision * recall / (precision + recall)
