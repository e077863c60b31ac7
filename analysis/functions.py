"""Which built-in functions are known, and what each may do. An allow-list: what is not listed here is not known.

PostgreSQL itself declares a function IMMUTABLE when its result depends on nothing but its arguments ("Function
Volatility Categories"): a built-in one cannot read a table, a file or a setting, so it is known by that declaration.
STABLE and VOLATILE ones are known by name only. User-defined functions are opaque, whatever they declare.
"""

from __future__ import annotations

from enum import Enum

from analysis.catalogue import Function
from analysis.words import words


class FunctionClass(Enum):
    PURE = "pure"
    WRITES = "writes"  # changes shared state: sequences, notifications
    SETTING = "setting"  # set_config: what it sets decides
    DANGEROUS = "dangerous"  # reaches files, other sessions, statistics, or runs SQL it is given
    OPAQUE = "opaque"  # user-defined


_STABLE = """
age array_to_json array_to_string concat concat_ws convert convert_from convert_to current_database
current_schema current_schemas current_setting current_user date date_add date_cmp_timestamptz date_eq_timestamptz
date_ge_timestamptz date_gt_timestamptz date_le_timestamptz date_lt_timestamptz date_ne_timestamptz date_part
date_subtract date_trunc enum_first enum_last enum_range extract format generate_series get_current_ts_config
getdatabaseencoding in_range interval_pl_timestamptz json_agg json_agg_strict json_build_array json_build_object
json_object_agg json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict json_populate_record
json_populate_recordset json_to_record json_to_recordset json_to_tsvector jsonb_agg jsonb_agg_strict
jsonb_build_array jsonb_build_object jsonb_object_agg jsonb_object_agg_strict jsonb_object_agg_unique
jsonb_object_agg_unique_strict jsonb_path_exists_tz jsonb_path_match_tz jsonb_path_query_array_tz
jsonb_path_query_first_tz jsonb_path_query_tz jsonb_populate_record jsonb_populate_record_valid
jsonb_populate_recordset jsonb_to_record jsonb_to_recordset jsonb_to_tsvector length make_timestamptz money now
numeric overlaps pg_backend_pid pg_basetype pg_client_encoding pg_collation_for pg_column_size
pg_input_is_valid pg_typeof phraseto_tsquery plainto_tsquery quote_literal quote_nullable regclass row_to_json
session_user statement_timestamp system_user textanycat anytextcat time timestamp timestamp_cmp_timestamptz
timestamp_eq_timestamptz timestamp_ge_timestamptz timestamp_gt_timestamptz timestamp_le_timestamptz
timestamp_lt_timestamptz timestamp_ne_timestamptz timestamptz timestamptz_cmp_date timestamptz_cmp_timestamp
timestamptz_eq_date timestamptz_eq_timestamp timestamptz_ge_date timestamptz_ge_timestamp timestamptz_gt_date
timestamptz_gt_timestamp timestamptz_le_date timestamptz_le_timestamp timestamptz_lt_date timestamptz_lt_timestamp
timestamptz_mi_interval timestamptz_ne_date timestamptz_ne_timestamp timestamptz_pl_interval timetz timezone to_char
to_date to_json to_jsonb to_number to_regclass to_regcollation to_regnamespace to_regoper to_regoperator to_regproc
to_regprocedure to_regrole to_regtype to_regtypemod to_timestamp to_tsquery to_tsvector transaction_timestamp
ts_debug ts_headline ts_match_tq ts_match_tt ts_parse ts_token_type version websearch_to_tsquery xml
xml_is_well_formed
"""
# Schema introspection: names, types and definitions of objects, never rows. Drivers, psql and ORMs live on these.
_CATALOGUE = """
aclexplode col_description format_type has_any_column_privilege has_column_privilege has_database_privilege
has_foreign_data_wrapper_privilege has_function_privilege has_language_privilege has_schema_privilege
has_sequence_privilege has_server_privilege has_table_privilege has_tablespace_privilege has_type_privilege
has_parameter_privilege inet_client_addr inet_client_port inet_server_addr inet_server_port mxid_age obj_description
oidvectortypes pg_char_to_encoding pg_collation_actual_version pg_collation_is_visible pg_column_is_updatable
pg_conversion_is_visible pg_current_snapshot pg_current_xact_id_if_assigned pg_database_collation_actual_version
pg_describe_object pg_encoding_to_char pg_function_is_visible pg_get_acl pg_get_catalog_foreign_keys
pg_get_constraintdef pg_get_expr pg_get_function_arg_default pg_get_function_arguments
pg_get_function_identity_arguments pg_get_function_result pg_get_function_sqlbody pg_get_functiondef pg_get_indexdef
pg_get_keywords pg_get_object_address pg_get_partition_constraintdef pg_get_partkeydef pg_get_publication_tables
pg_get_replica_identity_index pg_get_ruledef pg_get_serial_sequence pg_get_statisticsobjdef
pg_get_statisticsobjdef_columns pg_get_statisticsobjdef_expressions pg_get_triggerdef pg_get_userbyid pg_get_viewdef
pg_has_role pg_identify_object pg_identify_object_as_address pg_index_column_has_property pg_index_has_property
pg_indexam_has_property pg_is_other_temp_schema pg_my_temp_schema pg_opclass_is_visible pg_operator_is_visible
pg_opfamily_is_visible pg_options_to_table pg_postmaster_start_time pg_relation_is_publishable
pg_relation_is_updatable pg_sequence_parameters pg_statistics_obj_is_visible pg_table_is_visible
pg_tablespace_location pg_timezone_abbrevs pg_timezone_names pg_trigger_depth pg_ts_config_is_visible
pg_ts_dict_is_visible pg_ts_parser_is_visible pg_ts_template_is_visible pg_type_is_visible row_security_active
shobj_description txid_current_if_assigned txid_current_snapshot pg_partition_ancestors pg_partition_tree
pg_relation_size pg_table_size pg_total_relation_size pg_indexes_size pg_database_size pg_tablespace_size
pg_available_extensions pg_available_extension_versions pg_extension_update_paths
pg_is_in_recovery pg_is_wal_replay_paused pg_jit_available pg_relation_filenode pg_collation_for
"""
_SESSION = """
clock_timestamp gen_random_uuid uuidv4 uuidv7 random random_normal setseed timeofday lastval currval pg_sleep
pg_sleep_for pg_sleep_until pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all
pg_advisory_unlock_shared pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_lock
pg_try_advisory_lock_shared pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared txid_current
pg_current_xact_id bernoulli system array_sample array_shuffle
"""
_PURE_BY_NAME = frozenset((_STABLE + _CATALOGUE + _SESSION).split())
# Declared immutable, yet they take the statement's word for a stored tree or an internal state.
_NEVER_PURE = frozenset({"querytree", "pg_node_tree_in", "lo_get", "ts_stat", "ts_rewrite"})
_WRITES = frozenset({"nextval", "setval"})

