"""Notes of checkpoints as objects of a bucket that somebody else owns: each put once, never over another.

The URL is `s3://bucket/prefix` or `gs://bucket/prefix`, with `?endpoint=https://…&region=…` for services that speak S3.
An endpoint is judged like the target of a sink; without one the cloud's own is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from audit.domain.object_store import StoreProblem, open_store
from audit.sinks.sending import NotDelivered
from audit.sinks.targets import Network, TargetProblem, parse_target, resolve

_OPTIONS = frozenset({"endpoint", "region"})


class BucketProblem(ValueError):
    """The URL names no bucket. Says what was expected."""


@dataclass(frozen=True, slots=True)
class Bucket:
    url: str  # without options
    endpoint: str = ""
    region: str = ""


def parse_bucket(url: str) -> Bucket:
    """Raises BucketProblem, or TargetProblem for the endpoint."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.scheme not in ("s3", "gs") or not parts.hostname or parts.username or options.keys() - _OPTIONS:
        raise BucketProblem("expected s3://bucket/prefix or gs://bucket/prefix, with ?endpoint= and &region= for S3")
    if options and parts.scheme != "s3":
        raise BucketProblem("endpoint and region are options of S3")
    endpoint = options.get("endpoint", "")
    if endpoint and parse_target(endpoint).transport != "http":
        raise BucketProblem("the endpoint of a bucket is an https:// address")
    bare = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    return Bucket(bare, endpoint, options.get("region", ""))


def put_note(url: str, *, secret: str, name: str, note: bytes, networks: Sequence[Network]) -> None:
    """Put the note under its name; what is there already stays, and has to be this note. Raises NotDelivered."""
    try:
        bucket = parse_bucket(url)
        if bucket.endpoint:
            resolve(parse_target(bucket.endpoint), networks=networks)
        store = open_store(
            bucket.url, secret=secret, endpoint=bucket.endpoint, region=bucket.region, what="the bucket of notes"
        )
        try:
            obstore.put(store, name, note, mode="create")
        except AlreadyExistsError:  # put before a crash could say so, or by somebody else
            if bytes(obstore.get(store, name).bytes()) != note:
                raise NotDelivered(f"{name} is in the bucket and is not the note") from None
    except (BucketProblem, TargetProblem, StoreProblem) as problem:
        raise NotDelivered(str(problem)) from None
    except (BaseError, OSError) as error:
        raise NotDelivered(f"the bucket did not take the note: {type(error).__name__}") from None
