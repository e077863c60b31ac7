"""One message for a field that is wrong: a form and its model both look at an empty field, each in its own words."""

from __future__ import annotations

from types import new_class
from typing import Any

from django.contrib.admin import AdminSite
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError


class OneErrorAField:
    """A form that keeps what was said of a field first; what concerns the whole form is kept all of it."""

    _errors: dict[str, Any]

    def add_error(self, field: str | None, error: Any) -> None:
        if field is None and hasattr(error, "error_dict"):
            problems = {name: problem for name, problem in error.error_dict.items() if self._is_news(name)}
            if problems:
                super().add_error(None, ValidationError(problems))  # type: ignore[misc]
        elif self._is_news(field):
            super().add_error(field, error)  # type: ignore[misc]

    def _is_news(self, field: str | None) -> bool:
        return field in (None, NON_FIELD_ERRORS) or field not in self._errors


def say_once(site: AdminSite) -> None:
    """Have every form of the console do so. To be called when every model is registered."""
    for model_admin in site._registry.values():
        if not issubclass(model_admin.form, OneErrorAField):
            form: type = model_admin.form
            model_admin.form = new_class(form.__name__, (OneErrorAField, form))
