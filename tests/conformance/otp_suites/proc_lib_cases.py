"""The cases of OTP's proc_lib_SUITE, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {"proc_lib_SUITE": 11}


def _here(name: str) -> Covered:
    return Covered(f"test_proc_lib_suite.py::test_{name}")


def _in(module: str, name: str) -> Covered:
    folder, slash, stem = module.rpartition("/")
    return Covered(f"../../actors/{folder}{slash}test_{stem}.py::test_{name}")


CASES: Cases = {
    "proc_lib_SUITE": {
        "crash": _in("instrumentation/logger", "a_crash_is_one_line_with_its_traceback"),
        "stacktrace": _here("the_reason_of_a_crash_has_its_traceback"),
        "sync_start_nolink": _here("a_failed_start_without_a_link_does_not_harm_the_starter"),
        "sync_start_link": _here(
            "a_start_with_a_link_fails_for_a_starter_that_traps_and_leaves_no_message"
        ),
        "spawn_opt": NotPortable("processes have no heap sizes or priorities to set"),
        "hibernate": NotPortable("an idle process keeps no stack or heap that it could give up"),
        "init_dont_hang": _in(
            "kernel/start", "a_child_that_is_killed_while_it_starts_is_a_failed_start"
        ),
        "stop": Covered(
            "../otp/test_start_and_servers.py"
            "::test_43_stop_runs_terminate_even_in_a_server_that_does_not_trap"
        ),
        "t_format": _in(
            "instrumentation/logger",
            "the_crash_of_a_server_is_logged_with_its_state_and_last_message",
        ),
        "t_format_arbitrary": NotPortable(
            "a report is a log record with fields; how it is laid out is the log handler's business"
        ),
        "otp_6345": NotPortable(
            "a start has no list of spawn options in which two could contradict each other"
        ),
    }
}
