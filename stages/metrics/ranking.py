"""Which images a model does worst on."""

from collections.abc import Mapping


def worst(quality: Mapping[str, float], count: int) -> list[str]:
    """Keys of the lowest values, the lowest first; equal ones in the order of their names."""
    return sorted(quality, key=lambda key: (quality[key], key))[:count]
