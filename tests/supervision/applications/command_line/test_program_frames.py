"""Tracebacks without the frames of Ashtree."""

from traceback import extract_tb

from actors import Pid
from supervision import child_spec
from supervision.applications.command_line.program_frames import program_place, program_traceback


def error_below_child_spec() -> Exception:
    try:
        child_spec(Pid)
    except Exception as error:
        return error
    raise AssertionError("a Pid is no child")


def test_a_traceback_has_no_frames_of_ashtree() -> None:
    error = error_below_child_spec()
    assert len(extract_tb(error.__traceback__)) == 2
    shown = program_traceback(error)
    assert "error_below_child_spec" in shown
    assert "supervision/child_spec.py" not in shown


def test_program_place_is_the_innermost_line_of_the_program() -> None:
    place = program_place(error_below_child_spec())
    assert place is not None
    assert place.startswith(f"{__file__}:")
