from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from sagelight.debugging.records import DTYPES, Place, decode, encode
from sagelight.errors import DataError

PLACE = Place(300, "EVAL", 7)
ANY = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: arrays.arrays(
        name, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
    )
)


@given(ANY, st.text(min_size=1))
def test_a_tensor_comes_back_bit_for_bit(values: NDArray[np.generic], name: str) -> None:
    found, back = decode(encode(name, values, PLACE))
    assert found == name
    assert (back.dtype, back.shape) == (values.dtype, values.shape)
    assert back.tobytes() == values.tobytes()


def test_a_type_that_smdebug_has_not_is_refused() -> None:
    with pytest.raises(KeyError):
        encode("x", np.zeros(2, np.complex64), PLACE)


@pytest.mark.parametrize("cut", [0, 7, 15, 40, -1])
def test_what_is_cut_off_is_damaged(cut: int) -> None:
    record = encode("loss", np.arange(6.0), PLACE)
    with pytest.raises(DataError):
        decode(record[:cut])


@given(st.binary(max_size=80))
def test_noise_is_damaged_and_nothing_else_is_raised(noise: bytes) -> None:
    with pytest.raises(DataError):
        decode(noise)


@given(st.integers(0, 119), st.integers(1, 255))
def test_a_changed_byte_changes_values_or_is_damage(place: int, change: int) -> None:
    record = bytearray(encode("loss", np.arange(6.0), PLACE))
    record[place % len(record)] ^= change
    try:
        name, values = decode(bytes(record))
    except DataError:
        return
    assert isinstance(name, str)
    assert values.size <= len(record)
