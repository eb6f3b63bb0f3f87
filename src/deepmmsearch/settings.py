"""What recipes are made of: settings in which a name that does not apply is an error, and values that come in kinds.

`OneOf` marks a field that holds one of several kinds of settings. A setting of another kind is refused with a sentence
that names it, the kind it was found under, the kinds it belongs to, and what this kind takes:

    Judge = Annotated[RuleJudgeSettings | LlmJudgeSettings, OneOf(default="rule")]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from deepmmsearch.redaction import public_settings
from deepmmsearch.types import Limits

UNKNOWN, FOREIGN, KIND = "unknown_setting", "foreign_setting", "unknown_kind"
"""Types of errors, each with what is needed to explain it in its context."""

T = TypeVar("T")
_ASIDE = "aside"
Aside = Annotated[T, _ASIDE]
"""A setting that cannot change a result: speed, places, how much is logged or kept. Every other one counts."""

_PYDANTIC_OWN = frozenset(get_args(core_schema.ErrorType))


class Settings(BaseModel):
    """A section of a recipe. An unknown setting is an error of type `unknown_setting`, whose context holds the names
    that are `known`."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _known_alone(cls, given: Any, validate: Any) -> Self:
        unknown = _unknown(cls, given)
        if not unknown:
            made: Self = validate(given)
            return made
        context = {"known": sorted(cls.model_fields)}
        errors = [_error((name,), given[name], UNKNOWN, "is not a setting here", context) for name in unknown]
        try:
            validate({name: value for name, value in given.items() if name not in unknown})
        except ValidationError as error:
            errors += _details(error)
        raise ValidationError.from_exception_data(cls.__name__, errors)

    def in_full(self) -> Self:
        """With what stands for a value that is not given, where that is not the default itself."""
        return self


class Recipe(Settings):
    """A whole file. `needs`: what it reads that no other recipe makes, and how to get it: the command that makes it, or
    where to download it. A check says so where it is missing."""

    needs: Aside[dict[str, str]] = Field(default_factory=dict, exclude=True)


class LimitSettings(Settings):
    """What one episode may use, see `types.Limits`: tool calls, image searches, tokens that it samples. `told`: each
    observation tells the policy how many calls are left."""

    calls: int = Field(default=10, ge=0)
    image_searches: int = Field(default=1, ge=0)
    tokens: int = Field(default=8192, gt=0)
    told: bool = False

    def limits(self) -> Limits:
        return Limits(self.calls, self.image_searches, self.tokens, self.told)


class EndpointSettings(Settings):
    """A model behind an OpenAI-compatible endpoint. `model`: what the endpoint calls it, None is its only one;
    `base_url`: None is api.openai.com, which is paid for; the key is in the environment variable `key_variable`;
    `timeout`: seconds for one request; `proxy`: the address of one to go through, those of the environment are not
    used; `redirects`: follow the endpoint to another address.

    `temperature`: None leaves it to the server; `stop`: the strings that end a turn, None are those of the protocol, an
    empty list none; `reasoning_effort`: how long a reasoning model thinks (low, medium, high, ...); `extra_body`:
    further fields of each request, as the server documents them. What it refuses of these is left out by itself."""

    model: str | None = None
    base_url: str | None = None
    key_variable: Aside[str] = "OPENAI_API_KEY"
    proxy: Aside[str | None] = None
    redirects: Aside[bool] = False
    max_new_tokens: int = Field(default=1024, gt=0)
    timeout: float = Field(default=120.0, gt=0)
    temperature: float | None = Field(default=0.0, ge=0)
    stop: tuple[str, ...] | None = None
    reasoning_effort: str | None = None
    extra_body: dict[str, Any] = Field(default_factory=dict)

    @field_validator("extra_body")
    @classmethod
    def _extra_is_free(cls, extra: dict[str, Any]) -> dict[str, Any]:
        taken = {"model", "messages", "stream", "temperature", "stop", "seed", "max_tokens", "max_completion_tokens"}
        if named := sorted(taken & extra.keys()):
            raise ValueError(f"{', '.join(named)} cannot stand in extra_body: that is set by settings of its own")
        return extra


class SeeingEndpointSettings(EndpointSettings):
    """One that looks at pictures. `min_pixels`, `max_pixels`: the bounds of its image processor, within which a picture
    is seen as it is sent; None takes them from the model's own files where they are on this machine."""

    min_pixels: int | None = Field(default=None, gt=0)
    max_pixels: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels is {self.min_pixels}, above max_pixels, {self.max_pixels}")
        return self


