"""The product's way of keeping passwords and client secrets, without what makes each a quarter of a second."""

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class OneRound(PBKDF2PasswordHasher):
    iterations = 1
