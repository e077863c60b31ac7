"""Statements that failed, were cancelled or wait are found by an index, and so are the newest sessions of the log."""

from importlib import import_module

from django.db import migrations, models

beside_writers = import_module("audit.migrations.0017_ascending_indexes")


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY is not for transactions

    dependencies = [("audit", "0019_newest_statement")]

    operations = [
        beside_writers.AddIndexBesideWriters(
            model_name="statementrecord",
            index=models.Index(
                condition=models.Q(("status__in", ["held", "failed", "cancelled", "skipped", "unfinished"])),
                fields=["status", "at", "id"],
                name="audit_statement_rare_status",
            ),
        ),
        beside_writers.AddIndexBesideWriters(
            model_name="sessionrecord", index=models.Index(fields=["first_seq"], name="audit_session_first_entry")
        ),
    ]
