"""The tables of the store, by version: what stands here is never changed, only followed by the next version."""

from typing import Final

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE target (
        id TEXT PRIMARY KEY, name TEXT, kind TEXT, base_url TEXT, key_ref TEXT, model_prefix TEXT, skip_params TEXT,
        price_in REAL, price_out REAL
    );
    CREATE TABLE machine (id TEXT PRIMARY KEY, label TEXT, boot_id TEXT, hardware_json TEXT);
    CREATE TABLE run (
        id TEXT PRIMARY KEY, spec_json TEXT, spec_hash TEXT, state TEXT, created REAL, origin TEXT, name TEXT,
        machine_id TEXT REFERENCES machine, parent_id TEXT, started REAL, ended REAL, cancel_requested INTEGER,
        pid INTEGER, pid_started REAL, heartbeat REAL, flags_json TEXT, manifest_json TEXT
    );
    CREATE TABLE cell (
        id TEXT PRIMARY KEY, run_id TEXT NOT NULL REFERENCES run ON DELETE CASCADE, ordinal INTEGER,
        target_id TEXT REFERENCES target, model TEXT, task TEXT, scenario TEXT, load TEXT, level REAL, repeat INTEGER,
        cache TEXT, seed INTEGER, planned INTEGER, state TEXT, window_start INTEGER, window_end INTEGER, flags TEXT,
        UNIQUE (run_id, ordinal)
    );
    CREATE TABLE sample (
        id TEXT PRIMARY KEY, run_id TEXT NOT NULL REFERENCES run ON DELETE CASCADE,
        cell_id TEXT NOT NULL REFERENCES cell ON DELETE CASCADE, ordinal INTEGER NOT NULL, attempt INTEGER NOT NULL,
        sender INTEGER, clock_id TEXT, phase TEXT, outcome TEXT, error_class TEXT, http_status INTEGER,
        finish_reason TEXT, t_due INTEGER, t_start INTEGER, t_dns INTEGER, t_tcp INTEGER, t_tls INTEGER,
        t_sent INTEGER, t_headers INTEGER, t_first_event INTEGER, t_first_token INTEGER, t_first_visible INTEGER,
        t_last_token INTEGER, t_end INTEGER, chunk_times BLOB, chunk_tokens BLOB, bytes_in INTEGER, bytes_out INTEGER,
        in_planned INTEGER, in_usage INTEGER, in_engine INTEGER, cached INTEGER, out_asked INTEGER, out_usage INTEGER,
        out_engine INTEGER, out_counted INTEGER, reasoning INTEGER, client_request_id TEXT, server_request_id TEXT,
        output_sha256 TEXT, extra_json TEXT,
        UNIQUE (cell_id, ordinal, attempt)
    );
    CREATE INDEX sample_by_run ON sample (run_id);
    CREATE TABLE pair (
        sample_id TEXT REFERENCES sample ON DELETE CASCADE, source TEXT, timeline_json TEXT, residual_ns INTEGER,
        PRIMARY KEY (sample_id, source)
    ) WITHOUT ROWID;
    CREATE TABLE series (run_id TEXT REFERENCES run ON DELETE CASCADE, t INTEGER, source TEXT, name TEXT, value REAL);
    CREATE INDEX series_by_run ON series (run_id, source, name, t);
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT REFERENCES run ON DELETE CASCADE, wall REAL, type TEXT,
        data_json TEXT
    );
    CREATE INDEX event_by_run ON event (run_id, seq);
    CREATE TABLE artifact (
        run_id TEXT REFERENCES run ON DELETE CASCADE, kind TEXT, path TEXT, sha256 TEXT, PRIMARY KEY (run_id, path)
    ) WITHOUT ROWID;
    CREATE TABLE baseline (name TEXT PRIMARY KEY, run_id TEXT REFERENCES run ON DELETE CASCADE) WITHOUT ROWID;
    """,
)
