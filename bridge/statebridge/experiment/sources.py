"""Sources: whose content a condition writes. Ours are in `statebridge.channels.sources`.

A source is a class with the facts below and the method `states`. Its file is imported without
torch, so that experiment files can be read anywhere; torch is needed once `states` is called.

    @SOURCES.add("zero")
    class Zero(Source):
        role = "control"
        reads_positions = False

        def states(self, request):
            return request.own.new_zeros(request.own.shape), request.batch
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from statebridge.errors import ExperimentError, nearest
from statebridge.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    # The type of an argument only: nothing of the room is imported when this file is.
    from statebridge.channels.states import Request
    from statebridge.models.token_batch import TokenBatch


SourceRole = Literal["channel", "self", "control"]
ROLES: tuple[str, ...] = get_args(SourceRole)


class Source:
    """One source; a subclass states its facts and returns states."""

    role: ClassVar[SourceRole] = "control"
    """`channel`: the sender's content of the row itself; `self`: the receiver's own state;
    `control`: content that says nothing of the row."""
    seeded: ClassVar[bool] = False
    """Whether it differs between seeds, through a translator or a draw."""
    reads_sender: ClassVar[bool] = False
    """Whether the sender runs."""
    translates: ClassVar[bool] = False
    """Whether the sender's states pass a translator."""
    shuffled: ClassVar[bool] = False
    """Whether they are the states of another row."""
    draws_noise: ClassVar[bool] = False
    """Whether it uses the random draws of the seed."""
    of_map: ClassVar[bool] = False
    """Whether it is the mean of what the map was fitted to, which only maps of caches have."""
    writes: ClassVar[bool] = True
    reads_positions: ClassVar[bool] = True
    """Whether `source_positions` has a meaning."""

    def __init_subclass__(cls) -> None:
        """Refuse a role that does not exist."""
        super().__init_subclass__()
        if cls.role not in ROLES:
            raise ExperimentError(
                f"source {cls.__qualname__}: unknown role {cls.role!r}; {nearest(cls.role, ROLES)}"
            )

    @abstractmethod
    def states(self, request: Request) -> tuple[Tensor, TokenBatch]:
        """Return the states (rows, positions, width), and the prompts that they belong to.

        The width may be smaller than the receiver's; then the last dimensions line up.
        """


SOURCES: Registry[type[Source]] = Registry(
    "source",
    package="statebridge.channels.sources",
    group="statebridge.sources",
    error=ExperimentError,
    base=Source,
    methods={"states": ("request",)},
)
