"""The tables of the store in SQLite, from the first schema to the newest."""

SCRIPTS = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE node (
        node TEXT PRIMARY KEY, greeting TEXT NOT NULL, greeted_wall REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE state (
        node TEXT PRIMARY KEY, heard_wall REAL NOT NULL, wall REAL NOT NULL, mode TEXT NOT NULL,
        devices INTEGER NOT NULL, unseen INTEGER NOT NULL, cordoned INTEGER NOT NULL,
        worst INTEGER, faults TEXT NOT NULL, incidents_open INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE log (
        node TEXT NOT NULL, log_id TEXT NOT NULL, upto INTEGER NOT NULL, PRIMARY KEY (node, log_id)
    ) WITHOUT ROWID;
    CREATE TABLE event (
        node TEXT NOT NULL, log_id TEXT NOT NULL, sequence INTEGER NOT NULL, wall REAL NOT NULL,
        heard_wall REAL NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, payload BLOB NOT NULL,
        PRIMARY KEY (node, log_id, sequence)
    ) WITHOUT ROWID;
    CREATE INDEX event_heard ON event (heard_wall);
    CREATE TABLE incident (
        node TEXT NOT NULL, id TEXT NOT NULL, rule TEXT NOT NULL, opened_wall REAL NOT NULL,
        closed_wall REAL, payload BLOB NOT NULL, changes INTEGER NOT NULL, PRIMARY KEY (node, id)
    ) WITHOUT ROWID;
    CREATE INDEX incident_newest ON incident (opened_wall DESC, node DESC, id DESC);
    CREATE TABLE permit (id TEXT PRIMARY KEY, node TEXT NOT NULL, granted_wall REAL NOT NULL,
        permit TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE token (token TEXT PRIMARY KEY, digest TEXT NOT NULL, node TEXT NOT NULL,
        expires_wall REAL NOT NULL, used_wall REAL) WITHOUT ROWID;
    CREATE TABLE certificate (serial TEXT PRIMARY KEY, node TEXT NOT NULL,
        not_after_wall REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE orders (id TEXT PRIMARY KEY, node TEXT NOT NULL, who TEXT NOT NULL,
        verb TEXT NOT NULL, subject TEXT NOT NULL, wall REAL NOT NULL, is_done INTEGER,
        text TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
    CREATE TABLE audit (number INTEGER PRIMARY KEY, wall REAL NOT NULL, who TEXT NOT NULL,
        what TEXT NOT NULL, detail TEXT NOT NULL, chain TEXT NOT NULL);
    """,
    """
    CREATE TABLE policy (version INTEGER PRIMARY KEY, wall REAL NOT NULL, who TEXT NOT NULL,
        rollout TEXT NOT NULL, serial INTEGER NOT NULL, bundle BLOB NOT NULL);
    """,
    """
    CREATE TABLE denial (node TEXT PRIMARY KEY, wall REAL NOT NULL, who TEXT NOT NULL,
        reason TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE oncall (name TEXT PRIMARY KEY, line BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE page (node TEXT NOT NULL, id TEXT NOT NULL, heard_wall REAL NOT NULL, payload BLOB NOT NULL,
        state TEXT NOT NULL, PRIMARY KEY (node, id)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE document (kind TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, wall REAL NOT NULL,
        who TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, key, revision));
    """,
    """
    CREATE TABLE service_window (holder TEXT NOT NULL, cohort BLOB NOT NULL, begin_wall REAL NOT NULL,
        length_s REAL NOT NULL, revision INTEGER NOT NULL, body BLOB NOT NULL, touched REAL NOT NULL,
        PRIMARY KEY (holder, cohort, begin_wall, length_s));
    CREATE INDEX service_window_touched ON service_window (touched);
    """,
    """
    CREATE TABLE prediction (service TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL, wall REAL NOT NULL,
        PRIMARY KEY (service, id)) WITHOUT ROWID;
    CREATE INDEX prediction_wall ON prediction (wall);
    """,
    """
    CREATE TABLE review (service TEXT NOT NULL, id TEXT NOT NULL, segment TEXT NOT NULL,
        weight REAL NOT NULL, wall REAL NOT NULL, size INTEGER NOT NULL, state TEXT NOT NULL, gold TEXT NOT NULL,
        body BLOB NOT NULL, PRIMARY KEY (service, id));
    CREATE INDEX review_rank ON review (service, state, weight DESC, id);
    CREATE TABLE review_label (service TEXT NOT NULL, id TEXT NOT NULL, reviewer TEXT NOT NULL,
        label TEXT NOT NULL, wall REAL NOT NULL, PRIMARY KEY (service, id, reviewer));
    """,
)
"""Each takes the file from the schema before it to the next; none is ever changed."""
