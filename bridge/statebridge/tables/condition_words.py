"""Conditions in words: what is sent, through which map, and where it is written.

>>> from statebridge.experiment.presets import CONDITIONS
>>> condition_words(CONDITIONS["private_last_matched"])
"the sender's state, translated, at the receiver's norm, at the last token"
>>> condition_words(CONDITIONS["private_last_shuffled"])
"another row's state, translated, at the last token"
"""

from __future__ import annotations

from statebridge.experiment.conditions import Condition, DeclaredCondition, Prompt
from statebridge.experiment.message import Deltas, Fusing, LayerShare, Rollout, Senders
from statebridge.experiment.positions import Positions

_ALONE: dict[Prompt, str] = {
    "task": "the receiver alone, which reads context and question",
    "question_only": "the receiver alone, which reads the question only",
    "placeholder": "the receiver alone, which reads placeholders and the question",
    "relay": "a text that the sender wrote from the context",
    "debate": "the answers of both models, exchanged",
}
_SOURCES = {
    "translated": "the sender's state, translated",
    "sender": "the sender's state as it is",
    "shuffled": "another row's state, translated",
    "shuffled_sender": "another row's state as it is",
    "receiver": "the receiver's own state",
    "random": "random noise",
    "zero": "zeros",
}
_FILLED = {"random": "noise", "zero": "zeros"}
_READS = {"empty": "the sender reading no context", "neutral": "the sender reading a neutral text"}
_OPERATORS = {"mean": "averaged with the receiver's own", "sum": "summed with the receiver's own"}
_SOFT_TOKENS = {
    "vocab": "next-token probabilities, as mixtures of the receiver's input vectors",
    "cipher": "text, written in mixtures of input vectors in place of tokens",
    "text": "text, token by token",
    "resampler": "states, resampled into vectors in place of tokens",
}
_LATENT_MAPS = {
    "realigned": "",
    "identity": " without a map to the input vectors",
    "random": " through a random map to the input vectors",
}
_PLACES = {
    "all": "at every token",
    "last": "at the last token",
    "question": "at the question's tokens",
    "placeholder": "at the placeholders",
}


def condition_words(condition: DeclaredCondition) -> str:
    """Return what a condition does, in words; its name alone where no more is known of it."""
    if not isinstance(condition, Condition):
        return f"{condition.name}, of which the results give the name alone"
    if not condition.writes:
        return _ALONE[condition.prompt]
    filled = (
        "" if condition.filled_with is None else f"{_FILLED[condition.filled_with]} in place of "
    )
    parts = [filled + _content(condition)]
    if condition.translator is not None:
        parts[0] += f" by {condition.translator}"
    if condition.senders is not None:
        moved = ", moved one behind the other" if condition.reposition == "rotate" else ""
        parts.append(_senders_words(condition.senders) + moved)
    if condition.sender_context is not None:
        parts.append(_READS[condition.sender_context])
    if condition.match_norm:
        parts.append("at the receiver's norm")
    if condition.operator == "add":
        parts.append(f"added {condition.weight:g} times")
    elif condition.operator in _OPERATORS:
        parts.append(_OPERATORS[condition.operator])
    elif condition.weight != 1.0:
        parts.append(f"mixed in with weight {condition.weight:g}")
    if condition.operator == "fuse" and condition.positions != "all":
        parts.append(place_words(condition.positions))
    if not condition.sends_message:
        parts.append(place_words(condition.positions))
    elif not condition.private:
        parts.append("the receiver reading the context too")
    return ", ".join(parts)


def _rollout_words(whose: str, rollout: Rollout) -> str:
    steps = f"{rollout.steps} latent steps{_LATENT_MAPS[rollout.by]}"
    if rollout.keep == "latents":
        return f"{whose} keys and values of {steps}"
    return f"{whose} keys and values of the prompt and {steps}"


def _fused_words(whose: str, fuse: Fusing) -> str:
    if fuse.gates == "shut":
        return "the receiver's own keys and values, all gates shut"
    of = {"sender": f"with {whose}", "zero": "with zeros", "receiver": "with themselves"}
    gates = ", all gates open" if fuse.gates == "open" else ""
    return f"the receiver's own keys and values, fused {of[fuse.sharer]}{gates}"