@dataclass(frozen=True, eq=False)
class OneOf:
    """Annotates a union of `Settings`: which of them is meant is said by the setting `by`, where that is missing by a
    name in `meant` (name -> kind), else it is `default`.

    A text alone is the kind alone. `by` None: the kinds are told apart by `meant` alone. `other`: what a value of `by`
    is that no kind names, for a union with one member that takes any; `noun`: what a kind is called in messages.
    """

    by: str | None = "kind"
    default: str | None = None
    meant: Mapping[str, str] = field(default_factory=dict)
    other: str = ""
    noun: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        kinds = self.kinds(source)
        return core_schema.no_info_plain_validator_function(lambda given: self._read(given, kinds))

    def kinds(self, union: Any) -> dict[str, type[Settings]]:
        """The members of the union by what they are called, the one that takes any other value by `other`."""
        members: dict[str, type[Settings]] = {}
        for member in get_args(union) or (union,):
            named = get_args(member.model_fields[self.by].annotation) if self.by else self._meaning(member)
            members |= dict.fromkeys(named or (self.other,), member)
        return members

    def _meaning(self, member: type[Settings]) -> list[str]:
        return [kind for name, kind in self.meant.items() if name in member.model_fields]

    def _read(self, given: Any, kinds: Mapping[str, type[Settings]]) -> Settings:
        if isinstance(given, Settings) and type(given) in kinds.values():
            return given
        if isinstance(given, str) and self.by:
            given = {self.by: given}
        if not isinstance(given, Mapping):
            raise PydanticCustomError("not_settings", "expected settings, such as name: value")
        kind = self._kind(given, kinds)
        said = {**given, self.by: kind} if self.by and self.by not in given and kind else dict(given)
        try:
            read = kinds[kind if kind in kinds else self.other].model_validate(said)
            # a section that takes any name takes none that another kind has
            taken = [name for name in read.model_extra or () if any(name in m.model_fields for m in kinds.values())]
            errors = [_error((name,), given[name], UNKNOWN, "is not a setting here", {}) for name in taken]
            if not errors:
                return read
        except ValidationError as error:
            errors = _details(error)
        told = [self._told(detail, kind, self.by in given, kinds) for detail in errors]
        raise ValidationError.from_exception_data("settings", told)

    def _kind(self, given: Mapping[Any, Any], kinds: Mapping[str, type[Settings]]) -> str:
        if self.by and self.by in given:
            kind = given[self.by]
            if isinstance(kind, str) and (kind in kinds or self.other):
                return kind
            raise PydanticCustomError(KIND, "{found} is not one of its kinds", {"found": str(kind), "known": [*kinds]})
        implied = {kind: name for name, kind in self.meant.items() if name in given}
        if len(implied) == 1 or (implied and self.by):
            return next(iter(implied))
        if not implied and self.default is not None:
            return self.default
        if not self.other:
            raise PydanticCustomError("one_of", f"give {'either ' + ' or '.join(self.meant or kinds)}")
        return ""  # the member that takes any kind says that it is missing

    def _told(
        self, detail: InitErrorDetails, kind: str, given: bool, kinds: Mapping[str, type[Settings]]
    ) -> InitErrorDetails:
        """An unknown setting that belongs to other kinds, said as that."""
        place = detail["loc"]
        if not isinstance(detail["type"], PydanticCustomError) or detail["type"].type != UNKNOWN or len(place) != 1:
            return detail
        name = str(place[0])
        owners = [other for other, member in kinds.items() if name in member.model_fields]
        if not owners:
            # the nearest name may be another kind's
            known = sorted({name for member in kinds.values() for name in member.model_fields})
            return _error(place, detail["input"], UNKNOWN, "is not a setting here", {"known": known})
        noun, those = self.noun or self.by, " and ".join(owners)
        takes = ", ".join(n for n in kinds[kind if kind in kinds else self.other].model_fields if n != self.by)
        found = f"{noun} {kind}" + ("" if given or self.by is None else ", which is meant where none is given")
        fix = f"{'set' if given else 'add'} {self.by}: {owners[0]}" if self.by else f"give {owners[0]} instead"
        text = (
            f"{name} belongs to {noun} {those}, but this is {found}; that takes {takes or 'nothing else'}. Remove "
            f"{name}, or {fix}"
        )
        return _error(place, detail["input"], FOREIGN, text, {"name": name, "kind": kind, "owners": owners})


