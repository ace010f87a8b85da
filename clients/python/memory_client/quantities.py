"""Quantities as people read them."""

_PREFIXES = ("", "k", "M", "G", "T", "P")


def quantity(value: float, unit: str = "") -> str:
    """Three digits with a decimal prefix: 55_837 is "55.8k", and with the unit "B" "55.8 kB"; below 1000, all of it."""
    power = 0
    while float(f"{value:.3g}") >= 1000 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    digits = f"{value:.0f}" if value >= 100 or not power else f"{value:#.3g}"
    return f"{digits}{' ' if unit else ''}{_PREFIXES[power]}{unit}"
