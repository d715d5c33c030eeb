"""Registries: named things of one kind, each added by a decorator in a file of its own.

    MODES: Registry[Mode] = Registry(
        "comparison mode",
        package="statebridge.papers",
        module="comparison",
        group="statebridge.comparison_modes",
        error=ResultError,
    )

    @MODES.add("published")
    def published(...): ...

    MODES.get("published")

The first look-up imports the modules that add to the registry: those of a package of ours,
then those that installed distributions declare as entry points of `group`. Something new is
therefore one new file. A module may add to a registry while it is imported, but must not look
anything up in it.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from inspect import isroutine, signature
from threading import RLock
from typing import Any, Generic, TypeVar

from statebridge.errors import EnvironmentFault, InputError, StatebridgeError, nearest

T = TypeVar("T")

_REGISTRIES: list[Registry[Any]] = []


def registries() -> tuple[Registry[Any], ...]:
    """Return the registries that are imported, in the order of their definition."""
    return tuple(_REGISTRIES)


class Registry(Generic[T]):
    """Named things of one kind, in the order in which they were added.

    Args:
        kind: The kind of thing in the singular, for messages: "channel".
        package: Package of ours whose modules add to the registry; all of its direct modules,
            or with `module` the module of that name in each of its sub-packages that has one.
        module: See `package`.
        also: Another package of ours, all of whose direct modules add to the registry.
        group: Group of the entry points through which other distributions add theirs. An entry
            point names a module, or an object in it; importing the module adds the thing.
        error: Class of the error for an unknown name and for a name given twice.
        base: Class from which every thing, a class itself, derives.
        methods: Methods that every thing, a class itself, must have, with the names of their
            arguments after `self`.
    """

    def __init__(
        self,
        kind: str,
        *,
        package: str | None = None,
        module: str | None = None,
        also: str | None = None,
        group: str | None = None,
        error: type[StatebridgeError] = InputError,
        base: type | None = None,
        methods: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.kind, self._package, self._module = kind, package, module
        self._also, self._group, self._error = also, group, error
        self._base, self._methods = base, methods or {}
        self._things: dict[str, T] = {}
        self._origins: dict[str, str] = {}
        self._lock = RLock()
        self._loaded = False
        _REGISTRIES.append(self)

    def add(self, name: str) -> Callable[[T], T]:
        """Return a decorator that adds what it decorates under `name`.

        A class or function that is defined again, as when a notebook's cell runs twice,
        replaces the former one.

        Raises:
            StatebridgeError: (the registry's `error`) Another thing has the name, or the thing
                lacks what its kind needs.
        """
        if not isinstance(name, str):
            raise self._error(
                f"{self.kind} {_module_of(name)}.{getattr(name, '__qualname__', name)}: give it a "
                f'name, as in add("name")'
            )

        adder = sys._getframe(1).f_globals.get("__name__", "")

        def added(thing: T) -> T:
            self._check(name, thing)
            former = self._things.get(name, thing)
            # Anything but a class or function is of the module that adds it: a `partial` of ours
            # has the module of `functools`.
            named = isroutine(thing) or "__module__" in getattr(thing, "__dict__", ())
            origin = _module_of(thing) if named else adder
            if former is not thing and not _is_definition_of(former, thing):
                # Ours are imported at the first look-up, which may be after a plug-in.
                kept, other = sorted((self._origins[name], origin), key=lambda one: not _ours(one))
                raise self._error(
                    f"{self.kind} {name!r} is there already, from {kept}; "
                    f"give that of {other} another name"
                )
            self._origins[name] = origin
            self._things[name] = thing
            return thing

        return added

    def _check(self, name: str, thing: T) -> None:
        """Refuse a class that could not be used, before anything runs."""
        if self._base is None and not self._methods:
            return
        if not isinstance(thing, type):
            raise self._error(f"{self.kind} {name!r}: give the class, not {thing!r}")
        if self._base is not None and not issubclass(thing, self._base):
            raise self._error(
                f"{self.kind} {name!r}: derive {thing.__qualname__} from "
                f"{_module_of(self._base)}.{self._base.__qualname__}"
            )
        lacking = [
            f"{method}({', '.join(arguments)})"
            for method, arguments in self._methods.items()
            if not _takes(getattr(thing, method, None), arguments)
        ]
        if lacking:
            raise self._error(
                f"{self.kind} {name!r}: {thing.__qualname__} needs the method "
                f"{' and '.join(lacking)}"
            )

    def get(self, name: str, field: str | None = None, also: tuple[str, ...] = ()) -> T:
        """Return the thing of that name.

        Args:
            name: Its name.
            field: Field of an experiment file in which the name was given, for the message.
            also: Further names that are valid there, for the message.

        Raises:
            StatebridgeError: (the registry's `error`) Nothing has the name.
            EnvironmentFault: An installed entry point cannot be imported.
        """
        self._load()
        if name not in self._things:
            where = f"{field}: " if field else ""
            hint = nearest(name, [*self._things, *also])
            if self._group and not hint.startswith("did you mean"):
                hint += "; one of your own needs --plugin FILE before the command"
            raise self._error(f"{where}unknown {self.kind} {name!r}; {hint}")
        return self._things[name]

    def names(self) -> tuple[str, ...]:
        """Return all names."""
        self._load()
        return tuple(self._things)

    def values(self) -> tuple[T, ...]:
        """Return all things."""
        self._load()
        return tuple(self._things.values())

    def added_elsewhere(self) -> dict[str, T]:
        """Return the things by name that no module of ours added; nothing is imported for it."""
        return {
            name: thing for name, thing in self._things.items() if not _ours(self._origins[name])
        }

    def __contains__(self, name: object) -> bool:
        """Return whether something has the name."""
        return name in self.names()

    def _load(self) -> None:
        with self._lock:
            if self._loaded:
                return
            for name in self._modules():
                import_module(name)
            for entry in entry_points(group=self._group) if self._group else ():
                try:
                    entry.load()
                except Exception as error:
                    raise EnvironmentFault(
                        f"{self.kind} {entry.name!r}, installed as {entry.value}, cannot be "
                        f"imported: {error}; repair or uninstall it"
                    ) from error
            self._loaded = True

    def _modules(self) -> Iterator[str]:
        for name, is_package in _direct_modules(self._package):
            if self._module is None:
                yield name
            elif is_package and find_spec(f"{name}.{self._module}"):
                yield f"{name}.{self._module}"
        for name, _ in _direct_modules(self._also):
            yield name


def _direct_modules(package: str | None) -> Iterator[tuple[str, bool]]:
    """Yield the full name of each module of a package, and whether it is a package itself."""
    if package is not None:
        for found in pkgutil.iter_modules(import_module(package).__path__):
            yield f"{package}.{found.name}", found.ispkg


def _takes(method: object, arguments: tuple[str, ...]) -> bool:
    """Whether a method of a class can be called on an object with so many arguments."""
    if method is object.__init__:  # which says that it takes anything
        return not arguments
    if not callable(method) or getattr(method, "__isabstractmethod__", False):
        return False
    try:
        signature(method).bind(None, *arguments)
    except (TypeError, ValueError):
        return False
    return True


_OURS = __name__.split(".")[0]


def _module_of(thing: object) -> str:
    return str(getattr(thing, "__module__", type(thing).__module__))


def _ours(module: str) -> bool:
    return module.partition(".")[0] == _OURS


def _is_definition_of(former: object, thing: object) -> bool:
    """Whether both are one class or function of one module, defined again."""
    name = getattr(thing, "__qualname__", None)
    return (
        name is not None
        and name == getattr(former, "__qualname__", None)
        and _module_of(former) == _module_of(thing)
    )
