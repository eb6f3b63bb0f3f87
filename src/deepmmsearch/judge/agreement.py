"""When one quantity says the same as another: ranges, rounding, conversion."""

from __future__ import annotations

import math
from dataclasses import replace

from deepmmsearch.judge.quantities import Quantity
from deepmmsearch.judge.units import Unit

# Rounded figures agree up to this relative difference, converted ones up to the second.
ROUNDING, CONVERSION = 0.01, 0.005


def agree(reference: Quantity, given: Quantity, assumed: Unit | None = None) -> bool:
    """Does `given` say what `reference` says? `assumed` is the unit of a reference that names none.

    A range that contains the number agrees where a person would let it stand: no wider than a quarter of it, or than 2
    around a small count, or than three quarters where it has a unit; never for a year. A rounded figure agrees, a year
    is never rounded; a number without a unit is taken in the unit of the other (facts: reward judge).
    """
    if given.open or reference.open:
        return False
    unit = reference.unit or assumed
    if unit and given.unit and (unit.dimension, given.unit.dimension) == ("temperature", "angle"):
        given = replace(given, unit=None)  # 40 degrees
    if given.noun and unit and unit.dimension != "percent":
        return False
    if given.unit and unit and given.unit.dimension != unit.dimension:
        return False
    if _percent(reference) != _percent(given):
        plain_one, percent = (given, reference) if _percent(reference) else (reference, given)
        if _same(_scaled(percent, 0.01), plain_one, converted=False):
            return True
    converted = bool(given.unit and unit and given.unit != unit)
    if converted:
        assert unit and given.unit
        reference = _converted(reference, unit, given.unit)
    return _same(reference, given, converted)


def _percent(quantity: Quantity) -> bool:
    return quantity.unit is not None and quantity.unit.dimension == "percent"


def _scaled(quantity: Quantity, factor: float) -> Quantity:
    return replace(quantity, low=quantity.low * factor, high=quantity.high * factor, year=False)


def _converted(quantity: Quantity, unit: Unit, to: Unit) -> Quantity:
    low, high = ((unit.base(end) - to.offset) / to.factor for end in (quantity.low, quantity.high))
    return replace(quantity, low=low, high=high, unit=to, year=False)


def _same(reference: Quantity, given: Quantity, converted: bool) -> bool:
    if reference.single and given.single:
        return _close(reference, given, converted)
    if reference.single:
        return not (reference.year or given.year) and _around(given, reference.low)
    if given.single:
        return not reference.year and reference.low <= given.low <= reference.high and not _says_nothing(reference)
    if reference.year or given.year:
        return (reference.low, reference.high) == (given.low, given.high)
    return all(_close(_end(reference, n), _end(given, n), converted) for n in (0, 1))


def _end(quantity: Quantity, number: int) -> Quantity:
    value = (quantity.low, quantity.high)[number]
    return replace(quantity, low=value, high=value)


def _around(given: Quantity, number: float) -> bool:
    """Does the range give the number away? Not at its end where it counts few things: 3 or 4 is not 3. What is measured
    is given more loosely (5 to 10 kg), but not without its unit."""
    size, width = abs(number), given.high - given.low
    if not given.low <= number <= given.high:
        return False
    if given.unit is not None:
        return width <= size * 3 / 4
    counted = float(number).is_integer()
    if counted and number in (given.low, given.high):
        return width <= size * 0.15
    if counted and 4 <= size < 10 and given.low + given.high == 2 * number:
        return width <= 2  # 3 to 5 is 4
    return width <= size / 4


def _says_nothing(asked: Quantity) -> bool:
    """A range so wide that a number in it says nothing."""
    return asked.high - asked.low > abs(asked.low + asked.high) / 2


def _close(reference: Quantity, given: Quantity, converted: bool) -> bool:
    one, other = reference.low, given.low
    largest = max(abs(one), abs(other))
    difference = abs(one - other)
    if difference <= 1e-9 * max(largest, 1e-9):
        return True
    rounded = _rounds(one, other, given.digits) or _rounds(other, one, reference.digits)
    if converted:
        return rounded or difference <= CONVERSION * largest
    if reference.year or (given.year and float(one).is_integer()):
        return False
    counts = reference.unit is None and given.unit is None and largest < 1000
    if counts and float(one).is_integer() and float(other).is_integer():
        return False
    return rounded


def _rounds(fine: float, coarse: float, digits: int) -> bool:
    """Is `coarse` what `fine` becomes with that many significant digits, without losing more than ROUNDING?"""
    if not fine or not coarse or not math.isfinite(fine) or digits < 1 or abs(fine - coarse) > ROUNDING * abs(fine):
        return False
    places = digits - 1 - math.floor(math.log10(abs(fine)))
    return math.isclose(round(fine, places), coarse, rel_tol=1e-6)
