"""Every example is run by a test."""

from tests.architecture.examples import examples_not_run
from tests.architecture.sources import report, source, sources_under


def test_every_example_is_run_by_a_test() -> None:
    tests = [test for test in sources_under("tests") if "/architecture/" not in test.path]
    report(examples_not_run(sources_under("examples"), tests))


# The check itself, on samples that break the rule.

EXAMPLES = [
    source("examples/__init__.py", ""),
    source("examples/chat/__main__.py", "from .server import serve"),
    source("examples/chat/server.py", "from .pages import pages"),
    source("examples/chat/pages.py", ""),
    source("examples/ping.py", "if __name__ == '__main__':\n    main()"),
]


def test_an_example_that_no_test_names_is_found() -> None:
    tests = [source("tests/test_a.py", '"""About examples.chat and examples.ping."""')]
    assert examples_not_run(EXAMPLES, tests) == [
        "examples/chat/__main__.py is run by no test",
        "examples/chat/server.py is run by no test",
        "examples/chat/pages.py is run by no test",
        "examples/ping.py is run by no test",
    ]


def test_a_program_is_run_by_its_name_and_what_it_imports_with_it() -> None:
    tests = [source("tests/test_a.py", "start('python -m examples.chat', f'-m examples.ping {x}')")]
    assert examples_not_run(EXAMPLES, tests) == []


def test_importing_part_of_a_program_is_not_running_it() -> None:
    tests = [
        source("tests/test_a.py", "from examples.chat.server import serve\nimport examples.ping"),
    ]
    assert examples_not_run(EXAMPLES, tests) == ["examples/chat/__main__.py is run by no test"]
