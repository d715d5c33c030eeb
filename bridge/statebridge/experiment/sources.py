"""Sources: whose content a condition writes. Ours are in `statebridge.channels.sources`.

A source is a class with the facts below and the method `states`, or a function of one row. Its file
is imported without torch, so that experiment files can be read anywhere; torch is needed once
states are made.

    @SOURCES.add("zero")
    class Zero(Source):
        role = "control"
        reads_positions = False

        def states(self, request):
            return request.own.new_zeros(request.own.shape), request.batch

    @source("opposite")
    def opposite(translated):
        return -translated
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from inspect import Parameter, getdoc, signature
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_args

from statebridge.errors import ExperimentError, nearest
from statebridge.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    # The type of an argument only: nothing of the room is imported when this file is.
    from statebridge.channels.states import Request
    from statebridge.models.token_batch import TokenBatch


SourceRole = Literal["channel", "self", "control"]
ROLES: tuple[str, ...] = get_args(SourceRole)


_NEEDS = (
    ("translates", "reads_sender"),
    ("translates", "seeded"),
    ("shuffled", "seeded"),
    ("draws_noise", "seeded"),
)
"""Facts of a source, and what each of them needs: there is a translator, a donor and a draw for
each seed, and what is translated are the sender's states."""


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
        """Refuse a role that does not exist, and facts of which one lacks another."""
        super().__init_subclass__()
        if cls.role not in ROLES:
            raise ExperimentError(
                f"source {cls.__qualname__}: unknown role {cls.role!r}; {nearest(cls.role, ROLES)}"
            )
        for fact, needed in _NEEDS:
            if getattr(cls, fact) and not getattr(cls, needed):
                raise ExperimentError(
                    f"source {cls.__qualname__}: declares {fact} and not {needed}; set {needed} to "
                    "True too"
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


F = TypeVar("F", bound=Callable[..., Any])

READS = {
    "row": "the row itself, a DatasetRow",
    "translated": "the sender's states of the row through the translator",
    "sender": "the sender's states of the row",
    "own": "the receiver's own states at its layer",
    "noise": "the row's random draws",
    "width": "the width of the receiver's states",
}
"""Arguments that the function of a source may take, by name."""


def source(name: str, *, role: SourceRole = "control", shuffled: bool = False) -> Callable[[F], F]:
    """Return a decorator that makes a function of one row a source (docs/recipes).

    The names of the function's arguments say what it reads: `row` (a `DatasetRow`), `translated`
    and `sender` (the sender's states, through the translator or as they are), `own` (the receiver's
    own states), `noise` (random draws), each a tensor (positions of the prompt, width), and
    `width`, the receiver's. It returns a tensor, an array or a list: one vector (width,), which is
    written at each position, or (positions, width), at the positions of the prompt whose states it
    reads, the sender's before the receiver's. A function sees one row at a time and no padding, so
    that no row depends on those beside it.

        @source("opposite")
        def opposite(translated):
            return -translated

    Args:
        name: The `source` of a condition.
        role: As `Source.role`.
        shuffled: Whether it gets another row in place of the row itself, and the states of that.

    Raises:
        ExperimentError: Another source has the name, or the function takes other arguments.
    """

    def added(function: F) -> F:
        reads = _reads(name, function)
        facts = {
            "role": role,
            "shuffled": shuffled,
            "seeded": shuffled or bool(reads & {"translated", "noise"}),
            "reads_sender": bool(reads & {"translated", "sender"}),
            "translates": "translated" in reads,
            "draws_noise": "noise" in reads,
            "reads_positions": bool(reads & {"translated", "sender", "own"}),
        }
        # Named as the function, so that a notebook may define it again.
        named = {
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
            "__doc__": getdoc(function),
        }
        given = {"function": staticmethod(function), "reads": reads, "__wrapped__": function}
        SOURCES.add(name)(type(function.__name__, (_OfFunction,), {**named, **facts, **given}))
        return function

    return added


def _reads(name: str, function: Callable[..., Any]) -> frozenset[str]:
    found = signature(function).parameters
    for argument, parameter in found.items():
        positional = parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL)
        if parameter.default is not Parameter.empty:
            continue
        if argument not in READS or positional:
            raise ExperimentError(
                f"source {name!r}: {function.__qualname__} takes {argument}; "
                f"{nearest(argument, READS)}"
            )
    return frozenset(found) & frozenset(READS)


class _OfFunction(Source):
    """A source that a function makes, row by row."""

    function: ClassVar[Callable[..., Any]]
    reads: ClassVar[frozenset[str]]

    def states(self, request: Request) -> tuple[Tensor, TokenBatch]:
        """Return what the function gives for each row, and the prompts whose states it reads."""
        rows = request.donors if self.shuffled else list(request.rows)
        batch, read = request.batch, {"own": (request.own, request.batch)}
        if self.draws_noise:
            read["noise"] = request.noise(), request.batch
        if "sender" in self.reads:
            read["sender"] = request.sender_states(rows)
            batch = read["sender"][1]
        if self.translates:
            read["translated"] = request.translated_states(rows)
            batch = read["translated"][1]
        made = []
        for place, row in enumerate(rows):
            given: dict[str, Any] = {
                key: states[place][prompts.mask[place]] for key, (states, prompts) in read.items()
            }
            given |= {"row": request.workload.plan.rows[row], "width": request.own.shape[-1]}
            found = self.function(**{key: given[key] for key in self.reads})
            made.append(self._checked(found, request, int(batch.mask[place].sum()), place))
        states = made[0].new_zeros((*batch.mask.shape, made[0].shape[-1]))
        for place, found in enumerate(made):
            states[place, batch.mask[place]] = found
        return states, batch

    def _checked(self, given: Any, request: Request, positions: int, place: int) -> Tensor:
        """Return what the function gave as a tensor, in float32 at least."""
        own = request.own if request.own.element_size() > 4 else request.own.float()
        width, condition = own.shape[-1], request.cell.condition
        try:
            found: Tensor = given if isinstance(given, type(own)) else own.new_tensor(given)
        except (TypeError, ValueError, RuntimeError) as error:
            shape = f"{type(given).__name__}, which is no array of numbers ({error})"
        else:
            if found.shape in ((width,), (positions, width)):
                return found.to(own)
            shape = f"shape {tuple(found.shape)}"
        row = request.workload.plan.rows[request.rows[place]].row_id
        raise ExperimentError(
            f"condition {condition.name}: source {condition.source} gave {shape} for row {row}; "
            f"return a vector of {width} numbers, or one for each of {positions} positions"
        )
