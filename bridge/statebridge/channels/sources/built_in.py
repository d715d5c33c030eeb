"""The sources of the published conditions and of the private setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from statebridge.errors import ExperimentError
from statebridge.experiment.sources import SOURCES, Source

if TYPE_CHECKING:
    from torch import Tensor

    from statebridge.channels.states import Request
    from statebridge.models.token_batch import TokenBatch


@SOURCES.add("none")
class Nothing(Source):
    """Nothing is written: the receiver reads its prompt alone."""

    writes = False
    reads_positions = False

    def states(self, request: Request) -> tuple[Tensor, TokenBatch]:
        """Return the receiver's own states, which stay as they are."""
        return request.own, request.batch


@SOURCES.add("translated")
class Translated(Source):
    """The sender's states of the row, translated."""

    role = "channel"
    seeded = reads_sender = translates = True

    def states(self, request: Request) -> tuple[Tensor, TokenBatch]:
        """Return them at all positions of the sender's prompt."""
        return request.translated_states(request.rows)


@SOURCES.add("receiver")
class Receiver(Source):
    """The receiver's own states at the layer, captured in an earlier pass."""

    role = "self"

    def states(self, request: Request) -> tuple[Tensor, TokenBatch]:
        """Return them at all positions of the receiver's prompt."""
        return request.own, request.batch


@SOURCES.add("random")
class Random(Source):
    """Standard normal noise, drawn by seed and row."""

    seeded = draws_noise = True
    reads_positions = False

    def states(self, request: Request) -> tuple[Tensor, TokenBatch]:
        """Return a draw for each position of the receiver's prompt."""
        return request.noise(), request.batch


@SOURCES.add("zero")
class Zero(Source):
    """Zero states."""

    reads_positions = False

    def states(self, request: Request) -> tuple[Tensor, TokenBatch]:
        """Return zeros of the shape of the receiver's states."""
        return request.own.new_zeros(request.own.shape), request.batch


@SOURCES.add("shuffled")
class Shuffled(Source):
    """Another row's states, translated."""

    seeded = reads_sender = translates = shuffled = True

    def states(self, request: Request) -> tuple[Tensor, TokenBatch]:
        """Return the translated states of each row's donor."""
        return request.translated_states(request.donors)


@SOURCES.add("sender")
class Sender(Source):
    """The sender's states of the row, as they are (arXiv 2501.14082)."""

    role = "channel"
    reads_sender = True

    def states(self, request: Request) -> tuple[Tensor, TokenBatch]:
        """Return them at all positions of the sender's prompt."""
        return request.sender_states(request.rows)


@SOURCES.add("shuffled_sender")
class ShuffledSender(Source):
    """Another row's states, as the sender has them."""

    seeded = reads_sender = shuffled = True

    def states(self, request: Request) -> tuple[Tensor, TokenBatch]:
        """Return the sender's states of each row's donor."""
        return request.sender_states(request.donors)


@SOURCES.add("file")
class File(Source):
    """A vector from a file, at each position: a steering vector, a mean state."""

    reads_positions = False

    def states(self, request: Request) -> tuple[Tensor, TokenBatch]:
        """Return the vector at each position of the receiver's prompt."""
        declared, own = request.cell.condition.state_file, request.own
        if declared is None:  # a condition that was made without its checks
            raise ExperimentError("source file takes state_file: {path: VECTOR.npy}")
        vector = own.new_tensor(declared.vector(), dtype=own.dtype)
        return vector.expand(*own.shape[:2], -1), request.batch


@SOURCES.add("mean")
class Mean(Source):
    """The receiver's mean keys and values over the fitting text, as long as the row's message."""

    seeded = reads_sender = translates = of_map = True
    reads_positions = False

    def states(self, request: Request) -> tuple[Tensor, TokenBatch]:
        """Refuse: maps of states have no mean."""
        raise ExperimentError(
            f"condition {request.cell.condition.name}: source mean goes with site: kv"
        )
