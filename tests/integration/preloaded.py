"""The imports of most servers of the tests. The fork server of `forks` imports this module.

It imports no example and no server of the tests, because these read their environment while they are imported.
"""

import gc

import channels.cli.command
import channels.client.socket

# A collection in a program would copy the memory that it shares with the fork server.
gc.collect()
gc.freeze()

__all__ = ["channels"]
