"""Reads timestamps and durations, in data and in arguments, as exactly as possible."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from graphseq.data.logs.errors import missing_rows, rows_named
from graphseq.data.logs.ids import cast_text, exact_up_to

SECONDS_PER_DAY = 86_400

UNITS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "min": Fraction(60),
    "hour": Fraction(3600),
    "day": Fraction(SECONDS_PER_DAY),
}
"""The values of ``time_unit``, and their seconds."""

YEAR_2200 = 7_258_118_400
"""Seconds from 1970 to 2200: no log has later times, so larger numbers are not seconds."""

ISO = (
    r"^\s*\d{4}-\d{2}-\d{2}"
    r"([T ]\d{2}(:\d{2}(:\d{2}(\.\d{1,9})?)?)?( ?(Z|UTC|[+-]\d{2}(:?\d{2})?))?)?\s*$"
)
"""Timestamps as text: ISO 8601, with ``T`` or a blank, with or without a fraction and a zone."""

ZONE = r"[T ]\d{2}[\d:.]* ?(Z|UTC|[+-]\d{2}(:?\d{2})?)\s*$"
"""The zone in such a text."""

DURATION = r"[0-9]\s*[A-Za-zµ]|^\s*[+-]?P.*[0-9]|^\s*\d+:\d{2}:\d{2}"
"""Durations as text contain a unit, or are hours:minutes:seconds."""

Duration = str | float | datetime.timedelta | np.timedelta64
"""A duration: text with a unit as ``"30min"``, a number of seconds, or a duration object of a
library."""

Moment = str | float | datetime.date | np.datetime64
"""A point in time: ISO 8601 text or a date (UTC without a zone), or seconds since 1970."""


@dataclass(frozen=True)
class Instants:
    """Times of clicks, as exact as in the log.

    Args:
        ticks: int64, uint64 or float64 [n].
        tick: Seconds of one tick.
    """

    ticks: NDArray[Any]
    tick: Fraction

    def take(self, order: NDArray[np.int64] | None) -> Instants:
        """The same times in another order; ``None``: unchanged."""
        return self if order is None else Instants(self.ticks[order], self.tick)

    def seconds(self) -> NDArray[np.float64]:
        """Seconds, float64 [n]."""
        seconds = self.ticks.astype(np.float64)
        if self.tick.numerator != 1:
            seconds *= self.tick.numerator
        if self.tick.denominator != 1:
            seconds /= self.tick.denominator
            if self.ticks.dtype.kind != "f":
                # Beyond 53 bits a float would lose digits before the division.
                large = np.abs(seconds) * self.tick.denominator >= 2.0**53
                if large.any():
                    whole, rest = np.divmod(self.ticks[large], self.tick.denominator)
                    seconds[large] = whole + rest / float(self.tick.denominator)
        return seconds

    def gaps_longer(self, limit: Fraction) -> NDArray[np.bool_]:
        """Whether the pause before each time, except the first, is longer than ``limit`` seconds.

        If time goes back, as from one group to the next, the result is undefined.
        """
        ticks = self.ticks
        if ticks.dtype.kind == "f":
            pauses: NDArray[np.bool_] = np.diff(self.seconds()) > float(limit)
            return pauses
        # Every step forward fits in 64 unsigned bits.
        steps = np.diff(ticks.view(np.uint64))
        return steps > np.uint64(min(math.floor(limit / self.tick), 2**64 - 1))


def instants(
    column: pd.Series,
    unit: str | None = None,
    form: str | None = None,
    *,
    what: str | None = None,
    place: Callable[[int], str] | None = None,
) -> Instants:
    """A column of dates (without a zone: UTC), durations, numbers or ISO 8601 text as times.

    Args:
        column: The values, [n].
        unit: Unit of numbers, one of :data:`UNITS`; ``None``: seconds, or counters.
        form: Format of text, or of numbers such as 20191115, as ``"%d.%m.%Y %H:%M"``; ``None``: ISO
            8601.
        what: Name of the column in errors.
        place: Function from a row to its place, for errors.

    Raises:
        ValueError: If a value is none of these, missing or infinite, or the numbers are unlikely to
            be seconds.
    """
    what = f"time column {column.name!r}" if what is None else what
    if unit is not None and unit not in UNITS:
        raise ValueError(f"time_unit is one of {', '.join(map(repr, UNITS))}, got {unit!r}.")
    if form is not None:
        column = in_format(column, form, place)
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = column.cat.codes.to_numpy()
        _refuse_missing(codes < 0, what, place)
        if len(column.cat.categories) < len(codes):
            # Rows of distinct values are not rows of the log: errors show only the values.
            distinct = pd.Series(column.cat.categories.take(np.unique(codes)), name=column.name)
            try:
                found = instants(distinct, unit, what=what)
            except ValueError:
                pass  # again by row
            else:
                return found.take(np.unique(codes, return_inverse=True)[1])
        column = pd.Series(column.cat.categories.take(codes), name=column.name)
    if isinstance(column.dtype, pd.ArrowDtype):
        column = pd.Series(column.array.__arrow_array__().to_pandas(), name=column.name)
    column = column.infer_objects()
    _refuse_missing(column.isna().to_numpy(), what, place)
    kind = column.dtype
    if isinstance(kind, pd.StringDtype):
        return _of_text(column, unit, what, place)
    if pd.api.types.is_object_dtype(kind):
        return _of_objects(column, unit, what, place)
    if pd.api.types.is_bool_dtype(kind):
        raise ValueError(f"The {what} holds booleans, which are not times: name another column.")
    if pd.api.types.is_numeric_dtype(kind):
        numbers = _exact(column)
        _refuse_coarse(numbers, kind, what, place)
        return _of_numbers(numbers, unit, what, place)
    if pd.api.types.is_timedelta64_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind):
        tick = UNITS[np.datetime_data(column.to_numpy().dtype)[0]] if kind.kind == "m" else None
        if tick is None:
            tick = UNITS[column.dt.unit]
        return Instants(column.astype(np.int64).to_numpy(), tick)
    raise ValueError(f"The {what} holds neither dates nor numbers nor text, but {kind}.")


def in_format(
    column: pd.Series, written: str, place: Callable[[int], str] | None = None
) -> pd.Series:
    """Times in a given format as timestamps; missing values stay missing.

    Args:
        column: Text, or integers as 20191115, [n].
        written: The format, in the directives of ``strptime``; without a zone: UTC.
        place: Function from a row to its place, for errors.

    Raises:
        ValueError: If a value has another format.
    """
    codes, distinct = pd.factorize(column)
    found = pd.Series(
        pd.to_datetime(
            pd.Series(distinct).astype("str"), format=written, utc=True, errors="coerce"
        ).array
    )
    bad = found.isna().to_numpy()
    if bad.any():
        rows = np.append(bad, False)[codes]
        example = distinct[int(np.argmax(bad))]
        raise ValueError(
            f"The time column {column.name!r} is not written as time_format={written!r} in "
            f"{rows_named(rows, place)}, the first as {example!r}."
        )
    return pd.Series(found.array.take(codes, allow_fill=True), name=column.name)


def seconds_of_moment(name: str, at: Moment) -> float:
    """Seconds since 1970 of a point in time, read like a value of a time column.

    Raises:
        ValueError: If it cannot be read.
    """
    value: Any = at
    if isinstance(at, (np.integer, np.floating)) and not isinstance(at, np.timedelta64):
        value = at.item()
    fine = isinstance(value, (str, int, float, datetime.date, np.datetime64))
    if fine and not isinstance(value, bool):
        try:
            column = pd.Series([value], dtype="str" if isinstance(value, str) else None)
            return float(_one(column).seconds()[0])
        except (ValueError, OverflowError):
            pass
    raise ValueError(
        f"{name} is a date as '2014-09-30' or '2014-09-30T12:00:00Z' or a number of seconds, got "
        f"{at!r}."
    )


def _one(column: pd.Series) -> Instants:
    """A single value; a number is not converted, since a log may have its own unit."""
    if isinstance(column.dtype, pd.StringDtype):
        number = _numbers_of_text(pa.array(column))
        if number is not None:
            column = pd.Series(number)
    if pd.api.types.is_numeric_dtype(column.dtype):
        if not np.isfinite(column.to_numpy(dtype=np.float64)).all():
            raise ValueError("no moment")
        return Instants(column.to_numpy(), Fraction(1))
    return instants(column)


def duration(name: str, value: Duration, *, number: str = "seconds") -> Fraction:
    """A duration in seconds, exact.

    Args:
        name: Name of the argument, for errors.
        value: Text with a unit (``"30min"``), a duration of the standard library, NumPy or pandas,
            or a number.
        number: The unit of a number: ``"seconds"`` or ``"days"``.

    Raises:
        ValueError: If it is not a duration, not positive, or not finite.
    """
    seconds: Fraction | None = None
    if isinstance(value, str):
        seconds = _duration_of_text(value)
    elif isinstance(value, (datetime.timedelta, np.timedelta64)):
        # A NumPy duration without a unit, or in months, has no length in seconds.
        plain = isinstance(value, np.timedelta64) and np.datetime_data(value)[0] in (
            "generic",
            "M",
            "Y",
        )
        moment = pd.NaT if plain else pd.Timedelta(value)
        if not pd.isna(moment):
            seconds = moment.as_unit("ns").value * UNITS["ns"]
    elif isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        number_value = value.item() if isinstance(value, np.generic) else value
        if math.isfinite(number_value):
            seconds = Fraction(number_value) * (SECONDS_PER_DAY if number == "days" else 1)
    if seconds is None or seconds <= 0:
        raise ValueError(
            f"{name} is a positive number of {number}, text with a unit as '30min', or a "
            f"timedelta, got {value!r}."
        )
    return seconds


def half_life_of(value: Duration | None, *, unit: str = "seconds") -> float | None:
    """A half-life as a number: text with a unit and timedeltas in seconds, numbers unchanged.

    Args:
        value: The half-life; ``None``: no half-life.
        unit: Unit of a number; text and timedeltas are allowed only for ``"seconds"``.

    Raises:
        ValueError: If it is not a duration, not positive, not finite, or not in the unit.
    """
    if value is None:
        return None
    if isinstance(value, (str, datetime.timedelta, np.timedelta64)):
        if unit != "seconds":
            raise ValueError(f"half_life counts {unit} here: it is a number, got {value!r}.")
        return float(duration("half_life", value))
    number = isinstance(value, (int, float, np.integer, np.floating)) and type(value) is not bool
    if not number or not 0 < value < math.inf:
        raise ValueError(f"half_life must be positive and finite, or None, got {value!r}.")
    return float(value)


def _duration_of_text(text: str) -> Fraction | None:
    if pd.Series([text]).str.contains(DURATION, regex=True).all():
        try:
            found = pd.Timedelta(text)
        except ValueError:
            return None
        if not pd.isna(found):
            return found.as_unit("ns").value * UNITS["ns"]
    return None


# -- columns -------------------------------------------------------------------------------------


def _exact(column: pd.Series) -> NDArray[Any]:
    """Numbers as int64, uint64 or float64."""
    if pd.api.types.is_unsigned_integer_dtype(column.dtype):
        ticks = column.to_numpy(dtype=np.uint64)
        return ticks if ticks.size and ticks.max() > 2**63 - 1 else ticks.astype(np.int64)
    if pd.api.types.is_integer_dtype(column.dtype):
        return column.to_numpy(dtype=np.int64)
    return column.to_numpy(dtype=np.float64)


def _refuse_coarse(
    numbers: NDArray[Any], kind: Any, what: str, place: Callable[[int], str] | None
) -> None:
    """Raises for times in narrow floats that lose seconds, as float32 does since 1970."""
    if pd.api.types.is_float_dtype(kind) and str(kind).lower() in ("float16", "float32"):
        coarse = np.isfinite(numbers) & (np.abs(numbers) > exact_up_to(kind))
        if coarse.any():
            raise ValueError(
                f"The {what} holds {kind}, which cannot tell times as large as "
                f"{numbers[coarse][0]:.0f} from their neighbors, in {rows_named(coarse, place)}: "
                "read the column as float64 or as integers."
            )


def _of_numbers(
    ticks: NDArray[Any], unit: str | None, what: str, place: Callable[[int], str] | None
) -> Instants:
    if ticks.dtype.kind == "f":
        _refuse_missing(np.isnan(ticks), what, place)
        infinite = np.isinf(ticks)
        if infinite.any():
            raise ValueError(f"The {what} is infinite in {rows_named(infinite, place)}: drop them.")
    if unit is None and ticks.size:
        _refuse_other_units(ticks, what)
    return Instants(ticks, Fraction(1) if unit is None else UNITS[unit])


def _refuse_other_units(ticks: NDArray[Any], what: str) -> None:
    """Raises for numbers that are unlikely to be seconds, and states the likely unit."""
    middle = float(np.median(ticks[:: max(1, ticks.size // 100_000)]))
    if 19_000_101 <= middle <= 22_001_231 and _are_dates(ticks):
        raise ValueError(
            f"The {what} holds numbers as {ticks[0]}, which look like dates written as YYYYMMDD: "
            "convert it first, with pandas.to_datetime(..., format='%Y%m%d'), or, if they are "
            "seconds, pass time_unit='s'."
        )
    if abs(middle) <= YEAR_2200:
        return
    if 19_000_101_000_000 <= middle <= 22_001_231_235_959 and _are_dates(ticks // 1_000_000):
        likely = "dates written as YYYYMMDDhhmmss: convert it first, with pandas.to_datetime"
    else:
        unit = next(
            (u for u in ("ms", "us", "ns") if abs(middle) * float(UNITS[u]) <= YEAR_2200), None
        )
        likely = (
            "no time of any unit" if unit is None else f"{_NAMES[unit]}: pass time_unit={unit!r}"
        )
    raise ValueError(
        f"The {what} holds numbers as {ticks[0]}, which as seconds lie after the year 2200; it "
        f"looks like {likely}."
    )


_NAMES = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


def _are_dates(ticks: NDArray[Any]) -> bool:
    """Whether all numbers are valid as YYYYMMDD."""
    year, month, day = ticks // 10_000, ticks // 100 % 100, ticks % 100
    fits = (year >= 1900) & (year <= 2200) & (month >= 1) & (month <= 12)
    return bool((fits & (day >= 1) & (day <= 31) & (ticks % 1 == 0)).all())


def _of_text(
    column: pd.Series, unit: str | None, what: str, place: Callable[[int], str] | None
) -> Instants:
    text = pa.array(column)
    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks()
    numbers = _numbers_of_text(text)
    if numbers is not None:
        return _of_numbers(numbers, unit, what, place)
    found = _moments(text)
    if found is not None:
        return found
    iso = np.asarray(pc.match_substring_regex(text, ISO))
    bad = ~iso
    if iso.any():
        bad[iso] = _no_moments(text.filter(pa.array(iso)))
    if not bad.any():  # each value is a timestamp, but not all are in one range
        bad[:] = True
    row = int(np.argmax(bad))
    raise ValueError(
        f"The {what} holds neither numbers nor dates, nor all text as 2016-05-09T10:00:00: "
        f"{rows_named(bad, place)} {'is' if bad.sum() == 1 else 'are'} none, the first "
        f"{text[row].as_py()!r}; pass time_format=, as '%d.%m.%Y %H:%M', or convert it first, with "
        "pandas.to_datetime(..., format=...)."
    )


def _numbers_of_text(text: Any) -> NDArray[Any] | None:
    """Text that is all numbers as int64, uint64 or float64, or ``None``."""
    for kind in (pa.int64(), pa.uint64(), pa.float64()):
        numbers = cast_text(text, kind)
        if numbers is not None:
            return np.asarray(numbers)
    return None


def _moments(text: Any) -> Instants | None:
    """ISO 8601 text as timestamps, or ``None`` if a value cannot be read."""
    for unit in ("us", "ns"):
        for zone in (None, "UTC"):
            moments = cast_text(text, pa.timestamp(unit, zone))
            if moments is not None:
                return _ticks(moments, unit)
    if not pc.all(pc.match_substring_regex(text, ISO)).as_py():
        return None
    plain = pc.utf8_trim_whitespace(text)
    plain = pc.replace_substring_regex(plain, r" ?(Z|UTC)$", "Z")
    plain = pc.replace_substring_regex(plain, r" ([+-]\d{2}(:?\d{2})?)$", r"\1")
    zoned = pc.match_substring_regex(plain, ZONE)
    unit = "ns" if pc.any(pc.match_substring_regex(plain, r"\.\d{7,}")).as_py() else "us"
    try:
        there = pc.cast(plain.filter(zoned), pa.timestamp(unit, "UTC"))
        here = pc.cast(plain.filter(pc.invert(zoned)), pa.timestamp(unit))
    except pa.ArrowInvalid:
        return None
    ticks = np.empty(len(text), dtype=np.int64)
    mask = np.asarray(zoned)
    ticks[mask], ticks[~mask] = _ticks(there, unit).ticks, _ticks(here, unit).ticks
    return Instants(ticks, UNITS[unit])


def moments_of_text(text: Any, unit: str, form: str | None = None) -> Any:
    """Text as ticks of a unit; missing if a value is missing or not a timestamp.

    Args:
        text: Arrow's text, [n].
        unit: ``"us"`` or ``"ns"``.
        form: Format of the text; ``None``: ISO 8601.
    """
    if form is not None:
        dates = pd.to_datetime(text.to_pandas(), format=form, utc=True, errors="coerce")
        gone = dates.isna().to_numpy()
        return pa.array(dates.dt.as_unit(unit).astype(np.int64).to_numpy(), mask=gone)
    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks()
    whole = np.asarray(pc.fill_null(pc.match_substring_regex(text, ISO), False))
    ticks = np.zeros(len(text), dtype=np.int64)
    found = _moments(text.filter(pa.array(whole)))
    if found is None:  # some look like timestamps but are not, as the 30th of February
        whole[whole] = ~_no_moments(text.filter(pa.array(whole)))
        found = _moments(text.filter(pa.array(whole)))
    if found is None:  # in a range that the unit does not hold
        whole[:] = False
    else:
        ticks[whole] = found.ticks * int(found.tick / UNITS[unit])
    return pa.array(ticks, mask=~whole)


def _no_moments(text: Any) -> NDArray[np.bool_]:
    """Marks text that looks like ISO 8601 but is not a valid timestamp, bool [n]."""
    moments = pd.to_datetime(text.to_pandas(), errors="coerce", utc=True, format="ISO8601")
    return np.asarray(moments.isna())


def _ticks(moments: Any, unit: str) -> Instants:
    return Instants(np.asarray(pc.cast(moments, pa.int64())), UNITS[unit])


def _of_objects(
    column: pd.Series, unit: str | None, what: str, place: Callable[[int], str] | None
) -> Instants:
    kind = pd.api.types.infer_dtype(column, skipna=False)
    values = column.tolist()
    if kind == "string":
        return _of_text(column.astype("str"), unit, what, place)
    if kind == "integer":
        least, most = min(values), max(values)
        if -(2**63) <= least and most < 2**64 and (least >= 0 or most < 2**63):
            kinds = np.int64 if most < 2**63 else np.uint64
            return _of_numbers(np.array(values, dtype=kinds), unit, what, place)
    if kind in ("floating", "mixed-integer-float", "decimal", "integer"):
        return _of_numbers(np.array([float(v) for v in values]), unit, what, place)
    if kind in ("timedelta", "timedelta64"):
        return instants(pd.to_timedelta(column), what=what, place=place)
    odd = np.array([not isinstance(v, (datetime.date, np.datetime64)) for v in values])
    if not odd.any():
        try:
            dates = pd.to_datetime(column, utc=True)
        except (ValueError, TypeError, OverflowError):
            dates = pd.Series([pd.Timestamp(v).as_unit("us") for v in values], dtype=object)
            dates = pd.Series(
                [(d.tz_localize("UTC") if d.tzinfo is None else d.tz_convert("UTC")) for d in dates]
            )
        return instants(dates, what=what, place=place)
    row = int(np.argmax(odd))
    raise ValueError(
        f"The {what} holds neither numbers nor dates, nor all text as 2016-05-09T10:00:00, but "
        f"{values[row]!r} ({type(values[row]).__name__}) in {rows_named(odd, place)}: convert it "
        "first, with pandas.to_datetime."
    )


def _refuse_missing(
    missing: NDArray[np.bool_], what: str, place: Callable[[int], str] | None
) -> None:
    if missing.any():
        raise ValueError(missing_rows(what, missing, place))
