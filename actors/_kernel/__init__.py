"""The process table: processes, mailboxes, links, timers, and the end of a process. Private to `actors`."""
