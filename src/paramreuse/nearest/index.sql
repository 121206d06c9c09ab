CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
-- Key, shape and dtype of the tensors that were sketched; most sources of a folder share one.
CREATE TABLE IF NOT EXISTS layouts (id INTEGER PRIMARY KEY, tensors TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS sources (
    address TEXT PRIMARY KEY,
    stamp TEXT NOT NULL,
    layout INTEGER REFERENCES layouts (id),
    squares BLOB,
    buckets BLOB,
    -- Why it could not be sketched.
    problem TEXT
);
