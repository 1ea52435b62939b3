-- The catalogue, version 1. One document is a row of documents, one of semantic_ids and, where the indexer ran, one of vectors; its words are in
-- text_index, which keeps no copy of the text. Codes are big-endian 32-bit words in a blob, so that blobs sort as the codes do.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Numbers are never used again (AUTOINCREMENT): the trie and open requests hold them. Large columns come last: reading an id skips them.
CREATE TABLE documents (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    sha256 TEXT,               -- of title, text, attributes; NULL: imported with an ID only
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    title TEXT,
    attributes TEXT,           -- a JSON object
    words TEXT,                -- its strings, what the text index reads of it
    text TEXT
) STRICT;

CREATE TABLE semantic_ids (
    number INTEGER PRIMARY KEY REFERENCES documents (number),
    prefix BLOB NOT NULL,      -- c^1 .. c^L
    suffix INTEGER NOT NULL CHECK (suffix BETWEEN 0 AND 4294967295),
    trained INTEGER NOT NULL CHECK (trained IN (0, 1)),
    UNIQUE (prefix, suffix)
) STRICT;

-- The next suffix of a bucket: above every suffix that was ever given out in it, so that one of a deleted document is not used again.
CREATE TABLE buckets (
    prefix BLOB PRIMARY KEY,
    next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE vectors (
    number INTEGER PRIMARY KEY REFERENCES documents (number),
    checksum INTEGER NOT NULL, -- 64-bit hash of vector
    vector BLOB NOT NULL       -- little-endian f32
) STRICT;

-- Items of the training histories, most frequent first; they need not be in documents.
CREATE TABLE popular (
    place INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    count INTEGER NOT NULL
) STRICT;

CREATE VIRTUAL TABLE text_index USING fts5 (
    title, text, words,
    content = 'documents', content_rowid = 'number',
    tokenize = 'porter unicode61 remove_diacritics 2'
);
