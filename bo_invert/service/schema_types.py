"""Types of the fields of request bodies, and their base class; sizes and errors are bounded."""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from bo_invert.errors import blank
from bo_invert.types import JSON

VECTOR = 10_000
"""Largest number of entries in a vector. Engineering choice: bounds the work for one request."""
FIELDS = 100
"""Largest number of fields of an object, known or not. Engineering choice: each unknown one is
an error to report."""
CLOSED = {"additionalProperties": False}
"""OpenAPI attribute of dicts that allow no keys besides those that match the pattern of names."""


def _integer(value: object) -> object:
    """Convert an integral float, because JSON has one type of number: 1.0 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _json(value: JSON) -> JSON:
    """Reject what a file of JSON text cannot hold: surrogates, NaN, infinity and deep nesting."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("text must be valid Unicode") from None
    except RecursionError:
        raise ValueError("lists and objects must not be nested as deeply") from None
    except ValueError:
        raise ValueError("numbers must be finite") from None
    return value


def _bound_errors(schema: object) -> None:
    """Bound the errors of all lists and dicts in a schema of pydantic.

    A body can hold a million invalid items. Validation of a list ends at its first error, and that
    of a dict before its first item if there are too many.
    """
    if isinstance(schema, list | tuple):
        for part in schema:
            _bound_errors(part)
    elif isinstance(schema, dict):
        # Each application builds on the schemas of the models; bounds are set once.
        before = schema.get("function")
        check = before.get("function") if isinstance(before, dict) else None
        if isinstance(check, partial) and check.func is _few:
            return
        for part in list(schema.values()):
            _bound_errors(part)
        if schema.get("type") == "list":
            schema["fail_fast"] = True
        elif schema.get("type") == "dict":
            items = cast(core_schema.DictSchema, dict(schema))
            few = partial(_few, items.get("max_length", VECTOR))
            schema.clear()
            schema.update(core_schema.no_info_before_validator_function(few, items))


def _few(most: int, value: object) -> object:
    """Reject an object with too many members before they are validated."""
    if isinstance(value, dict) and len(value) > most:
        raise ValueError(f"object must have at most {most} members, got {len(value)}")
    return value


def _visible(name: str) -> str:
    if blank(name):
        raise ValueError("name must have a visible character")
    return name


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
StudyTitle = Annotated[
    str,
    Field(
        min_length=1, max_length=200,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
    ),
    AfterValidator(_visible),
]  # fmt: skip
"""Name of a study: not blank, also of characters without width."""
Text = Annotated[str, Field(max_length=200)]
Vector = Annotated[list[FiniteFloat], Field(max_length=VECTOR)]
Integer = Annotated[int, BeforeValidator(_integer)]
SafeInteger = Annotated[Integer, Field(ge=-(2**53), le=2**53)]
"""Integer that a double represents exactly, for languages without integers."""
AnyJSON = Annotated[JSON, AfterValidator(_json)]
Versions = Annotated[dict[Name, Text], Field(max_length=50, json_schema_extra=CLOSED)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class RequestBody(BaseModel, extra="forbid", allow_inf_nan=False, strict=True):
    """Base class of the request bodies; rejects unknown fields, other types, NaN and infinity."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema = handler(source)
        _bound_errors(schema)
        return schema

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: object) -> object:
        return _few(FIELDS, value)
