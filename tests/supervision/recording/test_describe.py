"""Values as stable text, in traces and recordings."""

import msgspec

from supervision.recording.describe import describe


class Visible(msgspec.Struct):
    name: str
    password: str


class Hiding(msgspec.Struct):
    name: str
    received: bytes
    owner: object

    def __repr__(self) -> str:
        return f"Hiding({self.name!r}, {self.owner!r})"


def test_a_struct_shows_its_fields_and_hides_those_with_a_secret_name() -> None:
    assert describe(Visible("ann", "s3cret")) == "Visible(name='ann', password=[FILTERED])"


def test_a_struct_with_its_own_repr_shows_only_that_without_addresses() -> None:
    assert describe(Hiding("ann", b"cookie", object())) == "Hiding('ann', <object object>)"


def test_a_long_repr_is_cut() -> None:
    assert describe(Hiding("a" * 99, b"", None)) == f"Hiding('{'a' * 72}... (115)"
