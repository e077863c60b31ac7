"""The log refuses change: no UPDATE, no DELETE of an entry or a checkpoint, by anyone who has not removed the triggers.

A guard against mistakes and injected SQL. Against a database superuser the log defends itself by its hashes.
"""

from django.db import migrations

FORWARD = """
CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: % of % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_logentry_append_only BEFORE UPDATE OR DELETE ON audit_logentry
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_change();
CREATE TRIGGER audit_checkpoint_append_only BEFORE UPDATE OR DELETE ON audit_checkpoint
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_change();
CREATE FUNCTION audit_refuse_shrinking() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.size < OLD.size OR NEW.log_id <> OLD.log_id THEN
        RAISE EXCEPTION 'the audit log never shrinks: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_logstate_grows BEFORE UPDATE OR DELETE ON audit_logstate
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_shrinking();
-- One row, rewritten by every append: leave room on its page for HOT updates.
ALTER TABLE audit_logstate SET (fillfactor = 10, autovacuum_vacuum_threshold = 1000);
ALTER TABLE audit_recordingchunk ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE audit_sealedtext ALTER COLUMN box SET STORAGE EXTERNAL;
"""

BACKWARD = """
DROP TRIGGER audit_logentry_append_only ON audit_logentry;
DROP TRIGGER audit_checkpoint_append_only ON audit_checkpoint;
DROP TRIGGER audit_logstate_grows ON audit_logstate;
DROP FUNCTION audit_refuse_change();
DROP FUNCTION audit_refuse_shrinking();
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
