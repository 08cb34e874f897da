-- What the calls to models and other paid services of a visit used; no row where there were none. A visit that failed, or is
-- under way, has its row before it is committed. cost_nanos: in billionths of a US dollar.
CREATE TABLE usage (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_nanos INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
