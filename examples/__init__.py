"""Programs that show Ashtree at work. A test runs every program."""

from examples.needs import check_libraries

check_libraries()
