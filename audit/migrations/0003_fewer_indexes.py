"""Django adds a second, pattern index to every indexed text; nobody searches ids by prefix, and each costs every append."""

from django.db import migrations

FORWARD = """
DROP INDEX IF EXISTS audit_recording_id_c4304875_like, audit_recording_session_id_7957fca3_like,
    audit_recording_statement_id_632e4015_like, audit_recording_digest_133ca3eb_like,
    audit_sealedtext_key_id_106b2ef0_like, audit_sessionrecord_id_72e46b13_like, audit_statementrecord_id_22c3f04e_like,
    audit_recordingchunk_address_f02d5a02_like, audit_recordingchunk_recording_id_1c4465f3_like;
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_append_only")]
    operations = [migrations.RunSQL(FORWARD, migrations.RunSQL.noop)]