# Keep nothing of a bare column's value but how many there are, or that it is there.
SAFE_AGGREGATES = frozenset({"count"})
SAFE_FUNCTIONS = frozenset({"pg_typeof"})
# One row of these can carry a whole table.
COLLECTING = words(
    """
    array_agg string_agg json_agg json_agg_strict jsonb_agg jsonb_agg_strict json_object_agg jsonb_object_agg
    json_object_agg_strict jsonb_object_agg_strict json_object_agg_unique jsonb_object_agg_unique xmlagg
    json_object_agg_unique_strict jsonb_object_agg_unique_strict range_agg
    """
)
# percentile_disc and percentile_cont of an array of fractions (pg_proc.dat) answer with as many values.
COLLECTING_OIDS = frozenset({3978, 3980, 3982})


def classify(function: Function) -> FunctionClass:  # noqa: PLR0911
    """Return what `function` may do."""
    if not function.is_builtin:
        return FunctionClass.OPAQUE
    if function.name in _WRITES:
        return FunctionClass.WRITES
    if function.name == "set_config":
        return FunctionClass.SETTING
    if function.name in _PURE_BY_NAME:
        return FunctionClass.PURE
    if function.volatility == "i" and function.name not in _NEVER_PURE:
        return FunctionClass.PURE
    if function.schema == "information_schema":
        return FunctionClass.PURE
    return FunctionClass.DANGEROUS


# Relations of the system that hold values out of user tables, other sessions' statements, or secrets.
SIDE_DOORS = words(
    """
    pg_stats pg_stats_ext pg_stats_ext_exprs pg_statistic pg_statistic_ext_data pg_stat_activity pg_authid
    pg_shadow pg_largeobject pg_user_mapping pg_user_mappings pg_file_settings
    pg_hba_file_rules pg_ident_file_mappings pg_prepared_statements pg_cursors pg_prepared_xacts pg_subscription
    pg_stat_subscription user_mapping_options _pg_user_mappings pg_stat_replication pg_stat_wal_receiver
    pg_replication_slots pg_backend_memory_contexts pg_shmem_allocations pg_stat_statements
    """
)
# How large relations are: columns of pg_class, and functions.
RELATION_SIZES = words("relpages reltuples relallvisible relallfrozen")
SIZE_FUNCTIONS = words(
    "pg_relation_size pg_table_size pg_total_relation_size pg_indexes_size pg_database_size pg_tablespace_size"
)
READABLE_KINDS = frozenset("rvmpfS")  # pg_class.relkind; TOAST and index relations are not for clients
