"""Fields of a record that a row is made of: by name, by a path into objects, or by a template.

question                 the field of that name
answers.text             `text` in the object `answers`, or in each object of a list
{title}\n{passage}       a template of fields; a literal brace is written twice
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any

from statebridge.data.rows import Place, kind, text_field
from statebridge.errors import DatasetError, nearest

MOST_PARTS = 16
"""Largest number of fields in a template."""


def chosen_text(record: Mapping[str, Any], field: str, place: Place, row_id: str) -> str:
    """Return a text of a record; of a path or a template, lists of texts are joined by lines.

    Raises:
        DatasetError: A field is missing or holds something else.
    """
    if is_template(field):
        return _filled(record, field, place, row_id)
    if field in record or "." not in field:
        return text_field(record, field, place, row_id=row_id)
    return _as_text(_found(record, field, place, row_id), field, place, row_id)


def chosen_answers(
    record: Mapping[str, Any], field: str, place: Place, row_id: str
) -> tuple[str, ...]:
    """Return the right answers of a record: one text, or each of a list once, in its order.

    Raises:
        DatasetError: The field is missing, an empty list, or holds something else.
    """
    found = None if is_template(field) else _found(record, field, place, row_id)
    if not isinstance(found, list):  # says what is wrong, too
        return (chosen_text(record, field, place, row_id),)
    names = dict.fromkeys(_as_text(one, field, place, row_id).strip() for one in found)
    if not any(names):
        raise DatasetError(
            f"{place}: field {field!r} holds no answer (row id {row_id!r}); give at least one"
        )
    return tuple(name for name in names if name)


def is_template(field: str) -> bool:
    """Whether a declared field is a template rather than a name or a path."""
    return "{" in field or "}" in field


def roots(field: str) -> set[str]:
    """Return the fields of a record that a declared field reads.

    Raises:
        DatasetError: It is a template that is not well formed.
    """
    if is_template(field):
        return {name.partition(".")[0] for _, name in _parts(field) if name}
    return {field, field.partition(".")[0]}


def _parts(template: str) -> list[tuple[str, str | None]]:
    """Return (text, name of the field after it) of a template."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise DatasetError(
            f"field {template!r}: not a template: {error}; write a literal brace twice"
        ) from None
    if len(parts) > MOST_PARTS:  # a server fills the templates of others
        raise DatasetError(f"field {template[:80]!r}...: more than {MOST_PARTS} fields; name fewer")
    if any(form or conversion or name == "" for _, name, form, conversion in parts):
        raise DatasetError(f"field {template!r}: write a field as {{name}}, with nothing more")
    return [(text, name) for text, name, _, _ in parts]


def _filled(record: Mapping[str, Any], template: str, place: Place, row_id: str) -> str:
    made = []
    for text, name in _parts(template):
        made.append(text)
        if name is not None:
            made.append(_as_text(_found(record, name, place, row_id), name, place, row_id))
    return "".join(made)


def _found(record: Mapping[str, Any], field: str, place: Place, row_id: str) -> Any:
    """Return the value at a name or path; of a list of objects, that of each of them."""
    if field in record:
        return record[field]
    if "." not in field:
        text_field(record, field, place, row_id=row_id)  # says that it is missing
    value: Any = record
    for name in field.split("."):
        several = isinstance(value, list)
        holders = value if several else [value]
        for holder in holders:
            if not isinstance(holder, Mapping) or name not in holder:
                hint = nearest(name, holder) if isinstance(holder, Mapping) else "no object there"
                raise DatasetError(
                    f"{place}: field {field!r} is missing (row id {row_id!r}); {hint}"
                )
        value = [holder[name] for holder in holders] if several else value[name]
    return value


def _as_text(value: Any, field: str, place: Place, row_id: str) -> str:
    if isinstance(value, list) and value:
        return "\n".join(_as_text(one, field, place, row_id) for one in value)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise DatasetError(
        f"{place}: field {field!r} is {kind(value)} (row id {row_id!r}); it must be text, a number "
        "or a list of these"
    )
