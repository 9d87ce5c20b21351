"""Every signature's shapes and dtypes are checked while the tests run (and cost nothing in production)."""

from typing import TypeVar

from beartype import beartype
from beartype.roar import BeartypeDecorHintException

T = TypeVar("T")


def check(item: T) -> T:
    """Beartype's decorator for functions and dataclasses, in the form that pytest's --jaxtyping-packages takes.

    What it cannot check at run time stays unchecked: a lone method annotated with `Self` (jaxtyping decorates methods,
    not classes) and protocols that are not runtime_checkable.
    """
    try:
        return beartype(item)
    except BeartypeDecorHintException:
        return item
