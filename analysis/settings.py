"""Session settings a client may change: those that alter how values look or how long things take, never what is meant.

An allow-list over PostgreSQL's configuration parameters. `role`, `standard_conforming_strings`,
`session_replication_role`, extensions' parameters and everything unknown are administration.
"""

from __future__ import annotations

from analysis.words import words

_HARMLESS = words(
    """
    application_name bytea_output client_min_messages constraint_exclusion cursor_tuple_fraction datestyle
    deadlock_timeout debug_pretty_print default_statistics_target default_transaction_deferrable
    default_transaction_isolation default_transaction_read_only effective_cache_size enable_bitmapscan
    enable_gathermerge enable_hashagg enable_hashjoin enable_incremental_sort enable_indexonlyscan
    enable_indexscan enable_material enable_memoize enable_mergejoin enable_nestloop enable_parallel_append
    enable_parallel_hash enable_partition_pruning enable_partitionwise_aggregate enable_partitionwise_join
    enable_seqscan enable_sort enable_tidscan extra_float_digits from_collapse_limit geqo
    idle_in_transaction_session_timeout idle_session_timeout intervalstyle jit join_collapse_limit lc_messages
    lc_monetary lc_numeric lc_time lock_timeout max_parallel_workers max_parallel_workers_per_gather
    parallel_setup_cost parallel_tuple_cost plan_cache_mode random_page_cost seq_page_cost statement_timeout
    synchronous_commit temp_buffers timezone transaction_deferrable transaction_isolation transaction_read_only
    transaction_timeout work_mem xmlbinary xmloption
    """
)
_UTF8 = frozenset({"utf8", "utf-8", "unicode", "default"})
_ON = frozenset({"on", "true", "yes", "1", "default"})


def may_set(name: str, value: str | None) -> bool:
    """Whether a client may set `name` to `value` (None: a value this reader did not understand)."""
    folded = name.lower()
    if folded in ("client_encoding", "names"):
        return value is not None and value.lower() in _UTF8
    if folded in ("standard_conforming_strings", "escape_string_warning", "row_security"):
        return value is not None and value.lower() in _ON
    if folded == "search_path":
        return value is not None and is_usual_path([name.strip().strip('"') for name in value.split(",")])
    return folded in _HARMLESS


def is_usual_path(names: list[str]) -> bool:
    """Whether a search path holds nothing but the usual schemas: a session's path is asked of the server after a SET.

    pg_catalog may only stand first, where it is anyway; behind another schema that one's functions hide built-in ones.
    """
    rest = names[1:] if names[:1] == ["pg_catalog"] else names
    return all(name in ("", "public", "$user") for name in rest)
