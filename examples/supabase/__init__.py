"""A page with supabase's client: cursors, a chat that keeps its messages, the people who are here, and a table.

`python -m examples.supabase` serves it at http://127.0.0.1:4000, after `npm install --prefix examples/supabase`. Open
the page in two tabs. The page uses `@supabase/realtime-js` as npm has it. Its settings are those of any page for
supabase: the URL of the server, and an API key.

To see a change of a table, insert a row with any program:

    sqlite3 notices.db "insert into notices (text) values ('Lunch is ready')"

| file | contents |
|---|---|
| `server.py` | the channel, the socket and the endpoint |
| `notices.py` | a SQLite table as a source of `postgres_changes` |
| `static/` | the page |
"""
