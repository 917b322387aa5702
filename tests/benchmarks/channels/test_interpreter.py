"""The description of the Python that runs a benchmark."""

from __future__ import annotations

import pytest

from tests.benchmarks.channels.interpreter import build_of, warning_about

PROFILED = "-fprofile-use -fprofile-correction"


@pytest.mark.parametrize(
    ("arguments", "flag", "kind", "warns"),
    [
        ("'--enable-shared'", PROFILED, "built without optimisations", True),
        ("'--enable-optimizations'", PROFILED, "built with PGO", False),
        ("'--enable-optimizations' '--with-lto=full'", PROFILED, "built with PGO and LTO", False),
        ("'--with-lto'", PROFILED, "built with LTO", False),
        ("'--enable-shared'", "", "of a distribution, without the flags of its build", False),
        (None, None, "of a distribution, without the flags of its build", False),
    ],
)
def test_a_build_has_a_name_and_one_without_optimisations_a_warning(
    arguments: str | None, flag: str | None, kind: str, warns: bool
) -> None:
    build = build_of({"CONFIG_ARGS": arguments, "PGO_PROF_USE_FLAG": flag})
    assert f", {kind}, " in build
    assert (warning_about(build) is not None) is warns


def test_the_warning_names_the_build_and_the_options_to_use() -> None:
    build = build_of({"CONFIG_ARGS": "", "PGO_PROF_USE_FLAG": PROFILED})
    warning = warning_about(build)
    assert warning is not None
    assert build in warning
    assert "--enable-optimizations --with-lto" in warning