def _senders_words(senders: Senders) -> str:
    of = ", the sender and the receiver's model in turn," if senders.models == "pair" else ""
    what = "the whole context" if senders.context == "whole" else "a part of the context"
    own = " with a prompt of its own" if senders.templates is not None else ""
    each = f"{senders.count} senders{of} that read {what} each{own}"
    if senders.topology == "hierarchy":
        return each
    rounds = f" in {senders.rounds} rounds" if senders.rounds > 1 else ""
    before = "what was sent before" if senders.passes == "all" else "the last message"
    return f"{each}, behind {before}{rounds}"


def _delta_words(condition: Condition, deltas: Deltas) -> str:
    of = {"differences": "state deltas", "states": "states", "random": "noise"}[deltas.of]
    whose = "another row's " if condition.shuffled else ""
    return f"the sender's text, token by token, with {whose}{of} on it"


def place_words(positions: Positions) -> str:
    """Return where a condition writes, in words."""
    return _PLACES[positions] if isinstance(positions, str) else f"at positions {list(positions)}"


def _content(condition: Condition) -> str:
    whose = "another row's" if condition.shuffled else "the sender's"
    if condition.soft_tokens is not None:
        words = f"{whose} {_SOFT_TOKENS[condition.soft_tokens.by]}"
        last = condition.source_positions == "last"
        if condition.deltas is not None:
            return _delta_words(condition, condition.deltas)
        return f"{words}, of the last token alone" if last else words
    if condition.operator == "fuse":
        return _fused_words(whose, condition.fuse or Fusing())
    if condition.rollout is not None:
        moved = ", moved to the first positions" if condition.reposition == "rotate" else ""
        return _rollout_words(whose, condition.rollout) + moved
    if condition.site != "kv":
        return _SOURCES.get(condition.source, condition.source)
    return _key_value_words(whose, condition)


def _key_value_words(whose: str, condition: Condition) -> str:
    if condition.translates:
        mapped = f"{whose} keys and values, translated"
        return "the receiver's mean keys and values" if condition.source_facts.of_map else mapped
    if isinstance(condition.layers, LayerShare):
        share, by = f"{100 * condition.layers.share:g} %", condition.layers.by
        return f"{whose} keys and values of {share} of the layers ({by})"
    return f"{whose} keys and values" + ("" if condition.layers is None else " of some layers")


def control_word(channel: DeclaredCondition, control: DeclaredCondition) -> str | None:
    """Return which control of a channel a condition is; None if it is none of this channel.

    `another row's`, `no context` (null) and `neutral text` differ from the channel in this alone.
    `mean cache` has the mean of what a map of caches was fitted to in its place.
    `noise` and `zeros` are written at the same positions by the same operator and weight.
    """
    if not isinstance(channel, Condition) or not isinstance(control, Condition):
        return None
    if channel.is_shuffled_twin(control):
        return "another row's"
    of_message = _message_control(control)
    if channel.carries_sender and of_message is not None:
        word, differs = of_message
        return word if channel.same_but(control, differs) else None
    if channel.operator == "fuse":
        return _fused_control(channel, control)
    shared = ("site", "positions", "operator", "weight", "prompt")
    apart = any(getattr(channel, name) != getattr(control, name) for name in shared)
    if apart or control.source not in ("random", "zero"):
        return None
    return "noise" if control.source == "random" else "zeros"


def _message_control(control: Condition) -> tuple[str, str] | None:
    """Return which control a condition is by one of its fields, and the field."""
    if control.source_facts.of_map:
        return "mean cache", "source"
    if control.sender_context is not None:
        word = "no context" if control.sender_context == "empty" else "neutral text"
        return word, "sender_context"
    if control.filled_with is not None:
        return _FILLED[control.filled_with], "filled_with"
    return None


def _fused_control(channel: Condition, control: Condition) -> str | None:
    fuse = control.fuse or Fusing()
    if not channel.carries_sender or not channel.same_but(control, "fuse"):
        return None
    if fuse.gates == "shut":
        return "gates shut"
    return {"zero": "zero sharer", "receiver": "own sharer"}.get(fuse.sharer)
