"""Whose work a command line applies: the person whom separation of duties binds afterwards.

Whoever may run `apply` holds the database's credentials, so this is attribution and no proof: it keeps honest people
apart and names one in the log. Nobody is guessed from anything but a name that is theirs.
"""

from __future__ import annotations

import getpass
import os

from django.contrib.auth.models import User
from django.db.models import Q


class NoSuchPerson(ValueError):
    """The name is no active account's, or several people's."""


def applying_person(named: str = "") -> str:
    """The user name of `named` (a user name or mail address), else of the account called as whoever is logged in.

    Empty when nobody was named and no account is called so. Raises NoSuchPerson.
    """
    if named:
        found = list(User.objects.filter(Q(username=named) | Q(email__iexact=named), is_active=True)[:2])
        if len(found) != 1:
            raise NoSuchPerson("expected the user name or mail address of one active account")
        return found[0].username
    for login in (os.environ.get("SUDO_USER", ""), getpass.getuser()):
        if login and User.objects.filter(username=login, is_active=True).exists():
            return login
    return ""
