"""A SQLite table whose changes any program may cause. Triggers write them down, and a process reads them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import trio

from channels import EndpointChild, PubSub
from channels.serving.services import Services
from channels.supabase import Change, Changes
from supervision import ChildSpec, process_spec

_TABLES = """
create table if not exists notices (id integer primary key, text text not null);
create table if not exists changes (
    number integer primary key autoincrement, type text, record text, old_record text,
    time text default (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
);
"""
_TRIGGER = """
create trigger if not exists after_{type} after {type} on notices begin
    insert into changes (type, record, old_record) values (upper('{type}'), {record}, {old_record});
end
"""
_NEW, _OLD = (f"json_object('id', {row}.id, 'text', {row}.text)" for row in ("new", "old"))
_COLUMNS = {"id": "int8", "text": "text"}
INTERVAL = 0.25


class Notices(EndpointChild):
    """The table, in a file. Its process publishes each change from its start on."""

    def __init__(self, path: str, changes: Changes) -> None:
        self._path = path
        self._changes = changes

    def child_spec(self, services: Services) -> ChildSpec:
        return process_spec(self._watch, services.pubsub, id="notices")

    async def _watch(self, pubsub: PubSub) -> None:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as database:
            database.executescript(_TABLES)
            for type, record, old_record in (
                ("insert", _NEW, "null"),
                ("update", _NEW, _OLD),
                ("delete", "null", _OLD),
            ):
                database.execute(_TRIGGER.format(type=type, record=record, old_record=old_record))
            (last,) = database.execute("select coalesce(max(number), 0) from changes").fetchone()
            while True:
                rows = database.execute(
                    "select * from changes where number > ? order by number limit 100", (last,)
                ).fetchall()
                for number, *fields in rows:
                    self._changes.publish(pubsub, _change(*fields))
                    last = number
                await trio.sleep(INTERVAL)


def _change(type: str, record: str | None, old_record: str | None, time: str) -> Change:
    return Change(
        type=type,  # type: ignore[arg-type] # one of the three types of the triggers
        table="notices",
        record=json.loads(record) if record else None,
        old_record=json.loads(old_record) if old_record else None,
        columns=_COLUMNS,
        commit_timestamp=time,
    )
