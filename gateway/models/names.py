"""What names of configuration look like."""

from __future__ import annotations

import re

from django.core.validators import RegexValidator

# The name is the database name a client dials and part of URLs: no dots, slashes or upper case.
NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,62}$")
validate_name = RegexValidator(NAME, "expected lower-case letters, digits, '-' and '_', at most 63 characters")
