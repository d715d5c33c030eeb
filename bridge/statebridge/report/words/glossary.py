"""The terms that a report explains where they are pointed at; docs/glossary.md has them all."""

from __future__ import annotations

TERMS: dict[str, str] = {
    "sender": "The model that reads the context and whose states are read.",
    "receiver": "The model into which something is written, and which answers.",
    "channel": "A way for the sender's content to reach the receiver: what is read, mapped and "
    "written.",
    "floor": "The receiver alone, with what it may read.",
    "skyline": "The receiver that reads everything: the upper bound.",
    "gap": "Skyline less floor: as much as the context itself gives.",
    "baseline": "The condition that others are compared with; it writes nothing.",
    "control": "A condition that writes noise, zero, another row's state or that of no context: "
    "what it gains is not due to what the sender read.",
    "self-injection": "The receiver's own state written back; it must change nothing.",
    "text relay": "Text that the sender writes and the receiver reads in place of the context.",
    "positive control": "The same apparatus where transfer is known to exist.",
    "taught pair": "The two small models that come with Statebridge and were taught to answer "
    "generated questions.",
    "unseen": "Of a row whose answer no map of the run was trained on.",
    "log-probability": "Natural logarithm of the probability that the receiver gives to the "
    "answer.",
    "nats": "The unit of a natural logarithm; one nat is 1.44 bits.",
    "bits": "Log2 of the factor by which a message raises the receiver's probability of the gold "
    "answer above the floor.",
    "Holm's correction": "Makes p-values larger where several conditions are tested, so that one "
    "is not found by chance.",
    "TOST": "Two one-sided tests: whether a difference is shown to lie within a margin.",
    "equivalent": "Shown to lie within a declared margin of the baseline.",
    "inconclusive": "Neither a difference nor equivalence was shown with these rows.",
    "word-boundary containment": "Whether the text contains the answer as whole words.",
    "KL": "How far the next-token distribution is from that of the receiver with nothing written.",
    "interval": "A range that holds the true value in 95 % of such experiments.",
}
"""Term to its meaning."""
