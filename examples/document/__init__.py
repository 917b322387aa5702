"""A document that several people edit at the same time. It survives a killed server.

    $ npm install --prefix examples/document         # phoenix.js for the page
    $ python -m examples.document
    Serving on http://127.0.0.1:4000 (Ctrl-C stops it)

Open the page in two tabs, and write in both. Kill the server with `kill -9`, go on writing, and start it again. Both
tabs come back by themselves. They show the same text, and nothing is lost or doubled.

    server.py              the channel of the document, a durable topic
    text.py                the text, and the changes that an edit makes to it
    static/text.js         the same as text.py, for the page
    static/document.js     the client: sends edits until the server has them
    static/paragraphs.js   the paragraphs on the screen

The model is simple. A text is a list of paragraphs. An edit sets, adds or removes whole paragraphs. Every client
applies the edits in the order of the history, so all of them end with the same text.

The model does not do these things:

- It does not merge two people's changes to one paragraph. The later edit sets the whole paragraph.
- It does not keep unsent edits when the user closes the tab. The page shows the number of unsent edits.
- It does not know its users. Anyone may write.
- It has no undo. The undo of the browser does not know other people's edits.

The history is in `document.db`, or in the file that the variable DOCUMENT names. Several workers can share it:

    $ ashtree serve examples.document.server:endpoint --workers 4
"""
