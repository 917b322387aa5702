"""The command `ashtree`, as a module that `forks.Program` can run."""

from channels.cli.command import main

if __name__ == "__main__":
    main()
