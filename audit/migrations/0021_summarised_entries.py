"""The index of entries by time is summarised while the log grows, not only by a vacuum: altered in its place."""

import django.contrib.postgres.indexes
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("audit", "0020_rare_statuses")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "ALTER INDEX audit_entry_at SET (autosummarize = on)",
                    "ALTER INDEX audit_entry_at RESET (autosummarize)",
                )
            ],
            state_operations=[
                migrations.RemoveIndex(model_name="logentry", name="audit_entry_at"),
                migrations.AddIndex(
                    model_name="logentry",
                    index=django.contrib.postgres.indexes.BrinIndex(
                        autosummarize=True, fields=["at"], name="audit_entry_at"
                    ),
                ),
            ],
        )
    ]
