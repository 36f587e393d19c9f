"""The schema of the store in PostgreSQL, and the locks by which aggregators keep out of each other's way."""

LOCK_MIGRATE, LOCK_AUDIT, LOCK_LEAD = 0x67_77_01, 0x67_77_02, 0x67_77_03
SCHEMA_TABLE = "schema_version"
SCRIPTS = (
    """
    CREATE TABLE epoch (one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one), value BIGINT NOT NULL);
    CREATE TABLE node (node TEXT PRIMARY KEY, greeting TEXT NOT NULL, greeted_wall FLOAT8 NOT NULL);
    CREATE TABLE state (
        node TEXT PRIMARY KEY, heard_wall FLOAT8 NOT NULL, wall FLOAT8 NOT NULL, mode TEXT NOT NULL,
        devices INT NOT NULL, unseen INT NOT NULL, cordoned INT NOT NULL, worst INT, faults TEXT NOT NULL,
        incidents_open INT NOT NULL
    ) WITH (fillfactor = 70);
    CREATE TABLE log (node TEXT NOT NULL, log_id TEXT NOT NULL, upto BIGINT NOT NULL,
        PRIMARY KEY (node, log_id));
    CREATE TABLE event (
        node TEXT NOT NULL, log_id TEXT NOT NULL, sequence BIGINT NOT NULL, wall FLOAT8 NOT NULL,
        heard_wall FLOAT8 NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, payload BYTEA NOT NULL,
        PRIMARY KEY (node, log_id, sequence)
    );
    CREATE INDEX event_heard ON event (heard_wall);
    CREATE TABLE incident (
        node TEXT NOT NULL COLLATE "C", id TEXT NOT NULL COLLATE "C", rule TEXT NOT NULL,
        opened_wall FLOAT8 NOT NULL, closed_wall FLOAT8, payload BYTEA NOT NULL, changes BIGINT NOT NULL,
        PRIMARY KEY (node, id)
    );
    CREATE INDEX incident_newest ON incident (opened_wall DESC, node DESC, id DESC);
    CREATE TABLE permit (id TEXT PRIMARY KEY, node TEXT NOT NULL, granted_wall FLOAT8 NOT NULL,
        permit TEXT NOT NULL);
    CREATE TABLE token (token TEXT PRIMARY KEY, digest TEXT NOT NULL, node TEXT NOT NULL,
        expires_wall FLOAT8 NOT NULL, used_wall FLOAT8);
    CREATE TABLE certificate (serial TEXT PRIMARY KEY, node TEXT NOT NULL,
        not_after_wall FLOAT8 NOT NULL);
    CREATE TABLE orders (id TEXT PRIMARY KEY, node TEXT NOT NULL, who TEXT NOT NULL, verb TEXT NOT NULL,
        subject TEXT NOT NULL, wall FLOAT8 NOT NULL, is_done BOOLEAN, text TEXT NOT NULL DEFAULT '');
    CREATE TABLE audit (number BIGINT PRIMARY KEY, wall FLOAT8 NOT NULL, who TEXT NOT NULL,
        what TEXT NOT NULL, detail TEXT NOT NULL, chain TEXT NOT NULL);
    """,
    """
    ALTER TABLE epoch ADD COLUMN holder TEXT NOT NULL DEFAULT '', ADD COLUMN address TEXT NOT NULL DEFAULT '';
    INSERT INTO epoch (value) VALUES (0) ON CONFLICT DO NOTHING;
    CREATE TABLE reign (epoch BIGINT PRIMARY KEY, holder TEXT NOT NULL, address TEXT NOT NULL,
        began TIMESTAMPTZ NOT NULL);
    CREATE TABLE authority (fingerprint TEXT PRIMARY KEY);
    CREATE SEQUENCE stream;
    CREATE TABLE aggregator (id TEXT PRIMARY KEY, address TEXT NOT NULL, seen TIMESTAMPTZ NOT NULL);
    CREATE TABLE presence (
        node TEXT PRIMARY KEY, stream BIGINT NOT NULL, holder TEXT NOT NULL, is_connected BOOLEAN NOT NULL,
        events_dropped BIGINT NOT NULL DEFAULT 0, wall_offset_s FLOAT8, asks TEXT NOT NULL DEFAULT '[]',
        asked TIMESTAMPTZ, touched TIMESTAMPTZ NOT NULL
    ) WITH (fillfactor = 70);
    ALTER TABLE state ADD COLUMN stream BIGINT NOT NULL DEFAULT 0,
        ADD COLUMN sequence BIGINT NOT NULL DEFAULT 0,
        ADD COLUMN is_cordoned BOOLEAN NOT NULL DEFAULT false,
        ADD COLUMN degraded TEXT NOT NULL DEFAULT '[]',
        ADD COLUMN touched TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp();
    ALTER TABLE permit ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0,
        ADD COLUMN granted TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
        ADD COLUMN expires TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp();
    UPDATE permit SET granted = to_timestamp(granted_wall), expires = to_timestamp(granted_wall);
    CREATE INDEX permit_granted ON permit (granted);
    CREATE INDEX permit_expires ON permit (expires);
    CREATE TABLE refusal (node TEXT NOT NULL, ask TEXT NOT NULL, budget TEXT NOT NULL, detail TEXT NOT NULL,
        epoch BIGINT NOT NULL, touched TIMESTAMPTZ NOT NULL, PRIMARY KEY (node, ask));
    ALTER TABLE orders ADD COLUMN reason TEXT NOT NULL DEFAULT '',
        ADD COLUMN boot_id TEXT NOT NULL DEFAULT '',
        ADD COLUMN expires TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp();
    CREATE INDEX orders_waiting ON orders (expires) WHERE is_done IS NULL;
    """,
    """
    CREATE TABLE policy (version BIGINT PRIMARY KEY, wall FLOAT8 NOT NULL, who TEXT NOT NULL,
        rollout TEXT NOT NULL, serial BIGINT NOT NULL, bundle BYTEA NOT NULL);
    """,
    """
    CREATE TABLE denial (node TEXT PRIMARY KEY, wall FLOAT8 NOT NULL, who TEXT NOT NULL,
        reason TEXT NOT NULL);
    """,
    """
    CREATE TABLE oncall (name TEXT PRIMARY KEY, line BYTEA NOT NULL);
    CREATE TABLE page (node TEXT NOT NULL COLLATE "C", id TEXT NOT NULL COLLATE "C",
        heard_wall FLOAT8 NOT NULL, payload BYTEA NOT NULL, state TEXT NOT NULL, PRIMARY KEY (node, id));
    """,
    """
    CREATE TABLE document (kind TEXT NOT NULL COLLATE "C", key TEXT NOT NULL COLLATE "C", revision BIGINT NOT NULL,
        wall FLOAT8 NOT NULL, who TEXT NOT NULL, body BYTEA NOT NULL, PRIMARY KEY (kind, key, revision));
    """,
    """
    CREATE TABLE service_window (holder TEXT NOT NULL, cohort BYTEA NOT NULL, begin_wall FLOAT8 NOT NULL,
        length_s FLOAT8 NOT NULL, revision BIGINT NOT NULL, body BYTEA NOT NULL, touched FLOAT8 NOT NULL,
        PRIMARY KEY (holder, cohort, begin_wall, length_s)) WITH (fillfactor = 70);
    CREATE INDEX service_window_touched ON service_window (touched);
    """,
    """
    CREATE TABLE prediction (service TEXT NOT NULL COLLATE "C", id TEXT NOT NULL COLLATE "C", body BYTEA NOT NULL,
        wall FLOAT8 NOT NULL, PRIMARY KEY (service, id)) WITH (fillfactor = 80);
    CREATE INDEX prediction_wall ON prediction (wall);
    """,
    """
    CREATE TABLE review (service TEXT NOT NULL COLLATE "C", id TEXT NOT NULL COLLATE "C", segment TEXT NOT NULL COLLATE "C",
        weight FLOAT8 NOT NULL, wall FLOAT8 NOT NULL, size BIGINT NOT NULL, state TEXT NOT NULL, gold TEXT NOT NULL,
        body BYTEA NOT NULL, PRIMARY KEY (service, id));
    CREATE INDEX review_rank ON review (service, state, weight DESC, id);
    CREATE TABLE review_label (service TEXT NOT NULL COLLATE "C", id TEXT NOT NULL COLLATE "C", reviewer TEXT NOT NULL COLLATE "C",
        label TEXT NOT NULL, wall FLOAT8 NOT NULL, PRIMARY KEY (service, id, reviewer));
    """,
)
"""Each takes the database from the schema before it to the next; none is ever changed."""
