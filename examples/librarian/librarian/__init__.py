"""A search engine over the running interpreter's standard library.

library.py   which files there are
reading.py   a file's text → its definitions
index.py     definitions → a SQLite file with full-text search, and what a search finds in it
tasks.py     the work: scan the library, index one file
web.py       the search page; pages.py writes its HTML
"""
