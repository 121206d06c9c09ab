-- Every measured fact of a study, written as it is measured. Judgements are computed from these.
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stages (
    stage TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, summary TEXT NOT NULL,
    seconds REAL NOT NULL, finished TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS splits (
    data TEXT NOT NULL, fold TEXT NOT NULL, subject TEXT NOT NULL, slices INTEGER,
    PRIMARY KEY (data, fold, subject)
);
CREATE TABLE IF NOT EXISTS epochs (
    model TEXT NOT NULL, epoch INTEGER NOT NULL, train_loss REAL, validation_score REAL,
    seconds REAL, PRIMARY KEY (model, epoch)
);
CREATE TABLE IF NOT EXISTS distances (
    source TEXT NOT NULL, position INTEGER NOT NULL, family TEXT NOT NULL, layer INTEGER NOT NULL,
    path TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, elements INTEGER NOT NULL,
    rmse REAL, relative_rmse REAL, cosine REAL, PRIMARY KEY (source, position)
);
CREATE TABLE IF NOT EXISTS batchnorms (
    source TEXT NOT NULL, layer INTEGER NOT NULL, path TEXT NOT NULL,
    mrm REAL, mrv REAL, mrw REAL, mrw_median REAL, mrb REAL, PRIMARY KEY (source, layer)
);
CREATE TABLE IF NOT EXISTS lineages (
    source TEXT PRIMARY KEY, lineage TEXT NOT NULL, reason TEXT NOT NULL, identical_share REAL,
    skipped TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS source_scores (
    source TEXT NOT NULL, name TEXT NOT NULL, value REAL, PRIMARY KEY (source, name)
);
-- Sums per sample (JSON, samples x classes x sums), kept batch by batch while a sweep runs.
CREATE TABLE IF NOT EXISTS statistics (
    sweep TEXT NOT NULL, batch INTEGER NOT NULL, swap TEXT NOT NULL, replacement TEXT NOT NULL,
    digest TEXT NOT NULL, sums TEXT NOT NULL, PRIMARY KEY (sweep, batch, swap, replacement)
);
CREATE TABLE IF NOT EXISTS sweeps (sweep TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS scores (
    sweep TEXT NOT NULL, swap TEXT NOT NULL, replacement TEXT NOT NULL, subject TEXT NOT NULL,
    class TEXT NOT NULL, score REAL, PRIMARY KEY (sweep, swap, replacement, subject, class)
);
CREATE TABLE IF NOT EXISTS transfers (
    source TEXT NOT NULL, strategy TEXT NOT NULL, num_subjects INTEGER NOT NULL,
    seed INTEGER NOT NULL, subject TEXT NOT NULL, label TEXT NOT NULL, score REAL,
    PRIMARY KEY (source, strategy, num_subjects, seed, subject, label)
);
CREATE TABLE IF NOT EXISTS long_transfers (
    source TEXT NOT NULL, strategy TEXT NOT NULL, num_subjects INTEGER NOT NULL,
    seed INTEGER NOT NULL, subject TEXT NOT NULL, label TEXT NOT NULL, score REAL,
    PRIMARY KEY (source, strategy, num_subjects, seed, subject, label)
);
CREATE TABLE IF NOT EXISTS transfer_steps (
    source TEXT NOT NULL, strategy TEXT NOT NULL, num_subjects INTEGER NOT NULL,
    seed INTEGER NOT NULL, step INTEGER NOT NULL, score REAL,
    PRIMARY KEY (source, strategy, num_subjects, seed, step)
);
CREATE TABLE IF NOT EXISTS transfer_epochs (
    source TEXT NOT NULL, strategy TEXT NOT NULL, num_subjects INTEGER NOT NULL,
    seed INTEGER NOT NULL, epoch INTEGER NOT NULL, train_loss REAL, validation_score REAL,
    seconds REAL, PRIMARY KEY (source, strategy, num_subjects, seed, epoch)
);
CREATE TABLE IF NOT EXISTS pictures (
    shown TEXT NOT NULL, subject TEXT NOT NULL, slice TEXT NOT NULL, rows INTEGER NOT NULL,
    columns INTEGER NOT NULL, pixels BLOB NOT NULL, PRIMARY KEY (shown, subject)
);
