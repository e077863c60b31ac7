"""Agents' own keys, federation by claims, and two secrets at once. Stored secrets move to their own table."""

from typing import Any

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


def move_secrets(apps: Any, schema_editor: Any) -> None:
    secret = apps.get_model("gateway", "ClientSecret")
    for agent in apps.get_model("gateway", "Agent").objects.exclude(client_secret_hash=""):
        secret.objects.create(agent=agent, digest=agent.client_secret_hash)


def move_back(apps: Any, schema_editor: Any) -> None:
    for row in apps.get_model("gateway", "ClientSecret").objects.order_by("created_at"):
        apps.get_model("gateway", "Agent").objects.filter(pk=row.agent_id).update(client_secret_hash=row.digest)


class Migration(migrations.Migration):
    dependencies = [("gateway", "0005_connection_subjects")]

    operations = [
        migrations.CreateModel(
            name="UsedAssertion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.CharField(max_length=64, unique=True)),
                ("expires_at", models.DateTimeField(db_index=True)),
            ],
        ),
        migrations.CreateModel(
            name="ClientSecret",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.CharField(max_length=255)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_at", models.DateTimeField(blank=True, null=True)),
                (
                    "agent",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="client_secrets",
                        to="gateway.agent",
                    ),
                ),
            ],
            options={"ordering": ["-created_at"]},
        ),
        migrations.RunPython(move_secrets, move_back),
        migrations.RemoveField(model_name="agent", name="client_secret_hash"),
        migrations.AddField(model_name="agent", name="federation", field=models.JSONField(blank=True, default=list)),
        migrations.AddField(
            model_name="agent",
            name="jwks",
            field=models.JSONField(blank=True, default=dict, verbose_name="public keys"),
        ),
        migrations.AddField(
            model_name="agent",
            name="jwks_uri",
            field=models.URLField(blank=True, max_length=500, verbose_name="address of its public keys"),
        ),
        migrations.AddField(
            model_name="agent",
            name="last_token_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
    ]
