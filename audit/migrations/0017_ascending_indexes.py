"""Indexes of the record in the order it is written, made while it is written: nobody waits for them."""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class AddIndexBesideWriters(AddIndexConcurrently):
    """Made anew where an earlier attempt was interrupted, which leaves an index of this name that is not valid.

    Within somebody's transaction, a rehearsal that is rolled back for one, it is an ordinary AddIndex.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.in_atomic_block:
            migrations.AddIndex.database_forwards(self, app_label, schema_editor, from_state, to_state)
            return
        drop_index(schema_editor, self.index.name)
        super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        drop_index(schema_editor, self.index.name)


class RemoveIndexBesideWriters(RemoveIndexConcurrently):
    """The same for an index that goes: it may be gone already."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        drop_index(schema_editor, self.name)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.in_atomic_block:
            migrations.RemoveIndex.database_backwards(self, app_label, schema_editor, from_state, to_state)
            return
        drop_index(schema_editor, self.name)
        super().database_backwards(app_label, schema_editor, from_state, to_state)


def drop_index(schema_editor, name):
    beside = "" if schema_editor.connection.in_atomic_block else "CONCURRENTLY"
    schema_editor.execute(f"DROP INDEX {beside} IF EXISTS {schema_editor.quote_name(name)}")


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY is not for transactions: each step stands by itself, and may be taken again

    dependencies = [("audit", "0016_bucket_anchors")]

    operations = [
        AddIndexBesideWriters(
            model_name="logentry",
            index=models.Index(
                condition=models.Q(("kind__in", ["statement.authorised", "statement.completed"]), _negated=True),
                fields=["kind", "seq"],
                name="audit_entry_rare_kind",
            ),
        ),
        AddIndexBesideWriters(
            model_name="logentry", index=models.Index(fields=["subject", "seq"], name="audit_entry_by_subject")
        ),
        AddIndexBesideWriters(
            model_name="statementrecord", index=models.Index(fields=["at", "id"], name="audit_statement_in_time")
        ),
        AddIndexBesideWriters(
            model_name="statementrecord",
            index=models.Index(fields=["subject", "at"], name="audit_statement_by_subject"),
        ),
        AddIndexBesideWriters(
            model_name="statementrecord",
            index=models.Index(fields=["connection", "at"], name="audit_statement_by_conn"),
        ),
        RemoveIndexBesideWriters(model_name="logentry", name="audit_entry_kind"),
        RemoveIndexBesideWriters(model_name="logentry", name="audit_entry_subject"),
        RemoveIndexBesideWriters(model_name="statementrecord", name="audit_statement_newest"),
        RemoveIndexBesideWriters(model_name="statementrecord", name="audit_statement_subject"),
        RemoveIndexBesideWriters(model_name="statementrecord", name="audit_statement_conn"),
    ]
