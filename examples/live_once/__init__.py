"""Seats that are sold once, whichever worker a client is connected to. The programs of a page of the documentation.

Each module has an endpoint: `ashtree serve examples.live_once.entity:endpoint --workers 2`. A client joins `hall`, and
pushes `order` with a seat.

    database.py    a database decides
    entity.py      an entity decides
    office.py      a separate program decides
"""
