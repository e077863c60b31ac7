"""The log's head and the journals' places become rows that are added, instead of rows that are written over.

Whoever keeps a snapshot open keeps every version of a row, and appends looked through all of them for the one that
holds. The newest of many rows is found at the end of their index. What appends add to sessions' numbers stands beside
the heads until it is counted (audit.domain.session_counts). Gateways of before end with the first entry they append.
"""

from django.db import migrations, models

HEADS = """
INSERT INTO audit_loghead (after, size, head, frontier, counts)
    SELECT size - 1, size, head, frontier, '[]' FROM audit_logstate WHERE size > 0;
DROP TRIGGER audit_logstate_grows ON audit_logstate;
CREATE TRIGGER audit_logstate_stays BEFORE UPDATE OR DELETE ON audit_logstate
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_change();
CREATE OR REPLACE FUNCTION audit_refuse_shrinking() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT 1 FROM audit_loghead WHERE after > OLD.after) THEN RETURN OLD; END IF;
    ELSIF (NEW.after, NEW.size, NEW.head, NEW.frontier) = (OLD.after, OLD.size, OLD.head, OLD.frontier) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the audit log never shrinks: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_loghead_grows BEFORE UPDATE OR DELETE ON audit_loghead
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_shrinking();
CREATE TRIGGER audit_loghead_whole BEFORE TRUNCATE ON audit_loghead
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
-- Rows come and go, thousands a second at most.
ALTER TABLE audit_loghead SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
"""

ONE_HEAD = """
DROP TRIGGER audit_logstate_stays ON audit_logstate;
UPDATE audit_sessionrecord AS t SET statements = t.statements + r.statements, denied = t.denied + r.denied,
    rows = t.rows + r.rows, last_seq = greatest(t.last_seq, r.last_seq)
    FROM (SELECT r.id, sum(r.statements) AS statements, sum(r.denied) AS denied, sum(r.rows) AS rows,
        max(r.last_seq) AS last_seq FROM audit_loghead AS h CROSS JOIN LATERAL jsonb_to_recordset(h.counts)
        AS r(id text, statements int, denied int, rows bigint, last_seq bigint) GROUP BY r.id) AS r
    WHERE t.id = r.id;
UPDATE audit_logstate AS s SET size = h.size, head = h.head, frontier = h.frontier
    FROM (SELECT * FROM audit_loghead ORDER BY after DESC LIMIT 1) AS h;
CREATE OR REPLACE FUNCTION audit_refuse_shrinking() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.size < OLD.size OR NEW.log_id <> OLD.log_id THEN
        RAISE EXCEPTION 'the audit log never shrinks: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_logstate_grows BEFORE UPDATE OR DELETE ON audit_logstate
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_shrinking();
DROP TRIGGER audit_loghead_grows ON audit_loghead;
"""

PLACES = """
ALTER TABLE audit_journalposition DROP CONSTRAINT audit_journalposition_pkey, ADD PRIMARY KEY (journal, integrated);
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT indexrelid::regclass FROM pg_index
        WHERE indrelid = 'audit_journalposition'::regclass AND NOT indisprimary
    LOOP EXECUTE 'DROP INDEX ' || name; END LOOP;
END $$;
"""

ONE_PLACE = """
DELETE FROM audit_journalposition AS p USING audit_journalposition AS newer
    WHERE newer.journal = p.journal AND newer.integrated > p.integrated;
ALTER TABLE audit_journalposition DROP CONSTRAINT audit_journalposition_pkey, ADD PRIMARY KEY (journal);
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0022_anchor_authority")]

    operations = [
        migrations.CreateModel(
            name="LogHead",
            fields=[
                ("after", models.BigIntegerField(primary_key=True, serialize=False)),
                ("size", models.BigIntegerField()),
                ("head", models.BinaryField()),
                ("frontier", models.BinaryField()),
                ("counts", models.JSONField(default=list)),
            ],
            options={"default_permissions": ()},
        ),
        migrations.RunSQL(HEADS, ONE_HEAD),
        migrations.RemoveField(model_name="logstate", name="size"),
        migrations.RemoveField(model_name="logstate", name="head"),
        migrations.RemoveField(model_name="logstate", name="frontier"),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(PLACES, ONE_PLACE)],
            state_operations=[
                migrations.AlterField(
                    model_name="journalposition", name="journal", field=models.CharField(max_length=36)
                ),
                migrations.AddField(
                    model_name="journalposition",
                    name="pk",
                    field=models.CompositePrimaryKey("journal", "integrated", blank=True, editable=False, primary_key=True, serialize=False),
                ),
            ],
        ),
    ]
