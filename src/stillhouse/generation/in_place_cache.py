"""A key/value cache that is written in place and can drop finished rows.

transformers' growing cache concatenates (copies) everything at every step, and its static one always attends over the
full capacity; this one allocates once and hands out views of what is filled.
"""

from typing import TYPE_CHECKING, Any

from transformers.cache_utils import Cache, DynamicLayer

if TYPE_CHECKING:
    from torch import Tensor


class InPlaceLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values, ``[rows, heads, capacity, head size]``, filled up to ``length``."""

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.capacity = capacity
        self.length = 0

    def update(
        self, key_states: "Tensor", value_states: "Tensor", *args: Any, **kwargs: Any
    ) -> "tuple[Tensor, Tensor]":
        """Append ``[rows, heads, new, head size]`` and return views of everything so far."""
        if not self.is_initialized:
            rows, heads, _, size = key_states.shape
            self.dtype, self.device = key_states.dtype, key_states.device
            self.all_keys = key_states.new_empty((rows, heads, self.capacity, size))
            self.all_values = value_states.new_empty((rows, heads, self.capacity, value_states.shape[-1]))
            self.is_initialized = True
        end = self.length + key_states.shape[2]
        self.all_keys[:, :, self.length : end] = key_states
        self.all_values[:, :, self.length : end] = value_states
        self.length = end
        return self.all_keys[:, :, :end], self.all_values[:, :, :end]

    def get_seq_length(self) -> int:
        """Positions filled so far."""
        return self.length

    def take(self, rows: "Tensor") -> None:
        """Keep these rows, in this order; a row may be taken more than once."""
        self.all_keys = _take(self.all_keys, rows, self.length)
        self.all_values = _take(self.all_values, rows, self.length)


def _take(buffer: "Tensor", rows: "Tensor", length: int) -> "Tensor":
    taken = buffer.new_empty((len(rows), *buffer.shape[1:]))
    taken[:, :, :length] = buffer[:, :, :length].index_select(0, rows)
    return taken


def in_place_cache(layers: int, capacity: int) -> Cache:
    """A cache for a decoder of ``layers`` layers that will hold ``capacity`` positions."""
    return Cache(layers=[InPlaceLayer(capacity) for _ in range(layers)])


def take_rows(cache: Cache, rows: "Tensor") -> None:
    """Keep only ``rows`` of every layer."""
    for layer in cache.layers:
        assert isinstance(layer, InPlaceLayer)
        layer.take(rows)


__all__ = ["InPlaceLayer", "in_place_cache", "take_rows"]