def _unknown(model: type[Settings], given: Any) -> list[str]:
    if not isinstance(given, Mapping) or model.model_config.get("extra") == "allow":
        return []
    return [name for name in given if name not in model.model_fields]


def _error(place: tuple[int | str, ...], found: Any, kind: str, text: str, context: dict[str, Any]) -> InitErrorDetails:
    # braces would be filled in from the context
    safe: Any = text.replace("{", "(").replace("}", ")")
    return InitErrorDetails(type=PydanticCustomError(kind, safe, context), loc=place, input=found)


def _details(error: ValidationError) -> list[InitErrorDetails]:
    """The errors, to be raised once more from further out."""
    details = []
    for line in error.errors(include_url=False):
        context = line.get("ctx", {})
        if line["type"] in _PYDANTIC_OWN:
            details.append(InitErrorDetails(type=line["type"], loc=line["loc"], input=line["input"], ctx=context))
        else:
            details.append(_error(line["loc"], line["input"], line["type"], line["msg"], context))
    return details


def sections(value: Any) -> Iterator[Settings]:
    """The settings themselves and all within them."""
    if isinstance(value, Settings):
        yield value
        value = value.__dict__  # not dict(value): a setting may be called keys
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for within in value:
            yield from sections(within)


def replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """Settings with what `change` makes of them, of those within them, and of single values, wherever that is another
    thing; the settings themselves where it changes nothing."""
    if (new := change(value)) is not value:
        return new
    if isinstance(value, Settings):
        changed = {name: replaced(within, change) for name, within in value.__dict__.items()}
        changed = {name: within for name, within in changed.items() if within is not value.__dict__[name]}
        return value.model_copy(update=changed) if changed else value
    if isinstance(value, Mapping):
        made: Any = {name: replaced(within, change) for name, within in value.items()}
        return made if any(made[name] is not within for name, within in value.items()) else value
    if isinstance(value, list | tuple):
        made = type(value)(replaced(within, change) for within in value)
        return made if any(new is not old for new, old in zip(made, value, strict=True)) else value
    return value


def decisive(value: Any) -> Any:
    """Settings as plain values, those left out that are `Aside`, addresses without what is secret in them."""
    if isinstance(value, Settings):
        value = value.in_full()
    if isinstance(value, BaseModel):
        names = [name for name, found in type(value).model_fields.items() if _ASIDE not in found.metadata]
        return {name: decisive(getattr(value, name)) for name in names} | decisive(value.model_extra or {})
    if isinstance(value, Mapping):
        return {str(name): decisive(within) for name, within in value.items()}
    return [decisive(within) for within in value] if isinstance(value, list | tuple) else public_settings(value)


# What a recipe's model says of its own form, for overrides and for those who look for a name


def inner(kind: Any, part: str) -> list[Any]:
    """The types that `part` may have within a value of type `kind`: a setting's name, a key, or a place in a list."""
    origin = get_origin(kind)
    if origin is Annotated:
        return inner(get_args(kind)[0], part)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        found = kind.model_fields.get(part)
        return [] if found is None else [Annotated[(found.annotation, *found.metadata, None)]]
    arguments = [a for a in get_args(kind) if a is not Ellipsis]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return arguments[1:]
    if isinstance(origin, type) and issubclass(origin, Sequence | set):
        return arguments if part.isdigit() else []
    return [found for argument in arguments for found in inner(argument, part)]


def choices(kind: Any) -> Iterator[tuple[OneOf, Any]]:
    """The `OneOf` that stand at this place of a type, each with its union."""
    if get_origin(kind) is Annotated:
        yield from ((mark, get_args(kind)[0]) for mark in kind.__metadata__ if isinstance(mark, OneOf))
    if get_origin(kind) is not Literal:
        for argument in get_args(kind):
            yield from choices(argument) if get_origin(argument) not in (list, tuple, dict) else ()


def models(kind: Any) -> Iterator[type[BaseModel]]:
    """The models that a value of this type may be."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    elif get_origin(kind) not in (list, tuple, dict, Literal):
        for argument in get_args(kind):
            yield from models(argument)


def names(kinds: Iterable[Any]) -> list[str]:
    """Every setting there can be at a place of these types."""
    return sorted({name for kind in kinds for model in models(kind) for name in model.model_fields})
