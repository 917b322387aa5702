"""The cases of Elixir's task suites, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {
    "task_test": 11,
    "task_test ignore/1": 6,
    "task_test await/2": 11,
    "task_test await_many/2": 14,
    "task_test yield/2": 5,
    "task_test yield_many/2": 12,
    "task_test shutdown/2": 13,
    "task_test shutdown/2 with :brutal_kill": 10,
    "task_test async_stream/2": 11,
    "task_test async_stream with max_concurrency tasks": 21,
    "task_test default :logger reporter": 2,
    "task/supervisor_test": 12,
    "task/supervisor_test async/1": 4,
    "task/supervisor_test async_nolink/1": 3,
    "task/supervisor_test await/1": 4,
    "task/supervisor_test async_stream": 13,
    "task/supervisor_test async_stream_nolink": 8,
}


def _task(name: str) -> Covered:
    return Covered(f"../../supervision/tasks/test_task.py::test_{name}")


def _many(name: str) -> Covered:
    return Covered(f"../../supervision/tasks/test_groups.py::test_{name}")


def _stream(name: str) -> Covered:
    return Covered(f"../../supervision/tasks/test_streams.py::test_{name}")


def _supervisor(name: str) -> Covered:
    return Covered(f"../../supervision/tasks/test_task_supervisor.py::test_{name}")


_ONE_NODE = NotPortable("there is one node, and its processes are always within reach")

_RUNS = _task("a_task_runs_in_a_linked_process_of_its_own_and_gives_its_result_once")
_CALLERS = _task("tasks_without_an_owner_know_their_callers_too")
_FAILS = _task("a_task_that_ends_without_a_result_fails_the_wait_with_its_reason")
_OWNER_ONLY = _task("only_the_owner_may_wait")
_FIRST_FAILURE = _many("the_first_that_ends_without_a_result_fails_the_wait_at_once")
_MANY_OWNER = _many("only_the_owner_may_wait_for_many")
_READY = _task("shutdown_returns_an_earlier_result_however_the_task_ended")
_STOPPED = _task("shutdown_stops_a_task_at_once_without_harm_to_its_owner")
_ENDED = _task("shutdown_of_an_ended_task_returns_its_reason_unless_it_is_shutdown")
_TAKEN = _task("a_second_wait_says_that_the_result_was_taken")
_IGNORED = _task("ignoring_a_running_task_discards_its_result_or_its_crash")
_IGNORED_LATE = _task("ignoring_an_ended_task_returns_its_outcome")

_TASK: Cases = {
    "task_test": {
        "can be supervised directly": _task("a_task_can_be_supervised_and_is_by_default_temporary"),
        "generates child_spec/1": _task("a_task_can_be_supervised_and_is_by_default_temporary"),
        "async/1": _RUNS,
        "async/3": _RUNS,
        "async with $callers": _task("callers_are_the_owner_of_the_task_and_the_owners_above"),
        "start/1": _task("start_runs_a_task_without_a_link"),
        "start/3": _task("start_runs_a_task_without_a_link"),
        "completed/1": _task("a_completed_task_has_its_result_without_a_process"),
        "start_link/1": _task("a_crash_of_a_start_link_task_ends_its_starter"),
        "start_link/3": _task("a_crash_of_a_start_link_task_ends_its_starter"),
        "start_link with $callers": _CALLERS,
    },
    "task_test ignore/1": {
        "discards on time replies": _IGNORED_LATE,
        "discards late replies": _IGNORED,
        "discards on-time failures": _IGNORED_LATE,
        "discards late failures": _IGNORED,
        "can ignore completed tasks": _IGNORED_LATE,
        "exits on :noconnection": _ONE_NODE,
    },
    "task_test await/2": {
        "demonitors and unalias on timeout": _task(
            "a_wait_that_takes_too_long_leaves_nothing_behind_and_ends_no_process"
        ),
        "exits on timeout": _task("a_timeout_that_nobody_catches_ends_the_task_over_the_link"),
        "exits on normal exit": _FAILS,
        "exits on task throw": _FAILS,
        "exits on task error": _FAILS,
        "exits on task exit": _FAILS,
        "exits on task undef module error": NotPortable(
            "a function is a value here; one that does not exist cannot be given to a task"
        ),
        "exits on task undef function error": NotPortable(
            "a function is a value here; one that does not exist cannot be given to a task"
        ),
        "exits on :noconnection": _ONE_NODE,
        "exits on :noconnection from named monitor": _ONE_NODE,
        "raises when invoked from a non-owner process": _OWNER_ONLY,
    },
    "task_test await_many/2": {
        "returns list of replies": _many(
            "results_come_in_the_order_of_the_tasks_when_the_slowest_has_ended"
        ),
        "returns replies in input order ignoring response order": _many(
            "results_come_in_the_order_of_the_tasks_when_the_slowest_has_ended"
        ),
        "returns an empty list immediately": _many("no_tasks_give_no_results_at_once"),
        "ignores messages from other processes": _many(
            "messages_of_others_and_those_that_come_later_stay"
        ),
        "ignores additional messages after reply": _many(
            "messages_of_others_and_those_that_come_later_stay"
        ),
        "exits on timeout": _many("one_deadline_is_for_all_and_nothing_is_left_of_any"),
        "exits with same reason when task exits": _FIRST_FAILURE,
        "exits immediately when any task exits": _FIRST_FAILURE,
        "exits immediately when any task crashes": _FIRST_FAILURE,
        "exits immediately when any task throws": _FIRST_FAILURE,
        "exits immediately on any task error": _FIRST_FAILURE,
        "exits immediately on :noconnection": _ONE_NODE,
        "exits immediately on :noconnection from named monitor": _ONE_NODE,
        "raises when invoked from a non-owner process": _MANY_OWNER,
    },
    "task_test yield/2": {
        "returns {:ok, result} when reply and :DOWN in message queue": _task(
            "yield_returns_an_earlier_result_and_removes_the_down"
        ),
        "returns nil on timeout": _task("yield_may_be_called_again_and_again"),
        "return exit on normal exit": _task("yield_returns_the_end_of_a_task_as_a_value"),
        "exits on :noconnection": _ONE_NODE,
        "raises when invoked from a non-owner process": _OWNER_ONLY,
    },
    "task_test yield_many/2": {
        "returns {:ok, result} when reply and :DOWN in message queue": _many(
            "the_ends_of_tasks_are_values"
        ),
        "returns nil on timeout by default": _many(
            "a_running_task_has_no_outcome_and_can_be_awaited_again"
        ),
        "shuts down on timeout when configured": _many("tasks_that_take_too_long_may_be_killed"),
        "ignores on timeout when configured": _many("tasks_that_take_too_long_may_be_ignored"),
        "return exit on normal exit": _many("the_ends_of_tasks_are_values"),
        "exits on :noconnection": _ONE_NODE,
        "raises when invoked from a non-owner process": _MANY_OWNER,
        "returns results from multiple tasks": _many("all_ends_before_the_time_is_up_end_the_wait"),
        "returns results from multiple tasks with limit": _many(
            "the_wait_ends_after_as_many_ends_as_the_limit"
        ),
        "returns once all tasks have replied below limit": _many(
            "fewer_tasks_than_the_limit_are_all_waited_for"
        ),
        "returns results from multiple tasks with limit and on timeout": _many(
            "the_time_may_be_up_before_the_limit_is_reached"
        ),
        "returns results on infinity timeout": _many("an_infinite_timeout_waits_for_all_tasks"),
    },
    "task_test shutdown/2": {
        "returns {:ok, result} when reply and abnormal :DOWN in message queue": _READY,
        "returns {:ok, result} when reply and normal :DOWN in message queue": _READY,
        "returns {:ok, result} when reply and shut down :DOWN in message queue": _READY,
        "returns nil on shutting down task": _STOPPED,
        "returns exit on abnormal :DOWN in message queue": _ENDED,
        "returns exit on normal :DOWN in message queue": _ENDED,
        "returns nil on shutdown :DOWN in message queue": _ENDED,
        "returns exit on killed :DOWN in message queue": _ENDED,
        "exits on noconnection :DOWN in message queue": _ONE_NODE,
        "ignores if task PID is nil": _task("shutdown_of_a_completed_task_returns_its_result"),
        "raises when invoked from a non-owner process": _OWNER_ONLY,
        "returns nil on killing task": _STOPPED,
        "returns {:exit, :noproc} if task handled": _TAKEN,
    },
    "task_test shutdown/2 with :brutal_kill": {
        "returns {:ok, result} when reply and abnormal :DOWN in message queue": _READY,
        "returns {:ok, result} when reply and normal :DOWN in message queue": _READY,
        "returns {:ok, result} when reply and shut down :DOWN in message queue": _READY,
        "returns nil on killed :DOWN in message queue": _ENDED,
        "returns exit on abnormal :DOWN in message queue": _ENDED,
        "returns exit on normal :DOWN in message queue": _ENDED,
        "returns exit on shutdown :DOWN in message queue": _ENDED,
        "exits on noconnection :DOWN in message queue": _ONE_NODE,
        "returns exit on killing task after shutdown timeout": _task(
            "a_task_that_does_not_stop_in_time_is_killed_and_the_outcome_is_killed"
        ),
        "returns {:exit, :noproc} if task handled": _TAKEN,
    },
    "task_test default :logger reporter": {
        "logs a terminated task": _task("a_crash_is_logged_with_the_function_of_the_task"),
        "logs a terminated task with a process label": _task(
            "a_crash_is_logged_with_the_label_that_the_task_gave_itself"
        ),
    },
}

_ALL = _stream("every_item_has_its_outcome_and_nothing_is_left")
_SLOWEST = _stream("ordered_outcomes_wait_for_a_slow_first_one")
_EXITS = _stream("an_exit_is_an_outcome_with_its_reason")
_UNUSED = _stream("leaving_early_kills_what_runs_and_leaves_nothing")
_IN_STEP = _stream("streams_can_be_walked_in_step_with_others")
_CUT_ITEMS = _stream("a_limited_iterator_of_items_limits_the_stream")
_CUT_OUTCOMES = _stream("a_loop_that_stops_early_has_the_outcomes_of_the_first_items")
_CLOSED = _stream("a_generator_of_items_is_closed_when_the_block_is_left")
_KILLED = _stream("a_task_that_takes_too_long_may_be_killed_and_that_is_its_outcome")
_REFUSED = _stream("an_invalid_option_is_refused_when_the_stream_is_made")
_STREAM_CALLERS = _stream("the_callers_of_the_tasks_are_the_maker_of_the_stream")
_ELSEWHERE = _stream("a_stream_may_be_consumed_by_another_process_than_the_one_that_made_it")

_STREAMS: Cases = {
    "task_test async_stream/2": {
        "timeout": _stream("a_task_that_takes_too_long_ends_the_loop_and_the_others_are_killed"),
        "streams an enumerable with ordered: false": _stream(
            "unordered_outcomes_come_as_they_are_ready"
        ),
        "streams an enumerable with ordered: false, on_timeout: :kill_task": _KILLED,
        "streams an enumerable with infinite timeout": _stream(
            "each_task_has_the_time_for_itself_and_five_seconds_unless_told_otherwise"
        ),
        "does not allow streaming with max_concurrency = 0": _REFUSED,
        "does not allow streaming with invalid :on_timeout": _REFUSED,
        "does not allow streaming with invalid :timeout": _REFUSED,
        "streams with fake down messages on the inbox": _stream(
            "similar_messages_of_other_processes_stay_in_the_mailbox"
        ),
        "with $callers": _STREAM_CALLERS,
        "consuming from another process": _ELSEWHERE,
        "wrapping a flat_map/concat with a haltable stream": _stream(
            "streams_may_be_nested_and_halted_inside"
        ),
    },
    "task_test async_stream with max_concurrency tasks": {
        "streams an enumerable with fun": _ALL,
        "streams an enumerable with mfa": _ALL,
        "streams an enumerable without leaking tasks": _ALL,
        "streams an enumerable with slowest first": _SLOWEST,
        "streams an enumerable with exits": _EXITS,
        "shuts down unused tasks": _UNUSED,
        "shuts down unused tasks without leaking messages": _UNUSED,
        "is zippable on success": _IN_STEP,
        "is zippable on failure": _IN_STEP,
        "is zippable with slowest first": _IN_STEP,
        "with inner halt on success": _CUT_ITEMS,
        "with inner halt on failure": _CUT_ITEMS,
        "with inner halt and slowest first": _CUT_ITEMS,
        "with outer halt on success": _CUT_OUTCOMES,
        "with outer halt on failure": _CUT_OUTCOMES,
        "with outer halt and slowest first": _CUT_OUTCOMES,
        "terminates inner effect": _CLOSED,
        "terminates outer effect": _stream("streams_may_be_nested_and_halted_inside"),
        "with :on_timeout set to :kill_task": _KILLED,
        "with timeout and :zip_input_on_exit set to true": _KILLED,
        "with outer halt on failure and :zip_input_on_exit": _CUT_OUTCOMES,
    },
}

_BOTH_RUN = _supervisor("a_task_is_a_child_of_the_supervisor_and_sends_its_result_to_its_owner")
_BOTH_FAIL = _supervisor("awaiting_a_task_that_ends_without_a_result_fails")
_BOTH_SHUTDOWN = _supervisor("the_shutdown_of_a_task_is_five_seconds_by_default")
_BOTH_FULL = _supervisor("one_more_than_max_children_is_refused_and_leaves_nothing")
_DETACHED = _supervisor("start_child_runs_a_task_and_discards_its_result")
_FULL = _supervisor("a_stream_ends_cleanly_when_the_supervisor_is_full")

_SUPERVISOR: Cases = {
    "task/supervisor_test": {
        "can be supervised directly": _supervisor(
            "a_task_supervisor_can_be_supervised_by_its_name"
        ),
        "multiple supervisors can be supervised and identified with simple child spec": _supervisor(
            "a_task_supervisor_can_be_supervised_by_its_name"
        ),
        "start with spawn_opt": NotPortable("processes have no heap sizes or priorities to set"),
        "counts and returns children": _supervisor(
            "children_are_counted_and_listed_last_first_and_gone_when_they_have_ended"
        ),
        "async/3": _BOTH_RUN,
        "async_nolink/3": _BOTH_RUN,
        "start_child/1": _DETACHED,
        "start_child/3": _DETACHED,
        "start_child/1 with custom shutdown": _supervisor(
            "the_shutdown_of_a_detached_task_is_five_seconds_by_default"
        ),
        "start_child/1 with custom restart": _supervisor(
            "a_detached_task_may_be_restarted_and_does_its_work_again"
        ),
        "start_child/1 with $callers": _DETACHED,
        "terminate_child/2": _supervisor("terminate_child_stops_one_task_and_no_other"),
    },
    "task/supervisor_test async/1": {
        "spawns tasks under the supervisor": _BOTH_RUN,
        "with custom shutdown": _BOTH_SHUTDOWN,
        "raises when :max_children is reached": _BOTH_FULL,
        "with $callers": _supervisor(
            "the_callers_of_a_task_are_owners_and_its_ancestors_are_supervisors"
        ),
    },
    "task/supervisor_test async_nolink/1": {
        "spawns a task under the supervisor without linking to the caller": _BOTH_RUN,
        "with custom shutdown": _BOTH_SHUTDOWN,
        "raises when :max_children is reached": _BOTH_FULL,
    },
    "task/supervisor_test await/1": {
        "demonitors and unalias on timeout": _supervisor(
            "a_wait_that_takes_too_long_leaves_nothing_behind"
        ),
        "exits on task throw": _BOTH_FAIL,
        "exits on task error": _BOTH_FAIL,
        "exits on task exit": _BOTH_FAIL,
    },
    "task/supervisor_test async_stream": {
        "streams an enumerable with fun": _ALL,
        "streams an enumerable with mfa": _ALL,
        "streams an enumerable without leaking tasks": _ALL,
        "streams an enumerable with slowest first": _SLOWEST,
        "streams an enumerable with exits": _EXITS,
        "shuts down unused tasks": _UNUSED,
        "shuts down unused tasks without leaking messages": _UNUSED,
        "raises an error if :max_children is reached with clean stream shutdown": _FULL,
        "with $callers": _STREAM_CALLERS,
        "consuming from another process": _ELSEWHERE,
        "with timeout and :zip_input_on_exit set to true": _KILLED,
        "with outer halt on failure and :zip_input_on_exit": _CUT_OUTCOMES,
        "does not allow streaming with invalid :shutdown": _supervisor(
            "the_shutdown_of_the_tasks_of_a_stream_is_checked_where_it_is_made"
        ),
    },
    "task/supervisor_test async_stream_nolink": {
        "streams an enumerable with fun": _ALL,
        "streams an enumerable with mfa": _ALL,
        "streams an enumerable without leaking tasks": _ALL,
        "streams an enumerable with slowest first": _SLOWEST,
        "streams an enumerable with exits": _EXITS,
        "shuts down unused tasks": _UNUSED,
        "shuts down unused tasks without leaking messages": _UNUSED,
        "raises an error if :max_children is reached with clean stream shutdown": _FULL,
    },
}

CASES: Cases = {**_TASK, **_STREAMS, **_SUPERVISOR}
