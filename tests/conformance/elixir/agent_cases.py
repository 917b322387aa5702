"""The cases of Elixir's agent suite, and the tests that cover them."""

from tests.conformance.elixir.cases import Cases, Covered, NotPortable

COUNTS = {"agent_test": 7}

_NO_UPGRADES = NotPortable("code is not replaced in running processes here")

CASES: Cases = {
    "agent_test": {
        "can be supervised directly": Covered(
            "test_agent.py::test_an_agent_is_supervised_like_any_server"
        ),
        "generates child_spec/1": Covered(
            "test_agent.py::test_an_agent_is_supervised_like_any_server"
        ),
        "start_link/2 workflow with unregistered name and anonymous functions": Covered(
            "test_agent.py::test_an_agent_works_with_lambdas"
        ),
        "start/2 workflow with registered name and module functions": Covered(
            "test_agent.py::test_a_named_agent_works_with_functions_of_a_module"
        ),
        "start_link/2 with spawn_opt": NotPortable(
            "processes have no heap sizes or priorities to set"
        ),
        ":sys.change_code/4 with mfa": _NO_UPGRADES,
        ":sys.change_code/4 with raising mfa": _NO_UPGRADES,
    },
}
