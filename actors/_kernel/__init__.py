"""The machinery of a runtime: process table, mailboxes, signals, timers and the start protocol."""
