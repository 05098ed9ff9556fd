"""The dashboard's files, which the gateway serves at `/`: no Python but this.

    index.html, style.css, icon.svg     the page, how it looks, its sign
    app.js          who is logged in, which page is shown
    api.js          requests, and the errors that they are answered with
    feed.js         the rows of all sessions as they change: one stream a tab
    transcript.js   what is said in a session, as it is said
    words.js        ages, figures, reasons, states, as people read them
    parts.js        what pages have in common: lists, charts, dialogs, notices
    sessions.js, session.js, operations.js     the pages
    lit-html/       the library that draws, as its authors ship it, with their licence

Modules of the browser, without a build. Whatever comes from a session gets into the page as text,
and as nothing else.
"""
