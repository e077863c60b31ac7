from django.core.validators import MinValueValidator
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("approvals", "0009_escalation")]

    operations = [
        migrations.AddField(
            model_name="policy",
            name="step_up_s",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="who decides proved who they are so many seconds ago at most; empty: as the installation "
                "asks, and never longer ago than that",
                null=True,
                validators=[MinValueValidator(1)],
            ),
        ),
    ]
